// The fault proxy before a real registry with TLS and a password: trust, credentials and faults on the way to a TLS target.
// What each kind of fault does to the bytes is tested without a registry.

import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { Agent, request } from "undici";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { describeUnless } from "../cluster/suites.ts";
import { startFaultProxy, type FaultProxy } from "./fault-proxy.ts";
import { publishDockerModel, type Published } from "./publish.ts";
import { registryUnavailable, startRegistry, type TestRegistry } from "./registry.ts";

const content = Buffer.alloc(200_000, "0123456789abcdef");

describeUnless(registryUnavailable(), "fault proxy before a registry with TLS", () => {
  let registry: TestRegistry;
  let published: Published;
  let authorization = "";
  const started: FaultProxy[] = [];
  beforeAll(async () => {
    registry = await startRegistry({ tls: true, authentication: "htpasswd" });
    authorization = `Basic ${Buffer.from(`${registry.username}:${registry.password}`).toString("base64")}`;
    published = await publishDockerModel(registry, {
      repository: "model",
      tag: "v1",
      files: [{ name: "model.gguf", content }],
    });
  });
  afterAll(async () => {
    await registry.stop();
  });
  afterEach(async () => {
    for (const proxy of started.splice(0)) await proxy.stop();
  });

  const start = async (options: Partial<Parameters<typeof startFaultProxy>[0]> = {}): Promise<FaultProxy> => {
    const proxy = await startFaultProxy({
      target: registry.url,
      ...(registry.caFile === undefined ? {} : { targetCaFile: registry.caFile }),
      ...options,
    });
    started.push(proxy);
    return proxy;
  };
  const getBlob = async (
    proxy: FaultProxy,
    credentials?: string,
  ): Promise<{ readonly status: number; readonly body: Buffer }> => {
    const dispatcher = new Agent(
      proxy.caFile === undefined ? {} : { connect: { ca: readFileSync(proxy.caFile) } },
    );
    try {
      const answer = await request(`${proxy.url}/v2/model/blobs/${published.layerDigests[0]}`, {
        dispatcher,
        headers: credentials === undefined ? {} : { authorization: credentials },
      });
      return { status: answer.statusCode, body: Buffer.from(await answer.body.arrayBuffer()) };
    } finally {
      await dispatcher.close();
    }
  };

  test.each([false, true])(
    "credentials pass through and the blob comes whole, TLS before it too: %s",
    async (tls) => {
      const proxy = await start({ tls });
      expect((await getBlob(proxy)).status).toBe(401);
      const { status, body } = await getBlob(proxy, authorization);
      expect(status).toBe(200);
      expect(`sha256:${createHash("sha256").update(body).digest("hex")}`).toBe(published.layerDigests[0]);
      expect(proxy.requests.map((each) => each.headers["authorization"])).toEqual([undefined, authorization]);
      expect(proxy.requests.map((each) => each.status)).toEqual([401, 200]);
    },
  );

  test("without the registry's authority it is not asked", async () => {
    const proxy = await startFaultProxy({ target: registry.url });
    started.push(proxy);
    const before = registry.requests().length;
    await expect(getBlob(proxy, authorization)).rejects.toThrow();
    expect(registry.requests().length).toBe(before);
    expect(proxy.requests.map((each) => each.status)).toEqual([0]);
  });

  test("a fault happens to what the registry served, and the next request heals", async () => {
    const proxy = await start({
      faults: [{ when: { path: /\/blobs\// }, do: { kind: "corrupt", atByte: 150_000 } }],
    });
    const { body } = await getBlob(proxy, authorization);
    expect([...body.keys()].filter((index) => body[index] !== content[index])).toEqual([150_000]);
    expect((await getBlob(proxy, authorization)).body.equals(content)).toBe(true);
    expect(proxy.unmet()).toEqual([]);
  });
});
