// readArtifact against the conformance vectors of what docker/model-runner writes and unpacks, and against bad artifacts.

import fc from "fast-check";
import { describe, expect, it } from "vitest";

import { readArtifact, requireManifest } from "../../../puller/artifact/index.ts";
import type { Descriptor } from "../../../puller/oci/types.ts";
import {
  digestOf,
  dockerV01,
  dockerV02,
  index,
  json,
  layer,
  manifest,
  modelPackConfig,
  modelPackManifest,
} from "./manifest-builder.ts";

const docker = "application/vnd.docker.ai.";
const gguf = `${docker}gguf.v3`;
const safetensors = `${docker}safetensors`;
const weight = "application/vnd.cncf.model.weight.v1.";
const again = "; the artifact must be packaged again";

const paths = (artifact: ReturnType<typeof readArtifact>) =>
  artifact.layers.map((item) => item.path ?? (item.isPlaced ? "(archive)" : "(not placed)"));
const v01 = (...layers: Descriptor[]) => readArtifact(manifest(dockerV01, layers), undefined);
const v02 = (...layers: Descriptor[]) => readArtifact(manifest(dockerV02, layers), undefined);
const pack = (layers: readonly Descriptor[], config?: unknown) =>
  readArtifact(
    manifest(modelPackConfig, layers, modelPackManifest),
    config === undefined ? undefined : json(config),
  );

