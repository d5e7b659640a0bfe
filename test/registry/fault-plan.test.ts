// Whom a planned fault meets, when it counts as met, and what is on record of a request. The kinds of faults have a file of their own.

import { connect } from "node:net";
import { Agent, request } from "undici";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { waitFor } from "../cluster/run-command.ts";
import { startCanaryOrigin, startFaultProxy, type FaultProxy } from "./fault-proxy.ts";
import { rawRequest } from "./raw-client.ts";

describe("the plan of faults", () => {
  let canary: Awaited<ReturnType<typeof startCanaryOrigin>>;
  let proxy: FaultProxy;
  beforeAll(async () => {
    canary = await startCanaryOrigin({ body: Buffer.from("hello") });
    proxy = await startFaultProxy({ target: canary.url, keepAlive: true });
  });
  afterAll(async () => {
    await proxy?.stop();
    await canary?.stop();
  });
  const ask = async (path: string, method = "GET"): Promise<string> =>
    (await rawRequest(`${proxy.url}${path}`, { method, headers: { connection: "close" } })).head.slice(9, 12);

  test("skip, times, method and path say whom it meets; a path in words is exact", async () => {
    proxy.setFaults([
      { when: { path: "/a", method: "GET", skip: 1, times: 2 }, do: { kind: "status", status: 500 } },
      { when: { path: /^\/[ab]/g }, do: { kind: "status", status: 503 } },
    ]);
    const seen = [
      await ask("/c"),
      await ask("/a", "PUT"),
      await ask("/a?x=1"),
      await ask("/a"),
      await ask("/ab"),
    ];
    // The second fault is free to take what the first leaves alone.
    expect(seen).toEqual(["200", "503", "200", "500", "200"]);
    expect(proxy.unmet()).toHaveLength(1);
    expect(await ask("/a?y")).toBe("500");
    expect(await ask("/a")).toBe("200");
    expect(proxy.unmet()).toEqual([]);
  });

  test("a fault is unmet when no request met it, too few did, or it changed nothing", async () => {
    const never = { when: { path: "/never" }, do: { kind: "refuse" } } as const;
    const tooFew = { when: { path: "/few", times: 2 }, do: { kind: "status", status: 500 } } as const;
    const behind = { when: { path: "/behind" }, do: { kind: "cut", afterBytes: 6 } } as const;
    const outside = { when: { path: "/outside" }, do: { kind: "corrupt", atByte: 5 } } as const;
    const noRange = { when: { path: "/range" }, do: { kind: "ignore-range" } } as const;
    const alreadySo = {
      when: { path: "/length" },
      do: { kind: "content-length", delta: "missing" },
    } as const;
    proxy.setFaults([never, tooFew, behind, outside, noRange, alreadySo]);
    for (const path of ["/few", "/behind", "/outside", "/range", "/length"]) await ask(path);
    // A body of the canary has chunks and no length.
    expect(proxy.unmet()).toEqual([never, tooFew, behind, outside, noRange, alreadySo]);
  });

  test("connections are kept between good answers where asked for, and a fault may meet a used one", async () => {
    const dispatcher = new Agent({ connections: 1, pipelining: 1 });
    try {
      proxy.setFaults([]);
      const get = async (): Promise<string> =>
        await (await request(`${proxy.url}/kept`, { dispatcher })).body.text();
      const before = proxy.requests.length;
      expect(await get()).toBe("hello");
      expect(await get()).toBe("hello");
      proxy.setFaults([{ when: { path: "/kept" }, do: { kind: "refuse" } }]);
      await expect(get()).rejects.toThrow("closed");
      expect(await get()).toBe("hello");
      const [first, second, third, fourth] = proxy.requests.slice(before).map(({ connection }) => connection);
      expect([second, third]).toEqual([first, first]);
      expect(fourth).not.toBe(first);
      expect(proxy.unmet()).toEqual([]);
    } finally {
      await dispatcher.close();
    }
  });

  test("a target that does not answer is a closed connection with the reason on record", async () => {
    const away = await startFaultProxy({ target: "http://127.0.0.1:1" });
    const answer = await rawRequest(`${away.url}/x`);
    expect(answer).toMatchObject({ head: "", end: "fin" });
    expect(away.requests[0]).toMatchObject({
      status: 0,
      targetError: expect.stringContaining("ECONNREFUSED"),
    });
    await away.stop();
  });

  test("a signal stops the proxy, with exchanges under way", async () => {
    const abort = new AbortController();
    const stopping = await startFaultProxy({
      target: canary.url,
      signal: abort.signal,
      faults: [{ when: { path: /./ }, do: { kind: "stall" } }],
    });
    const answer = rawRequest(`${stopping.url}/x`);
    await waitFor("the request", () => stopping.requests.length === 1);
    abort.abort();
    expect((await answer).end).toBe("fin");
    await expect(rawRequest(`${stopping.url}/x`)).rejects.toThrow("ECONNREFUSED");
  });
});

describe("the record of requests", () => {
  test("has every header value and the body: wherever a secret goes, it is found", async () => {
    const canary = await startCanaryOrigin();
    const proxy = await startFaultProxy({ target: canary.url });
    await rawRequest(`${proxy.url}/p?q=1`, {
      method: "POST",
      headers: { authorization: "Bearer secret-1", "X-Odd": "secret-2" },
      body: "secret-3",
    });
    for (const { requests } of [proxy, canary]) {
      expect(requests).toHaveLength(1);
      expect(requests[0]).toMatchObject({ method: "POST", path: "/p?q=1", status: 200 });
      expect(requests[0]?.headers.authorization).toBe("Bearer secret-1");
      expect(requests[0]?.rawHeaders).toContain("X-Odd");
      expect(requests[0]?.body().toString()).toBe("secret-3");
    }
    for (const secret of ["secret-1", "secret-2", "secret-3"]) {
      expect(canary.received().includes(secret)).toBe(true);
    }
    await proxy.stop();
    await canary.stop();
  });

  test("a canary origin keeps bytes that are no HTTP, and can stay silent", async () => {
    const canary = await startCanaryOrigin({ silent: true });
    const socket = connect(Number(new URL(canary.url).port), "127.0.0.1");
    socket.write("\x16\x03\x01 no http secret");
    socket.on("error", () => undefined);
    await waitFor("the bytes", () => canary.received().includes("no http secret"));
    socket.destroy();
    const silent = await rawRequest(`${canary.url}/x`, { timeoutMs: 200 });
    expect(silent).toMatchObject({ head: "", end: "open" });
    expect(canary.requests).toHaveLength(1);
    await canary.stop();
  });
});
