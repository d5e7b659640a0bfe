// Reads the header of a GGUF file (v2 and v3, little-endian) through byte ranges: facts, shards, tensor table. Never
// reads tensor data, and allocates nothing by a number from the file.
// Source: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md

import type { ArchitectureFacts } from "../contract.ts";
import { FileWindow, type ReadRange } from "./file-window.ts";
import { factKeys, ggufFacts, type GgufValue, type ListSummary } from "./gguf-facts.ts";
import { blockSizes, highestPlausibleElementType, quantizationName, valueBytes } from "./gguf-types.ts";
import { quote } from "../oci/quote.ts";

/** What the header of a GGUF file says. */
export type GgufHeader = {
  readonly version: 2 | 3;
  readonly facts: ArchitectureFacts;
  /** From `general.file_type`. */
  readonly quantization?: string;
  /** Elements of all tensors of this file; for a shard, of this shard only. */
  readonly parameterCount: number;
  readonly tensorCount: number;
  /** Of a sharded model; `number` counts from 0. */
  readonly split?: { readonly number: number; readonly count: number };
  /** `general.type`: "model" where absent; others are "adapter", "mmproj". */
  readonly type?: string;
};

/** Largest header, bytes. Vocabularies make headers of 5 to 20 MB. */
export const maxGgufHeaderBytes = 64 * 1024 * 1024;

const maxKeys = 65_536;
const maxTensors = 1_000_000;
const maxKeyBytes = 65_535;
const maxTensorNameBytes = 1024;
/** Values longer than this are skipped: no fact is. */
const maxStringBytes = 256;
const maxListLength = 65_536;
const maxDimensions = 4;

const stringType = 8;
const arrayType = 9;
/** Whole numbers and booleans. */
const integerTypes: ReadonlySet<number> = new Set([0, 1, 2, 3, 4, 5, 7, 10, 11]);

/** Keys whose values are kept besides those of facts. */
const headerKeys = /^(?:general\.(?:type|file_type|alignment)|split\.(?:no|count))$/u;

const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/**
 * Reads a GGUF header of a file of `fileBytes` bytes. What it reads is at most `maxGgufHeaderBytes`, in pieces of 256 KiB
 * to 4 MiB; arrays of numbers are jumped over. Checks that every tensor lies within the file, aligned, and behind
 * the one before. Throws AppError InvalidArtifact; errors of `readRange` as they are.
 */
export async function readGgufHeader(readRange: ReadRange, fileBytes: number): Promise<GgufHeader> {
  const file: FileWindow = new FileWindow(readRange, fileBytes, "GGUF file", maxGgufHeaderBytes);
  if (fileBytes < 24) file.refuse(`has ${fileBytes} bytes, which is too short for a header`);
  await file.need(24);
  if (decoderLatin1(file.bytes(4)) !== "GGUF") file.refuse("does not start with GGUF");
  const version = file.uint32();
  if (version !== 2 && version !== 3) {
    if (version === 0x0200_0000 || version === 0x0300_0000)
      file.refuse("is big-endian, which is not supported");
    file.refuse(`has version ${version}; versions 2 and 3 are supported`);
  }
  const tensorCount = checkedCount(file, file.uint64(), maxTensors, "tensors");
  const keyCount = checkedCount(file, file.uint64(), maxKeys, "metadata keys");

  const values = new Map<string, GgufValue>();
  const seen = new Set<string>();
  for (let index = 0; index < keyCount; index += 1) {
    const key = await readString(file, maxKeyBytes, "key");
    if (key === "") file.refuse("has an empty key");
    if (seen.has(key)) file.refuse(`has the key ${quote(key)} twice`);
    seen.add(key);
    await file.need(4);
    const value = await readValue(file, file.uint32(), key, headerKeys.test(key) || factKeys.test(key));
    if (value !== undefined) values.set(key, value);
  }
  const parameterCount = await readTensorTable(file, tensorCount, readAlignment(file, values));
  return assemble(file, version, values, tensorCount, parameterCount);
}

