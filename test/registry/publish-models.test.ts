// Model artifacts of ours are those of the real tools, byte for byte: the fixtures are made anew from their files.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { request } from "undici";
import { afterAll, beforeAll, expect, test } from "vitest";
import { describeUnless } from "../cluster/suites.ts";
import { fixtures, fixturesDirectory } from "../fixtures/conformance.ts";
import {
  goJson,
  publishArtifact,
  publishDockerModel,
  publishModelPack,
  publishRaw,
  type ModelFile,
} from "./publish.ts";
import { registryUnavailable, startRegistry, type TestRegistry } from "./registry.ts";

const manifestType = "application/vnd.oci.image.manifest.v1+json";

/** The files of a fixture, with the times that its tool wrote down. */
function filesOf(digest: string): readonly ModelFile[] {
  const blob = (each: string): string => join(fixturesDirectory, "blobs", each.replace(":", "/"));
  const { layers } = JSON.parse(readFileSync(blob(digest), "utf8")) as {
    layers: { digest: string; annotations: Record<string, string> }[];
  };
  return layers.map((layer) => {
    const metadata = JSON.parse(layer.annotations["org.cncf.model.file.metadata+json"] ?? "") as {
      mtime: string;
    };
    return {
      name: layer.annotations["org.cncf.model.filepath"] ?? "",
      content: { file: blob(layer.digest) },
      modifiedAt: metadata.mtime,
    };
  });
}

describeUnless(registryUnavailable(), "publishing models", () => {
  let registry: TestRegistry;
  beforeAll(async () => {
    registry = await startRegistry();
  });
  afterAll(async () => {
    await registry?.stop();
  });

  test("a Docker model v0.1 is the one that Docker Model Runner wrote", async () => {
    const { digest } = fixtures["tiny-docker"];
    const published = await publishDockerModel(registry, {
      repository: "same/v0.1",
      tag: "x",
      files: filesOf(digest),
      quantization: "MOSTLY_F16",
      parameters: "112.45K",
      architecture: "llama",
      size: "220.25KiB",
      gguf: {
        "general.architecture": "llama",
        "general.file_type": "1",
        "general.name": "tiny",
        "llama.attention.head_count": "4",
        "llama.attention.head_count_kv": "2",
        "llama.attention.layer_norm_rms_epsilon": "0.000010",
        "llama.block_count": "2",
        "llama.context_length": "2048",
        "llama.embedding_length": "64",
        "llama.feed_forward_length": "128",
        "llama.rope.dimension_count": "16",
        "llama.vocab_size": "300",
        "tokenizer.ggml.bos_token_id": "1",
        "tokenizer.ggml.eos_token_id": "2",
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.unknown_token_id": "0",
      },
      contextSize: 2048,
      createdAt: "2026-11-24T01:46:34.557498595Z",
    });
    expect(published.digest).toBe(digest);
  });

  test("a Docker model v0.2 is the one that Docker Model Runner wrote", async () => {
    const { digest } = fixtures["tinyst-docker"];
    const published = await publishDockerModel(registry, {
      repository: "same/v0.2",
      tag: "x",
      version: "v0.2",
      files: filesOf(digest),
      quantization: "F16",
      parameters: "23.30K",
      size: "85.37kB",
      safetensors: { format: "pt", tensor_count: "2" },
      contextSize: 2048,
      createdAt: "2026-11-24T01:53:11.351148004Z",
    });
    expect(published.digest).toBe(digest);
  });

  test("a ModelPack artifact is the one that Docker Model Runner wrote", async () => {
    const { digest } = fixtures["tiny-cncf"];
    const published = await publishModelPack(registry, {
      repository: "same/cncf",
      tag: "x",
      files: filesOf(digest),
      createdAt: "2026-11-24T01:46:34.612350929Z",
      family: "llama",
      architecture: "llama",
      format: "gguf",
      paramSize: "112.45K",
      quantization: "MOSTLY_F16",
    });
    expect(published.digest).toBe(digest);
  });

  test("layers get the types that their names mean", async () => {
    const content = Buffer.from("x");
    const names = [
      "m.gguf",
      "mmproj-F16.gguf",
      "a/m.safetensors",
      "LICENCE.txt",
      "my_chat_template.json",
      "x.dduf",
      "config.json",
    ];
    const types = async (version: "v0.1" | "v0.2"): Promise<readonly (string | undefined)[]> => {
      const { manifest } = await publishDockerModel(registry, {
        repository: "types",
        tag: version.replace(".", "-"),
        version,
        files: names.map((name) => ({ name, content })),
      });
      const { layers } = JSON.parse(Buffer.from(manifest).toString("utf8")) as {
        layers: { mediaType: string }[];
      };
      return layers.map(({ mediaType }) => mediaType.replace("application/vnd.docker.ai.", ""));
    };
    const rest = ["safetensors", "license", "chat.template.jinja", "dduf", "model.file"];
    expect(await types("v0.1")).toEqual(["gguf.v3", "mmproj", ...rest]);
    expect(await types("v0.2")).toEqual(["gguf.v3", "gguf.v3", ...rest]);
  });

  test("a layer of a sha512 digest, a subject and a type of one's own", async () => {
    const subject = { mediaType: manifestType, digest: fixtures["tiny-cncf"].digest, size: 1 };
    const published = await publishArtifact(registry, {
      repository: "own",
      tag: "x",
      config: { mediaType: "application/vnd.oci.empty.v1+json", content: {} },
      layers: [{ mediaType: "a/b", content: Buffer.from("long digest"), digestAlgorithm: "sha512" }],
      subject,
    });
    expect(published.layerDigests[0]).toMatch(/^sha512:[0-9a-f]{128}$/);
    const { statusCode, body } = await request(`${registry.url}/v2/own/blobs/${published.layerDigests[0]}`);
    expect([statusCode, await body.text()]).toEqual([200, "long digest"]);
    expect(JSON.parse(Buffer.from(published.manifest).toString("utf8"))).toMatchObject({ subject });
  });

  test("what the registry refuses is an error here, with its words", async () => {
    const manifest = goJson({
      schemaVersion: 2,
      mediaType: manifestType,
      config: { mediaType: "a/b", size: 2, digest: `sha256:${"0".repeat(64)}` },
      layers: [],
    });
    await expect(publishRaw(registry, "own", "no", manifestType, Buffer.from(manifest))).rejects.toThrow(
      /answered 400: .*MANIFEST_BLOB_UNKNOWN/,
    );
  });

  test("JSON is that of Go: compact, without bare characters of HTML", () => {
    expect(goJson({ a: "<&>", b: undefined })).toBe('{"a":"\\u003c\\u0026\\u003e"}');
  });
});
