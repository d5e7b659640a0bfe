// Every fault does to the byte what it says, seen by a client that understands nothing and forgives nothing.

import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { waitFor } from "../cluster/run-command.ts";
import { startFaultProxy, type FaultAction, type FaultProxy } from "./fault-proxy.ts";
import { rawRequest, type RawAnswer, type RawRequest } from "./raw-client.ts";

// Larger than the buffers of a socket, so that "after so many bytes" means something.
const size = 3_000_000;
const content = Buffer.alloc(size);
for (let index = 0; index < size; index += 4) content.writeUInt32LE((index * 2654435761) % 2 ** 32, index);

/** An origin with one body by length and Range, one in chunks, lines for ever, and an echo. */
function startOrigin(): Server {
  return createServer((request, response) => {
    const path = request.url ?? "";
    if (path.startsWith("/lines")) {
      response.writeHead(200, { "content-type": "application/json" });
      for (let line = 0; line < 10; line += 1) response.write(`{"line":${line}}\n`);
      if (path !== "/lines/open") response.end();
      return;
    }
    if (path === "/chunked") {
      response.writeHead(200);
      response.write(content.subarray(0, 1000));
      response.end(content.subarray(1000, 2000));
      return;
    }
    if (path === "/echo") {
      request.pipe(response);
      return;
    }
    const range = /^bytes=(\d+)-$/.exec(request.headers.range ?? "")?.[1];
    const first = Number(range ?? 0);
    response.writeHead(range === undefined ? 200 : 206, {
      "Content-Length": size - first,
      ...(range === undefined ? {} : { "content-range": `bytes ${first}-${size - 1}/${size}` }),
      "X-Twice": ["one", "two"],
      "X-Path": path,
    });
    response.end(request.method === "HEAD" ? undefined : content.subarray(first));
  });
}

/** Chunks put together; throws unless every size is right. `isComplete` tells of the last chunk. */
function unchunk(body: Buffer): { readonly bytes: Buffer; readonly isComplete: boolean } {
  const parts: Buffer[] = [];
  let rest = body;
  while (rest.length > 0) {
    const line = rest.indexOf("\r\n");
    const length = Number.parseInt(rest.subarray(0, line).toString(), 16);
    if (length === 0) return { bytes: Buffer.concat(parts), isComplete: true };
    parts.push(rest.subarray(line + 2, line + 2 + length));
    if (rest.subarray(line + 2 + length, line + 4 + length).toString() !== "\r\n") break;
    rest = rest.subarray(line + 4 + length);
  }
  return { bytes: Buffer.concat(parts), isComplete: false };
}

const doubled = (head: string, line: RegExp): number => head.match(new RegExp(line, "gi"))?.length ?? 0;

