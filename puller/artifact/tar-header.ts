// Decodes tar header blocks and PAX records (POSIX.1-2001 pax, GNU and v7 forms). Pure; strict where two readers could
// understand an archive differently.

import { AppError } from "../oci/errors.ts";

/** Bytes of a tar block. */
export const tarBlockBytes = 512;

/** What a header introduces. Everything in "refused" has a `description` for the message. */
export type TarHeaderKind =
  "file" | "directory" | "symlink" | "pax" | "pax-global" | "long-name" | "long-link" | "refused";

/** A decoded header. */
export type TarHeader = {
  readonly kind: TarHeaderKind;
  readonly description: string;
  readonly name: string;
  readonly link: string;
  readonly sizeBytes: number;
};

const kinds: Readonly<Record<string, readonly [TarHeaderKind, string]>> = {
  "\0": ["file", "a file"],
  "0": ["file", "a file"],
  "7": ["file", "a file"],
  "5": ["directory", "a directory"],
  "2": ["symlink", "a symbolic link"],
  x: ["pax", "a header extension"],
  g: ["pax-global", "a header extension"],
  L: ["long-name", "a header extension"],
  K: ["long-link", "a header extension"],
  "1": ["refused", "a hard link"],
  "3": ["refused", "a character device"],
  "4": ["refused", "a block device"],
  "6": ["refused", "a pipe"],
  S: ["refused", "a sparse file"],
};

const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const posixMagic = "ustar\u000000";

/** Whether a block is all zeros: two of them end an archive. */
export function isZeroBlock(block: Uint8Array): boolean {
  return block.every((byte) => byte === 0);
}

/** Decodes a header block. Throws AppError InvalidArtifact for a wrong checksum, number or name. */
export function parseHeader(block: Uint8Array): TarHeader {
  if (!hasValidChecksum(block)) refuse("is not a tar archive, or is damaged: a header has a wrong checksum");
  const flag = String.fromCharCode(block[156] ?? 0);
  const [kind, description] = kinds[flag] ?? (["refused", "an entry of an unknown type"] as const);
  const magic = Buffer.from(block.buffer, block.byteOffset + 257, 8).toString("latin1");
  const prefix = magic === posixMagic ? decodeText(field(block, 345, 155)) : "";
  const name = decodeText(field(block, 0, 100));
  return {
    kind,
    description,
    name: prefix === "" ? name : `${prefix}/${name}`,
    link: decodeText(field(block, 157, 100)),
    sizeBytes: parseNumber(block.subarray(124, 136)),
  };
}

/**
 * The PAX records that matter: path, link path, size. Throws AppError InvalidArtifact for malformed records and for
 * sparse files, whose content is not what it seems.
 */
export function parsePaxRecords(bytes: Uint8Array): {
  readonly path?: string;
  readonly link?: string;
  readonly sizeBytes?: number;
} {
  const found: { path?: string; link?: string; sizeBytes?: number } = {};
  for (let offset = 0; offset < bytes.byteLength;) {
    const space = bytes.indexOf(0x20, offset);
    // Some writers pad the records with NUL.
    if (space === -1 && bytes.subarray(offset).every((byte) => byte === 0)) break;
    const digits =
      space === -1
        ? ""
        : Buffer.from(bytes.subarray(offset, Math.min(space, offset + 10))).toString("latin1");
    const length = /^[1-9]\d{0,8}$/u.test(digits) ? Number(digits) : 0;
    const end = offset + length;
    if (end <= space + 1 || end > bytes.byteLength || bytes[end - 1] !== 0x0a)
      refuse("has a malformed PAX record");
    const equals = bytes.indexOf(0x3d, space);
    if (equals === -1 || equals >= end) refuse("has a malformed PAX record");
    const key = Buffer.from(bytes.subarray(space + 1, equals)).toString("latin1");
    const value = bytes.subarray(equals + 1, end - 1);
    if (key.startsWith("GNU.sparse."))
      refuse("holds a sparse file; only files, directories and inner symbolic links are taken");
    if (key === "path") found.path = decodeText(value);
    if (key === "linkpath") found.link = decodeText(value);
    if (key === "size") {
      const text = decodeText(value);
      const size = /^\d{1,16}$/u.test(text) ? Number(text) : Number.NaN;
      if (!Number.isSafeInteger(size)) refuse("has a size that cannot be");
      found.sizeBytes = size;
    }
    offset = end;
  }
  return found;
}

function field(block: Uint8Array, offset: number, length: number): Uint8Array {
  const bytes = block.subarray(offset, offset + length);
  const end = bytes.indexOf(0);
  return end === -1 ? bytes : bytes.subarray(0, end);
}

function decodeText(bytes: Uint8Array): string {
  try {
    return decoder.decode(bytes);
  } catch {
    return refuse("has a file name that is not UTF-8");
  }
}

/** Octal, or base 256 when the first bit is set (GNU, for large values); negative and unsafe values are refused. */
function parseNumber(bytes: Uint8Array): number {
  const first = bytes[0] ?? 0;
  if ((first & 0x80) !== 0) {
    let value = BigInt(first & 0x7f);
    for (const byte of bytes.subarray(1)) value = (value << 8n) | BigInt(byte);
    // A negative number has all high bits set, so it is refused as too large.
    if (value > BigInt(Number.MAX_SAFE_INTEGER)) refuse("has a size that cannot be");
    return Number(value);
  }
  const text = Buffer.from(bytes)
    .toString("latin1")
    .replace(/^ +/u, "")
    .replace(/[ \0].*$/su, "");
  if (!/^[0-7]*$/u.test(text)) refuse("has a size that cannot be");
  return text === "" ? 0 : Number.parseInt(text, 8);
}

/** The sum of all bytes, its own field taken as spaces; old writers summed signed bytes. */
function hasValidChecksum(block: Uint8Array): boolean {
  const text = Buffer.from(block.subarray(148, 156))
    .toString("latin1")
    .replace(/^[ \0]+/u, "")
    .replace(/[ \0]+$/u, "");
  if (!/^[0-7]{1,8}$/u.test(text)) return false;
  let unsigned = 8 * 0x20;
  let signed = unsigned;
  block.forEach((byte, position) => {
    if (position >= 148 && position < 156) return;
    unsigned += byte;
    signed += byte > 127 ? byte - 256 : byte;
  });
  const stated = Number.parseInt(text, 8);
  return stated === unsigned || stated === signed;
}

function refuse(why: string): never {
  throw new AppError("InvalidArtifact", `tar layer ${why}`);
}
