// Reads tar layers as a stream of entries with safe paths. Places nothing, and takes no mode, owner or time from an archive.

import { AppError } from "../oci/errors.ts";
import { decompress } from "./decompress.ts";
import { quote } from "../oci/quote.ts";
import { baseName, PlacedPaths, safePath } from "./safe-path.ts";
import { isZeroBlock, parseHeader, parsePaxRecords, tarBlockBytes, type TarHeader } from "./tar-header.ts";
import type { LayerEncoding, SafePath } from "./types.ts";

/** How much an archive may hold. */
export type TarLimits = {
  /** Headers of all kinds. */
  readonly maxEntries: number;
  /** Bytes of the archive after decompression. */
  readonly maxBytes: number;
  /** Decompressed bytes per compressed byte, looked at after `ratioFreeBytes` decompressed bytes. */
  readonly maxRatio: number;
  readonly ratioFreeBytes: number;
};

/** 100,000 entries and 16 TiB; 100:1 after 64 MiB. */
export const defaultTarLimits: TarLimits = {
  maxEntries: 100_000,
  maxBytes: 16 * 1024 ** 4,
  maxRatio: 100,
  ratioFreeBytes: 64 * 1024 ** 2,
};

/** One thing in an archive. */
export type TarEntry =
  | { readonly type: "directory"; readonly path: SafePath }
  | {
      readonly type: "file";
      readonly path: SafePath;
      readonly sizeBytes: number;
      /** Exactly `sizeBytes` bytes; to be read before the next entry is asked for, else they are skipped. */
      readonly content: AsyncIterable<Uint8Array>;
    }
  | {
      readonly type: "symlink";
      readonly path: SafePath;
      /** Relative to the link's own directory; never leaves the archive's root. */
      readonly target: string;
    };

/** Metadata (PAX records, GNU long names) above this is refused, bytes per header. */
const maxMetadataBytes = 1024 * 1024;

/**
 * Yields the entries of a tar layer in order. `source` gives the layer's bytes as they are on the wire; it is read to its
 * end, also behind the end of the archive, so that whoever hashes it sees all of it. Paths are checked by `safePath`, and
 * two entries may not share a path.
 *
 * Symbolic links are yielded only when they cannot lead out of the archive, by whatever other links: relative, `..`
 * only in front. Hard links, devices, pipes, sparse files and everything unknown are refused, not skipped.
 *
 * Throws AppError InvalidArtifact; errors of `source` as they are.
 */
export async function* tarEntries(
  source: AsyncIterable<Uint8Array>,
  encoding: Exclude<LayerEncoding, "raw">,
  limits: TarLimits = defaultTarLimits,
): AsyncGenerator<TarEntry, void, undefined> {
  const reader = new BlockReader(decompress(source, encoding, limits), limits.maxBytes);
  const placed = new PlacedPaths();
  let overrides: Overrides = {};
  try {
    for (let entries = 0; ; entries += 1) {
      const block = await reader.block("a header");
      if (block === undefined) break;
      if (isZeroBlock(block)) {
        const second = await reader.block("its end");
        if (second !== undefined && !isZeroBlock(second)) refuse("has an empty block between entries");
        break;
      }
      if (entries >= limits.maxEntries) refuse(`has more than ${limits.maxEntries} entries`);
      const header = parseHeader(block);
      if (header.kind === "pax" || header.kind === "long-name" || header.kind === "long-link") {
        if (header.sizeBytes > maxMetadataBytes)
          refuse(`has a header extension of ${header.sizeBytes} bytes; at most ${maxMetadataBytes} are read`);
        overrides = { ...overrides, ...readOverrides(header.kind, await reader.bytes(header.sizeBytes)) };
        continue;
      }
      if (header.kind === "pax-global") {
        if (header.sizeBytes > maxMetadataBytes)
          refuse(`has a header extension of ${header.sizeBytes} bytes; at most ${maxMetadataBytes} are read`);
        const global = readOverrides("pax", await reader.bytes(header.sizeBytes));
        if (Object.keys(global).length > 0) refuse("sets names or sizes for all entries at once");
        continue;
      }
      yield* entryOf(header, overrides, reader, placed);
      overrides = {};
    }
    if (Object.keys(overrides).length > 0) refuse("ends after a header extension");
    await reader.drain();
  } finally {
    await reader.close();
  }
}

/**
 * Where the files of one archive end up: in the archive's own places, or, when the layer's annotation names a file in a
 * directory and the archive holds just that file without its directory, at the annotated path (AIKit packs so).
 */
export function placeExtracted(
  files: readonly SafePath[],
  singleFilePath: SafePath | undefined,
): readonly SafePath[] {
  const only = files[0];
  if (singleFilePath === undefined || only === undefined || files.length !== 1) return files;
  return only === baseName(singleFilePath) ? [singleFilePath] : files;
}

/** What extension headers say about the entry behind them. */
type Overrides = { readonly path?: string; readonly link?: string; readonly sizeBytes?: number };

function readOverrides(kind: "pax" | "long-name" | "long-link", bytes: Uint8Array): Overrides {
  if (kind === "pax") return parsePaxRecords(bytes);
  const end = bytes.indexOf(0);
  const text = decodeName(end === -1 ? bytes : bytes.subarray(0, end));
  return kind === "long-name" ? { path: text } : { link: text };
}

