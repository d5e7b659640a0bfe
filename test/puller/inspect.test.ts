// inspect against a real registry, through a proxy that counts what it sends and breaks what it is told to.

import { join } from "node:path";
import { gzipSync } from "node:zlib";

import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";

import { maxInspectReferences } from "../../puller/contract.ts";
import { inspectTable } from "../../puller/inspect-table.ts";
import {
  inspectReference,
  inspectReferences,
  toInspectFacts,
  toInspectResult,
  type Inspection,
} from "../../puller/inspect.ts";
import { createRegistry, defaultRetryPolicy, type Registry } from "../../puller/oci/index.ts";
import { describeUnless } from "../cluster/suites.ts";
import { ggufBytes, splitGguf } from "../models/gguf-writer.ts";
import { tinyModel } from "../models/tiny-model.ts";
import { startFaultProxy, type FaultProxy } from "../registry/fault-proxy.ts";
import { publishArtifact, publishIndex, publishLayout, type Layer } from "../registry/publish.ts";
import { registryUnavailable, startRegistry, type TestRegistry } from "../registry/registry.ts";
import { dockerV01, filepath, modelPackConfig } from "./artifact/manifest-builder.ts";
import { archive } from "./artifact/tar-builder.ts";
import { runPuller } from "./run-puller.ts";

const layout = join(import.meta.dirname, "../fixtures/layout");
const docker = "application/vnd.docker.ai.";
const pack = "application/vnd.cncf.model.";
const signal = AbortSignal.timeout(120_000);
const fastRetries = { ...defaultRetryPolicy, firstWaitMs: 5, budgetMs: 5_000 };

const shape = {
  architecture: "llama",
  contextLength: 2048,
  layers: 2,
  heads: 4,
  keyValueHeads: 2,
  embeddingLength: 64,
};