describe.each([{ tls: false }, { tls: true }])("fault proxy, TLS to its client: $tls", ({ tls }) => {
  let origin: Server;
  let proxy: FaultProxy;
  beforeAll(async () => {
    origin = startOrigin();
    await new Promise<void>((resolve) => origin.listen(0, "127.0.0.1", resolve));
    const { port } = origin.address() as AddressInfo;
    proxy = await startFaultProxy({ target: `http://127.0.0.1:${port}`, tls });
  });
  afterAll(async () => {
    await proxy?.stop();
    origin?.closeAllConnections();
    await new Promise((resolve) => origin.close(resolve));
  });
  afterEach(() => {
    proxy.setFaults([]);
  });

  const ask = async (path: string, request: RawRequest = {}): Promise<RawAnswer> =>
    rawRequest(`${proxy.url}${path}`, {
      ...request,
      ...(proxy.caFile === undefined ? {} : { caFile: proxy.caFile }),
    });
  /** One request with the fault, which must have happened. */
  const withFault = async (
    action: FaultAction,
    path = "/content",
    request: RawRequest = {},
  ): Promise<RawAnswer> => {
    proxy.setFaults([{ when: { path }, do: action }]);
    const answer = await ask(path, request);
    expect(proxy.unmet()).toEqual([]);
    return answer;
  };
  /** Compared without printing three million bytes. */
  const expectBytes = (actual: Buffer, expected: Buffer): void => {
    expect(actual.length).toBe(expected.length);
    expect(actual.equals(expected)).toBe(true);
  };

  test("without faults everything is passed on as it came: status, headers in their case and number, bytes", async () => {
    const answer = await ask("/content?a=b");
    expect(answer.head).toMatch(
      /^HTTP\/1\.1 200 OK\r\nContent-Length: 3000000\r\nX-Twice: one\r\nX-Twice: two\r\n/,
    );
    expectBytes(answer.body, content);
    expect(answer.end).toBe("fin");
    const ranged = await ask("/content", { headers: { range: "bytes=2999990-" } });
    expect(ranged.head).toMatch(/^HTTP\/1\.1 206 /);
    expectBytes(ranged.body, content.subarray(-10));
    expect((await ask("/content", { method: "HEAD" })).body.length).toBe(0);
    const chunked = unchunk((await ask("/chunked")).body);
    expectBytes(chunked.bytes, content.subarray(0, 2000));
    expect(chunked.isComplete).toBe(true);
    // Paths and bodies reach the target untouched.
    expect(unchunk((await ask("/echo", { method: "POST", body: "a\0b" })).body).bytes.toString()).toBe(
      "a\0b",
    );
    const odd = "//elsewhere/../x%2f?";
    expect((await ask("/", { method: "HEAD", path: odd })).head).toContain(`X-Path: ${odd}\r\n`);
  });

  describe("cut", () => {
    test.each([0, 1, 65_535, 65_536, 1_500_000, size - 1, size])("FIN after %i bytes", async (afterBytes) => {
      const answer = await withFault({ kind: "cut", afterBytes });
      expect(answer.head).toContain("Content-Length: 3000000");
      expectBytes(answer.body, content.subarray(0, afterBytes));
      expect(answer.end).toBe("fin");
      expect(proxy.requests.at(-1)?.sentBytes).toBe(afterBytes);
    });
    test.each([0, 1, 65_536, 1_500_000, size - 1])(
      "RST after %i bytes, all of which arrive",
      async (afterBytes) => {
        const answer = await withFault({ kind: "cut", afterBytes, reset: true });
        expectBytes(answer.body, content.subarray(0, afterBytes));
        expect(answer.end).toBe("reset");
      },
    );
    test("RST does not overtake bytes that a slow reader has not taken yet", async () => {
      const cut: FaultAction = { kind: "cut", afterBytes: size - 1, reset: true };
      const answer = await withFault(cut, "/content", { pauseMs: 300 });
      expectBytes(answer.body, content.subarray(0, size - 1));
      expect(answer.end).toBe("reset");
    });
    test("of a chunked answer has no last chunk", async () => {
      const answer = await withFault({ kind: "cut", afterBytes: 1500 }, "/chunked");
      const { bytes, isComplete } = unchunk(answer.body);
      expectBytes(bytes, content.subarray(0, 1500));
      expect(isComplete).toBe(false);
      expect(answer.end).toBe("fin");
    });
    test("of a resumed part counts from its start", async () => {
      const range = { headers: { range: "bytes=1000-" } };
      const answer = await withFault({ kind: "cut", afterBytes: 10 }, "/content", range);
      expectBytes(answer.body, content.subarray(1000, 1010));
    });
  });

  describe("corrupt", () => {
    test.each<[string, FaultAction, (expected: Buffer) => void]>([
      [
        "one byte",
        { kind: "corrupt", atByte: 1_234_567 },
        (bytes) => bytes.writeUInt8(bytes.readUInt8(1_234_567) ^ 0xff, 1_234_567),
      ],
      [
        "one bit of the last byte",
        { kind: "corrupt", atByte: size - 1, mask: 1 },
        (bytes) => bytes.writeUInt8(bytes.readUInt8(size - 1) ^ 1, size - 1),
      ],
      [
        "a page of zeros, over the borders of chunks",
        { kind: "corrupt", atByte: 60_000, lengthBytes: 140_000, mask: "zero" },
        (bytes) => bytes.fill(0, 60_000, 200_000),
      ],
    ])("%s", async (_name, action, change) => {
      const expected = Buffer.from(content);
      change(expected);
      const answer = await withFault(action);
      expectBytes(answer.body, expected);
      expect(answer.end).toBe("fin");
    });
  });

  test("delay: the head comes later, nothing else changes", async () => {
    const answer = await withFault({ kind: "delay", ms: 300 });
    expect(answer.elapsedMs).toBeGreaterThanOrEqual(299);
    expectBytes(answer.body, content);
  });

  test("stall before the head: silence on an open connection, and the target is not asked", async () => {
    const answer = await withFault({ kind: "stall", afterBytes: "before-headers" }, "/content", {
      timeoutMs: 300,
    });
    expect(answer).toMatchObject({ head: "", end: "open" });
    expect(proxy.requests.at(-1)).toMatchObject({ status: 0, sentBytes: 0 });
  });

  test.each([0, 1, 100_000])("stall after %i bytes", async (afterBytes) => {
    const answer = await withFault({ kind: "stall", afterBytes }, "/content", { silenceMs: 700 });
    expectBytes(answer.body, content.subarray(0, afterBytes));
    expect(answer.end).toBe("open");
  });

  test("drip: as slow as it says, one byte a second included", async () => {
    const slow = await withFault({ kind: "drip", bytesPerSecond: 1 }, "/content", { timeoutMs: 1_500 });
    expect([1, 2]).toContain(slow.body.length);
    const faster = await withFault({ kind: "drip", bytesPerSecond: 10_000 }, "/chunked");
    // The last part is followed by its wait too: 2000 bytes are 0.2 s.
    expect(faster.elapsedMs).toBeGreaterThanOrEqual(199);
    expectBytes(unchunk(faster.body).bytes, content.subarray(0, 2000));
  });

  test.each([401, 403, 404, 410, 416, 429, 451, 500, 502, 503])("status %i", async (status) => {
    const answer = await withFault({
      kind: "status",
      status,
      headers: { "retry-after": "7" },
      body: "no",
    });
    expect(answer.head).toMatch(new RegExp(`^HTTP/1\\.1 ${status} `));
    expect(answer.head).toContain("retry-after: 7");
    expect(answer.body.toString()).toBe("no");
    expect(answer.end).toBe("fin");
    const head = await withFault({ kind: "status", status, body: "no" }, "/content", { method: "HEAD" });
    expect(head.head).toContain("content-length: 2");
    expect(head.body.length).toBe(0);
  });

  test("status: the body of the request is read first, so that the answer is not lost to a reset", async () => {
    const body = "x".repeat(2_000_000);
    const answer = await withFault({ kind: "status", status: 413 }, "/content", { method: "PUT", body });
    expect(answer.head).toMatch(/^HTTP\/1\.1 413 /);
    expect(answer.end).toBe("fin");
  });

  test("redirect: to a place, or to the same path elsewhere", async () => {
    const there = await withFault({ kind: "redirect", location: "https://cdn.example/x?sig=1" });
    expect(there.head).toMatch(/^HTTP\/1\.1 307 /);
    expect(there.head).toContain("location: https://cdn.example/x?sig=1");
    const same = await withFault({ kind: "redirect-origin", origin: "http://other:1", status: 302 });
    expect(same.head).toMatch(/^HTTP\/1\.1 302 /);
    expect(same.head).toContain("location: http://other:1/content");
  });

  test("ignore-range: 200 and everything", async () => {
    const answer = await withFault({ kind: "ignore-range" }, "/content", {
      headers: { range: "bytes=5-", "if-range": '"x"' },
    });
    expect(answer.head).toMatch(/^HTTP\/1\.1 200 /);
    expect(answer.head).not.toMatch(/content-range/i);
    expectBytes(answer.body, content);
  });

  test("content-range: another, none, two, shifted; the bytes stay", async () => {
    const range = { headers: { range: "bytes=100-" } };
    const part = content.subarray(100);
    const other = await withFault({ kind: "content-range", value: "bytes 1-2/3" }, "/content", range);
    expect(other.head).toContain("content-range: bytes 1-2/3");
    const none = await withFault({ kind: "content-range", value: "missing" }, "/content", range);
    expect(none.head).toMatch(/^HTTP\/1\.1 206 /);
    expect(none.head).not.toMatch(/content-range/i);
    const two = await withFault({ kind: "content-range", value: "doubled" }, "/content", range);
    expect(doubled(two.head, /content-range: bytes 100-2999999\/3000000/)).toBe(2);
    const shifted = await withFault({ kind: "content-range", value: { shiftBytes: -1 } }, "/content", range);
    expect(shifted.head).toContain("content-range: bytes 99-2999998/3000000");
    for (const { body } of [other, none, two, shifted]) expectBytes(body, part);
  });

  test("content-length: too short, too long, none, two; the bytes stay", async () => {
    for (const [delta, lengths] of [
      [-10, ["2999990"]],
      [10, ["3000010"]],
      ["missing", []],
      ["doubled", ["3000000", "3000000"]],
    ] as const) {
      const answer = await withFault({ kind: "content-length", delta });
      expect([...answer.head.matchAll(/content-length: (\d+)/gi)].map(([, length]) => length)).toEqual(
        lengths,
      );
      expectBytes(answer.body, content);
      expect(answer.end).toBe("fin");
    }
  });

  test("append-bytes: within the stated length, behind it, and without end", async () => {
    const stated = await withFault({ kind: "append-bytes", count: 3 });
    expect(stated.head).toContain("content-length: 3000003");
    expectBytes(stated.body, Buffer.concat([content, Buffer.from("xxx")]));
    const behind = await withFault({ kind: "append-bytes", count: 3, declared: false });
    expect(behind.head).toContain("Content-Length: 3000000");
    expectBytes(behind.body, Buffer.concat([content, Buffer.from("xxx")]));
    const endless = await withFault({ kind: "append-bytes", count: Infinity }, "/content", {
      isEnough: (received) => received.length > 2 * size,
    });
    expect(endless.head).not.toMatch(/content-length|transfer-encoding/i);
    expect(endless.end).toBe("open");
    const sent = proxy.requests.at(-1);
    // The proxy notices that nobody listens any more.
    let before = -1;
    await waitFor("the end of sending", () => {
      const isStill = sent?.sentBytes === before;
      before = sent?.sentBytes ?? 0;
      return isStill;
    });
  });

  test("replace-body: other bytes under the same head, also in place of chunks", async () => {
    for (const path of ["/content", "/chunked"]) {
      const answer = await withFault({ kind: "replace-body", body: "<html>" }, path);
      expect(answer.head).toMatch(/^HTTP\/1\.1 200 /);
      expect(answer.head).toContain("content-length: 6");
      expect(answer.head).not.toMatch(/transfer-encoding/i);
      expect(answer.body.toString()).toBe("<html>");
    }
  });

  test("refuse: closed or reset before any answer, and the target is not asked", async () => {
    expect(await withFault({ kind: "refuse" })).toMatchObject({ head: "", end: "fin" });
    expect(await withFault({ kind: "refuse", reset: true })).toMatchObject({ head: "", end: "reset" });
  });

  test("header: set, repeated, removed", async () => {
    const set = await withFault({ kind: "header", name: "content-encoding", value: "gzip" });
    expect(set.head).toContain("content-encoding: gzip");
    const repeated = await withFault({ kind: "header", name: "content-length", value: ["1", "2"] });
    expect(doubled(repeated.head, /content-length/)).toBe(2);
    const removed = await withFault({ kind: "header", name: "x-twice" });
    expect(removed.head).not.toMatch(/x-twice/i);
  });

  test("raw: exactly these bytes, then FIN, RST or nothing", async () => {
    for (const [end, seen] of [
      ["finish", "fin"],
      ["reset", "reset"],
      ["hang", "open"],
    ] as const) {
      const bytes = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n";
      const answer = await withFault({ kind: "raw", bytes, end }, "/content", { timeoutMs: 300 });
      expect(`${answer.head}\r\n\r\n${answer.body.toString()}`).toBe(bytes);
      expect(answer.end).toBe(seen);
    }
  });

  describe("streams of lines", () => {
    const lines = (answer: RawAnswer): readonly string[] =>
      unchunk(answer.body).bytes.toString().split("\n").slice(0, -1);

    test("are passed on as they come, while the stream is open", async () => {
      const answer = await ask("/lines/open", { isEnough: (received) => received.includes('{"line":9}') });
      expect(answer.end).toBe("open");
      expect(lines(answer)).toHaveLength(10);
    });
    test.each([0, 3, 10])("a line is injected after %i lines", async (afterLines) => {
      const answer = await withFault({ kind: "inject-line", afterLines, line: "not json {" }, "/lines");
      const got = lines(answer);
      expect(got).toHaveLength(11);
      expect(got[afterLines]).toBe("not json {");
      expect(unchunk(answer.body).isComplete).toBe(true);
    });
    test("the stream ends in good order after some lines", async () => {
      const answer = await withFault({ kind: "close-after-lines", lines: 3 }, "/lines/open");
      expect(lines(answer)).toEqual(['{"line":0}', '{"line":1}', '{"line":2}']);
      expect(unchunk(answer.body).isComplete).toBe(true);
      expect(answer.end).toBe("fin");
    });
    test("a reset in the middle of a line", async () => {
      const answer = await withFault({ kind: "cut", afterBytes: 15, reset: true }, "/lines/open");
      expect(unchunk(answer.body).bytes.toString()).toBe('{"line":0}\n{"li');
      expect(answer.end).toBe("reset");
    });
    test("a stall in the middle of a line", async () => {
      const answer = await withFault({ kind: "stall", afterBytes: 15 }, "/lines/open", { silenceMs: 700 });
      expect(unchunk(answer.body).bytes.toString()).toBe('{"line":0}\n{"li');
      expect(answer.end).toBe("open");
    });
  });
});
