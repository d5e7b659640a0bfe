// What of a partial file may be believed by the next run: noted in the file itself, behind the blob's bytes, so that one rename
// takes both over. Lanes note each piece's progress as they write; what was synced is noted apart, for a machine that went down.

import { readFileSync } from "node:fs";
import * as z from "zod";
import { PieceMap } from "../transfer/piece-map.ts";
import { tuning } from "../transfer/tuning.ts";
import { writeWhole } from "./durability.ts";
import type { Descriptor } from "../oci/types.ts";
import type { VolumeFile } from "./volume-calls.ts";

const blockBytes = 4096;

/** Blobs from this size on have a journal, bytes; smaller ones are written in order and believed by their length. */
export const { journaledBlobBytes } = tuning;

const schema = z.strictObject({
  v: z.literal(1),
  digest: z.string(),
  sizeBytes: z.int().min(0),
  pieceBytes: z
    .int()
    .min(4096)
    .max(2 ** 30),
  /** The run of the machine in which it was written. */
  boot: z.string(),
});

const roundUp = (bytes: number): number => Math.ceil(bytes / blockBytes) * blockBytes;

/** Where the parts of a journal are in the file. */
export type JournalPlace = {
  readonly head: number;
  /** One Int32 (little endian) per piece: bytes written of it. */
  readonly done: number;
  /** The same, as of the last sync that ended well. */
  readonly synced: number;
  readonly end: number;
};

export function journalPlace(map: Pick<PieceMap, "sizeBytes" | "count">): JournalPlace {
  const head = roundUp(map.sizeBytes);
  const table = roundUp(4 * map.count);
  return {
    head,
    done: head + blockBytes,
    synced: head + blockBytes + table,
    end: head + blockBytes + 2 * table,
  };
}

/** Identifies this run of the machine: what the page cache holds is lost with it. Empty where the kernel does not tell. */
export function bootIdentity(): string {
  try {
    return readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();
  } catch {
    return "";
  }
}

/** Makes an empty journal. Nothing of the blob may be written before. */
export async function createJournal(
  handle: VolumeFile,
  descriptor: Descriptor,
  map: PieceMap,
): Promise<void> {
  const { head, end } = journalPlace(map);
  const text = JSON.stringify({
    v: 1,
    digest: descriptor.digest,
    sizeBytes: map.sizeBytes,
    pieceBytes: map.pieceBytes,
    boot: bootIdentity(),
  });
  const block = Buffer.alloc(blockBytes);
  block.write(text, "utf8");
  await handle.truncate(end);
  await writeWhole(handle, block, head);
}

/** Notes what was synced: `done` as it was before a sync that has ended well. */
export async function noteSynced(handle: VolumeFile, map: PieceMap, done: readonly number[]): Promise<void> {
  const table = Buffer.alloc(4 * map.count);
  for (const [piece, bytes] of done.entries()) table.writeInt32LE(bytes, piece * 4);
  await writeWhole(handle, table, journalPlace(map).synced);
}

/** Takes over a journal of this run of the machine as its own; `done` becomes what is believed. */
export async function adoptJournal(handle: VolumeFile, descriptor: Descriptor, map: PieceMap): Promise<void> {
  const table = Buffer.alloc(4 * map.count);
  for (let piece = 0; piece < map.count; piece += 1) table.writeInt32LE(map.done(piece), piece * 4);
  // Before the head, which makes it one of this run of the machine: killed in between, what was written before a crash would count.
  await writeWhole(handle, table, journalPlace(map).done);
  await createJournal(handle, descriptor, map);
}

/**
 * What a journal says is there. `isSameBoot`: the machine has not gone down since, so that everything written can be believed;
 * else only what was synced. Undefined: there is no journal of this blob. Whatever it says, the digest is the judge.
 */
export async function readJournal(handle: VolumeFile, descriptor: Descriptor): Promise<PieceMap | undefined> {
  const head = roundUp(descriptor.sizeBytes);
  const block = Buffer.alloc(blockBytes);
  await handle.read(block, 0, blockBytes, head);
  let parsed: z.infer<typeof schema>;
  try {
    const zero = block.indexOf(0);
    parsed = schema.parse(JSON.parse(block.toString("utf8", 0, zero === -1 ? blockBytes : zero)));
  } catch {
    return undefined;
  }
  const { digest, sizeBytes, pieceBytes, boot } = parsed;
  if (digest !== descriptor.digest || sizeBytes !== descriptor.sizeBytes) return undefined;
  const map = new PieceMap(sizeBytes, pieceBytes);
  const place = journalPlace(map);
  const isSameBoot = boot !== "" && boot === bootIdentity();
  const table = Buffer.alloc(4 * map.count);
  const { bytesRead } = await handle.read(table, 0, table.length, isSameBoot ? place.done : place.synced);
  if (bytesRead !== table.length) return undefined;
  for (let piece = 0; piece < map.count; piece += 1) {
    const bytes = table.readInt32LE(piece * 4);
    if (bytes < 0 || bytes > map.length(piece)) return undefined;
    map.setDone(piece, bytes);
  }
  return map;
}
