// Builds tar archives byte by byte, for archives that no writer would make.

/** Fields of a ustar header; everything else is zero. */
export type HeaderFields = {
  readonly name: string | Uint8Array;
  readonly size?: number;
  readonly rawSize?: Uint8Array;
  readonly type?: string;
  readonly link?: string;
};

export const endOfArchive = Buffer.alloc(1024);

/** A header block with a right checksum. */
export function header(fields: HeaderFields): Buffer {
  const block = Buffer.alloc(512);
  block.set(Buffer.from(fields.name as string), 0);
  block.write("0000644\0", 100);
  block.write(`${(fields.size ?? 0).toString(8).padStart(11, "0")}\0`, 124);
  if (fields.rawSize !== undefined) block.set(fields.rawSize, 124);
  block.write(fields.type ?? "0", 156);
  block.write(fields.link ?? "", 157);
  block.write("ustar\u000000", 257);
  block.fill(" ", 148, 156);
  const sum = block.reduce((total, byte) => total + byte, 0);
  block.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148);
  return block;
}

/** A PAX header with one record. */
export function paxHeader(key: string, value: string, type = "x"): Buffer {
  const rest = ` ${key}=${value}\n`;
  let length = rest.length + 1;
  while (`${length}${rest}`.length !== length) length += 1;
  const record = Buffer.from(`${length}${rest}`);
  return Buffer.concat([header({ name: "pax", type, size: record.length }), padded(record)]);
}

/** An archive of the given blocks, then files, then its end. */
export function archive(
  files: readonly (readonly [string | Uint8Array, string | Uint8Array])[],
  ...blocks: readonly Uint8Array[]
): Buffer {
  const parts = files.flatMap(([name, text]) => {
    const content = Buffer.from(text as string);
    return [header({ name, size: content.length }), padded(content)];
  });
  return Buffer.concat([...blocks, ...parts, endOfArchive]);
}

function padded(content: Uint8Array): Buffer {
  return Buffer.concat([content, Buffer.alloc((512 - (content.length % 512)) % 512)]);
}