describe("Docker v0.1", () => {
  it("V1: the published prototype artifact", () => {
    const config =
      '{"config":{"format":"gguf","quantization":"Unknown","parameters":"183","architecture":"llama","size":"864 B"},"descriptor":{"created":"2025-03-20T13:56:32.316196-04:00"},"rootfs":{"type":"rootfs","diff_ids":["sha256:c7790a0a70161f1bfd441cf157313e9efb8fcd1f0831193101def035ead23b32","sha256:d0ce8fae4da6de6e5a4b85ebee156ac8f3ab6d8407caf4493968d34e9bc3939e"]}}';
    expect(config).toHaveLength(358);
    expect(digestOf(config)).toBe("sha256:09ac2585e54f8d1ed1493488e6235502f33539345e006d1218eefb8f252d5abf");
    const diffIds = (JSON.parse(config) as { rootfs: { diff_ids: string[] } }).rootfs.diff_ids;
    const layers = [`${docker}model.file.v1+gguf`, `${docker}license`].map((mediaType, position) => ({
      ...layer(mediaType, ""),
      digest: diffIds[position] as Descriptor["digest"],
    }));
    const artifact = readArtifact(
      manifest("application/vnd.docker.ai.model.config.v1+json", layers),
      Buffer.from(config),
    );
    expect(paths(artifact)).toEqual(["model.gguf", "(not placed)"]);
    expect(artifact).toMatchObject({
      packaging: "docker",
      format: "gguf",
      parameters: "183",
      architecture: "llama",
      entry: "model.gguf",
    });
    expect(artifact.quantization).toBeUndefined();
  });

  it("V3: takes the values a real config has, and leaves the GGUF map alone", () => {
    const artifact = readArtifact(
      manifest(dockerV01, [layer(gguf, "a", "tiny-F16.gguf")]),
      json({
        config: {
          format: "gguf",
          quantization: "MOSTLY_Q4_K_M",
          parameters: "361.82 M",
          architecture: "llama",
          size: "256.35 MiB",
          gguf: { "some.parameter.uint8": "18", "tokenizer.chat_template": "{{ x }}" },
          context_size: 2096,
        },
        descriptor: { created: "2025-06-15T12:00:00Z" },
        rootfs: { type: "layers", diff_ids: [digestOf("a")] },
      }),
    );
    expect(paths(artifact)).toEqual(["model.gguf"]);
    expect(artifact).toMatchObject({
      quantization: "Q4_K_M",
      parameters: "361.82 M",
      architecture: "llama",
      statedContextLength: 2096,
    });
  });

  it("V4: shards in the order of the layers, projector, template; entry is shard 1; the license stays out", () => {
    const artifact = v01(
      layer(gguf, "a"),
      layer(`${docker}license`, "l"),
      layer(gguf, "b", "x-00001-of-00002.gguf"),
      layer(`${docker}mmproj`, "p"),
      layer(`${docker}chat.template.jinja`, "t"),
    );
    expect(paths(artifact)).toEqual([
      "model-00001-of-00002.gguf",
      "(not placed)",
      "model-00002-of-00002.gguf",
      "model.mmproj",
      "template.jinja",
    ]);
    expect(artifact.entry).toBe("model-00001-of-00002.gguf");
    expect(artifact.layers.map((item) => item.role)).toEqual([
      "weights",
      "license",
      "weights",
      "projector",
      "chat-template",
    ]);
  });

  it("V7: safetensors by position, the configuration archive, and no entry", () => {
    const artifact = v01(
      layer(safetensors, "a"),
      layer(safetensors, "b"),
      layer(`${docker}vllm.config.tar`, "c"),
      layer(`${docker}license`, "l"),
    );
    expect(paths(artifact)).toEqual([
      "model-00001-of-00002.safetensors",
      "model-00002-of-00002.safetensors",
      "(archive)",
      "(not placed)",
    ]);
    expect(artifact).toMatchObject({ format: "safetensors" });
    expect(artifact.entry).toBeUndefined();
  });

  it("safetensors by annotation first, a single one as model.safetensors, and files and directories beside", () => {
    expect(paths(v01(layer(safetensors, "a")))).toEqual(["model.safetensors"]);
    expect(
      paths(
        v01(
          layer(safetensors, "a", "unet/model.safetensors"),
          layer(`${docker}dir.tar`, "d"),
          layer(`${docker}dir.tar`, "e"),
          layer(`${docker}model.file`, "f", "tokenizer.json"),
        ),
      ),
    ).toEqual(["unet/model.safetensors", "(archive)", "(archive)", "tokenizer.json"]);
  });

  it("DDUF under the name of its blob", () => {
    const artifact = v01(layer(`${docker}dduf`, "a"));
    expect(paths(artifact)).toEqual([`${digestOf("a").slice(7)}.dduf`]);
    expect(artifact).toMatchObject({ format: "dduf", entry: `${digestOf("a").slice(7)}.dduf` });
  });

  it.each([
    ["mmproj", "projector"],
    ["chat.template.jinja", "chat template"],
    ["vllm.config.tar", "configuration archive"],
    ["dduf", "DDUF"],
  ])("refuses two different %s layers, but not one twice", (type, what) => {
    const one = layer(docker + type, "1");
    expect(paths(v01(layer(gguf, "a"), one, one))).toHaveLength(3);
    expect(() => v01(layer(gguf, "a"), one, layer(docker + type, "2"))).toThrow(
      expect.objectContaining({
        code: "InvalidArtifact",
        message: `artifact has 2 different ${what} layers where its format names one; package it in a format with file names (Docker v0.2 or ModelPack)`,
      }),
    );
  });

  it.each<[string, () => unknown, string, string]>([
    [
      "a file without a name",
      () => v01(layer(gguf, "a"), layer(`${docker}model.file`, "f")),
      "InvalidArtifact",
      `layer ${digestOf("f")} of type "application/vnd.docker.ai.model.file" has no file name; it must have the annotation org.cncf.model.filepath`,
    ],
    [
      "a file outside, without the lenience of later formats",
      () => v01(layer(gguf, "a"), layer(`${docker}model.file`, "f", "../x")),
      "InvalidArtifact",
      `file path "../x" leaves the model directory${again}`,
    ],
    [
      "safetensors outside",
      () => v01(layer(safetensors, "a", "/x")),
      "InvalidArtifact",
      `file path "/x" is absolute${again}`,
    ],
    [
      "a file in place of the model",
      () => v01(layer(gguf, "a"), layer(`${docker}model.file`, "f", "model.gguf")),
      "InvalidArtifact",
      `two files of unknown or different content are to be placed at "model.gguf"${again}`,
    ],
    [
      "a layer of an unknown type",
      () => v01(layer(gguf, "a"), layer("text/plain", "f", "x")),
      "UnsupportedArtifact",
      `${digestOf("manifest")} has a layer of type "text/plain", which cannot be placed: artifact type none, config type "${dockerV01}", layer types "${gguf}", "text/plain"`,
    ],
    [
      "no weights",
      () => v01(layer(`${docker}license`, "l")),
      "UnsupportedArtifact",
      `${digestOf("manifest")} holds no model weights: artifact type none, config type "${dockerV01}", layer types "${docker}license"`,
    ],
    [
      "no layers",
      () => v01(),
      "UnsupportedArtifact",
      `${digestOf("manifest")} has no layers: artifact type none, config type "${dockerV01}", layer types none`,
    ],
  ])("refuses %s", (_, run, code, message) => {
    expect(run).toThrow(expect.objectContaining({ code, exitCode: 65, message }));
  });
});

