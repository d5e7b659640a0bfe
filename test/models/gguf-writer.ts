// Writes GGUF version 3 files: header, metadata, tensor table, aligned tensor data; whole, split into shards, or sparse.
// It does not know what a model is (see tiny-model.ts) and does not read or quantize.
// Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md

import { createHash } from "node:crypto";
import { open } from "node:fs/promises";
import { floatBytes, halfFloatBytes } from "./half-float.ts";

/** Element types of which the writer can encode data; the number is ggml's own. */
export const ggufElementTypes = { F32: 0, F16: 1 } as const;
export type GgufElementType = keyof typeof ggufElementTypes;

export type GgufValue =
  | { readonly type: "uint16" | "uint32" | "int32" | "float32"; readonly value: number }
  | { readonly type: "uint64"; readonly value: bigint }
  | { readonly type: "bool"; readonly value: boolean }
  | { readonly type: "string"; readonly value: string }
  | { readonly type: "strings"; readonly value: readonly string[] }
  | { readonly type: "float32s" | "int32s" | "uint32s"; readonly value: readonly number[] };

export type GgufTensor = {
  readonly name: string;
  /** Innermost dimension first, as GGUF stores it. */
  readonly dimensions: readonly number[];
  readonly elementType: GgufElementType;
  /** The values in order, in pieces of any length; called once per write, and must give the same values each time. */
  readonly values: () => Iterable<Float32Array>;
};

export type GgufFile = {
  /** In the order in which they are written; `general.architecture` belongs first. */
  readonly metadata: ReadonlyMap<string, GgufValue>;
  readonly tensors: readonly GgufTensor[];
};

export type GgufWriteOptions = {
  /** Grow the file to this many bytes with bytes after the last tensor, which readers ignore. Smaller than the file: an error. */
  readonly padToBytes?: number;
  /** Leave the tensor data (and the padding) as a hole of zeros: a file of any size that takes no room on the disk. */
  readonly sparse?: boolean;
};

const alignmentBytes = 32;
const elementBytes = { F32: 4, F16: 2 } as const;
const valueTypes = {
  uint16: 2,
  uint32: 4,
  int32: 5,
  float32: 6,
  bool: 7,
  string: 8,
  strings: 9,
  float32s: 9,
  int32s: 9,
  uint32s: 9,
  uint64: 10,
} as const;
const arrayElementTypes = { uint32s: 4, int32s: 5, float32s: 6 } as const;

const uint16 = (value: number): Buffer => {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16LE(value);
  return bytes;
};
const uint32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
};
const int32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32LE(value);
  return bytes;
};
const float32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeFloatLE(value);
  return bytes;
};
const uint64 = (value: number | bigint): Buffer => {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
};
const text = (value: string): Buffer => {
  const bytes = Buffer.from(value, "utf8");
  return Buffer.concat([uint64(bytes.length), bytes]);
};

function valueBytes(entry: GgufValue): Buffer {
  switch (entry.type) {
    case "uint16":
      return uint16(entry.value);
    case "uint32":
      return uint32(entry.value);
    case "int32":
      return int32(entry.value);
    case "float32":
      return float32(entry.value);
    case "uint64":
      return uint64(entry.value);
    case "bool":
      return Buffer.from([entry.value ? 1 : 0]);
    case "string":
      return text(entry.value);
    case "strings":
      return Buffer.concat([uint32(valueTypes.string), uint64(entry.value.length), ...entry.value.map(text)]);
    case "float32s":
    case "int32s":
    case "uint32s": {
      const encode = entry.type === "float32s" ? float32 : entry.type === "int32s" ? int32 : uint32;
      return Buffer.concat([
        uint32(arrayElementTypes[entry.type]),
        uint64(entry.value.length),
        ...entry.value.map(encode),
      ]);
    }
  }
}

const aligned = (bytes: number): number => Math.ceil(bytes / alignmentBytes) * alignmentBytes;

/** Bytes of one tensor's data, without alignment. */
export function tensorBytes(tensor: GgufTensor): number {
  return tensor.dimensions.reduce((product, length) => product * length, elementBytes[tensor.elementType]);
}

/** Header, metadata and tensor table, padded so that tensor data may follow. */
export function ggufHeader(file: GgufFile): Uint8Array {
  const parts = [Buffer.from("GGUF"), uint32(3), uint64(file.tensors.length), uint64(file.metadata.size)];
  for (const [key, entry] of file.metadata) {
    parts.push(text(key), uint32(valueTypes[entry.type]), valueBytes(entry));
  }
  let offset = 0;
  for (const tensor of file.tensors) {
    parts.push(text(tensor.name), uint32(tensor.dimensions.length), ...tensor.dimensions.map(uint64));
    parts.push(uint32(ggufElementTypes[tensor.elementType]), uint64(offset));
    offset += aligned(tensorBytes(tensor));
  }
  const header = Buffer.concat(parts);
  return Buffer.concat([header, Buffer.alloc(aligned(header.length) - header.length)]);
}

