import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { describeUnless } from "../../cluster/suites.ts";
import {
  startCanaryOrigin,
  startFaultProxy,
  type Fault,
  type FaultProxy,
} from "../../registry/fault-proxy.ts";
import { publishLayout, type Published } from "../../registry/publish.ts";
import { registryUnavailable, startRegistry, type TestRegistry } from "../../registry/registry.ts";
import { runPuller, type PullerRun } from "../run-puller.ts";
import { expectNoWrongByte } from "../store-assertions.ts";

describeUnless(registryUnavailable(), "faults of the token server", () => {
  let directory = "";
  let count = 0;
  let registry: TestRegistry;
  let proxy: FaultProxy;
  let published: Published;
  beforeAll(async () => {
    directory = mkdtempSync(join(tmpdir(), "ocimodel-token-"));
    registry = await startRegistry({
      authentication: "token",
      tokenLifetimeSeconds: 300,
      realm: async (target) => {
        proxy = await startFaultProxy({ target });
        return proxy.url;
      },
    });
    published = await publishLayout(
      registry,
      join(import.meta.dirname, "../../fixtures/layout"),
      "tinyst-docker",
      "ai/st",
    );
    writeFileSync(join(directory, "config.json"), registry.dockerConfig());
  });
  afterAll(async () => {
    await proxy?.stop();
    await registry?.stop();
    rmSync(directory, { recursive: true, force: true });
  });

  const pull = async (
    store: string,
    faults: readonly Fault["do"][],
    more: readonly string[] = [],
  ): Promise<PullerRun> => {
    proxy.setFaults(faults.map((action) => ({ when: { path: /\/token/ }, do: action })));
    return runPuller([
      "pull",
      `--reference=${published.reference}`,
      `--store=${store}`,
      `--plain-http=${registry.host}`,
      `--trusted-host=${proxy.host}`,
      `--docker-config=${join(directory, "config.json")}`,
      "--stall-timeout=0.5",
      "--retry-budget=2",
      ...more,
    ]);
  };

  const rows: readonly [name: string, faults: readonly Fault["do"][], exitCode: number, code: string][] = [
    [
      "500 twice",
      [
        { kind: "status", status: 500 },
        { kind: "status", status: 500 },
      ],
      0,
      "Ready",
    ],
    ["429 with Retry-After", [{ kind: "status", status: 429, headers: { "retry-after": "1" } }], 0, "Ready"],
    [
      "429 beyond the budget",
      [{ kind: "status", status: 429, headers: { "retry-after": "100" } }],
      75,
      "RegistryRateLimited",
    ],
    ["401", [{ kind: "status", status: 401 }], 77, "RegistryUnauthorized"],
    ["403", [{ kind: "status", status: 403 }], 77, "RegistryForbidden"],
    ["404", [{ kind: "status", status: 404 }], 66, "ManifestNotFound"],
    ["416", [{ kind: "status", status: 416 }], 65, "InvalidArtifact"],
    ["refused connection", [{ kind: "refuse" }], 0, "Ready"],
    ["stall before the head", [{ kind: "stall" }], 0, "Ready"],
    ["stall in the body", [{ kind: "stall", afterBytes: 10 }], 0, "Ready"],
    ["cut", [{ kind: "cut", afterBytes: 10 }], 0, "Ready"],
    ["delay", [{ kind: "delay", ms: 100 }], 0, "Ready"],
    ["an answer that is no JSON", [{ kind: "replace-body", body: "<html>" }], 77, "RegistryUnauthorized"],
    ["an answer without a token", [{ kind: "replace-body", body: "{}" }], 77, "RegistryUnauthorized"],
    [
      "the key in another case",
      [{ kind: "replace-body", body: '{"Token":"x"}' }],
      77,
      "RegistryUnauthorized",
    ],
    [
      "a token that is a list",
      [{ kind: "replace-body", body: '{"token":["x"]}' }],
      77,
      "RegistryUnauthorized",
    ],
    [
      "a token with a line break",
      [{ kind: "replace-body", body: '{"token":"a\\nb: c"}' }],
      77,
      "RegistryUnauthorized",
    ],
    [
      "a token that the registry does not take",
      [{ kind: "replace-body", body: '{"token":"abc"}' }],
      77,
      "RegistryUnauthorized",
    ],
    [
      "an answer of 100 KiB",
      [{ kind: "replace-body", body: `{"token":"${"x".repeat(100 * 1024)}"}` }],
      65,
      "InvalidArtifact",
    ],
    [
      "a redirect to a host that is not public",
      [{ kind: "redirect", location: "http://127.0.0.1:9/token" }],
      77,
      "PolicyRefused",
    ],
    [
      "a redirect to cloud metadata",
      [{ kind: "redirect", location: "http://169.254.169.254/" }],
      77,
      "PolicyRefused",
    ],
    [
      "content encoding",
      [{ kind: "header", name: "content-encoding", value: "gzip" }],
      65,
      "InvalidArtifact",
    ],
  ];

  describe("each ends as stated, and a clean run afterwards ends well", () => {
    test.each(rows)("%s: %#", async (_name, faults, exitCode, code) => {
      const store = join(directory, `store-${(count += 1)}`);
      const run = await pull(store, faults);
      expect({ exitCode: run.exitCode, code: run.termination?.code }).toEqual({ exitCode, code });
      expect(proxy.unmet()).toEqual([]);
      expect(`${run.stdout}${run.stderr}${JSON.stringify(run.termination)}`).not.toContain(registry.password);
      expectNoWrongByte(store);
      expect((await pull(store, [])).exitCode).toBe(0);
    });
  });

  test("a redirect of the token server to another trusted origin carries no credential", async () => {
    const canary = await startCanaryOrigin({ body: Buffer.from("{}") });
    const run = await pull(
      join(directory, "store-canary"),
      [{ kind: "redirect", location: `${canary.url}/token` }],
      [`--trusted-host=${canary.host}`],
    );
    await canary.stop();
    expect(run.exitCode).toBe(77);
    expect(canary.requests).toHaveLength(1);
    expect(canary.requests[0]?.headers.authorization).toBeUndefined();
  });

  test("one token serves a whole pull", async () => {
    const before = proxy.requests.length;
    await pull(join(directory, "store-one"), []);
    expect(proxy.requests.length - before).toBe(1);
  });
});
