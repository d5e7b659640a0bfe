// Builds GGUF headers byte by byte, for headers that no writer would make.

type Part = Uint8Array | string;

export const u32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value >>> 0);
  return bytes;
};

export const u64 = (value: number | bigint): Buffer => {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt.asUintN(64, BigInt(value)));
  return bytes;
};

/** A string with its length in front. */
export const text = (value: Part): Buffer => {
  const bytes = Buffer.from(value as string);
  return Buffer.concat([u64(bytes.byteLength), bytes]);
};

export const stringValue = (key: string, value: Part): Buffer =>
  Buffer.concat([text(key), u32(8), text(value)]);
export const uint32Value = (key: string, value: number): Buffer =>
  Buffer.concat([text(key), u32(4), u32(value)]);
export const arrayValue = (
  key: string,
  type: number,
  count: number | bigint,
  ...elements: Uint8Array[]
): Buffer => Buffer.concat([text(key), u32(9), u32(type), u64(count), ...elements]);

export const tensor = (
  name: string,
  dimensions: readonly (number | bigint)[],
  type: number,
  offset: number,
): Buffer =>
  Buffer.concat([text(name), u32(dimensions.length), ...dimensions.map(u64), u32(type), u64(offset)]);

/** A file: header, metadata, tensor table, padding to 32, data. */
export function gguf(
  values: readonly Uint8Array[],
  tensors: readonly Uint8Array[] = [],
  dataBytes = 0,
  counts: { readonly version?: number; readonly tensors?: bigint; readonly values?: bigint } = {},
): Buffer {
  const header = Buffer.concat([
    Buffer.from("GGUF"),
    u32(counts.version ?? 3),
    u64(counts.tensors ?? tensors.length),
    u64(counts.values ?? values.length),
    ...values,
    ...tensors,
  ]);
  return Buffer.concat([header, Buffer.alloc((32 - (header.length % 32)) % 32), Buffer.alloc(dataBytes)]);
}
