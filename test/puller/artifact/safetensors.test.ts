// readSafetensorsHeader and readTransformerConfig on good and bad headers.

import { describe, expect, it } from "vitest";

import { readSafetensorsHeader, readTransformerConfig } from "../../../puller/artifact/index.ts";
import { formatParameterCount } from "../../../puller/artifact/parameter-count.ts";

type Read = { readonly offset: number; readonly bytes: number };

function file(header: string | Uint8Array, dataBytes = 0, statedLength?: bigint): Buffer {
  const json = Buffer.from(header as string);
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(statedLength ?? BigInt(json.length));
  return Buffer.concat([length, json, Buffer.alloc(dataBytes)]);
}

async function read(bytes: Uint8Array, sizeBytes = bytes.byteLength, reads: Read[] = []) {
  return await readSafetensorsHeader((offset, length) => {
    reads.push({ offset, bytes: length });
    return Promise.resolve(bytes.subarray(offset, offset + length));
  }, sizeBytes);
}

const tensor = (dtype: unknown, shape: unknown, offsets: unknown): string =>
  JSON.stringify({ t: { dtype, shape, data_offsets: offsets } });

describe("readSafetensorsHeader", () => {
  it("counts parameters and reads nothing but the header", async () => {
    const header = JSON.stringify({
      __metadata__: { architecture: "LlamaForCausalLM" },
      weight: { dtype: "F16", shape: [4096, 4096], data_offsets: [8192, 33_562_624] },
      bias: { dtype: "F16", shape: [4096], data_offsets: [0, 8192] },
    });
    const reads: Read[] = [];
    const read1 = await read(file(header), 8 + header.length + 33_562_624, reads);
    expect(read1).toEqual({
      tensorCount: 2,
      parameterCount: 16_781_312,
      elementType: "F16",
      metadata: { architecture: "LlamaForCausalLM" },
    });
    expect(formatParameterCount(read1.parameterCount)).toBe("16.78M");
    expect(reads).toEqual([
      { offset: 0, bytes: 8 },
      { offset: 8, bytes: header.length },
    ]);
  });

  it("knows mixed, scalar, empty and 4-bit tensors, and files without any", async () => {
    const header = JSON.stringify({
      a: { dtype: "F4", shape: [3, 2], data_offsets: [0, 3] },
      b: { dtype: "F32", shape: [], data_offsets: [3, 7] },
      c: { dtype: "F32", shape: [0, 4], data_offsets: [7, 7] },
    });
    expect(await read(file(header, 7))).toMatchObject({
      elementType: "mixed",
      parameterCount: 7,
      tensorCount: 3,
    });
    expect(await read(file("{}      "))).toEqual({ tensorCount: 0, parameterCount: 0, metadata: {} });
  });

  it.each<[string, Uint8Array, string]>([
    ["no bytes", Buffer.alloc(0), "has 0 bytes, which is too short for a header"],
    ["7 bytes", Buffer.alloc(7), "has 7 bytes, which is too short for a header"],
    ["header length 0", file("", 8), "states a header of 0 bytes, which is too short for JSON"],
    ["header length 1", file("{", 8), "states a header of 1 bytes, which is too short for JSON"],
    [
      "header longer than the file",
      file("{}", 0, 7n),
      "states a header of 7 bytes, which is longer than the file",
    ],
    [
      "header length 2^63",
      file("{}", 0, 1n << 63n),
      "states a header of 9223372036854775808 bytes; at most 16777216 are read",
    ],
    [
      "header length over 100 MB",
      file("{}", 0, 16_777_217n),
      "states a header of 16777217 bytes; at most 16777216 are read",
    ],
    ["white space in front", file(" {}"), "has a header that does not start with {"],
    ["a list", file("[1]"), "has a header that does not start with {"],
    ["metadata of numbers", file('{"__metadata__":{"a":1}}'), "has __metadata__ that is no map of strings"],
    ["metadata as a list", file('{"__metadata__":["a"]}'), "has __metadata__ that is no map of strings"],
    ["a tensor that is a number", file('{"t":1}'), 'has a tensor "t" that is no JSON object'],
    ["a tensor that is null", file('{"t":null}'), 'has a tensor "t" that is no JSON object'],
    ["no type", file(tensor(undefined, [1], [0, 4]), 4), 'has a tensor "t" without a type'],
    [
      "a negative shape",
      file(tensor("F32", [-1], [0, 4]), 4),
      'has a tensor "t" with a shape that cannot be',
    ],
    [
      "a fractional shape",
      file(tensor("F32", [1.5], [0, 6]), 6),
      'has a tensor "t" with a shape that cannot be',
    ],
    [
      "a shape over 2^53",
      file(tensor("F32", [2 ** 54], [0, 4]), 4),
      'has a tensor "t" with a shape that cannot be',
    ],
    [
      "a shape of text",
      file(tensor("F32", ["1"], [0, 4]), 4),
      'has a tensor "t" with a shape that cannot be',
    ],
    [
      "a shape that overflows",
      file(tensor("F32", [2 ** 40, 2 ** 40], [0, 4]), 4),
      'has a tensor "t" with too many elements',
    ],
    ["one offset", file(tensor("F32", [1], [0]), 4), 'has a tensor "t" with offsets that cannot be'],
    [
      "negative offsets",
      file(tensor("F32", [1], [-4, 0]), 4),
      'has a tensor "t" with offsets that cannot be',
    ],
    ["reversed offsets", file(tensor("F32", [1], [4, 0]), 4), 'has a tensor "t" that ends before it begins'],
    [
      "offsets that do not fit the shape",
      file(tensor("F32", [1], [0, 8]), 8),
      'has a tensor "t" of 8 bytes where its shape and type need 4',
    ],
    ["a hole at the start", file(tensor("F32", [1], [4, 8]), 8), 'has a hole before its tensor "t"'],
    [
      "an end behind the file",
      file(tensor("F32", [2], [0, 8]), 4),
      "ends before the data of its tensors: 4 of 8 bytes are there",
    ],
    ["bytes behind the tensors", file(tensor("F32", [1], [0, 4]), 5), "has 1 bytes behind its tensors"],
    [
      "tensors that overlap",
      file(
        '{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}}',
        3,
      ),
      'has a tensor "b" that overlaps another',
    ],
  ])("refuses %s", async (_, bytes, message) => {
    await expect(read(bytes)).rejects.toMatchObject({
      code: "InvalidArtifact",
      message: `safetensors file ${message}`,
    });
  });

  it("refuses the same key twice, which would hide a tensor", async () => {
    const header =
      '{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"a":{"dtype":"U8","shape":[2],"data_offsets":[2,4]}}';
    await expect(read(file(header, 4))).rejects.toMatchObject({
      code: "InvalidArtifact",
      message: "header of a safetensors file has a key a twice in one object, and so two meanings",
    });
  });

  it("refuses what is not UTF-8 or not JSON without quoting it, and unknown element types as unsupported", async () => {
    await expect(read(file(Buffer.from([0x7b, 0xff, 0x7d])))).rejects.toThrow(
      "header of a safetensors file is not valid JSON in UTF-8",
    );
    await expect(read(file('{"secret'))).rejects.toThrow(
      "header of a safetensors file is not valid JSON in UTF-8",
    );
    await expect(read(file(tensor("Q4", [1], [0, 4]), 4))).rejects.toMatchObject({
      code: "UnsupportedArtifact",
      message: 'safetensors file has a tensor "t" of unknown type "Q4"',
    });
  });
});