describeUnless(registryUnavailable(), "inspect", () => {
  let origin: TestRegistry | undefined;
  let proxy: FaultProxy | undefined;
  let registry: Registry | undefined;
  let count = 0;

  beforeAll(async () => {
    origin = await startRegistry();
    proxy = await startFaultProxy({ target: origin.url });
    registry = createRegistry({ plainHTTPHosts: [proxy.host], retryPolicy: fastRetries });
  });
  afterAll(async () => {
    await registry?.close();
    await proxy?.stop();
    await origin?.stop();
  });
  afterEach(() => {
    expect(proxy?.unmet()).toEqual([]);
    proxy?.setFaults([]);
  });

  const started = () => {
    if (origin === undefined || proxy === undefined || registry === undefined)
      throw new Error("the registry did not start");
    return { origin, proxy, registry };
  };
  /** The same artifact by way of the proxy. */
  const viaProxy = (reference: string): string =>
    reference.replace(started().origin.host, started().proxy.host);
  const layer = (mediaType: string, content: Uint8Array | string, path?: string): Layer => ({
    mediaType,
    content: Buffer.from(content as string),
    ...(path === undefined ? {} : { annotations: { [filepath]: path } }),
  });
  const publish = async (
    configType: string,
    layers: readonly Layer[],
    config: unknown = {},
  ): Promise<string> => {
    count += 1;
    const published = await publishArtifact(started().origin, {
      repository: "ai/inspected",
      tag: `t${count}`,
      config: { mediaType: configType, content: JSON.stringify(config) },
      layers,
    });
    return viaProxy(published.reference);
  };
  const inspect = async (reference: string): Promise<Inspection> =>
    await inspectReference(reference, started().registry, signal, fastRetries);
  /** Bytes of blobs that the proxy sent while `work` ran, and how many requests there were. */
  const counted = async <T>(
    work: () => Promise<T>,
  ): Promise<{ readonly result: T; readonly bytes: number; readonly blobs: number }> => {
    const before = started().proxy.requests.length;
    const result = await work();
    const requests = started()
      .proxy.requests.slice(before)
      .filter(({ path }) => path.includes("/blobs/"));
    return {
      result,
      bytes: requests.reduce((sum, { sentBytes }) => sum + sentBytes, 0),
      blobs: requests.length,
    };
  };

  describe("the fixtures", () => {
    const facts: Readonly<Record<string, Partial<Inspection>>> = {
      "tiny-docker": {
        packaging: "docker",
        format: "gguf",
        quantization: "F16",
        parameters: "112.45K",
        statedContextLength: 2048,
        sizeBytes: 234_048,
        weightBytes: 234_048,
        entry: "model.gguf",
        facts: { ...shape, feedForwardLength: 128, vocabularySize: 300 },
      },
      "tiny-cncf": {
        packaging: "modelpack",
        format: "gguf",
        quantization: "F16",
        parameters: "112.45K",
        sizeBytes: 234_048,
        weightBytes: 234_048,
        entry: "tiny-F16.gguf",
        facts: { ...shape, feedForwardLength: 128, vocabularySize: 300 },
      },
      "tinyst-docker": {
        packaging: "docker",
        format: "safetensors",
        quantization: "F16",
        parameters: "23.30K",
        architecture: "LlamaForCausalLM",
        weightBytes: 46_840 + 38_528,
        sizeBytes: 13 + 15 + 251 + 6 + 46_840 + 38_528 + 248 + 18,
        facts: {
          ...shape,
          architecture: "LlamaForCausalLM",
          layers: 1,
          keyLength: 16,
          valueLength: 16,
          vocabularySize: 300,
        },
      },
    };

    test.each(Object.keys(facts))("%s is told in full", async (tag) => {
      const published = await publishLayout(started().origin, layout, tag, "ai/tiny");
      const inspection = await inspect(viaProxy(published.reference));
      expect(inspection).toMatchObject({ ...facts[tag], digest: published.digest, notes: [] });
      expect(inspection.files.map(({ digest }) => digest)).toEqual(published.layerDigests);
      expect(toInspectFacts(inspection)).toEqual({
        reference: inspection.reference,
        digest: published.digest,
        packaging: inspection.packaging,
        format: inspection.format,
        quantization: "F16",
        parameters: inspection.parameters,
        sizeBytes: inspection.sizeBytes,
        weightBytes: inspection.weightBytes,
        ...(inspection.entry === undefined ? {} : { entry: inspection.entry }),
        facts: facts[tag]?.facts,
      });
    });

    test("files of a repository have their roles and paths", async () => {
      const published = await publishLayout(started().origin, layout, "tinyst-docker", "ai/tiny");
      const { files } = await inspect(viaProxy(published.reference));
      expect(files.map(({ role, path }) => `${role} ${path ?? ""}`)).toEqual([
        "license LICENSE",
        "chat-template chat_template.jinja",
        "config config.json",
        "config extra/notes.txt",
        "weights model-00001-of-00002.safetensors",
        "weights model-00002-of-00002.safetensors",
        "config model.safetensors.index.json",
        "config tokenizer.json",
      ]);
    });
  });

  test("reads no more of a large model than its header", async () => {
    const model = ggufBytes(tinyModel(), 48 * 1024 * 1024);
    const reference = await publish(dockerV01, [layer(`${docker}gguf.v3`, model)]);
    const { result, bytes, blobs } = await counted(async () => await inspect(reference));
    expect(result).toMatchObject({
      facts: shape,
      sizeBytes: model.length,
      quantization: "F16",
      parameters: "112.45K",
    });
    // The config of 2 bytes, and one range.
    expect({ bytes, blobs }).toEqual({ bytes: 2 + 256 * 1024, blobs: 2 });
  });

  test("does not read weights of safetensors", async () => {
    const header = JSON.stringify({ t: { dtype: "BF16", shape: [4_000_000], data_offsets: [0, 8_000_000] } });
    const length = Buffer.alloc(8);
    length.writeBigUInt64LE(BigInt(header.length));
    const file = Buffer.concat([length, Buffer.from(header), Buffer.alloc(8_000_000)]);
    const reference = await publish(modelPackConfig, [
      layer(`${pack}weight.v1.raw`, file, "model.safetensors"),
      layer(
        `${pack}weight.config.v1.raw`,
        JSON.stringify({ model_type: "gemma3", text_config: { num_hidden_layers: 7 } }),
        "config.json",
      ),
    ]);
    const { result, bytes } = await counted(async () => await inspect(reference));
    expect(result).toMatchObject({
      quantization: "BF16",
      parameters: "4.00M",
      facts: { architecture: "gemma3", layers: 7 },
    });
    expect(result.entry).toBeUndefined();
    expect(bytes).toBeLessThan(1000);
  });

  describe("shards", () => {
    const shards = splitGguf(tinyModel(), 3).map((shard) => ggufBytes(shard));
    const type = `${docker}gguf.v3`;

    test("have shard 1 as the entry", async () => {
      const inspection = await inspect(
        await publish(
          dockerV01,
          shards.map((shard) => layer(type, shard)),
        ),
      );
      expect(inspection).toMatchObject({ entry: "model-00001-of-00003.gguf", facts: shape });
      expect(inspection.parameters).toBeUndefined();
    });

    test("in the wrong order are refused, since no engine could load them", async () => {
      const reference = await publish(
        dockerV01,
        shards.toReversed().map((shard) => layer(type, shard)),
      );
      await expect(inspect(reference)).rejects.toMatchObject({
        code: "InvalidArtifact",
        message:
          'entry file "model-00001-of-00003.gguf" is shard 3 of 3; its layers are in the wrong order, so the artifact must be packaged again',
      });
    });

    test("that are not all there, or are none, are refused", async () => {
      const two = await publish(
        dockerV01,
        shards.slice(0, 2).map((shard) => layer(type, shard)),
      );
      await expect(inspect(two)).rejects.toThrow(
        'entry file "model-00001-of-00002.gguf" is the first of 3 shards but the artifact has 2',
      );
      const whole = ggufBytes(tinyModel());
      const twice = await publish(dockerV01, [
        layer(type, whole),
        layer(type, ggufBytes(tinyModel({ seed: 7 }))),
      ]);
      await expect(inspect(twice)).rejects.toThrow(
        'entry file "model-00001-of-00002.gguf" is named as a shard but is none',
      );
    });
  });

  describe("archives", () => {
    test("are looked into: a GGUF, a configuration, compressed or not", async () => {
      const model = ggufBytes(tinyModel());
      const gguf = await inspect(
        await publish(modelPackConfig, [
          layer(
            `${pack}weight.v1.tar+gzip`,
            gzipSync(
              archive([
                ["README", "x"],
                ["model.gguf", model],
              ]),
            ),
            "models/model.gguf",
          ),
        ]),
      );
      expect(gguf).toMatchObject({ entry: "models/model.gguf", facts: shape, quantization: "F16" });
      const safetensors = Buffer.concat([Buffer.from([2, 0, 0, 0, 0, 0, 0, 0]), Buffer.from("{}")]);
      const config = JSON.stringify({ architectures: ["X"], n_ctx: 512 });
      const flat = await inspect(
        await publish(dockerV01, [
          layer(`${docker}safetensors`, safetensors),
          layer(
            `${docker}vllm.config.tar`,
            archive([
              ["a.txt", "x".repeat(2000)],
              ["config.json", config],
              ["tokenizer.json", "{}"],
            ]),
          ),
        ]),
      );
      expect(flat.facts).toEqual({ architecture: "X", contextLength: 512 });
    });

    test("without what is looked for are said to be so", async () => {
      const nameless = await inspect(
        await publish(modelPackConfig, [layer(`${pack}weight.v1.tar`, archive([["m.gguf", "x"]]))], {
          config: { format: "gguf" },
        }),
      );
      expect(nameless).toMatchObject({
        format: "gguf",
        facts: {},
        notes: ["no GGUF file is named, so none was looked into"],
      });
      expect(toInspectResult(nameless)).toEqual({
        reference: nameless.reference,
        code: "UnsupportedArtifact",
        message: `${nameless.digest} does not tell which of its files is the gguf model; package it with one file per layer`,
      });
      const wrong = await inspect(
        await publish(modelPackConfig, [
          layer(`${pack}weight.v1.tar`, archive([["n.gguf", "x"]]), "a/m.gguf"),
        ]),
      );
      expect(wrong.notes).toEqual(["a/m.gguf is not at the front of its archive, so it was not looked into"]);
      const bare = await inspect(
        await publish(modelPackConfig, [
          layer(`${pack}weight.v1.tar`, archive([["x", "x"]]), "model.safetensors"),
        ]),
      );
      expect(bare.notes).toHaveLength(2);
      expect(bare.notes[1]).toBe("no config.json was found, so the architecture is not known");
    });
  });

  describe("faults", () => {
    const model = ggufBytes(tinyModel(), 4 * 1024 * 1024);
    let reference = "";
    beforeAll(async () => {
      reference = await publish(modelPackConfig, [layer(`${pack}weight.v1.raw`, model, "m.gguf")]);
    });
    const blob = /\/blobs\//u;

    test.each([
      ["cut", { kind: "cut", afterBytes: 1000 }],
      ["reset", { kind: "cut", afterBytes: 1000, reset: true }],
      ["server errors", { kind: "status", status: 503 }],
      ["a request to slow down", { kind: "status", status: 429, headers: { "retry-after": "0" } }],
      ["another range than asked", { kind: "content-range", value: "bytes 5-10/4194304" }],
    ] as const)("%s: asked again", async (_, action) => {
      // The first blob is the config, of which the registry client takes care.
      started().proxy.setFaults([{ when: { path: blob, skip: 1, times: 2 }, do: action }]);
      expect(await inspect(reference)).toMatchObject({ facts: shape });
    });

    test("a server that ignores ranges is read from the front only", async () => {
      started().proxy.setFaults([{ when: { path: blob, times: 2 }, do: { kind: "ignore-range" } }]);
      expect(await inspect(reference)).toMatchObject({ facts: shape });
    });

    test("a model that is no GGUF, or broken, is refused with the reason", async () => {
      for (const [bytes, message] of [
        [Buffer.from("<html>login</html>".repeat(10)), "GGUF file does not start with GGUF"],
        [model.subarray(0, 100), "GGUF file ends within its header"],
      ] as const) {
        const broken = await publish(modelPackConfig, [layer(`${pack}weight.v1.raw`, bytes, "m.gguf")]);
        await expect(inspect(broken)).rejects.toMatchObject({ code: "InvalidArtifact", message });
      }
    });

    test("a missing blob and a forbidden one are told apart", async () => {
      started().proxy.setFaults([{ when: { path: blob, skip: 1 }, do: { kind: "status", status: 404 } }]);
      await expect(inspect(reference)).rejects.toMatchObject({ code: "BlobNotFound" });
      started().proxy.setFaults([{ when: { path: blob, skip: 1 }, do: { kind: "status", status: 403 } }]);
      await expect(inspect(reference)).rejects.toMatchObject({ code: "RegistryForbidden" });
    });
  });

  describe("several references", () => {
    test("keep their order, and one that fails does not take the others along", async () => {
      const good = await publish(modelPackConfig, [
        layer(`${pack}weight.v1.raw`, ggufBytes(tinyModel()), "m.gguf"),
      ]);
      const missing = `${started().proxy.host}/ai/inspected:missing`;
      const results = await inspectReferences(
        [missing, good, "UPPER/x", good, good, good],
        started().registry,
        signal,
        fastRetries,
      );
      expect(results.map((result) => ("code" in result ? result.code : result.format))).toEqual([
        "ManifestNotFound",
        "gguf",
        "InvalidReference",
        "gguf",
        "gguf",
        "gguf",
      ]);
    });

    test("facts of four with long names fit the termination message", async () => {
      const path = `${"a".repeat(199)}/${"b".repeat(194)}.gguf`;
      expect(path).toHaveLength(399);
      const reference = await publish(
        modelPackConfig,
        [layer(`${pack}weight.v1.raw`, ggufBytes(tinyModel()), path)],
        {
          config: { paramSize: "112.45K", quantization: "MOSTLY_Q4_K_M" },
        },
      );
      const run = await runPuller([
        "inspect",
        ...Array.from({ length: maxInspectReferences }, () => `--reference=${reference}`),
        `--plain-http=${started().proxy.host}`,
      ]);
      expect(run.exitCode).toBe(0);
      expect(run.termination?.inspected).toHaveLength(maxInspectReferences);
      expect(run.termination?.inspected?.[3]).toMatchObject({ entry: path });
      const longer = await inspect(
        await publish(modelPackConfig, [
          layer(`${pack}weight.v1.raw`, ggufBytes(tinyModel()), `${path.slice(0, -5)}xx.gguf`),
        ]),
      );
      expect(() => toInspectFacts(longer)).toThrow(
        `${longer.digest} has an entry file whose path is longer than 400 bytes`,
      );
    });
  });

  describe("the command", () => {
    test("prints a table for people", async () => {
      const published = await publishLayout(started().origin, layout, "tiny-docker", "ai/tiny");
      const inspection = await inspect(viaProxy(published.reference));
      const failure = {
        reference: "r.example/x:y",
        code: "ManifestNotFound",
        message: "r.example has no x:y",
      } as const;
      const run = await runPuller([
        "inspect",
        `--reference=${inspection.reference}`,
        `--plain-http=${started().proxy.host}`,
        "--output=table",
      ]);
      expect(run).toMatchObject({ exitCode: 0, stdout: inspectTable([inspection]) });
      expect(inspectTable([{ ...inspection, reference: "r.example/ai/tiny:tiny-docker" }, failure])).toBe(
        [
          "REFERENCE                      FORMAT            QUANTIZATION  PARAMETERS  CONTEXT  SIZE        DIGEST",
          `r.example/ai/tiny:tiny-docker  gguf              F16           112.45K     2048     228.56 KiB  ${published.digest}`,
          "r.example/x:y                  ManifestNotFound",
          "",
          "r.example/ai/tiny:tiny-docker",
          "  docker, application/vnd.docker.ai.model.config.v0.1+json",
          "  entry model.gguf",
          "  architecture llama, context length 2048, layers 2, heads 4, key/value heads 2, embedding length 64",
          "  ROLE     SIZE        DIGEST                                                                   PATH",
          `  weights  228.56 KiB  ${published.layerDigests[0] ?? ""}  model.gguf`,
          "",
          "r.example/x:y",
          "  r.example has no x:y",
          "",
        ].join("\n"),
      );
    });

    test("prints JSON for programs, and ends with the first failure", async () => {
      const published = await publishLayout(started().origin, layout, "tiny-cncf", "ai/tiny");
      const digest = await publishIndex(started().origin, "ai/tiny", "all", [
        { digest: published.digest, size: published.manifest.length },
      ]);
      const reference = viaProxy(published.reference);
      const indexed = reference.replace(":tiny-cncf", ":all");
      const message = `${digest} is an image index of 1 manifests, not a model; name one of them by its digest or tag`;
      const run = await runPuller([
        "inspect",
        `--reference=${reference}`,
        `--reference=${indexed}`,
        `--plain-http=${started().proxy.host}`,
        "--output=json",
      ]);
      expect(run).toMatchObject({
        exitCode: 65,
        termination: { code: "UnsupportedArtifact", message, retryable: false },
      });
      expect(JSON.parse(run.stdout)).toMatchObject([
        { reference, entry: "tiny-F16.gguf" },
        { reference: indexed, code: "UnsupportedArtifact", message },
      ]);
      expect(run.termination?.inspected).toHaveLength(2);
    });

    test("refuses what is no model with its types and exit code 65", async () => {
      const published = await publishArtifact(started().origin, {
        repository: "ai/image",
        tag: "latest",
        config: { mediaType: "application/vnd.oci.image.config.v1+json", content: "{}" },
        layers: [layer("application/vnd.oci.image.layer.v1.tar+gzip", gzipSync("x"))],
      });
      const run = await runPuller([
        "inspect",
        `--reference=${viaProxy(published.reference)}`,
        `--plain-http=${started().proxy.host}`,
      ]);
      expect(run).toMatchObject({
        exitCode: 65,
        termination: {
          code: "UnsupportedArtifact",
          message:
            `${published.digest} is no model artifact that is known: artifact type none, config type ` +
            `"application/vnd.oci.image.config.v1+json", layer types "application/vnd.oci.image.layer.v1.tar+gzip"; images are read only where puller repack made them`,
        },
      });
    });
  });
});