async function readValue(
  file: FileWindow,
  type: number,
  key: string,
  isWanted: boolean,
): Promise<GgufValue | undefined> {
  if (type === stringType) {
    const lengthBytes = await readLength(file, `value of ${quote(key)}`);
    if (!isWanted || lengthBytes > maxStringBytes) {
      file.skip(lengthBytes);
      return undefined;
    }
    await file.need(lengthBytes);
    return decodeText(file, file.bytes(lengthBytes), `value of ${quote(key)}`);
  }
  if (type === arrayType) return await readArray(file, key, isWanted);
  const bytes = valueBytes.get(type);
  if (bytes === undefined) file.refuse(`has a value of unknown type ${type} for ${quote(key)}`);
  if (!isWanted) {
    file.skip(bytes);
    return undefined;
  }
  await file.need(bytes);
  return toInteger(type, file.bytes(bytes));
}

async function readArray(file: FileWindow, key: string, isWanted: boolean): Promise<ListSummary | undefined> {
  await file.need(12);
  const type = file.uint32();
  const count = file.uint64();
  if (type === arrayType) file.refuse(`has an array of arrays for ${quote(key)}`);
  const bytes = type === stringType ? 8 : valueBytes.get(type);
  if (bytes === undefined) file.refuse(`has an array of unknown type ${type} for ${quote(key)}`);
  if (count * BigInt(bytes) > BigInt(file.leftBytes))
    file.refuse(`has an array of ${count} elements for ${quote(key)}, which is longer than the file`);
  const length = Number(count);
  if (type === stringType) {
    for (let index = 0; index < length; index += 1) {
      if (!file.has(8)) await file.need(8);
      const lengthBytes = file.uint64();
      if (lengthBytes > BigInt(file.leftBytes))
        file.refuse(`has a string longer than the file in ${quote(key)}`);
      file.skip(Number(lengthBytes));
    }
    return isWanted ? { length, largest: 0, sum: 0, positives: 0 } : undefined;
  }
  if (!isWanted || !integerTypes.has(type) || length > maxListLength) {
    file.skip(length * bytes);
    return undefined;
  }
  await file.need(length * bytes);
  let [largest, sum, positives] = [0, 0, 0];
  for (let index = 0; index < length; index += 1) {
    const value = toInteger(type, file.bytes(bytes)) ?? 0;
    largest = Math.max(largest, value);
    sum += value;
    if (value > 0) positives += 1;
  }
  return { length, largest, sum, positives };
}

/** Integers only, and only safe ones. */
function toInteger(type: number, bytes: Uint8Array): number | undefined {
  if (!integerTypes.has(type)) return undefined;
  const isSigned = type === 1 || type === 3 || type === 5 || type === 11;
  let value = 0n;
  for (let index = bytes.byteLength - 1; index >= 0; index -= 1)
    value = (value << 8n) | BigInt(bytes[index] ?? 0);
  if (isSigned) value = BigInt.asIntN(bytes.byteLength * 8, value);
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : undefined;
}