describe("Docker v0.2", () => {
  it("places every layer under its annotation", () => {
    const artifact = v02(
      layer(`${docker}license`, "l", "LICENSE"),
      layer(`${docker}chat.template.jinja`, "t", "chat_template.json"),
      layer(`${docker}model.file`, "c", "config.json"),
      layer(`${docker}model.file`, "n", "extra/notes.txt"),
      layer(safetensors, "b", "model-00002-of-00002.safetensors"),
      layer(safetensors, "a", "model-00001-of-00002.safetensors"),
    );
    expect(paths(artifact)).toEqual([
      "LICENSE",
      "chat_template.json",
      "config.json",
      "extra/notes.txt",
      "model-00002-of-00002.safetensors",
      "model-00001-of-00002.safetensors",
    ]);
    expect(artifact.layers.map((item) => item.role)).toEqual([
      "license",
      "chat-template",
      "config",
      "config",
      "weights",
      "weights",
    ]);
    expect(artifact.entry).toBeUndefined();
  });

  it("refuses a layer without a name, which the reference client skips", () => {
    expect(() => v02(layer(safetensors, "a"))).toThrow(
      `layer ${digestOf("a")} of type "${safetensors}" has no file name; it must have the annotation org.cncf.model.filepath`,
    );
  });
});

