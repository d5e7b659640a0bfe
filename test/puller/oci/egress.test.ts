import { BlockList } from "node:net";
import dns from "node:dns";
import { syncBuiltinESMExports } from "node:module";
import fc from "fast-check";
import { afterEach, describe, expect, it } from "vitest";
import { isPublicAddress, isSameOrigin, judgeUrl } from "../../../puller/oci/egress.ts";
import { createRegistry, parseReference, type AppError } from "../../../puller/oci/index.ts";
import { startCanaryOrigin } from "../../registry/canary-origin.ts";
import { startScriptedRegistry } from "../../registry/scripted-registry.ts";

const refused = [
  "0.0.0.0 0.1.2.3 10.0.0.0 10.255.255.255 100.64.0.0 100.127.255.255 127.0.0.1 127.255.255.255 169.254.169.254 172.16.0.1",
  "172.31.255.255 192.0.0.1 192.0.2.1 192.88.99.1 192.168.0.1 198.18.0.1 198.19.255.255 198.51.100.1 203.0.113.1 224.0.0.1",
  "239.255.255.255 240.0.0.1 255.255.255.255 :: ::1 ::127.0.0.1 ::ffff:10.0.0.1 ::ffff:7f00:1 64:ff9b::10.0.0.1",
  "64:ff9b::7f00:1 64:ff9b:1::1 100::1 2001::1 2001:db8::1 2002:7f00:1:: fc00::1 fdff::1 fe80::1 fe80::1%eth0 febf::1 fec0::1",
  "::ffff:0:7f00:1 ::ffff:0:a00:1 1fff::1 2001:10::1 2001:20::1 3fff::1 4000::1 5f00::1 a000::1 168.63.129.16",
  "ff02::1 localhost example.com 1.2.3",
].flatMap((line) => line.split(" "));
const allowed = [
  "1.1.1.1 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.0 169.253.255.255 172.15.255.255",
  "172.32.0.0 192.167.255.255 223.255.255.255 2606:4700::1111 ::ffff:1.1.1.1 64:ff9b::1.1.1.1 2a00::1 2000::1 2001:4860::1 3ffe::1 168.63.129.15",
].flatMap((line) => line.split(" "));

describe("addresses", () => {
  it.each(refused)("%s is not public", (address) => expect(isPublicAddress(address)).toBe(false));
  it.each(allowed)("%s is public", (address) => expect(isPublicAddress(address)).toBe(true));
  it("inside IPv6 ones are judged as themselves", () => {
    fc.assert(
      fc.property(fc.ipV4(), (address) => {
        expect(isPublicAddress(`::ffff:${address}`)).toBe(isPublicAddress(address));
        expect(isPublicAddress(`64:ff9b::${address}`)).toBe(isPublicAddress(address));
      }),
    );
  });
  it("of the networks nobody routes are never public", () => {
    const list = new BlockList();
    for (const [network, prefix] of [
      ["10.0.0.0", 8],
      ["172.16.0.0", 12],
      ["192.168.0.0", 16],
      ["127.0.0.0", 8],
      ["169.254.0.0", 16],
      ["100.64.0.0", 10],
    ] as const)
      list.addSubnet(network, prefix, "ipv4");
    fc.assert(
      fc.property(fc.ipV4(), (address) => !list.check(address, "ipv4") || !isPublicAddress(address)),
      { numRuns: 2000 },
    );
  });
});

