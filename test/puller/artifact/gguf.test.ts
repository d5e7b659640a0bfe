// readGgufHeader on files of a real writer and on headers that no writer would make.

import { describe, expect, it } from "vitest";

import { readGgufHeader } from "../../../puller/artifact/index.ts";
import { ggufBytes, splitGguf } from "../../models/gguf-writer.ts";
import { tinyModel } from "../../models/tiny-model.ts";
import { arrayValue, gguf, stringValue, tensor, text, u32, u64, uint32Value } from "./gguf-builder.ts";

type Read = { offset: number; bytes: number };

async function read(bytes: Uint8Array, sizeBytes = bytes.byteLength, reads: Read[] = []) {
  return await readGgufHeader((offset, length) => {
    reads.push({ offset, bytes: length });
    const given = Buffer.alloc(Math.min(length, sizeBytes - offset));
    given.set(bytes.subarray(offset, offset + length));
    return Promise.resolve(given);
  }, sizeBytes);
}

const architecture = stringValue("general.architecture", "llama");

describe("a real model", () => {
  it("tells its architecture, quantization and parameters", async () => {
    expect(await read(ggufBytes(tinyModel({ fileType: 15 })))).toMatchObject({
      version: 3,
      quantization: "Q4_K_M",
      facts: {
        architecture: "llama",
        contextLength: 2048,
        layers: 2,
        heads: 4,
        keyValueHeads: 2,
        embeddingLength: 64,
      },
    });
  });

  it("tells which shard it is", async () => {
    const shards = splitGguf(tinyModel(), 3);
    for (const [number, shard] of shards.entries())
      expect(await read(ggufBytes(shard))).toMatchObject({ split: { number, count: 3 } });
  });

  it("of gigabytes needs its header only, whatever lies in front of the facts", async () => {
    const words = Array.from({ length: 60_000 }, (_, number) => text(`token ${number}`));
    const bytes = gguf(
      [
        architecture,
        arrayValue("tokenizer.ggml.tokens", 8, words.length, ...words),
        arrayValue("tokenizer.ggml.scores", 6, 2_000_000, Buffer.alloc(8_000_000)),
        stringValue("tokenizer.chat_template", "x".repeat(3_000_000)),
        uint32Value("llama.context_length", 4096),
        uint32Value("llama.block_count", 32),
      ],
      [tensor("t", [1_000_000_000], 0, 0)],
    );
    const reads: Read[] = [];
    const header = await read(bytes, bytes.length + 4_000_000_000, reads);
    expect(header).toMatchObject({ parameterCount: 1e9, facts: { contextLength: 4096, layers: 32 } });
    expect(reads.length).toBeLessThan(10);
    // Scores and template are 11 MB; they are jumped over.
    expect(reads.reduce((sum, { bytes: length }) => sum + length, 0)).toBeLessThan(3_000_000);
  });

  it("may have heads that differ by layer, every integer type, and facts before the architecture", async () => {
    const bytes = gguf([
      arrayValue("llama.attention.head_count", 5, 3, u32(8), u32(32), u32(16)),
      arrayValue("llama.attention.head_count_kv", 4, 2, u32(0), u32(8)),
      Buffer.concat([text("llama.context_length"), u32(10), u64(131072)]),
      Buffer.concat([text("llama.attention.key_length"), u32(0), Buffer.from([128])]),
      Buffer.concat([text("llama.attention.value_length"), u32(3), Buffer.from([64, 0])]),
      Buffer.concat([text("llama.embedding_length"), u32(5), u32(-1)]),
      Buffer.concat([text("llama.block_count"), u32(6), u32(0x42000000)]),
      architecture,
      uint32Value("general.file_type", 1024 + 7),
    ]);
    expect(await read(bytes)).toEqual({
      version: 3,
      facts: {
        architecture: "llama",
        heads: 32,
        keyValueHeads: 8,
        contextLength: 131072,
        keyLength: 128,
        valueLength: 64,
      },
      quantization: "Q8_0",
      parameterCount: 0,
      tensorCount: 0,
    });
  });

  it("may be of version 2, have bytes behind its tensors, an unknown element type, and no facts at all", async () => {
    const bytes = gguf([], [tensor("a", [32, 2], 2, 0), tensor("b", [32], 77, 64)], 4096, { version: 2 });
    expect(await read(bytes)).toEqual({ version: 2, facts: {}, parameterCount: 96, tensorCount: 2 });
  });
});