describe("ModelPack", () => {
  it("V5: model and projector by name; the entry is the model", () => {
    const artifact = pack(
      [
        layer(`${weight}raw`, "p", "mmproj-BF16.gguf"),
        layer(`${weight}raw`, "m", "gemma-4-E2B-it-UD-Q4_K_XL.gguf"),
      ],
      {
        config: { format: "gguf", paramSize: "4.6B", quantization: "MOSTLY_Q4_K_M" },
        modelfs: { type: "layers", diffIds: [digestOf("p"), digestOf("m")] },
      },
    );
    expect(artifact).toMatchObject({
      packaging: "modelpack",
      format: "gguf",
      entry: "gemma-4-E2B-it-UD-Q4_K_XL.gguf",
      quantization: "Q4_K_M",
      parameters: "4.6B",
    });
    expect(artifact.layers.map((item) => item.role)).toEqual(["projector", "weights"]);
  });

  it.each(["gguf", "safetensors", "dduf"])("V5: infers the format %s from the name", (format) => {
    expect(pack([layer(`${weight}raw`, "m", `model.${format}`)], {}).format).toBe(format);
  });

  it("V5: weights of another format in a GGUF model are no entry", () => {
    const artifact = pack(
      [layer(`${weight}safetensors`, "s", "model.gguf.bin"), layer(`${weight}raw`, "m", "model.gguf")],
      { config: { format: "gguf" } },
    );
    expect(artifact).toMatchObject({ format: "gguf", entry: "model.gguf" });
  });

  it("V5: names that are equal once they are made safe collide, unless the file is the same", () => {
    const first = layer(`${weight}raw`, "m", "foo/model.gguf");
    expect(() => pack([first, layer(`${weight}raw`, "n", "../foo/model.gguf")])).toThrow(
      `two files of unknown or different content are to be placed at "foo/model.gguf"${again}`,
    );
    expect(paths(pack([first, first]))).toEqual(["foo/model.gguf", "foo/model.gguf"]);
    expect(() => pack([layer(`${weight}raw`, "m", "../../..")])).toThrow(
      `file path "../../.." is empty without its leading '..'${again}`,
    );
  });

  it("needs neither config nor artifact type, and takes former names", () => {
    const artifact = readArtifact(
      manifest("application/vnd.oci.empty.v1+json", [
        layer("application/vnd.cnai.model.weight.v1.raw", "m", { "org.cnai.model.filepath": "m.gguf" }),
        layer("application/vnd.cnai.model.doc.v1.raw", "d", {
          "org.opencontainers.image.title": "README.md",
        }),
        layer("application/vnd.cnai.model.doc.v1.raw", "l", {
          "org.cnai.model.file.metadata+json": '{"name":"LICENSE","typeflag":48}',
        }),
      ]),
      Buffer.from("not even JSON"),
    );
    expect(paths(artifact)).toEqual(["m.gguf", "README.md", "LICENSE"]);
    expect(artifact.layers.map((item) => item.role)).toEqual(["weights", "documentation", "license"]);
  });

  it("takes layers of types nobody defined under their names", () => {
    const artifact = readArtifact(
      manifest(
        "application/vnd.oci.empty.v1+json",
        [layer("application/octet-stream", "m", "m.gguf")],
        modelPackManifest,
      ),
      undefined,
    );
    expect(artifact).toMatchObject({ format: "gguf", entry: "m.gguf" });
  });

  it("prefers the new annotation, then the former, then the title, then the metadata", () => {
    const annotations: Record<string, string> = {
      "org.cncf.model.filepath": "1.gguf",
      "org.cnai.model.filepath": "2.gguf",
      "org.opencontainers.image.title": "3.gguf",
      "org.cncf.model.file.metadata+json": '{"name":"4.gguf"}',
      "org.cnai.model.file.metadata+json": '{"name":"5.gguf"}',
    };
    for (const expected of ["1.gguf", "2.gguf", "3.gguf", "4.gguf", "5.gguf"]) {
      expect(paths(pack([layer(`${weight}raw`, "m", { ...annotations })]))).toEqual([expected]);
      delete annotations[Object.keys(annotations)[0] ?? ""];
    }
    for (const metadata of ["", "{", "[]", '{"name":""}', '{"name":1}', "null"])
      expect(() =>
        pack([layer(`${weight}raw`, "m", { "org.cncf.model.file.metadata+json": metadata })]),
      ).toThrow("has no file name");
  });

  it("places archives from the root, and knows where a lone file belongs", () => {
    const artifact = pack(
      [
        layer(`${weight}tar`, "a", "unet/model.safetensors"),
        layer(`${weight}tar+gzip`, "b", "model.gguf"),
        layer("application/vnd.cncf.model.weight.config.v1.tar+zstd", "c", "config"),
        layer("application/vnd.cncf.model.doc.v1.tar", "d"),
        layer("application/vnd.cncf.model.code.v1.tar", "e", "."),
      ],
      {
        modelfs: { diffIds: [digestOf("a"), digestOf("inner"), digestOf("c"), digestOf("d"), digestOf("e")] },
      },
    );
    expect(paths(artifact)).toEqual(["(archive)", "(archive)", "(archive)", "(archive)", "(archive)"]);
    expect(artifact.layers.map((item) => item.singleFilePath)).toEqual([
      "unet/model.safetensors",
      "model.gguf",
      undefined,
      undefined,
      undefined,
    ]);
    // A compressed layer whose diff id is its own digest states nothing.
    expect(artifact.layers.map((item) => item.diffId)).toEqual([
      undefined,
      digestOf("inner"),
      undefined,
      undefined,
      undefined,
    ]);
    expect(artifact).toMatchObject({ format: "gguf", entry: "model.gguf" });
    expect(() => pack([layer(`${weight}tar`, "a", "/x/model.gguf")])).toThrow(
      `file path "/x/model.gguf" is absolute${again}`,
    );
  });

  it("is unknown in format where nothing tells", () => {
    expect(pack([layer(`${weight}raw`, "a", "model.onnx")], { config: { format: "onnx" } })).toMatchObject({
      format: "unknown",
    });
    expect(pack([layer(`${weight}tar`, "a")], { config: { format: "gguf" } })).toMatchObject({
      format: "gguf",
    });
  });

  it.each([
    ["float16", "F16"],
    ["bfloat16", "BF16"],
    ["int8", "INT8"],
  ])("takes precision %s for want of a quantization", (precision, expected) => {
    expect(pack([layer(`${weight}raw`, "m", "m.safetensors")], { config: { precision } }).quantization).toBe(
      expected,
    );
  });
});

