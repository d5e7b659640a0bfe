// Reads the front of one file of an artifact where it lies in the registry: by ranges in a raw layer, by streaming the
// front of an archive. What it gives is not verified: a digest covers a whole layer, which only a pull reads.

import { AppError } from "../oci/errors.ts";
import { withRetries, type RetryPolicy } from "../oci/retry.ts";
import type { Descriptor, Reference, Registry } from "../oci/types.ts";
import { entriesOf } from "./archive-entries.ts";
import type { ReadRange } from "./file-window.ts";
import type { ArtifactLayer, SafePath } from "./types.ts";

/** Where files are read from. */
export type RemoteLayers = {
  readonly registry: Registry;
  readonly reference: Reference;
  readonly signal: AbortSignal;
  /** For every range and archive: the registry retries only what it reads as a whole. */
  readonly retryPolicy: RetryPolicy;
};

/** How much of an archive is searched for a file, bytes as they are on the wire. */
export const maxArchiveSearchBytes = 64 * 1024 * 1024;

/** Byte ranges of a raw layer. A server that ignores ranges is read from the front, up to the range's end. */
export function rangesOfLayer(remote: RemoteLayers, descriptor: Descriptor): ReadRange {
  const readOnce = async (offset: number, endExclusive: number): Promise<Uint8Array> => {
    const stream = await remote.registry.open(
      remote.reference,
      descriptor,
      { offset, endExclusive },
      remote.signal,
    );
    return await takeRange(stream.body, offset - stream.offset, endExclusive - offset);
  };
  return async (offset, lengthBytes) => {
    const endExclusive = Math.min(offset + lengthBytes, descriptor.sizeBytes);
    if (endExclusive <= offset) return new Uint8Array();
    return await retrying(remote, async () => {
      const bytes = await readOnce(offset, endExclusive);
      if (bytes.byteLength === endExclusive - offset) return bytes;
      throw new AppError(
        "TransferStalled",
        `${remote.reference.registry} sent ${bytes.byteLength} of ${endExclusive - offset} bytes of ${descriptor.digest}`,
      );
    });
  };
}

async function retrying<Result>(remote: RemoteLayers, work: () => Promise<Result>): Promise<Result> {
  return await withRetries(work, { policy: remote.retryPolicy, signal: remote.signal });
}

async function takeRange(
  body: AsyncIterable<Uint8Array>,
  skipBytes: number,
  takeBytes: number,
): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  let left = takeBytes;
  let skip = skipBytes;
  for await (const chunk of body) {
    const part = chunk.subarray(Math.min(skip, chunk.byteLength)).subarray(0, left);
    skip -= Math.min(skip, chunk.byteLength);
    left -= part.byteLength;
    if (part.byteLength > 0) parts.push(part);
    // Leaving the loop closes the body.
    if (left === 0) break;
  }
  return Buffer.concat(parts);
}

/** What is given to the reader of a file inside an archive. */
export type ArchivedFile = {
  readonly path: SafePath;
  readonly sizeBytes: number;
  readonly readRange: ReadRange;
};

/**
 * Finds the first file of an archive that `matches` and hands it to `use`, whose reads must go forward. Undefined where
 * there is none within the first `maxArchiveSearchBytes` bytes of the layer.
 */
export async function withArchivedFile<Result>(
  remote: RemoteLayers,
  layer: ArtifactLayer,
  matches: (path: SafePath) => boolean,
  use: (file: ArchivedFile) => Promise<Result>,
): Promise<Result | undefined> {
  return await retrying(remote, async () => await searchArchive(remote, layer, matches, use));
}

async function searchArchive<Result>(
  remote: RemoteLayers,
  { descriptor, encoding, root }: ArtifactLayer,
  matches: (path: SafePath) => boolean,
  use: (file: ArchivedFile) => Promise<Result>,
): Promise<Result | undefined> {
  if (encoding === "raw") throw new TypeError("raw layers hold no other file");
  const layer = { encoding, ...(root === undefined ? {} : { root }) };
  if (descriptor.sizeBytes === 0) return undefined;
  const endExclusive = Math.min(descriptor.sizeBytes, maxArchiveSearchBytes);
  const range = { offset: 0, endExclusive };
  const stream = await remote.registry.open(remote.reference, descriptor, range, remote.signal);
  let isFound = false;
  try {
    for await (const entry of entriesOf(front(stream.body, endExclusive), layer)) {
      if (entry.type !== "file" || !matches(entry.path)) continue;
      isFound = true;
      const { path, sizeBytes, content } = entry;
      return await use({ path, sizeBytes, readRange: forwardRanges(content) });
    }
  } catch (error) {
    // The cut itself looks like a broken archive; everything before it was looked at.
    const isCut = endExclusive < descriptor.sizeBytes;
    if (isFound || !isCut || !(error instanceof AppError) || error.code !== "InvalidArtifact") throw error;
  }
  return undefined;
}

/** At most the first bytes, whatever the server sends. */
async function* front(
  body: AsyncIterable<Uint8Array>,
  mostBytes: number,
): AsyncGenerator<Uint8Array, void, undefined> {
  let left = mostBytes;
  for await (const chunk of body) {
    yield chunk.subarray(0, left);
    left -= chunk.byteLength;
    if (left <= 0) return;
  }
}

/** Ranges over a stream; each must begin at or behind the end of the one before. */
function forwardRanges(content: AsyncIterable<Uint8Array>): ReadRange {
  const chunks = content[Symbol.asyncIterator]();
  let position = 0;
  let rest: Uint8Array = new Uint8Array();
  const fill = async (): Promise<boolean> => {
    while (rest.byteLength === 0) {
      const next = await chunks.next();
      if (next.done === true) return false;
      rest = next.value;
    }
    return true;
  };
  return async (offset, lengthBytes) => {
    const parts: Uint8Array[] = [];
    const end = offset + lengthBytes;
    while (position < end && (await fill())) {
      const isSkipped = position < offset;
      const part = rest.subarray(0, (isSkipped ? offset : end) - position);
      // Copied: the chunk belongs to the decompressor.
      if (!isSkipped) parts.push(Uint8Array.from(part));
      position += part.byteLength;
      rest = rest.subarray(part.byteLength);
    }
    return Buffer.concat(parts);
  };
}