const header = (...parts: Uint8Array[]) => Buffer.concat([Buffer.from("GGUF"), u32(3), ...parts]);

describe("refuses", () => {
  it.each(Array.from({ length: 24 }, (_, length) => length))("%i bytes", async (length) => {
    await expect(read(gguf([architecture]).subarray(0, length))).rejects.toMatchObject({
      code: "InvalidArtifact",
      message: `GGUF file has ${length} bytes, which is too short for a header`,
    });
  });

  it.each<[string, Uint8Array, string]>([
    ["24 to 32 bytes of a longer header", gguf([architecture]).subarray(0, 30), "ends within its header"],
    ["another magic", Buffer.concat([Buffer.from("GGML"), Buffer.alloc(40)]), "does not start with GGUF"],
    [
      "a pickle",
      Buffer.concat([Buffer.from("\x80\x02}q\x00"), Buffer.alloc(40)]),
      "does not start with GGUF",
    ],
    ["version 1", gguf([], [], 0, { version: 1 }), "has version 1; versions 2 and 3 are supported"],
    ["version 4", gguf([], [], 0, { version: 4 }), "has version 4; versions 2 and 3 are supported"],
    ["big-endian", gguf([], [], 0, { version: 0x0300_0000 }), "is big-endian, which is not supported"],
    [
      "2^63 keys",
      gguf([], [], 0, { values: 1n << 63n }),
      "states 9223372036854775808 metadata keys; at most 65536 are read",
    ],
    [
      "2^63 tensors",
      gguf([], [], 0, { tensors: 1n << 63n }),
      "states 9223372036854775808 tensors; at most 1000000 are read",
    ],
    ["more keys than there are", gguf([architecture], [], 0, { values: 2n }), "has an empty key"],
    [
      "a key longer than the file",
      header(u64(0), u64(1), u64(1 << 30)),
      "has a key that is longer than the file",
    ],
    [
      "a key of 64 KiB",
      gguf([uint32Value("k".repeat(65536), 1)]),
      "has a key of 65536 bytes; at most 65535 are read",
    ],
    [
      "a key that is not UTF-8",
      gguf([Buffer.concat([text(Buffer.from([0xff])), u32(4), u32(1)])]),
      "has a key that is not UTF-8",
    ],
    ["a key twice", gguf([uint32Value("a", 1), uint32Value("a", 1)]), 'has the key "a" twice'],
    [
      "a string longer than the file",
      gguf([Buffer.concat([text("a"), u32(8), u64(1n << 62n)])]),
      'has a value of "a" that is longer than the file',
    ],
    [
      "an architecture that is not UTF-8",
      gguf([stringValue("general.architecture", Buffer.from([0xff]))]),
      'has a value of "general.architecture" that is not UTF-8',
    ],
    [
      "an architecture that is no word",
      gguf([stringValue("general.architecture", "a\u001b[31m")]),
      'has a general.architecture "a\\u001b[31m" that is no word',
    ],
    [
      "an unknown value type",
      gguf([Buffer.concat([text("a"), u32(13), u64(1)])]),
      'has a value of unknown type 13 for "a"',
    ],
    [
      "an array of an unknown type",
      gguf([arrayValue("a", 13, 1)]),
      'has an array of unknown type 13 for "a"',
    ],
    ["an array of arrays", gguf([arrayValue("a", 9, 1)]), 'has an array of arrays for "a"'],
    [
      "an array longer than the file",
      gguf([arrayValue("a", 10, 1n << 61n)]),
      'has an array of 2305843009213693952 elements for "a", which is longer than the file',
    ],
    [
      "an array string longer than the file",
      gguf([arrayValue("a", 8, 2, text("x"), u64(1n << 62n))]),
      'has a string longer than the file in "a"',
    ],
    [
      "alignment 0",
      gguf([uint32Value("general.alignment", 0)]),
      "has a general.alignment that is no power of two",
    ],
    [
      "alignment 3",
      gguf([uint32Value("general.alignment", 3)]),
      "has a general.alignment that is no power of two",
    ],
    [
      "alignment 2^31 with data",
      gguf([uint32Value("general.alignment", 2 ** 31)], [tensor("t", [1], 0, 0)], 64),
      'ends before the data of its tensor "t"',
    ],
    [
      "5 dimensions",
      gguf([], [tensor("t", [1, 1, 1, 1, 1], 0, 0)], 64),
      'has a tensor "t" of 5 dimensions; at most 4 are known',
    ],
    [
      "2^32 - 1 dimensions",
      gguf([], [Buffer.concat([text("t"), u32(-1), u64(1)])], 64),
      'has a tensor "t" of 4294967295 dimensions; at most 4 are known',
    ],
    [
      "a dimension of 2^63",
      gguf([], [tensor("t", [1n << 63n], 0, 0)], 64),
      'has a tensor "t" with too many elements',
    ],
    [
      "dimensions whose product overflows",
      gguf([], [tensor("t", [1n << 32n, 1n << 32n], 0, 0)], 64),
      'has a tensor "t" with too many elements',
    ],
    [
      "rows of no whole blocks",
      gguf([], [tensor("t", [33, 32], 2, 0)], 4096),
      'has a tensor "t" whose rows of 33 elements are no whole blocks of 32',
    ],
    [
      "element type -1",
      gguf([], [tensor("t", [1], -1, 0)], 64),
      'has a tensor "t" of unknown type 4294967295',
    ],
    ["element type 999", gguf([], [tensor("t", [1], 999, 0)], 64), 'has a tensor "t" of unknown type 999'],
    [
      "an offset behind the file",
      gguf([], [tensor("t", [8], 0, 64)], 64),
      'ends before the data of its tensor "t"',
    ],
    [
      "an offset that is not aligned",
      gguf([], [tensor("t", [1], 0, 4)], 64),
      'has a tensor "t" at an offset that is not aligned to 32',
    ],
    [
      "tensors that overlap",
      gguf([], [tensor("t", [16], 0, 0), tensor("u", [1], 0, 32)], 128),
      'has a tensor "u" that overlaps another',
    ],
    [
      "a tensor twice",
      gguf([], [tensor("t", [1], 0, 0), tensor("t", [1], 0, 32)], 64),
      'has the tensor "t" twice',
    ],
    [
      "a tensor name of 2 KiB",
      gguf([], [tensor("t".repeat(2048), [1], 0, 0)], 64),
      "has a tensor name of 2048 bytes; at most 1024 are read",
    ],
    [
      "shard 3 of 3, counted from 0",
      gguf([uint32Value("split.no", 3), uint32Value("split.count", 3)]),
      "is shard 3 of 3, counted from 0, which cannot be",
    ],
    [
      "a shard without a number",
      gguf([uint32Value("split.count", 3)]),
      "is shard without number of 3, counted from 0, which cannot be",
    ],
  ])("%s", async (_, bytes, message) => {
    await expect(read(bytes)).rejects.toMatchObject({
      code: "InvalidArtifact",
      exitCode: 65,
      message: `GGUF file ${message}`,
    });
  });

  it("a header over 64 MiB, having read no more than that", async () => {
    const words = Buffer.alloc(80 * 1024 * 1024);
    const bytes = gguf([arrayValue("tokens", 8, words.length / 8, words)]);
    const reads: Read[] = [];
    await expect(read(bytes, bytes.length, reads)).rejects.toThrow(
      "GGUF file has a header that is too large to be read",
    );
    expect(reads.reduce((sum, { bytes: length }) => sum + length, 0)).toBeLessThanOrEqual(64 * 1024 * 1024);
  });

  it("a range that comes short", async () => {
    const bytes = gguf([architecture]);
    await expect(readGgufHeader(() => Promise.resolve(bytes.subarray(0, 20)), bytes.length)).rejects.toThrow(
      "GGUF file ends within its header",
    );
  });
});