describe("shards", () => {
  const shard = (number: string, content = number, stem = "m") =>
    layer(`${weight}raw`, content, `x/${stem}-${number}.gguf`);

  it("give shard 1 as the entry, whatever the order", () => {
    fc.assert(
      fc.property(
        fc.shuffledSubarray(["00001-of-00004", "00002-of-00004", "00003-of-00004", "00004-of-00004"], {
          minLength: 4,
        }),
        (order) => {
          expect(pack(order.map((number) => shard(number))).entry).toBe("x/m-00001-of-00004.gguf");
        },
      ),
    );
  });

  it("of the model that comes first", () => {
    const artifact = pack([
      shard("00002-of-00002", "1", "b"),
      shard("00001-of-00001", "2", "a"),
      shard("00001-of-00002", "3", "b"),
    ]);
    expect(artifact.entry).toBe("x/b-00001-of-00002.gguf");
  });

  it.each([
    [
      ["00002-of-00003", "00003-of-00003"],
      'artifact has 2 of the 3 shards that "x/m-00002-of-00003.gguf" belongs to; it must be packaged again with all of them',
    ],
    [
      ["00001-of-00002"],
      'artifact has 1 of the 2 shards that "x/m-00001-of-00002.gguf" belongs to; it must be packaged again with all of them',
    ],
    [
      ["00001-of-00002", "00003-of-00002"],
      'file "x/m-00003-of-00002.gguf" has a shard number that cannot be',
    ],
    [["00000-of-00001"], 'file "x/m-00000-of-00001.gguf" has a shard number that cannot be'],
  ])("%j are refused", (numbers, message) => {
    expect(() => pack(numbers.map((number) => shard(number)))).toThrow(
      expect.objectContaining({ code: "InvalidArtifact", message }),
    );
  });
});

describe("configs", () => {
  const read = (bytes: Uint8Array, layers = [layer(gguf, "a")]) =>
    readArtifact(manifest(dockerV01, layers), bytes);
  const other = `layer ${digestOf("a")} is not compressed but its diff id is ${digestOf("b")}${again}`;

  it.each<[string, Uint8Array, string]>([
    ["not JSON", Buffer.from("{"), "model config is not valid JSON in UTF-8"],
    ["empty", Buffer.alloc(0), "model config is not valid JSON in UTF-8"],
    ["with junk behind", Buffer.from("{} x"), "model config is not valid JSON in UTF-8"],
    ["with a byte order mark", Buffer.from("\ufeff{}"), "model config is not valid JSON in UTF-8"],
    ["with NaN", Buffer.from('{"a":NaN}'), "model config is not valid JSON in UTF-8"],
    ["not UTF-8", Buffer.from([0x7b, 0xff]), "model config is not valid JSON in UTF-8"],
    ["a list", json([]), "model config is not a JSON object"],
    ["a string", json("x"), "model config is not a JSON object"],
    ["null", json(null), "model config is not a JSON object"],
    [
      "over 4 MiB",
      Buffer.alloc(4 * 1024 * 1024 + 1, 0x20),
      "model config has 4194305 bytes; at most 4194304 are read",
    ],
    [
      "with too few diff ids",
      json({ rootfs: { diff_ids: [digestOf("a"), digestOf("b")] } }),
      "model config lists 2 diff ids for 1 layers; the artifact must be packaged again",
    ],
    ["with a wrong diff id", json({ rootfs: { diff_ids: [digestOf("b")] } }), other],
    ["with a wrong diff id of ModelPack", json({ modelfs: { diffIds: [digestOf("b")] } }), other],
    [
      "with a diff id that is a number",
      json({ rootfs: { diff_ids: [1] } }),
      "diff id 1 of the model config: a value of type number is no digest; expected sha256: with 64 or sha512: with 128 lower-case hex characters; the artifact must be packaged again",
    ],
    [
      "with a short diff id",
      json({ rootfs: { diff_ids: ["sha256:ab"] } }),
      'diff id 1 of the model config: "sha256:ab" is no digest; expected sha256: with 64 or sha512: with 128 lower-case hex characters; the artifact must be packaged again',
    ],
    [
      "with diff ids as text",
      json({ rootfs: { diff_ids: "x" } }),
      "diff ids of the model config are not a list",
    ],
  ])("%s are refused", (_, bytes, message) => {
    expect(() => read(bytes)).toThrow(
      expect.objectContaining({ code: "InvalidArtifact", exitCode: 65, message }),
    );
  });

  it.each<[string, unknown]>([
    ["empty", {}],
    [
      "of wrong types",
      {
        config: { format: 1, quantization: [], parameters: {}, architecture: null, context_size: "4096" },
        rootfs: 7,
        descriptor: [],
      },
    ],
    ["with a context of -1, a fraction or 2^60", { config: { context_size: -1 } }],
    [
      "with words that are none",
      { config: { quantization: "a\u001b[31m", parameters: "x".repeat(65), architecture: "{{x}}" } },
    ],
    [
      "with words that say nothing",
      { config: { quantization: "Unknown", parameters: "n/a", architecture: "unknown" } },
    ],
    ["with no diff ids", { rootfs: { diff_ids: [] }, modelfs: { diffIds: null } }],
    ["with deep junk", JSON.parse(`{"x":${"[".repeat(1000)}${"]".repeat(1000)}}`)],
    [
      "with odd keys",
      JSON.parse(
        '{"__proto__":{"config":{"format":"x"}},"constructor":1,"config":{"__proto__":{"parameters":"1B"}}}',
      ),
    ],
  ])("%s state nothing", (_, config) => {
    const artifact = read(json(config));
    expect({ ...artifact, layers: [] }).toEqual({
      packaging: "docker",
      configMediaType: dockerV01,
      format: "gguf",
      layers: [],
      entry: "model.gguf",
    });
  });

  it("with 100,000 levels are read or refused, never more", () => {
    const deep = Buffer.from(`{"x":${"[".repeat(100_000)}${"]".repeat(100_000)}}`);
    let outcome: unknown;
    try {
      outcome = read(deep).format;
    } catch (error) {
      outcome = error;
    }
    if (outcome !== "gguf") expect(outcome).toMatchObject({ code: "InvalidArtifact" });
  });

  it("takes a diff id of another algorithm for what it is", () => {
    expect(
      read(json({ rootfs: { diff_ids: [`sha512:${"a".repeat(128)}`] } })).layers[0]?.diffId,
    ).toBeUndefined();
  });
});