/** Size of the file without padding to a target. */
export function ggufSizeBytes(file: GgufFile): number {
  return file.tensors.reduce((sum, tensor) => sum + aligned(tensorBytes(tensor)), ggufHeader(file).length);
}

// Not zeros, so that a padded file does not compress to nothing; not random, so that the same options give the same digest.
function* paddingBytes(count: number): Generator<Uint8Array> {
  let block = createHash("sha512").update("padding").digest();
  const piece = Buffer.alloc(1 << 20);
  for (let left = count; left > 0; left -= piece.length) {
    for (let at = 0; at < piece.length && at < left; at += block.length) {
      block = createHash("sha512").update(block).digest();
      block.copy(piece, at);
    }
    yield Buffer.from(piece.subarray(0, Math.min(left, piece.length)));
  }
}

function paddingCount(file: GgufFile, padToBytes: number | undefined): number {
  const sizeBytes = ggufSizeBytes(file);
  if (padToBytes === undefined) return 0;
  if (padToBytes < sizeBytes) {
    throw new RangeError(
      `the model needs ${sizeBytes} bytes: it cannot be padded to ${padToBytes}; ask for at least its size`,
    );
  }
  return padToBytes - sizeBytes;
}

/** The file in pieces, in order; never more than one piece in memory. */
export function* ggufChunks(file: GgufFile, padToBytes?: number): Generator<Uint8Array> {
  const padding = paddingCount(file, padToBytes);
  yield ggufHeader(file);
  for (const tensor of file.tensors) {
    let written = 0;
    for (const values of tensor.values()) {
      const bytes = tensor.elementType === "F16" ? halfFloatBytes(values) : floatBytes(values);
      written += bytes.length;
      yield bytes;
    }
    const expected = tensorBytes(tensor);
    if (written !== expected) {
      throw new RangeError(`tensor ${tensor.name} gave ${written} bytes of data instead of ${expected}`);
    }
    yield new Uint8Array(aligned(expected) - expected);
  }
  yield* paddingBytes(padding);
}

/** The whole file in memory; for small ones. */
export function ggufBytes(file: GgufFile, padToBytes?: number): Buffer {
  return Buffer.concat([...ggufChunks(file, padToBytes)]);
}

/** Writes the file and returns its size and lower-case hex SHA-256 (undefined for a sparse one, whose holes were not read). */
export async function writeGguf(
  path: string,
  file: GgufFile,
  options: GgufWriteOptions = {},
): Promise<{ readonly sizeBytes: number; readonly sha256: string | undefined }> {
  const handle = await open(path, "w");
  try {
    if (options.sparse === true) {
      const sizeBytes = ggufSizeBytes(file) + paddingCount(file, options.padToBytes);
      await handle.writeFile(ggufHeader(file));
      await handle.truncate(sizeBytes);
      return { sizeBytes, sha256: undefined };
    }
    const hash = createHash("sha256");
    let sizeBytes = 0;
    for (const chunk of ggufChunks(file, options.padToBytes)) {
      hash.update(chunk);
      sizeBytes += chunk.length;
      await handle.writeFile(chunk);
    }
    return { sizeBytes, sha256: hash.digest("hex") };
  } finally {
    await handle.close();
  }
}

/** Name of a shard as llama.cpp demands it: `stem-00001-of-00003.gguf`; `number` counts from 1. */
export function shardName(stem: string, number: number, count: number): string {
  const digits = (value: number): string => String(value).padStart(5, "0");
  return `${stem}-${digits(number)}-of-${digits(count)}.gguf`;
}

/** The same model as `count` files in the manner of llama.cpp's gguf-split: the first alone carries the metadata. */
export function splitGguf(file: GgufFile, count: number): readonly GgufFile[] {
  if (count < 2 || count > file.tensors.length) {
    throw new RangeError(
      `cannot split ${file.tensors.length} tensors into ${count} shards; ask for 2 or more, one tensor each`,
    );
  }
  return Array.from({ length: count }, (_, index) => {
    const split: readonly (readonly [string, GgufValue])[] = [
      ["split.no", { type: "uint16", value: index }],
      ["split.count", { type: "uint16", value: count }],
      ["split.tensors.count", { type: "int32", value: file.tensors.length }],
    ];
    const from = Math.floor((index * file.tensors.length) / count);
    const to = Math.floor(((index + 1) * file.tensors.length) / count);
    return {
      metadata: new Map(index === 0 ? [...file.metadata, ...split] : split),
      tensors: file.tensors.slice(from, to),
    };
  });
}