/** Walks the tensor table, checks it against the file, and returns the number of elements. */
async function readTensorTable(file: FileWindow, tensorCount: number, alignment: number): Promise<number> {
  const tensors: { readonly offset: bigint; readonly bytes: bigint | undefined; readonly name: string }[] =
    [];
  const names = new Set<string>();
  let elements = 0n;
  for (let index = 0; index < tensorCount; index += 1) {
    const name = await readString(file, maxTensorNameBytes, "tensor name");
    if (names.has(name)) file.refuse(`has the tensor ${quote(name)} twice`);
    names.add(name);
    await file.need(4);
    const dimensions = file.uint32();
    if (dimensions > maxDimensions)
      file.refuse(`has a tensor ${quote(name)} of ${dimensions} dimensions; at most 4 are known`);
    await file.need(dimensions * 8 + 12);
    let count = 1n;
    let row = 1n;
    for (let dimension = 0; dimension < dimensions; dimension += 1) {
      const size = file.uint64();
      if (dimension === 0) row = size;
      count *= size;
      if (count >= 1n << 63n) file.refuse(`has a tensor ${quote(name)} with too many elements`);
    }
    const type = file.uint32();
    const offset = file.uint64();
    const block = blockSizes.get(type);
    if (block === undefined && type > highestPlausibleElementType)
      file.refuse(`has a tensor ${quote(name)} of unknown type ${type}`);
    if (block !== undefined && row % BigInt(block.elements) !== 0n)
      file.refuse(
        `has a tensor ${quote(name)} whose rows of ${row} elements are no whole blocks of ${block.elements}`,
      );
    if (offset % BigInt(alignment) !== 0n)
      file.refuse(`has a tensor ${quote(name)} at an offset that is not aligned to ${alignment}`);
    elements += count;
    tensors.push({
      name,
      offset,
      bytes: block === undefined ? undefined : (count / BigInt(block.elements)) * BigInt(block.bytes),
    });
  }
  const start = BigInt(Math.ceil(file.offset / alignment) * alignment);
  tensors.sort((one, other) => (one.offset < other.offset ? -1 : one.offset > other.offset ? 1 : 0));
  let end = 0n;
  for (const { name, offset, bytes } of tensors) {
    if (offset < end) file.refuse(`has a tensor ${quote(name)} that overlaps another`);
    end = offset + (bytes ?? 0n);
    if (start + end > BigInt(file.offset + file.leftBytes))
      file.refuse(`ends before the data of its tensor ${quote(name)}`);
  }
  if (elements > BigInt(Number.MAX_SAFE_INTEGER)) file.refuse("has too many elements");
  return Number(elements);
}

function readAlignment(file: FileWindow, values: ReadonlyMap<string, GgufValue>): number {
  const alignment = values.get("general.alignment") ?? 32;
  if (typeof alignment !== "number" || alignment < 1 || !Number.isInteger(Math.log2(alignment)))
    file.refuse("has a general.alignment that is no power of two");
  return alignment;
}

function assemble(
  file: FileWindow,
  version: 2 | 3,
  values: ReadonlyMap<string, GgufValue>,
  tensorCount: number,
  parameterCount: number,
): GgufHeader {
  const architecture = values.get("general.architecture");
  if (typeof architecture === "string" && !/^[\w.+-]{1,64}$/u.test(architecture))
    file.refuse(`has a general.architecture ${quote(architecture)} that is no word`);
  const facts = ggufFacts(values, typeof architecture === "string" ? architecture : "");
  const fileType = values.get("general.file_type");
  const quantization = typeof fileType === "number" ? quantizationName(fileType) : undefined;
  const number = values.get("split.no");
  const count = values.get("split.count");
  const isSplit = typeof count === "number" && count > 1;
  if (isSplit && (typeof number !== "number" || number < 0 || number >= count))
    file.refuse(
      `is shard ${typeof number === "number" ? number : "without number"} of ${count}, counted from 0, which cannot be`,
    );
  const type = values.get("general.type");
  return {
    version,
    facts,
    ...(quantization === undefined ? {} : { quantization }),
    parameterCount,
    tensorCount,
    ...(isSplit && typeof number === "number" ? { split: { number, count } } : {}),
    ...(typeof type === "string" ? { type } : {}),
  };
}

function checkedCount(file: FileWindow, count: bigint, most: number, what: string): number {
  if (count > BigInt(most)) file.refuse(`states ${count} ${what}; at most ${most} are read`);
  return Number(count);
}

async function readLength(file: FileWindow, what: string): Promise<number> {
  await file.need(8);
  const length = file.uint64();
  if (length > BigInt(file.leftBytes)) file.refuse(`has a ${what} that is longer than the file`);
  return Number(length);
}

async function readString(file: FileWindow, mostBytes: number, what: string): Promise<string> {
  const lengthBytes = await readLength(file, what);
  if (lengthBytes > mostBytes)
    file.refuse(`has a ${what} of ${lengthBytes} bytes; at most ${mostBytes} are read`);
  await file.need(lengthBytes);
  return decodeText(file, file.bytes(lengthBytes), what);
}

function decodeText(file: FileWindow, bytes: Uint8Array, what: string): string {
  try {
    return decoder.decode(bytes);
  } catch {
    return file.refuse(`has a ${what} that is not UTF-8`);
  }
}

function decoderLatin1(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("latin1");
}
