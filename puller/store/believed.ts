// What of a partial file that another process wrote counts: by its journal, or by its length. The digest judges it in the end.

import { open, type FileHandle } from "node:fs/promises";
import type { Descriptor } from "../oci/types.ts";
import { PieceMap } from "../transfer/piece-map.ts";
import { journaledBlobBytes, readJournal } from "./journal.ts";
import { readFlags } from "./layout.ts";

/** It may have lost its writer just before it was to be published, when it was made read-only. False: a link was put there, which is not followed. */
export async function makeWritable(path: string): Promise<boolean> {
  const handle = await open(path, readFlags).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ELOOP") return undefined;
    throw error;
  });
  if (handle === undefined) return false;
  try {
    await handle.chmod(0o644);
    return true;
  } finally {
    await handle.close();
  }
}

/** What may be believed of a partial that somebody may be writing to, at this moment. */
export async function believedNow(
  path: string,
  descriptor: Descriptor,
  isSameBoot: boolean,
): Promise<PieceMap | undefined> {
  const handle = await open(path, readFlags).catch(() => undefined);
  try {
    if (handle === undefined) return undefined;
    return await believed(handle, descriptor, (await handle.stat()).size, isSameBoot);
  } catch {
    return undefined;
  } finally {
    await handle?.close();
  }
}

/** What of a partial may be believed. Without a journal: its length, on a machine that has not gone down since. */
export async function believed(
  handle: FileHandle,
  descriptor: Descriptor,
  size: number,
  isSameBoot: boolean,
): Promise<PieceMap | undefined> {
  // Exactly its size: the journal was cut off to publish it, after everything was written and had the right digest.
  const isWhole = size === descriptor.sizeBytes;
  if (descriptor.sizeBytes >= journaledBlobBytes && !isWhole) return readJournal(handle, descriptor);
  if (!isSameBoot || size > descriptor.sizeBytes) return undefined;
  const map = new PieceMap(descriptor.sizeBytes);
  for (let piece = 0; piece < map.count; piece += 1) {
    map.setDone(piece, Math.max(0, Math.min(map.length(piece), size - map.start(piece))));
  }
  return map;
}
