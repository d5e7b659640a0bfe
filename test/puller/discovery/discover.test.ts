// Variants found in a real registry: indexes and tags, good and bad, and how many requests that takes.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";

import { maxDiscoveredVariants } from "../../../puller/contract.ts";
import { maxExaminedArtifacts, type Discovered } from "../../../puller/discovery/candidates.ts";
import { discoverIndex, fetchIndex, inspectDescribed } from "../../../puller/discovery/discover-index.ts";
import { discoverTags } from "../../../puller/discovery/discover-tags.ts";
import { createRegistry, defaultRetryPolicy, type Registry } from "../../../puller/oci/index.ts";
import { describeUnless } from "../../cluster/suites.ts";
import { ggufBytes } from "../../models/gguf-writer.ts";
import { tinyModel } from "../../models/tiny-model.ts";
import { startFaultProxy, type FaultProxy } from "../../registry/fault-proxy.ts";
import {
  goJson,
  publishArtifact,
  publishModelPack,
  publishRaw,
  type ModelPack,
  type Published,
} from "../../registry/publish.ts";
import { registryUnavailable, startRegistry, type TestRegistry } from "../../registry/registry.ts";
import { runPuller } from "../run-puller.ts";
import { storeManifest, storeTags } from "./storage.ts";

const indexType = "application/vnd.oci.image.index.v1+json";
const manifestType = "application/vnd.oci.image.manifest.v1+json";
const signal = AbortSignal.timeout(120_000);
const retryPolicy = { ...defaultRetryPolicy, firstWaitMs: 5, budgetMs: 200 };
const gguf = ggufBytes(tinyModel());

type Entry = {
  readonly digest: string;
  readonly size?: number | undefined;
  readonly mediaType?: string;
  readonly annotations?: Readonly<Record<string, string>>;
  readonly platform?: { readonly architecture: string; readonly os: string };
  readonly modelMetadata?: Readonly<Record<string, unknown>>;
};