describe("anything else", () => {
  it("is refused with the types that were found, in printable characters", () => {
    const layers = Array.from({ length: 12 }, (_, number) => layer(`application/x-${number}\u001b`, "a"));
    expect(() =>
      readArtifact(
        manifest("application/vnd.oci.image.config.v1+json", layers, "application/x-thing"),
        undefined,
      ),
    ).toThrow(
      expect.objectContaining({
        code: "UnsupportedArtifact",
        exitCode: 65,
        message:
          `${digestOf("manifest")} is no model artifact that is known: artifact type "application/x-thing", ` +
          `config type "application/vnd.oci.image.config.v1+json", layer types ` +
          `${Array.from({ length: 8 }, (_, number) => `"application/x-${number}\\u001b"`).join(", ")} and 4 more; images are read only where puller repack made them`,
      }),
    );
  });

  it("is refused as an index with the number of its children", () => {
    expect(() => requireManifest(index(3))).toThrow(
      expect.objectContaining({
        code: "UnsupportedArtifact",
        message: `${digestOf("index")} is an image index of 3 manifests, not a model; name one of them by its digest or tag`,
      }),
    );
    const single = manifest(dockerV01, []);
    expect(requireManifest(single)).toBe(single);
  });

  it("never ends in anything but an artifact or an AppError", () => {
    const type = fc.constantFrom(
      gguf,
      safetensors,
      `${docker}model.file`,
      `${docker}mmproj`,
      `${weight}raw`,
      `${weight}tar`,
      `${weight}gguf`,
      "text/plain",
      "application/gzip",
    );
    const path = fc.option(
      fc.oneof(
        fc.constantFrom("m.gguf", "../m.gguf", "a/b", "m-00001-of-00002.gguf", "/", ""),
        fc.string({ unit: "binary" }),
      ),
      { nil: undefined },
    );
    const anyLayer = fc
      .tuple(type, fc.string({ maxLength: 2 }), path)
      .map(([mediaType, content, name]) => layer(mediaType, content, name ?? {}));
    fc.assert(
      fc.property(
        fc.constantFrom(dockerV01, dockerV02, modelPackConfig, "x"),
        fc.array(anyLayer, { maxLength: 5 }),
        fc.option(fc.oneof(fc.jsonValue().map(json), fc.uint8Array()), { nil: undefined }),
        (configType, layers, config) => {
          try {
            const artifact = readArtifact(manifest(configType, layers), config);
            expect(artifact.layers).toHaveLength(layers.length);
            for (const item of artifact.layers)
              if (item.encoding === "raw") expect(item.path === undefined).toBe(!item.isPlaced);
          } catch (error) {
            expect(error).toMatchObject({ name: "AppError", exitCode: 65 });
          }
        },
      ),
      { numRuns: 1000 },
    );
  });
});
