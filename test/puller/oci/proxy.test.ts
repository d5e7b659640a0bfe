import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { chooseProxies } from "../../../puller/oci/proxy.ts";
import { startForwardProxy, type ForwardProxyOptions } from "../../registry/forward-proxy.ts";
import { startScriptedRegistry, type ScriptedRegistry } from "../../registry/scripted-registry.ts";
import { serveManifest } from "../bad-input.ts";
import { runInProcess, type InProcessRun } from "../run-in-process.ts";

const http = "http://proxy:1";
const https = "http://proxy:2";

describe("the proxy for a URL", () => {
  it.each<[string, string, string | undefined]>([
    ["http://r.io/", "", "1"],
    ["https://r.io/", "", "2"],
    ["https://r.io/", "r.io", undefined],
    ["https://R.IO./", "r.io", undefined],
    ["https://x.r.io/", "r.io", undefined],
    ["https://x.r.io/", ".r.io", undefined],
    ["https://x.r.io/", "*.r.io", undefined],
    ["https://r.io/", ".r.io", "2"],
    ["https://xr.io/", "r.io", "2"],
    ["https://r.io/", "r.io:443", undefined],
    ["https://r.io:5000/", "r.io:443", "2"],
    ["http://r.io/", "r.io:80", undefined],
    ["https://10.1.2.3/", "10.0.0.0/8", undefined],
    ["https://11.1.2.3/", "10.0.0.0/8", "2"],
    ["https://10.1.2.3/", "10.1.2.3", undefined],
    ["https://10.1.2.3/", "2.3", "2"],
    ["https://[fd00::1]/", "fd00::/8", undefined],
    ["https://[fd00::1]:5000/", "[fd00::1]:5000", undefined],
    ["https://[fd00::1]/", "fd00::1", undefined],
    ["https://r.io/", "*", undefined],
    ["https://r.io/", "a.io, ,b.io r.io", undefined],
    ["https://svc.cluster.local/", "localhost,127.0.0.1,10.96.0.0/12,.svc,.cluster.local", undefined],
    ["https://10.0.0.1/", "10.0.0.0/99", "2"],
  ])("%s without %j", (url, noProxy, port) => {
    const { proxyFor } = chooseProxies({ HTTP_PROXY: http, HTTPS_PROXY: https, NO_PROXY: noProxy });
    expect(proxyFor(new URL(url))?.port).toBe(port);
  });
  it("is none for https where only HTTP_PROXY is set; small letters come first; a scheme may be missing", () => {
    expect(chooseProxies({ HTTP_PROXY: http }).proxyFor(new URL("https://r.io"))).toBeUndefined();
    expect(
      chooseProxies({ HTTP_PROXY: http, http_proxy: "other:3128" }).proxyFor(new URL("http://r.io"))?.href,
    ).toBe("http://other:3128/");
    expect(chooseProxies({ HTTP_PROXY: "" }).proxyFor(new URL("http://r.io"))).toBeUndefined();
  });
});

describe("a pull through a proxy", () => {
  let directory = "";
  let registry: ScriptedRegistry;
  let count = 0;
  beforeAll(async () => {
    directory = mkdtempSync(join(tmpdir(), "ocimodel-proxy-"));
    registry = await startScriptedRegistry();
  });
  afterAll(async () => {
    await registry?.stop();
    rmSync(directory, { recursive: true, force: true });
  });
  const pull = async (
    options: ForwardProxyOptions,
    environment: (host: string) => Readonly<Record<string, string>>,
  ): Promise<InProcessRun & { readonly asked: number }> => {
    const proxy = await startForwardProxy(options);
    registry.setScript(serveManifest());
    const run = await runInProcess(
      [
        "pull",
        `--reference=${registry.host}/ai/model:x`,
        `--store=${join(directory, `${(count += 1)}`)}`,
        `--plain-http=${registry.host}`,
        "--retry-budget=0",
      ],
      { environment: environment(proxy.host) },
    );
    await proxy.stop();
    return { ...run, asked: proxy.requests.length };
  };
  const credentials = "user:canary-proxy";

  it("goes through it, and its password goes to it only", async () => {
    const run = await pull({ credentials }, (host) => ({ http_proxy: `http://${credentials}@${host}` }));
    expect(run).toMatchObject({ exitCode: 0 });
    expect(run.asked).toBeGreaterThan(0);
    expect(registry.received().toString("latin1")).not.toMatch(/proxy-authorization|canary/i);
    expect(run.said).not.toContain("canary");
  });
  it("goes around it by NO_PROXY", async () => {
    expect(await pull({}, (host) => ({ HTTP_PROXY: host, NO_PROXY: "127.0.0.0/8" }))).toMatchObject({
      exitCode: 0,
      asked: 0,
    });
  });
  it("that wants a password for a tunnel is told so too", async () => {
    const proxy = await startForwardProxy({ credentials });
    const run = await runInProcess(
      [
        "pull",
        "--reference=registry.example.com/ai/model:x",
        `--store=${join(directory, "tunnel")}`,
        "--retry-budget=0",
      ],
      { environment: { HTTPS_PROXY: proxy.url } },
    );
    await proxy.stop();
    expect(proxy.requests[0]).toMatchObject({ method: "CONNECT", target: "registry.example.com:443" });
    expect(run).toMatchObject({ exitCode: 78, termination: { message: expect.stringContaining("(407)") } });
  });
  it.each<[string, ForwardProxyOptions, number, string, string]>([
    [
      "that wants a password",
      { credentials },
      78,
      "InvalidConfiguration",
      "wants credentials (407); set them in HTTP_PROXY",
    ],
    ["that drops connections", { refuse: "drop" }, 69, "RegistryUnreachable", "cannot be reached"],
  ])("%s ends as stated", async (_name, options, exitCode, code, says) => {
    const run = await pull(options, (host) => ({ HTTP_PROXY: `http://${host}` }));
    expect(run).toMatchObject({ exitCode, termination: { code, message: expect.stringContaining(says) } });
  });
});