describeUnless(registryUnavailable(), "discovery", () => {
  let directory = "";
  let origin: TestRegistry | undefined;
  let proxy: FaultProxy | undefined;
  let registry: Registry | undefined;
  let count = 0;

  beforeAll(async () => {
    directory = mkdtempSync(join(tmpdir(), "ocimodel-discovery-"));
    origin = await startRegistry({ directory });
    proxy = await startFaultProxy({ target: origin.url });
    registry = createRegistry({ plainHTTPHosts: [proxy.host], retryPolicy });
  });
  afterAll(async () => {
    await registry?.close();
    await proxy?.stop();
    await origin?.stop();
    rmSync(directory, { recursive: true, force: true });
  });
  afterEach(() => {
    expect(proxy?.unmet()).toEqual([]);
    proxy?.setFaults([]);
  });

  const started = () => {
    if (origin === undefined || proxy === undefined || registry === undefined)
      throw new Error("the registry did not start");
    return { origin, proxy, options: { registry, signal, retryPolicy } };
  };
  const newRepository = (): string => {
    count += 1;
    return `ai/found-${count}`;
  };
  const named = (repository: string): string => `${started().proxy.host}/${repository}`;
  const model = async (repository: string, tag: string, more: Partial<ModelPack> = {}): Promise<Published> =>
    publishModelPack(started().origin, {
      repository,
      tag,
      format: "gguf",
      files: [{ name: "model.gguf", content: gguf }],
      ...more,
    });
  const publishEntries = async (repository: string, entries: readonly Entry[]): Promise<string> => {
    const manifests = entries.map((entry) => ({ mediaType: manifestType, ...entry }));
    const bytes = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: indexType, manifests }));
    return storeManifest(directory, repository, "all", bytes);
  };
  const entryOf = (published: Published, more: Partial<Entry> = {}): Entry => ({
    digest: published.digest,
    size: published.manifest.length,
    ...more,
  });
  const summary = ({ variants, leftOut }: Discovered) => ({
    variants: variants.map(({ name, quantization, requirements }) => ({
      name,
      quantization,
      ...(requirements === undefined ? {} : { requirements }),
    })),
    leftOut: leftOut.map(({ what, why }) => `${what}: ${why}`),
  });
  /** Paths that were asked for while `work` ran. */
  const requested = async <T>(
    work: () => Promise<T>,
  ): Promise<{ readonly result: T; readonly paths: readonly string[] }> => {
    const before = started().proxy.requests.length;
    const result = await work();
    return {
      result,
      paths: started()
        .proxy.requests.slice(before)
        .map(({ path }) => path),
    };
  };

  describe("an index", () => {
    const index = async (repository: string): Promise<Discovered> =>
      discoverIndex(`${named(repository)}:all`, started().options);

    test("tells names, order and needs by annotations, KitOps' metadata and each child's config", async () => {
      const repository = newRepository();
      const q4 = await model(repository, "a", { quantization: "Q4_K_M", paramSize: "8B" });
      const q8 = await model(repository, "b", { quantization: "Q8_0", paramSize: "8B" });
      const kit = await model(repository, "c", { quantization: "wrong", paramSize: "8B" });
      const silent = await model(repository, "d");
      const digest = await publishEntries(repository, [
        entryOf(silent, { annotations: { "org.opencontainers.image.ref.name": "x.example/ai/m:8B-Plain" } }),
        entryOf(q4, {
          annotations: {
            "dev.ocimodel.variant.name": "small",
            "dev.ocimodel.model.quantization": "UD-Q4_K_XL",
            "dev.ocimodel.model.parameters": "8B",
            "dev.ocimodel.accelerator.vendor": "nvidia",
            "dev.ocimodel.accelerator.memory": "8Gi",
            "dev.ocimodel.cpu.features": "AVX2, AVX512F",
          },
        }),
        entryOf(kit, { modelMetadata: { quantization: "Q6_K", parameters: "8B", vram: 6 } }),
        entryOf(q8),
      ]);
      const found = await index(repository);
      expect(found.digest).toBe(digest);
      expect(summary(found)).toEqual({
        variants: [
          { name: "8b-q8-0", quantization: "Q8_0" },
          { name: "8b-q6-k", quantization: "Q6_K" },
          {
            name: "small",
            quantization: "UD-Q4_K_XL",
            requirements: {
              accelerator: { vendor: "nvidia", memoryPerDevice: "8Gi" },
              cpuFeatures: ["AVX2", "AVX512F"],
            },
          },
          { name: "8b-plain", quantization: "F16" },
        ],
        leftOut: [],
      });
      expect(found.variants[0]).toMatchObject({
        reference: `${named(repository)}@${q8.digest}`,
        digest: q8.digest,
        entry: "model.gguf",
        facts: { layers: 2 },
      });
      // The same for one of them by its digest, as a later inspection asks.
      const { options } = started();
      const reference = `${named(repository)}@${q4.digest}`;
      const described = await inspectDescribed(
        reference,
        await fetchIndex(`${named(repository)}@${digest}`, options),
        options,
      );
      const { name: _name, ...same } = found.variants[2] ?? {};
      expect(described).toEqual(same);
    });

    test("leaves out, with reasons, what is no variant", async () => {
      const repository = newRepository();
      const good = await model(repository, "good", { quantization: "Q4_K_M" });
      const twin = await model(repository, "twin", { quantization: "Q2_K" });
      const odd = await model(repository, "odd", { quantization: "Q3_K_M" });
      const sized = await model(repository, "sized", { quantization: "Q5_K_M" });
      const image = await publishArtifact(started().origin, {
        repository,
        tag: "image",
        config: { mediaType: "application/vnd.oci.image.config.v1+json", content: "{}" },
        layers: [],
      });
      const nested = await publishRaw(
        started().origin,
        repository,
        "nested",
        indexType,
        Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: indexType, manifests: [] })),
      );
      const name = { "dev.ocimodel.variant.name": "q4" };
      const chart = `sha256:${"c".repeat(64)}`;
      const gone = `sha256:${"d".repeat(64)}`;
      await publishEntries(repository, [
        entryOf(good, { annotations: { ...name, "dev.ocimodel.model.quantization": "Q4_K_M" } }),
        entryOf(good),
        entryOf(twin, { annotations: { ...name, "dev.ocimodel.model.quantization": "Q2_K" } }),
        entryOf(odd, { annotations: { "dev.ocimodel.acelerator.vendor": "nvidia" } }),
        entryOf(sized, { size: 7 }),
        entryOf(image),
        { digest: nested, size: 2, mediaType: indexType },
        { digest: chart, size: 2, mediaType: "application/vnd.cncf.helm.chart.v1" },
        { digest: gone, size: 2 },
        {
          digest: `sha256:${"e".repeat(64)}`,
          size: 2,
          annotations: { "vnd.docker.reference.type": "attestation-manifest" },
          platform: { architecture: "unknown", os: "unknown" },
        },
      ]);
      const { variants, leftOut } = summary(await index(repository));
      expect(variants).toEqual([{ name: "q4", quantization: "Q4_K_M" }]);
      const { host } = started().proxy;
      expect([...leftOut].sort()).toEqual(
        [
          `${good.digest}: the index lists it twice`,
          `${twin.digest}: its name "q4" is that of ${good.digest} already; give it another`,
          `${odd.digest}: annotation "dev.ocimodel.acelerator.vendor" is not known; keys under dev.ocimodel. are those of its specification`,
          `${sized.digest}: the index says that its manifest has 7 bytes, but it has ${sized.manifest.length}`,
          `${image.digest}: ${image.digest} is no model artifact that is known: artifact type none, config type "application/vnd.oci.image.config.v1+json", layer types none; images are read only where puller repack made them`,
          `${nested}: it is an index inside the index; list its children in the outer one`,
          `${chart}: its media type "application/vnd.cncf.helm.chart.v1" is not that of a manifest`,
          `${gone}: ${host} has no such repository, tag or digest (404); tags are case-sensitive`,
          `sha256:${"e".repeat(64)}: it is an attestation of another entry`,
        ].sort(),
      );
    });

    test("with a child without size is refused by its position", async () => {
      const repository = newRepository();
      const { digest } = await model(repository, "a");
      await publishEntries(repository, [{ digest, size: undefined }]);
      await expect(index(repository)).rejects.toMatchObject({
        code: "InvalidArtifact",
        message: expect.stringContaining("is invalid at manifests.0.size") as string,
      });
    });

    test("that is a manifest, or in which nothing can be served, is refused", async () => {
      const repository = newRepository();
      await model(repository, "all");
      await expect(index(repository)).rejects.toMatchObject({
        code: "UnsupportedArtifact",
        message: `${named(repository)}:all is one manifest, not an image index, so there are no variants in it`,
      });
      const other = newRepository();
      await publishEntries(other, []);
      await expect(index(other)).rejects.toMatchObject({ message: `${named(other)}:all lists nothing` });
      await publishEntries(other, [{ digest: `sha256:${"1".repeat(64)}`, size: 1, mediaType: "text/plain" }]);
      await expect(index(other)).rejects.toMatchObject({
        code: "UnsupportedArtifact",
        message: `nothing of what ${named(other)}:all lists can be served: sha256:${"1".repeat(64)}: its media type "text/plain" is not that of a manifest`,
      });
    });

    test("of 4096 children takes few requests: 16 by the stated quantization, at most 100 where none is stated", async () => {
      const repository = newRepository();
      const best = await model(repository, "best", { quantization: "Q8_0" });
      const missing = (number: number): Entry => ({
        digest: `sha256:${number.toString(16).padStart(64, "0")}`,
        size: 400,
      });
      const stated = Array.from({ length: 4095 }, (_, number) => ({
        ...missing(number),
        annotations: { "dev.ocimodel.model.quantization": "Q4_K_M" },
      }));
      await publishEntries(repository, [
        ...stated,
        entryOf(best, { annotations: { "dev.ocimodel.model.quantization": "Q8_0" } }),
      ]);
      const first = await requested(async () => index(repository));
      expect(first.result.variants.map(({ name }) => name)).toEqual(["112-45k-q8-0"]);
      expect(first.paths.length).toBeLessThan(maxExaminedArtifacts + maxDiscoveredVariants * 4);
      await publishEntries(repository, [
        ...stated.map(({ digest }) => ({ digest, size: 400 })),
        entryOf(best),
      ]);
      const second = requested(async () => index(repository));
      await expect(second).rejects.toMatchObject({ code: "UnsupportedArtifact" });
      expect(started().proxy.requests.filter(({ path }) => path.includes(missing(4000).digest))).toHaveLength(
        0,
      );
      await publishEntries(repository, [...stated, ...stated.slice(0, 2)]);
      await expect(index(repository)).rejects.toMatchObject({
        code: "InvalidArtifact",
        message: expect.stringContaining("manifests") as string,
      });
    });

    test("for several CPUs takes the platform as a need; a platform that all share says nothing", async () => {
      const repository = newRepository();
      const arm = await model(repository, "arm", { quantization: "Q4_0" });
      const amd = await model(repository, "amd", { quantization: "Q4_K_M" });
      const platform = (architecture: string) => ({ platform: { architecture, os: "linux" } });
      await publishEntries(repository, [entryOf(arm, platform("arm64")), entryOf(amd, platform("amd64"))]);
      expect(summary(await index(repository)).variants).toEqual([
        { name: "112-45k-q4-k-m", quantization: "Q4_K_M", requirements: { architectures: ["amd64"] } },
        { name: "112-45k-q4-0", quantization: "Q4_0", requirements: { architectures: ["arm64"] } },
      ]);
      await publishEntries(repository, [entryOf(arm, platform("amd64")), entryOf(amd, platform("amd64"))]);
      expect(summary(await index(repository)).variants).toEqual([
        { name: "112-45k-q4-k-m", quantization: "Q4_K_M" },
        { name: "112-45k-q4-0", quantization: "Q4_0" },
      ]);
    });
  });

  describe("tags", () => {
    test("are read, not believed; aliases are one variant; what is no model is left out", async () => {
      const repository = newRepository();
      const q4 = await model(repository, "8B-Q4_K_M", { quantization: "MOSTLY_Q4_K_M", paramSize: "8B" });
      for (const tag of ["latest", "8B", "a-very-long-alias-of-the-same"])
        await publishRaw(started().origin, repository, tag, manifestType, q4.manifest);
      await model(repository, "8B-Q2_K-but-really-f16");
      await publishArtifact(started().origin, {
        repository,
        tag: "8B-image",
        config: { mediaType: "application/vnd.oci.image.config.v1+json", content: "{}" },
        layers: [],
      });
      const found = await discoverTags(named(repository), "*", started().options);
      expect(summary(found).variants).toEqual([
        { name: "8b-q4-k-m", quantization: "Q4_K_M" },
        { name: "8b-q2-k-but-really-f16", quantization: "F16" },
      ]);
      expect(found.leftOut).toHaveLength(1);
      expect(found.leftOut[0]).toMatchObject({
        what: "8B-image",
        why: expect.stringContaining("is no model artifact") as string,
      });
      const one = await discoverTags(`${named(repository)}:8B`, "8B-Q2*", started().options);
      expect(one.variants.map(({ name }) => name)).toEqual(["8b-q2-k-but-really-f16"]);
    });

    test("a pattern that matches none names some there are", async () => {
      const repository = newRepository();
      await model(repository, "8B-Q4_K_M");
      await expect(discoverTags(named(repository), "70B-*", started().options)).rejects.toMatchObject({
        code: "ManifestNotFound",
        message: `${named(repository)} has no tag that matches "70B-*"; it has 1, such as 8B-Q4_K_M`,
      });
      await expect(discoverTags(named("ai/nowhere"), "*", started().options)).rejects.toMatchObject({
        code: "ManifestNotFound",
      });
    });

    test("more than 16 are kept by quality, and the rest is named", async () => {
      const repository = newRepository();
      const names = ["Q2_K", "Q3_K_S", "Q3_K_M", "Q4_0", "Q4_K_S", "Q4_K_M", "Q5_0", "Q5_K_S", "Q5_K_M"];
      const more = ["Q6_K", "Q8_0", "F16", "BF16", "F32", "IQ1_S", "IQ2_M", "IQ3_M", "IQ4_XS"];
      for (const quantization of [...names, ...more])
        await model(repository, quantization.toLowerCase(), { quantization, paramSize: "8B" });
      const { variants, leftOut } = summary(await discoverTags(named(repository), "*", started().options));
      expect(variants).toHaveLength(maxDiscoveredVariants);
      expect(variants.map(({ quantization }) => quantization).slice(0, 4)).toEqual([
        "F32",
        "BF16",
        "F16",
        "Q8_0",
      ]);
      expect(leftOut).toEqual(["iq2_m, iq1_s: 16 variants of better quality are kept"]);
    });

    test("10,000 of them take a bounded number of requests, and the log tells how far it is", async () => {
      const repository = newRepository();
      const { digest } = await model(repository, "only", { quantization: "Q4_K_M" });
      const tags = Array.from({ length: 10_000 }, (_, number) => `v${number}`);
      storeTags(directory, repository, tags, digest);
      const told: string[] = [];
      const { result, paths } = await requested(async () =>
        discoverTags(named(repository), "v*", {
          ...started().options,
          onProgress: (done, total) => told.push(`${done}/${total}`),
        }),
      );
      expect(result.variants).toHaveLength(1);
      expect(result.leftOut).toEqual([
        {
          what: "9900 tags from v100 on",
          why: "10000 tags match, and only the first 100 are read; narrow the pattern",
        },
      ]);
      expect(paths.length).toBeLessThan(maxExaminedArtifacts + 20);
      expect(told.slice(0, 2)).toEqual(["1/100", "2/100"]);
    });

    test("a registry that fails for one of them fails the whole, for another try", async () => {
      const repository = newRepository();
      await model(repository, "a", { quantization: "Q4_K_M" });
      await model(repository, "b", { quantization: "Q8_0" });
      started().proxy.setFaults([
        {
          when: { path: /manifests\/b$/, times: 1 },
          do: { kind: "status", status: 503 },
        },
      ]);
      const impatient = createRegistry({
        plainHTTPHosts: [started().proxy.host],
        retryPolicy: { ...retryPolicy, budgetMs: 0 },
      });
      const failed = discoverTags(named(repository), "*", { ...started().options, registry: impatient });
      await expect(failed).rejects.toMatchObject({ code: "RegistryUnreachable" });
      await impatient.close();
    });
  });

  describe("hardware needs", () => {
    const attach = async (
      repository: string,
      subject: Published,
      specification: string,
      created = "2026-01-01T00:00:00Z",
    ): Promise<void> => {
      const attached = await publishArtifact(started().origin, {
        repository,
        tag: `attached-${created.slice(0, 4)}`,
        artifactType: "application/vnd.nfd.image-compatibility.v1alpha1",
        config: { mediaType: "application/vnd.oci.empty.v1+json", content: "{}" },
        layers: [
          {
            mediaType: "application/vnd.nfd.image-compatibility.spec.v1alpha1+yaml",
            content: Buffer.from(specification),
          },
        ],
        annotations: { "org.opencontainers.image.created": created },
        subject: { mediaType: manifestType, digest: subject.digest, size: subject.manifest.length },
      });
      const entry = {
        mediaType: manifestType,
        digest: attached.digest,
        size: attached.manifest.length,
        artifactType: "application/vnd.nfd.image-compatibility.v1alpha1",
        annotations: { "org.opencontainers.image.created": created },
      };
      const other = { ...entry, artifactType: "application/vnd.example.sbom" };
      // As clients keep it where a registry has no referrers API.
      const tag = subject.digest.replace(":", "-");
      const list = goJson({ schemaVersion: 2, mediaType: indexType, manifests: [entry, other] });
      await publishRaw(started().origin, repository, tag, indexType, Buffer.from(list));
    };
    const needsAvx512 = `version: v1alpha1
compatibilities:
- description: wide vectors
  rules:
  - name: cpu
    matchFeatures:
    - feature: cpu.cpuid
      matchExpressions:
        AVX512F: {op: Exists}
`;
    const terms = [
      { matchExpressions: [{ key: "feature.node.kubernetes.io/cpu-cpuid.AVX512F", operator: "Exists" }] },
    ];

    test("are read from NFD's artifact, by the tag schema of a registry without referrers API", async () => {
      const repository = newRepository();
      const published = await model(repository, "q4", { quantization: "Q4_K_M" });
      await attach(repository, published, needsAvx512);
      const { result, paths } = await requested(async () =>
        discoverTags(named(repository), "q*", started().options),
      );
      expect(result.variants[0]?.requirements).toEqual({ nodeSelectorTerms: terms });
      expect(paths.some((path) => path.includes(`/referrers/${published.digest}?artifactType=`))).toBe(true);
      expect(paths.some((path) => path.endsWith(`/manifests/${published.digest.replace(":", "-")}`))).toBe(
        true,
      );
      // The list of what is attached is itself under a tag, which is no variant.
      const all = await discoverTags(named(repository), "*", started().options);
      expect(all.leftOut.map(({ what }) => what)).toEqual(["attached-2026"]);
    });

    test("are read by the referrers API where there is one", async () => {
      const repository = newRepository();
      const published = await model(repository, "q4", { quantization: "Q4_K_M" });
      await attach(repository, published, needsAvx512);
      const tagged = await fetch(
        `${started().origin.url}/v2/${repository}/manifests/${published.digest.replace(":", "-")}`,
        { headers: { accept: indexType } },
      );
      started().proxy.setFaults([
        {
          when: { path: /\/referrers\// },
          do: {
            kind: "status",
            status: 200,
            headers: { "content-type": indexType },
            body: new Uint8Array(await tagged.arrayBuffer()),
          },
        },
      ]);
      const { result, paths } = await requested(async () =>
        discoverTags(named(repository), "q*", started().options),
      );
      expect(result.variants[0]?.requirements).toEqual({ nodeSelectorTerms: terms });
      expect(paths.some((path) => path.endsWith(`/manifests/${published.digest.replace(":", "-")}`))).toBe(
        false,
      );
    });

    test("that no node label can tell leave the variant out", async () => {
      const repository = newRepository();
      const published = await model(repository, "q4", { quantization: "Q4_K_M" });
      await model(repository, "q8", { quantization: "Q8_0" });
      await attach(repository, published, needsAvx512.replace("cpu.cpuid", "kernel.loadedmodule"));
      const found = await discoverTags(named(repository), "q*", started().options);
      expect(summary(found)).toEqual({
        variants: [{ name: "q8", quantization: "Q8_0" }],
        leftOut: [
          'q4: the image compatibility artifact asks for feature "kernel.loadedmodule", which no node label tells; list the variant with requirements of its own',
        ],
      });
    });
  });

  describe("the command", () => {
    test("tells the list and as many facts as fit in one line of 4096 bytes", async () => {
      const repository = newRepository();
      const long = "x".repeat(100);
      for (let number = 0; number < maxDiscoveredVariants; number += 1)
        await model(repository, `${long}-${number}`, { quantization: "Q4_K_M", paramSize: `${number + 1}B` });
      const run = await runPuller([
        "inspect",
        `--reference=${named(repository)}`,
        "--tags=x*",
        `--plain-http=${started().proxy.host}`,
        "--output=json",
      ]);
      expect(run.exitCode).toBe(0);
      const { discovered, inspected = [] } = run.termination ?? {};
      expect(Buffer.byteLength(JSON.stringify(run.termination))).toBeLessThan(4096);
      expect(discovered?.variants).toHaveLength(maxDiscoveredVariants);
      expect(new Set(discovered?.variants.map(({ name }) => name)).size).toBe(maxDiscoveredVariants);
      expect(discovered?.variants.map(({ name }) => name.length)).toEqual(
        Array.from({ length: maxDiscoveredVariants }, () => 52),
      );
      expect(inspected.length).toBeGreaterThan(1);
      expect(inspected.length).toBeLessThan(maxDiscoveredVariants);
      expect(inspected[0]?.reference).toBe(`${named(repository)}${discovered?.variants[0]?.reference ?? ""}`);
      expect(JSON.parse(run.stdout)).toHaveLength(maxDiscoveredVariants);
    });

    test("takes an index, and references of it", async () => {
      const repository = newRepository();
      const q4 = await model(repository, "q4", { quantization: "Q4_K_M" });
      const digest = await publishEntries(repository, [
        entryOf(q4, { annotations: { "dev.ocimodel.memory": "6Gi" } }),
        { digest: `sha256:${"1".repeat(64)}`, size: 1, mediaType: "text/plain" },
      ]);
      const common = [`--plain-http=${started().proxy.host}`];
      const found = await runPuller(["inspect", `--index=${named(repository)}:all`, ...common]);
      expect(found).toMatchObject({
        exitCode: 0,
        termination: {
          digest,
          discovered: {
            variants: [{ name: "112-45k-q4-k-m", reference: `@${q4.digest}` }],
            leftOut: `left out: sha256:${"1".repeat(64)}: its media type "text/plain" is not that of a manifest`,
          },
          inspected: [{ requirements: { memory: "6Gi" } }],
        },
      });
      expect(found.stdout).toContain("variant 112-45k-q4-k-m");
      expect(found.stdout).toContain('needs {"memory":"6Gi"}');
      const asked = await runPuller([
        "inspect",
        `--index=${named(repository)}@${digest}`,
        `--reference=${named(repository)}@${q4.digest}`,
        ...common,
      ]);
      expect(asked.termination).toMatchObject({
        code: "Ready",
        digest,
        inspected: found.termination?.inspected,
      });
      const plain = await runPuller([
        "inspect",
        `--reference=${named(repository)}:q4`,
        "--requirements",
        ...common,
      ]);
      expect(plain.termination?.inspected?.[0]).not.toHaveProperty("requirements");
      expect(plain.exitCode).toBe(0);
    });

    test.each([
      [["--requirements=yes", "--reference=x"], "--requirements takes no value"],
      [
        ["--tags=*", "--reference=a", "--reference=b"],
        "--tags goes with one --reference and without --index",
      ],
    ])("refuses %j", async (args, message) => {
      const run = await runPuller(["inspect", ...args]);
      expect(run).toMatchObject({ exitCode: 64 });
      expect(run.termination?.message).toContain(message);
    });
  });
});
