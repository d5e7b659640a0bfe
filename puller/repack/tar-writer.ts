// Writes tar headers as image layers have them: the same files give the same bytes, whoever writes them and when. Pure.
// POSIX.1-2001 pax; what a ustar field cannot hold goes into a PAX record, which Go's archive/tar and others read.

import { tarBlockBytes } from "../artifact/tar-header.ts";

/** One entry of a layer; times, owners and modes are fixed. */
export type LayerEntry =
  | { readonly type: "directory"; readonly path: string }
  | { readonly type: "file"; readonly path: string; readonly sizeBytes: number }
  | { readonly type: "symlink"; readonly path: string; readonly target: string };

const typeFlags = { file: "0", symlink: "2", directory: "5" } as const;
/** Everybody may read, nobody write. */
const modes = { file: 0o444, symlink: 0o777, directory: 0o555 } as const;
/** Eleven octal digits. */
const largestOctalSize = 8 ** 11 - 1;
const nameBytes = 100;

/** Bytes that end an archive: two empty blocks. */
export const endOfArchive: Uint8Array = new Uint8Array(2 * tarBlockBytes);

/** Zeros behind a file's content, up to the next block. */
export function padding(sizeBytes: number): Uint8Array {
  return new Uint8Array((tarBlockBytes - (sizeBytes % tarBlockBytes)) % tarBlockBytes);
}

function block(fields: {
  readonly name: Uint8Array;
  readonly link: Uint8Array;
  readonly mode: number;
  readonly size: number;
  readonly flag: string;
}): Buffer {
  const bytes = Buffer.alloc(tarBlockBytes);
  const octal = (value: number, offset: number, digits: number): void => {
    bytes.write(`${value.toString(8).padStart(digits, "0")}\0`, offset, "latin1");
  };
  bytes.set(fields.name, 0);
  octal(fields.mode, 100, 7);
  octal(0, 108, 7); // uid
  octal(0, 116, 7); // gid
  octal(fields.size, 124, 11);
  octal(0, 136, 11); // mtime: 1970
  bytes.write(fields.flag, 156, "latin1");
  bytes.set(fields.link, 157);
  bytes.write("ustar\u000000", 257, "latin1");
  octal(0, 329, 7); // device numbers
  octal(0, 337, 7);
  bytes.fill(" ", 148, 156);
  const sum = bytes.reduce((total, byte) => total + byte, 0);
  bytes.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148, "latin1");
  return bytes;
}

/** `LENGTH KEY=VALUE\n`, whose length counts itself. */
function record(key: string, value: string): string {
  const rest = Buffer.byteLength(` ${key}=${value}\n`);
  let length = rest + 1;
  while (String(length).length + rest !== length) length += 1;
  return `${length} ${key}=${value}\n`;
}

/** Whether a ustar field holds a text: short, and ASCII, since its encoding is not defined. */
function isPlain(text: string): boolean {
  return /^[\x20-\x7e]*$/.test(text) && text.length <= nameBytes;
}

/** The header of an entry, with a PAX header before it where one is needed. */
export function entryHeader(entry: LayerEntry): Uint8Array {
  const path = entry.type === "directory" ? `${entry.path}/` : entry.path;
  const link = entry.type === "symlink" ? entry.target : "";
  const sizeBytes = entry.type === "file" ? entry.sizeBytes : 0;
  const records = [
    ...(isPlain(link) ? [] : [record("linkpath", link)]),
    ...(isPlain(path) ? [] : [record("path", path)]),
    ...(sizeBytes <= largestOctalSize ? [] : [record("size", String(sizeBytes))]),
  ];
  // Readers that know no PAX see a name that is only cut.
  const field = (text: string): Uint8Array =>
    Buffer.from(text.replaceAll(/[^\x20-\x7e]/g, "_").slice(0, nameBytes), "latin1");
  const own = block({
    name: field(path),
    link: field(link),
    mode: modes[entry.type],
    size: sizeBytes <= largestOctalSize ? sizeBytes : 0,
    flag: typeFlags[entry.type],
  });
  if (records.length === 0) return own;
  const content = Buffer.from(records.join(""), "utf8");
  return Buffer.concat([
    block({
      name: new TextEncoder().encode("pax"),
      link: Buffer.alloc(0),
      mode: 0o444,
      size: content.length,
      flag: "x",
    }),
    content,
    padding(content.length),
    own,
  ]);
}
