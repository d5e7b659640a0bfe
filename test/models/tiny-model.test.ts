// The generated model files: their bytes, their determinism, their shards. That llama.cpp loads them is tested in test/engine.

import { createHash } from "node:crypto";
import { mkdtemp, readFile, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { ggufBytes, ggufSizeBytes, shardName, splitGguf, tensorBytes, writeGguf } from "./gguf-writer.ts";
import { halfFloatBits } from "./half-float.ts";
import { tinyModel } from "./tiny-model.ts";

const sha256 = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(path.join(tmpdir(), "ocimodel-models-"));
});
afterEach(async () => {
  await rm(directory, { recursive: true, force: true });
});

describe("half floats", () => {
  // Bits from the tables of IEEE 754-2019 binary16: one, the largest, ties to even, subnormals, overflow, not a number.
  test.each([
    [0, 0x0000],
    [-0, 0x8000],
    [1, 0x3c00],
    [-2, 0xc000],
    [1 / 3, 0x3555],
    [65504, 0x7bff],
    [65520, 0x7c00],
    [2049, 0x6800],
    [2051, 0x6802],
    [2 ** -14, 0x0400],
    [2 ** -24, 0x0001],
    [2 ** -25, 0x0000],
    [1.5 * 2 ** -25, 0x0001],
    [Infinity, 0x7c00],
    [-Infinity, 0xfc00],
    [Number.NaN, 0x7e00],
  ])("%d is %i", (value, bits) => {
    expect(halfFloatBits(value)).toBe(bits);
  });
});

describe("a tiny model", () => {
  test("starts with magic, version 3, tensor and metadata counts", () => {
    const file = tinyModel();
    const bytes = ggufBytes(file);
    expect(bytes.toString("latin1", 0, 4)).toBe("GGUF");
    expect(bytes.readUInt32LE(4)).toBe(3);
    expect(bytes.readBigUInt64LE(8)).toBe(21n);
    expect(bytes.readBigUInt64LE(16)).toBe(BigInt(file.metadata.size));
    expect(bytes.length).toBe(ggufSizeBytes(file));
    expect(bytes.length % 32).toBe(0);
  });

  test("has the same bytes each time and on every machine, and others for another seed or sentence", () => {
    expect(sha256(ggufBytes(tinyModel()))).toBe(
      "b26631310cf38205ecbcef91252e97eb685bf14a66706de831b79913fcff428a",
    );
    const others = [tinyModel({ seed: 2 }), tinyModel({ sentence: "Another answer." }), tinyModel()];
    expect(new Set(others.map((file) => sha256(ggufBytes(file)))).size).toBe(3);
  });

  test("has the tensors of the shape asked for", () => {
    const file = tinyModel({
      shape: { embeddingLength: 96, blockCount: 3, headCount: 6, headCountKv: 3, feedForwardLength: 32 },
    });
    const dimensions = new Map(file.tensors.map((tensor) => [tensor.name, tensor.dimensions]));
    expect(dimensions.size).toBe(3 + 3 * 9);
    expect(dimensions.get("blk.2.attn_k.weight")).toEqual([96, 48]);
    expect(dimensions.get("blk.0.ffn_down.weight")).toEqual([32, 96]);
    expect(dimensions.get("token_embd.weight")).toEqual([96, 300]);
    expect(ggufBytes(file).length).toBe(ggufSizeBytes(file));
  });

  test("takes metadata of the caller's, in place of its own where the key is the same", () => {
    const file = tinyModel({
      fileType: 15,
      metadata: {
        "general.name": { type: "string", value: "renamed" },
        "general.tags": { type: "strings", value: ["a", "b"] },
      },
    });
    expect(file.metadata.get("general.file_type")).toEqual({ type: "uint32", value: 15 });
    expect(file.metadata.get("general.name")).toEqual({ type: "string", value: "renamed" });
    expect([...file.metadata.keys()][0]).toBe("general.architecture");
    expect(ggufBytes(file).includes("renamed")).toBe(true);
  });

  test.each([
    [{ shape: { embeddingLength: 65 } }, "do not divide evenly"],
    [{ shape: { headCountKv: 3 } }, "do not divide evenly"],
    [{ shape: { vocabularySize: 261 } }, "too small"],
    [{ sentence: "again and again" }, "each of them once"],
    [{ sentence: "" }, "each of them once"],
  ])("refuses what cannot be a model: %o", (options, message) => {
    expect(() => tinyModel(options)).toThrow(message);
  });
});

describe("written files", () => {
  test("are what the digest says", async () => {
    const target = path.join(directory, "model.gguf");
    const written = await writeGguf(target, tinyModel());
    const bytes = await readFile(target);
    expect(written).toEqual({ sizeBytes: bytes.length, sha256: sha256(bytes) });
  });

  test("are padded to an odd size, with bytes that do not repeat", async () => {
    const target = path.join(directory, "padded.gguf");
    const { sizeBytes } = await writeGguf(target, tinyModel(), { padToBytes: 3_000_001 });
    expect(sizeBytes).toBe(3_000_001);
    const bytes = await readFile(target);
    const plain = ggufBytes(tinyModel());
    expect(bytes.subarray(0, plain.length).equals(plain)).toBe(true);
    expect(bytes.subarray(-64).equals(bytes.subarray(-128, -64))).toBe(false);
    await expect(writeGguf(target, tinyModel(), { padToBytes: 1000 })).rejects.toThrow(
      "cannot be padded to 1000",
    );
  });

  test("can be huge and take no room: header real, data a hole", async () => {
    const target = path.join(directory, "sparse.gguf");
    const large = tinyModel({
      shape: {
        embeddingLength: 4096,
        blockCount: 32,
        headCount: 32,
        headCountKv: 8,
        feedForwardLength: 14336,
      },
    });
    const { sizeBytes } = await writeGguf(target, large, { sparse: true });
    expect(sizeBytes).toBeGreaterThan(10e9);
    const found = await stat(target);
    expect(found.size).toBe(sizeBytes);
    expect(found.blocks * 512).toBeLessThan(1e6);
  });
});

describe("shards", () => {
  test("hold every tensor once; the first alone describes the model", () => {
    const whole = tinyModel();
    const shards = splitGguf(whole, 3);
    expect(shards.flatMap((shard) => shard.tensors)).toEqual(whole.tensors);
    expect(shards.map((shard) => shard.metadata.get("split.no")?.value)).toEqual([0, 1, 2]);
    expect(shards.map((shard) => shard.metadata.get("split.count")?.value)).toEqual([3, 3, 3]);
    expect(shards.map((shard) => shard.metadata.get("split.tensors.count")?.value)).toEqual([21, 21, 21]);
    expect(shards.map((shard) => shard.metadata.has("general.architecture"))).toEqual([true, false, false]);
    const dataBytes = whole.tensors.reduce((sum, tensor) => sum + tensorBytes(tensor), 0);
    const shardBytes = shards
      .flatMap((shard) => shard.tensors)
      .reduce((sum, tensor) => sum + tensorBytes(tensor), 0);
    expect(shardBytes).toBe(dataBytes);
  });

  test("are named as llama.cpp looks for them", () => {
    expect(shardName("model", 1, 3)).toBe("model-00001-of-00003.gguf");
  });

  test.each([1, 22])("cannot be %i of 21 tensors", (count) => {
    expect(() => splitGguf(tinyModel(), count)).toThrow(RangeError);
  });
});