describe("readTransformerConfig", () => {
  const read2 = (value: unknown) => readTransformerConfig(Buffer.from(JSON.stringify(value)));

  it("reads the usual names", () => {
    expect(
      read2({
        architectures: ["LlamaForCausalLM"],
        model_type: "llama",
        max_position_embeddings: 131072,
        num_hidden_layers: 32,
        num_attention_heads: 32,
        num_key_value_heads: 8,
        head_dim: 128,
        hidden_size: 4096,
      }),
    ).toEqual({
      architecture: "LlamaForCausalLM",
      contextLength: 131072,
      layers: 32,
      heads: 32,
      keyValueHeads: 8,
      keyLength: 128,
      valueLength: 128,
      embeddingLength: 4096,
    });
  });

  it("looks into the language model of models of several parts", () => {
    expect(
      read2({
        model_type: "gemma3",
        text_config: { max_position_embeddings: 32768, num_hidden_layers: 34 },
        vision_config: { num_hidden_layers: 27 },
      }),
    ).toEqual({ architecture: "gemma3", contextLength: 32768, layers: 34 });
  });

  it.each([
    [{ n_ctx: 1024, n_positions: 2048 }, 1024],
    [{ n_positions: 2048 }, 2048],
    [{ max_position_embeddings: 0, n_ctx: 512 }, 512],
    [{ max_position_embeddings: -1, max_length: 20 }, 20],
    [{ max_position_embeddings: "4096", max_sequence_length: 2048 }, 2048],
    [{ max_position_embeddings: 2 ** 31, model_max_length: 512 }, 512],
    [{ model_max_length: 1e30 }, undefined],
    [{ max_position_embeddings: 12.5 }, undefined],
    [{}, undefined],
  ])("takes the first valid context length of %j", (config, expected) => {
    expect(read2(config).contextLength).toBe(expected);
  });

  it("refuses what is no object, and drops architectures that are no words", () => {
    expect(() => read2([1])).toThrow("config.json is not a JSON object");
    expect(() => readTransformerConfig(Buffer.from("{"))).toThrow("config.json is not valid JSON in UTF-8");
    expect(read2({ architectures: ["a\nb"], model_type: 7 })).toEqual({});
    expect(read2({ architectures: "x", __proto__: { n_ctx: 5 } })).toEqual({});
  });
});

it.each([
  [183, "183"],
  [999, "999"],
  [112_448, "112.45K"],
  [16_781_312, "16.78M"],
  [8_030_261_312, "8.03B"],
  [1.04e12, "1.04T"],
])("%i parameters are shown as %s", (count, expected) => {
  expect(formatParameterCount(count)).toBe(expected);
});
