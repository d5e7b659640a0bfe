// Reads and checks the header of a safetensors file through byte ranges. Never reads tensor data.
// Source: https://github.com/huggingface/safetensors (README, "Format").

import { AppError } from "../oci/errors.ts";
import type { ReadRange } from "./file-window.ts";
import { quote } from "../oci/quote.ts";
import { decodeJson } from "../oci/strict-json.ts";

/** What the header of a safetensors file says. */
export type SafetensorsHeader = {
  readonly tensorCount: number;
  /** Elements of all tensors of this file. */
  readonly parameterCount: number;
  /** The element type (`BF16`), or `mixed`; undefined for a file without tensors. */
  readonly elementType?: string;
  /** `__metadata__`. */
  readonly metadata: Readonly<Record<string, string>>;
};

/**
 * Largest header, bytes. The reference implementation takes 100 MB, which is a gigabyte of memory once it is parsed; the headers of
 * published models are below one MiB, and a pod that inspects has 512.
 */
export const maxSafetensorsHeaderBytes = 16 * 2 ** 20;

/** Bits of one element. */
const elementBits: ReadonlyMap<string, bigint> = new Map([
  ["F4", 4n],
  ["F6_E2M3", 6n],
  ["F6_E3M2", 6n],
  ["BOOL", 8n],
  ["U8", 8n],
  ["I8", 8n],
  ["F8_E5M2", 8n],
  ["F8_E4M3", 8n],
  ["F8_E8M0", 8n],
  ["I16", 16n],
  ["U16", 16n],
  ["F16", 16n],
  ["BF16", 16n],
  ["I32", 32n],
  ["U32", 32n],
  ["F32", 32n],
  ["C64", 64n],
  ["F64", 64n],
  ["I64", 64n],
  ["U64", 64n],
]);

/**
 * Reads the header of a safetensors file of `fileBytes` bytes: two reads, of 8 bytes and of the header. Checks that the
 * tensors cover the rest of the file exactly. Throws AppError InvalidArtifact, UnsupportedArtifact for an element type
 * that is not known; errors of `readRange` as they are.
 */
export async function readSafetensorsHeader(
  readRange: ReadRange,
  fileBytes: number,
): Promise<SafetensorsHeader> {
  if (fileBytes < 8) refuse(`has ${fileBytes} bytes, which is too short for a header`);
  const lengthField = await readRange(0, 8);
  if (lengthField.byteLength !== 8) refuse("ends within its header");
  const length = new DataView(lengthField.buffer, lengthField.byteOffset, 8).getBigUint64(0, true);
  if (length > BigInt(maxSafetensorsHeaderBytes))
    refuse(`states a header of ${length} bytes; at most ${maxSafetensorsHeaderBytes} are read`);
  const headerBytes = Number(length);
  if (headerBytes > fileBytes - 8)
    refuse(`states a header of ${headerBytes} bytes, which is longer than the file`);
  if (headerBytes < 2) refuse(`states a header of ${headerBytes} bytes, which is too short for JSON`);
  const header = await readRange(8, headerBytes);
  if (header.byteLength !== headerBytes) refuse("ends within its header");
  if (header[0] !== 0x7b) refuse("has a header that does not start with {");
  return check(decodeJson(header, "header of a safetensors file"), BigInt(fileBytes - 8 - headerBytes));
}

type Span = { readonly name: string; readonly begin: bigint; readonly end: bigint };

function check(json: unknown, dataBytes: bigint): SafetensorsHeader {
  if (!isRecord(json)) refuse("has a header that is no JSON object");
  const spans: Span[] = [];
  const elementTypes = new Set<string>();
  let metadata: Readonly<Record<string, string>> = {};
  let parameters = 0n;
  for (const [name, value] of Object.entries(json)) {
    if (name === "__metadata__") {
      metadata = readMetadata(value);
      continue;
    }
    const { dtype, elements, begin, end } = readTensor(name, value);
    elementTypes.add(dtype);
    parameters += elements;
    spans.push({ name, begin, end });
  }
  spans.sort((one, other) => Number(one.begin - other.begin) || Number(one.end - other.end));
  let end = 0n;
  for (const span of spans) {
    if (span.begin < end) refuse(`has a tensor ${quote(span.name)} that overlaps another`);
    if (span.begin > end) refuse(`has a hole before its tensor ${quote(span.name)}`);
    end = span.end;
  }
  if (end > dataBytes) refuse(`ends before the data of its tensors: ${dataBytes} of ${end} bytes are there`);
  if (end < dataBytes) refuse(`has ${dataBytes - end} bytes behind its tensors`);
  if (parameters > BigInt(Number.MAX_SAFE_INTEGER)) refuse("has too many elements");
  const [only, another] = elementTypes;
  return {
    tensorCount: spans.length,
    parameterCount: Number(parameters),
    ...(only === undefined ? {} : { elementType: another === undefined ? only : "mixed" }),
    metadata,
  };
}

function readTensor(
  name: string,
  value: unknown,
): { readonly dtype: string; readonly elements: bigint; readonly begin: bigint; readonly end: bigint } {
  if (!isRecord(value)) refuse(`has a tensor ${quote(name)} that is no JSON object`);
  const { dtype, shape, data_offsets: offsets } = value;
  if (typeof dtype !== "string") refuse(`has a tensor ${quote(name)} without a type`);
  const bits = elementBits.get(dtype);
  if (bits === undefined)
    throw new AppError(
      "UnsupportedArtifact",
      `safetensors file has a tensor ${quote(name)} of unknown type ${quote(dtype)}`,
    );
  if (!isCounts(shape)) refuse(`has a tensor ${quote(name)} with a shape that cannot be`);
  let elements = 1n;
  for (const size of shape) {
    elements *= BigInt(size);
    if (elements >= 1n << 63n) refuse(`has a tensor ${quote(name)} with too many elements`);
  }
  if (!isCounts(offsets) || offsets.length !== 2)
    refuse(`has a tensor ${quote(name)} with offsets that cannot be`);
  const begin = BigInt(offsets[0] ?? 0);
  const end = BigInt(offsets[1] ?? 0);
  if (begin > end) refuse(`has a tensor ${quote(name)} that ends before it begins`);
  if ((end - begin) * 8n !== elements * bits)
    refuse(
      `has a tensor ${quote(name)} of ${end - begin} bytes where its shape and type need ${(elements * bits) / 8n}`,
    );
  return { dtype, elements, begin, end };
}

function readMetadata(value: unknown): Readonly<Record<string, string>> {
  if (!isRecord(value) || !Object.values(value).every((item) => typeof item === "string"))
    refuse("has __metadata__ that is no map of strings");
  return value as Readonly<Record<string, string>>;
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isCounts(value: unknown): value is readonly number[] {
  return Array.isArray(value) && value.every((item) => Number.isSafeInteger(item) && item >= 0);
}

function refuse(why: string): never {
  throw new AppError("InvalidArtifact", `safetensors file ${why}`);
}
