// The forward proxy before the real registry: tunnels and plain requests, its password, and its ways to refuse.

import { readFileSync } from "node:fs";
import { ProxyAgent, request } from "undici";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { describeUnless } from "../cluster/suites.ts";
import { startForwardProxy, type ForwardProxy, type ForwardProxyOptions } from "./forward-proxy.ts";
import { registryUnavailable, startRegistry, type TestRegistry } from "./registry.ts";

describeUnless(registryUnavailable(), "forward proxy", () => {
  describe.each([{ tls: false }, { tls: true }])("TLS of the registry: $tls", ({ tls }) => {
    let registry: TestRegistry;
    let proxy: ForwardProxy | undefined;
    beforeAll(async () => {
      registry = await startRegistry({ tls, authentication: "htpasswd" });
    });
    afterEach(async () => {
      await proxy?.stop();
    });
    afterAll(async () => {
      await registry?.stop();
    });
    const ask = async (options: ForwardProxyOptions, token?: string): Promise<number> => {
      proxy = await startForwardProxy(options);
      const dispatcher = new ProxyAgent({
        uri: proxy.url,
        proxyTunnel: tls,
        ...(token === undefined ? {} : { token }),
        ...(registry.caFile === undefined ? {} : { requestTls: { ca: readFileSync(registry.caFile) } }),
      });
      try {
        const { statusCode, body } = await request(`${registry.url}/v2/`, {
          dispatcher,
          headers: { authorization: "Basic registry-canary" },
        });
        await body.dump();
        return statusCode;
      } finally {
        await dispatcher.destroy();
      }
    };
    const basic = `Basic ${Buffer.from("me:proxy-canary").toString("base64")}`;

    test("passes on what comes, and the registry answers", async () => {
      const before = registry.requests().length;
      expect(await ask({})).toBe(401);
      expect(proxy?.requests).toMatchObject([
        tls
          ? { method: "CONNECT", target: registry.host, status: 200 }
          : { method: "GET", target: `${registry.url}/v2/`, status: 200 },
      ]);
      // In a tunnel the proxy sees no credential of the registry.
      expect(proxy?.requests[0]?.rawHeaders.includes("Basic registry-canary")).toBe(!tls);
      await expect.poll(() => registry.requests().length).toBe(before + 1);
    });

    test("with a password: 407 without it, through with it", async () => {
      const credentials = "me:proxy-canary";
      await expect(ask({ credentials })).rejects.toThrow();
      expect(proxy?.requests).toMatchObject([{ status: 407, proxyAuthorization: undefined }]);
      await proxy?.stop();
      expect(await ask({ credentials }, basic)).toBe(401);
      expect(proxy?.requests).toMatchObject([{ status: 200, proxyAuthorization: basic }]);
    });

    test("refuses with a status, or drops the connection", async () => {
      if (tls) await expect(ask({ refuse: { status: 503 } })).rejects.toThrow();
      else expect(await ask({ refuse: { status: 503 } })).toBe(503);
      expect(proxy?.requests).toMatchObject([{ status: 503 }]);
      await proxy?.stop();
      await expect(ask({ refuse: "drop" })).rejects.toThrow();
      expect(proxy?.requests).toMatchObject([{ status: 0 }]);
    });

    if (tls) {
      test("cuts a tunnel", async () => {
        await expect(ask({ cutTunnelAfterBytes: 100 })).rejects.toThrow();
        expect(proxy?.requests).toMatchObject([{ method: "CONNECT", status: 200 }]);
      });
    }
  });
});