describe("URLs that a registry leads to", () => {
  const judge = (target: string, registry: string, trusted: readonly string[] = []): boolean | string => {
    const origin = new URL(registry);
    try {
      return judgeUrl(target, origin, { registry: origin, trustedHosts: new Set(trusted) }).anyAddress;
    } catch (error) {
      return (error as AppError).code;
    }
  };
  const no = "PolicyRefused";
  it.each<[string, string, readonly string[], boolean | string]>([
    ["/v2/x", "https://r.io", [], true],
    ["https://r.io/other", "https://r.io", [], true],
    ["https://R.IO./other", "https://r.io", [], true],
    ["https://r.io:443/other", "https://r.io", [], true],
    ["https://r.io:8443/other", "https://r.io", [], false],
    ["https://cdn.example.com/x", "https://r.io", [], false],
    ["https://1.1.1.1/x", "https://r.io", [], false],
    ["http://r.io/other", "https://r.io", [], no],
    ["http://cdn.example.com/x", "https://r.io", ["cdn.example.com"], no],
    ["http://cdn.example.com/x", "http://r.io", [], no],
    ["http://cdn.example.com/x", "http://r.io", ["cdn.example.com"], true],
    ["http://cdn.example.com:81/x", "http://r.io", ["cdn.example.com:80"], no],
    ["https://10.0.0.1/x", "https://10.0.0.1", [], true],
    ["https://10.0.0.1:444/x", "https://10.0.0.1", [], no],
    ["https://10.0.0.1/x", "https://r.io", ["10.0.0.1"], true],
    ["https://0x0a.1/x", "https://r.io", ["10.0.0.1"], true],
    ["https://[::ffff:10.0.0.1]/x", "https://r.io", ["10.0.0.1"], no],
    ["https://minio.storage.svc/x", "https://r.io", ["minio.storage.svc"], true],
    ["https://evil.minio.storage.svc/x", "https://r.io", ["minio.storage.svc"], false],
    ["https://user@r.io/x", "https://r.io", [], no],
    ["https://user:p@cdn.example.com/x", "https://r.io", ["cdn.example.com"], no],
    ["ftp://r.io/x", "https://r.io", [], no],
    ["file:///etc/passwd", "https://r.io", [], no],
    ["data:text/plain,x", "https://r.io", [], no],
    ["javascript:0", "https://r.io", [], no],
    ["https://", "https://r.io", [], no],
    ["https://r.io:99999/", "https://r.io", [], no],
    ["\\\\169.254.169.254\\x", "https://r.io", [], no],
  ])("%s from %s, trusted %j: %s", (target, registry, trusted, result) => {
    expect(judge(target, registry, trusted)).toBe(result);
  });
  it("are of one origin only with the same scheme, host and port", () => {
    const same = (one: string, other: string): boolean => isSameOrigin(new URL(one), new URL(other));
    expect(same("https://r.io", "https://R.io.:443/x")).toBe(true);
    expect(same("https://r.io", "https://r.io:8443")).toBe(false);
    expect(same("https://r.io", "http://r.io:443")).toBe(false);
    expect(same("https://r.io", "https://x.r.io")).toBe(false);
  });
});

describe("names", () => {
  const real = dns.lookup;
  afterEach(() => {
    dns.lookup = real;
    syncBuiltinESMExports();
  });
  /** Answers one name with these addresses, one list for each question. */
  const answerWith = (lists: readonly (readonly string[])[]): (() => number) => {
    let asked = 0;
    dns.lookup = ((
      hostname: string,
      options: object,
      callback: (error: Error | null, addresses: object[]) => void,
    ) => {
      if (hostname !== "cdn.example.com")
        return (real as (...args: unknown[]) => void)(hostname, options, callback);
      const list = lists[Math.min(asked, lists.length - 1)] ?? [];
      asked += 1;
      if (list.length === 0) callback(Object.assign(new Error("try again"), { code: "EAI_AGAIN" }), []);
      else
        callback(
          null,
          list.map((address) => ({ address, family: address.includes(":") ? 6 : 4 })),
        );
    }) as typeof dns.lookup;
    syncBuiltinESMExports();
    return () => asked;
  };

  it.each([
    ["a private address", [["127.0.0.1"]], 1],
    ["a private address beside a public one", [["1.1.1.1", "127.0.0.1"]], 1],
    ["a v4-mapped one", [["::ffff:127.0.0.1"]], 1],
    ["a private address the second time", [[], ["127.0.0.1"]], 2],
  ])("that resolve to %s are refused before a byte is sent", async (_name, lists, questions) => {
    const canary = await startCanaryOrigin();
    const target = await startScriptedRegistry();
    const port = canary.host.split(":")[1];
    target.setScript(() => ({ status: 307, headers: { location: `https://cdn.example.com:${port}/x` } }));
    const asked = answerWith(lists);
    const registry = createRegistry({
      plainHTTPHosts: [target.host],
      retryPolicy: { firstWaitMs: 1, longestWaitMs: 1, budgetMs: 5000 },
    });
    await expect(
      registry.fetchManifest(parseReference(`${target.host}/ai/model:x`), AbortSignal.timeout(10_000)),
    ).rejects.toMatchObject({
      code: "PolicyRefused",
      message: expect.stringContaining("--trusted-host cdn.example.com"),
    });
    expect(asked()).toBe(questions);
    expect(canary.received().length).toBe(0);
    await Promise.all([registry.close(), canary.stop(), target.stop()]);
  });
});