async function* entryOf(
  header: TarHeader,
  overrides: Overrides,
  reader: BlockReader,
  placed: PlacedPaths,
): AsyncGenerator<TarEntry, void, undefined> {
  const name = overrides.path ?? header.name;
  const sizeBytes = overrides.sizeBytes ?? header.sizeBytes;
  if (header.kind === "directory" || (header.kind === "file" && name.endsWith("/"))) {
    if (sizeBytes !== 0) refuse(`has a directory ${quote(name)} with content`);
    // The root of the archive is the model directory, which is there already.
    if (/^\.(?:\/+\.)*\/*$/u.test(name)) return;
    const path = safePath(name);
    placed.claimDirectory(path);
    yield { type: "directory", path };
  } else if (header.kind === "file") {
    const path = safePath(name);
    placed.claimFile(path, undefined);
    yield { type: "file", path, sizeBytes, content: reader.content(sizeBytes) };
    // Reads what the consumer left, and the padding.
    await reader.skipContent();
  } else if (header.kind === "symlink") {
    if (sizeBytes !== 0) refuse(`has a link ${quote(name)} with content`);
    const path = safePath(name);
    placed.claimFile(path, undefined);
    yield { type: "symlink", path, target: safeTarget(path, overrides.link ?? header.link) };
  } else
    refuse(
      `holds ${header.description} at ${quote(name)}; only files, directories and inner symbolic links are taken`,
    );
}

/**
 * A link's target, if it stays inside whatever other links there are: with `..` only in front, where it walks the link's
 * own real directories, every later segment goes down.
 */
function safeTarget(path: SafePath, target: string): string {
  const segments = target.split("/").filter((segment) => segment !== "." && segment !== "");
  const ups = segments.findIndex((segment) => segment !== "..");
  const depth = path.split("/").length - 1;
  const down = ups === -1 ? [] : segments.slice(ups);
  if (target.startsWith("/") || ups === -1 || ups > depth || down.includes(".."))
    refuse(
      `holds a symbolic link ${quote(path)} to ${quote(target)}, which is not surely inside the model directory`,
    );
  safePath(down.join("/"));
  return segments.join("/");
}

const nameDecoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

function decodeName(bytes: Uint8Array): string {
  try {
    return nameDecoder.decode(bytes);
  } catch {
    return refuse("has a file name that is not UTF-8");
  }
}

/** Cuts the decompressed stream into headers, metadata and file contents. */
class BlockReader {
  readonly #chunks: AsyncIterator<Uint8Array>;
  readonly #maxBytes: number;
  #chunk: Uint8Array = new Uint8Array();
  #totalBytes = 0;
  #contentLeft = 0;
  #paddingLeft = 0;

  constructor(chunks: AsyncIterable<Uint8Array>, maxBytes: number) {
    this.#chunks = chunks[Symbol.asyncIterator]();
    this.#maxBytes = maxBytes;
  }

  /** The next block; undefined at the end of the stream. */
  async block(what: string): Promise<Uint8Array | undefined> {
    if (!(await this.#fill())) return undefined;
    return await this.#exactly(tarBlockBytes, what);
  }

  /** A small content as a whole, without its padding. */
  async bytes(count: number): Promise<Uint8Array> {
    const bytes = await this.#exactly(count, "a header extension");
    await this.#exactly(paddingOf(count), "a header extension");
    return bytes;
  }

  /** Starts a file's content. */
  content(sizeBytes: number): AsyncIterable<Uint8Array> {
    this.#contentLeft = sizeBytes;
    this.#paddingLeft = paddingOf(sizeBytes);
    return this.#content();
  }

  async *#content(): AsyncGenerator<Uint8Array, void, undefined> {
    while (this.#contentLeft > 0) {
      if (!(await this.#fill())) refuse("ends within a file");
      const part = this.#chunk.subarray(0, Math.min(this.#contentLeft, this.#chunk.byteLength));
      this.#chunk = this.#chunk.subarray(part.byteLength);
      this.#contentLeft -= part.byteLength;
      yield part;
    }
  }

  /** Reads the rest of a file's content and its padding. */
  async skipContent(): Promise<void> {
    while (this.#contentLeft > 0) {
      if (!(await this.#fill())) refuse("ends within a file");
      const taken = Math.min(this.#contentLeft, this.#chunk.byteLength);
      this.#chunk = this.#chunk.subarray(taken);
      this.#contentLeft -= taken;
    }
    await this.#exactly(this.#paddingLeft, "a file");
    this.#paddingLeft = 0;
  }

  /** Reads everything that is left. */
  async drain(): Promise<void> {
    do this.#chunk = new Uint8Array();
    while (await this.#fill());
  }

  async close(): Promise<void> {
    await this.#chunks.return?.(undefined);
  }

  async #exactly(count: number, what: string): Promise<Uint8Array> {
    if (count <= this.#chunk.byteLength) {
      const bytes = this.#chunk.subarray(0, count);
      this.#chunk = this.#chunk.subarray(count);
      return bytes;
    }
    const bytes = new Uint8Array(count);
    let filled = 0;
    while (filled < count) {
      if (!(await this.#fill())) refuse(`ends within ${what}`);
      const part = this.#chunk.subarray(0, Math.min(count - filled, this.#chunk.byteLength));
      bytes.set(part, filled);
      filled += part.byteLength;
      this.#chunk = this.#chunk.subarray(part.byteLength);
    }
    return bytes;
  }

  /** Has at least one byte in hand afterwards; false at the end of the stream. */
  async #fill(): Promise<boolean> {
    while (this.#chunk.byteLength === 0) {
      const next = await this.#chunks.next();
      if (next.done === true) return false;
      this.#chunk = next.value;
      this.#totalBytes += next.value.byteLength;
      if (this.#totalBytes > this.#maxBytes) refuse(`holds more than ${this.#maxBytes} bytes`);
    }
    return true;
  }
}

function paddingOf(sizeBytes: number): number {
  return (tarBlockBytes - (sizeBytes % tarBlockBytes)) % tarBlockBytes;
}

function refuse(why: string): never {
  throw new AppError("InvalidArtifact", `tar layer ${why}`);
}
