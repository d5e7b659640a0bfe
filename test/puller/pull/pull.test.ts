import { lstatSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { publishDockerModel, publishLayout, type Published } from "../../registry/publish.ts";
import { registryUnavailable, startRegistry, type TestRegistry } from "../../registry/registry.ts";
import { describeUnless } from "../../cluster/suites.ts";
import { runPuller } from "../run-puller.ts";
import { expectNoWrongByte, filesBelow, sha256 } from "../store-assertions.ts";

const layout = join(import.meta.dirname, "../../fixtures/layout");
const weights = "4cb2ce6c82f8ac2c5fba9dcd3c59c03b6f812374aca54e5a7dcabb5b9b6a1953";

/** Files of the fixtures as their README states them. */
const fixtures: readonly [tag: string, files: readonly string[]][] = [
  ["tiny-docker", ["model.gguf"]],
  ["tiny-cncf", ["tiny-F16.gguf"]],
  [
    "tinyst-docker",
    [
      "LICENSE",
      "chat_template.jinja",
      "config.json",
      "extra/notes.txt",
      "model-00001-of-00002.safetensors",
      "model-00002-of-00002.safetensors",
      "model.safetensors.index.json",
      "tokenizer.json",
    ],
  ],
];

describeUnless(registryUnavailable(), "pull from a real registry", () => {
  let directory = "";
  let count = 0;
  const freshStore = (): string => join(directory, `store-${(count += 1)}`);
  const registries: TestRegistry[] = [];
  beforeAll(async () => {
    directory = mkdtempSync(join(tmpdir(), "ocimodel-pull-"));
    registries.push(
      await startRegistry(),
      await startRegistry({ authentication: "htpasswd" }),
      await startRegistry({ authentication: "token" }),
      await startRegistry({ tls: true }),
    );
  });
  afterAll(async () => {
    await Promise.all(registries.map(async (registry) => registry.stop()));
    rmSync(directory, { recursive: true, force: true });
  });

  /** Flags to reach one of the registries with its own credentials. */
  const flags = (registry: TestRegistry): string[] => {
    const config = join(directory, `config-${registry.host.replace(":", "-")}.json`);
    writeFileSync(config, registry.dockerConfig());
    return [
      `--docker-config=${config}`,
      ...(registry.caFile === undefined
        ? [`--plain-http=${registry.host}`]
        : [`--ca-file=${registry.caFile}`]),
      // The token server is on another port of the loopback interface.
      ...(registry.tokenServer === undefined
        ? []
        : [`--trusted-host=${new URL(registry.tokenServer.url).host}`]),
    ];
  };

  describe.each([
    { index: 0, name: "open" },
    { index: 1, name: "htpasswd" },
    { index: 2, name: "tokens" },
    { index: 3, name: "TLS with a private authority" },
  ])("registry: $name", ({ index }) => {
    test.each(fixtures)("%s has the layout its README states", async (tag, files) => {
      const registry = registries[index] as TestRegistry;
      const published = await publishLayout(registry, layout, tag, "ai/tiny");
      const store = freshStore();
      const run = await runPuller([
        "pull",
        `--reference=${published.reference}`,
        `--store=${store}`,
        ...flags(registry),
      ]);
      expect(run.stderr).not.toContain("canary-");
      expect(run).toMatchObject({
        exitCode: 0,
        termination: { code: "Ready", digest: published.digest, command: "pull" },
      });
      const model = join(store, "models", published.digest.replace("sha256:", ""));
      expect(filesBelow(model)).toEqual(files);
      if (index === 0 && files.length === 1) {
        expect(sha256(readFileSync(join(model, files[0] ?? "")))).toBe(weights);
        expect(lstatSync(join(model, files[0] ?? "")).mode & 0o777).toBe(0o444);
      }
      expectNoWrongByte(store);
    });
  });

  describe("credentials", () => {
    const refused: readonly [string, 1 | 2, string | undefined, number, string][] = [
      ["none at a registry with htpasswd", 1, undefined, 77, "RegistryUnauthorized"],
      ["a wrong password at a registry with htpasswd", 1, "wrong", 77, "RegistryUnauthorized"],
      ["none at a registry with tokens", 2, undefined, 77, "RegistryUnauthorized"],
      ["a wrong password at a registry with tokens", 2, "wrong", 77, "RegistryUnauthorized"],
    ];
    test.each(refused)("%s: %i", async (_name, index, password, exitCode, code) => {
      const registry = registries[index] as TestRegistry;
      const config = join(directory, "wrong.json");
      const auth = Buffer.from(`${registry.username}:${password ?? ""}`).toString("base64");
      writeFileSync(
        config,
        JSON.stringify({ auths: password === undefined ? {} : { [registry.host]: { auth } } }),
      );
      const run = await runPuller([
        "pull",
        `--reference=${registry.host}/ai/tiny:tiny-docker`,
        `--store=${freshStore()}`,
        ...flags(registry).slice(1),
        `--docker-config=${config}`,
      ]);
      expect(run).toMatchObject({ exitCode, termination: { code, retryable: false } });
    });

    test("a token server that is not public is not asked unless it is trusted", async () => {
      const registry = registries[2] as TestRegistry;
      const asked = registry.tokenServer?.log.length;
      const run = await runPuller([
        "pull",
        `--reference=${registry.host}/ai/tiny:tiny-docker`,
        `--store=${freshStore()}`,
        ...flags(registry).slice(0, 2),
      ]);
      expect(run).toMatchObject({ exitCode: 77, termination: { code: "PolicyRefused" } });
      expect(run.termination?.message).toContain("--trusted-host");
      expect(registry.tokenServer?.log.length).toBe(asked);
    });
  });

  test("an unknown authority is exit 78 with the remedy", async () => {
    const registry = registries[3] as TestRegistry;
    const run = await runPuller([
      "pull",
      `--reference=${registry.host}/ai/tiny:tiny-docker`,
      `--store=${freshStore()}`,
    ]);
    expect(run).toMatchObject({ exitCode: 78, termination: { code: "TLSUntrusted" } });
    expect(run.termination?.message).toContain("--ca-file");
  });

  test("a tag that is not there is exit 66", async () => {
    const registry = registries[0] as TestRegistry;
    const run = await runPuller([
      "pull",
      `--reference=${registry.host}/ai/tiny:nope`,
      `--store=${freshStore()}`,
      ...flags(registry),
    ]);
    expect(run).toMatchObject({ exitCode: 66, termination: { code: "ManifestNotFound", retryable: false } });
  });

  test("a registry that is not there is exit 69 after the budget", async () => {
    const run = await runPuller([
      "pull",
      "--reference=127.0.0.1:1/ai/tiny:x",
      `--store=${freshStore()}`,
      "--plain-http=127.0.0.1:1",
      "--retry-budget=1",
    ]);
    expect(run).toMatchObject({
      exitCode: 69,
      termination: { code: "RegistryUnreachable", retryable: true },
    });
  });

  describe("a model that is there", () => {
    let published: Published;
    let store = "";
    let registry: TestRegistry;
    beforeAll(async () => {
      registry = registries[0] as TestRegistry;
      store = freshStore();
      published = await publishLayout(registry, layout, "tinyst-docker", "ai/warm");
      const run = await runPuller([
        "pull",
        `--reference=${published.reference}`,
        `--store=${store}`,
        ...flags(registry),
      ]);
      expect(run.exitCode).toBe(0);
    });

    test("starts from its digest without any registry", async () => {
      const run = await runPuller([
        "pull",
        `--reference=127.0.0.1:1/ai/warm@${published.digest}`,
        `--store=${store}`,
      ]);
      expect(run).toMatchObject({ exitCode: 0, termination: { code: "Ready" } });
      expect(JSON.parse(run.stdout)).toMatchObject({ isWarm: true, fetchedBytes: 0 });
    });

    test("starts from its tag with the manifest alone: not even its config is asked for", async () => {
      const before = registry.requests().length;
      const run = await runPuller([
        "pull",
        `--reference=${published.reference}`,
        `--store=${store}`,
        ...flags(registry),
      ]);
      expect(run.exitCode).toBe(0);
      const asked = registry.requests().slice(before);
      expect(asked.filter(({ path }) => path.includes("/manifests/"))).not.toEqual([]);
      expect(asked.filter(({ path }) => path.includes("/blobs/"))).toEqual([]);
    });

    test("is mended when a file of it is missing, without a byte being fetched", async () => {
      const model = join(store, "models", published.digest.replace("sha256:", ""));
      rmSync(join(model, "tokenizer.json"));
      const run = await runPuller([
        "pull",
        `--reference=${published.reference}`,
        `--store=${store}`,
        ...flags(registry),
      ]);
      expect(run.exitCode).toBe(0);
      expect(JSON.parse(run.stdout)).toMatchObject({ isWarm: false, fetchedBytes: 0 });
      expect(filesBelow(model)).toHaveLength(8);
      expectNoWrongByte(store);
    });

    test("shares blobs with another model on the volume", async () => {
      const run = await runPuller([
        "pull",
        `--reference=${published.reference}`,
        `--store=${store}`,
        "--include=*.json",
        "--exclude=tokenizer*",
        ...flags(registry),
      ]);
      expect(run.exitCode).toBe(0);
      const report = JSON.parse(run.stdout) as { directory: string; fetchedBytes: number };
      expect(report.fetchedBytes).toBe(0);
      expect(report.directory).toMatch(/[0-9a-f]{64}-[0-9a-f]{8}$/);
      expect(filesBelow(report.directory)).toEqual(["config.json", "model.safetensors.index.json"]);
    });

    test("is whole by verify; a changed byte is named; without the damaged files a pull mends the store", async () => {
      const good = await runPuller(["verify", `--store=${store}`]);
      expect(good).toMatchObject({ exitCode: 0, termination: { command: "verify", code: "Ready" } });
      const digest = published.layerDigests[0]?.replace("sha256:", "") ?? "";
      const blob = join(store, ".ocimodel/blobs/sha256", digest);
      const bytes = readFileSync(blob);
      bytes[0] = (bytes[0] ?? 0) ^ 1;
      writeFileSync(blob, bytes);
      const bad = await runPuller(["verify", `--store=${store}`]);
      expect(bad).toMatchObject({ exitCode: 65, termination: { code: "DigestMismatch" } });
      expect(bad.stdout).toContain(`sha256:${digest}`);
      rmSync(blob);
      rmSync(join(store, "models"), { recursive: true });
      for (const reference of [published.reference]) {
        const again = await runPuller([
          "pull",
          `--reference=${reference}`,
          `--store=${store}`,
          ...flags(registry),
        ]);
        expect(again.exitCode).toBe(0);
      }
      rmSync(join(store, ".ocimodel/seals"), { recursive: true });
      expect(
        (
          await runPuller([
            "pull",
            `--reference=${published.reference}`,
            `--store=${store}`,
            ...flags(registry),
          ])
        ).exitCode,
      ).toBe(0);
      expect((await runPuller(["verify", `--store=${store}`])).exitCode).toBe(0);
    });

    test("gc keeps what a model needs and removes what none does", async () => {
      const lost = await publishDockerModel(registry, {
        repository: "ai/lost",
        tag: "x",
        files: [{ name: "model.gguf", content: Buffer.from("GGUF not needed") }],
      });
      await runPuller(["pull", `--reference=${lost.reference}`, `--store=${store}`, ...flags(registry)]);
      rmSync(join(store, ".ocimodel/seals", `${lost.digest.replace("sha256:", "")}.json`));
      const young = await runPuller(["gc", `--store=${store}`]);
      expect(JSON.parse(young.stdout)).toMatchObject({ removedBlobs: 0 });
      const run = await runPuller(["gc", `--store=${store}`, "--minimum-age=0"]);
      expect(JSON.parse(run.stdout)).toMatchObject({ removedBlobs: 1 });
      expect(filesBelow(join(store, ".ocimodel/blobs")).length).toBe(8);
    });
  });
});
