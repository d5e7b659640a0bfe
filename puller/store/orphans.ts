// Partial files as others see them: whose each is, and whether its writer still lives. By names and times of the volume alone.

import { randomBytes } from "node:crypto";
import type { Stats } from "node:fs";
import { lstat, open, readdir, rmdir, unlink } from "node:fs/promises";
import { join } from "node:path";
import { digestHex } from "../oci/digest.ts";
import type { Descriptor, Digest } from "../oci/types.ts";
import { bootIdentity } from "./journal.ts";
import { ingestDirectory, readFlags, type StoreLayout } from "./layout.ts";
import { defaultTurnTimes } from "./turn.ts";
import { volumeNowMs } from "./uses.ts";
import { callsOn } from "./volume-calls.ts";
import { hostMark, mark, startTicks } from "./writer.ts";

/** A partial of another machine that was not written to for this long has lost its writer, milliseconds. */
const foreignOrphanAgeMs = 600_000;

const namePattern = /^[0-9a-f]{16}-([0-9a-f]{8})-([0-9a-f]{8})-(\d+)-(\d+)\.part$/;

/** What marks partials of this process; the same for all of them. */
let ownMark: Promise<string> | undefined;

async function makeOwnMark(): Promise<string> {
  const ticks = (await startTicks(process.pid)) || "0";
  return `${hostMark()}-${mark(bootIdentity())}-${process.pid}-${ticks}`;
}

/** Names of partials that this process has open. */
const inWork = new Set<string>();

/** A name that nobody else has, of this process; it counts as written to until it is released. */
export async function newPartialName(): Promise<string> {
  ownMark ??= makeOwnMark();
  const name = `${randomBytes(8).toString("hex")}-${await ownMark}.part`;
  inWork.add(name);
  return name;
}

/** This process writes to a partial no more. */
export function releasePartial(name: string): void {
  inWork.delete(name);
}

/** A partial without a writer: how to take it over, which is a copy where the writer may still live elsewhere. */
export type Orphan = {
  readonly path: string;
  readonly how: "rename" | "copy";
  /** Whether the machine has gone down since it was written: what was not synced may be missing in it. */
  readonly isSameBoot: boolean;
  /** What it takes of the volume, bytes. */
  readonly allocatedBytes: number;
};

/** A partial that somebody may be writing to at this moment. */
export type Living = {
  readonly name: string;
  /** Another text after each write, as far as the volume tells of it. */
  readonly progress: string;
  /** What it takes of the volume, bytes. */
  readonly allocatedBytes: number;
  /** When it was written to last, by the volume's clock, milliseconds. */
  readonly writtenMs: number;
  /** How to take it over once it has shown no progress for long; absent for a process that is seen to live. */
  readonly abandoned?: Orphan;
};

export type FoundPartials = { readonly orphans: readonly Orphan[]; readonly living: readonly Living[] };

/** All partials of a blob, but those that this process has closed. */
export async function lookForPartials(layout: StoreLayout, digest: Digest): Promise<FoundPartials> {
  const { lstat: look, readdir: list } = callsOn(layout);
  const directory = ingestDirectory(layout, digest);
  const orphans: Orphan[] = [];
  const living: Living[] = [];
  for (const name of await list(directory).catch(() => [])) {
    const writer = await writerOf(name);
    if (writer === undefined) continue;
    const path = join(directory, name);
    // An NFS client asks the server again when a file is opened; a look at the name may be answered from what it remembers.
    const status = writer.isHere ? await look(path).catch(() => undefined) : await freshStatus(path);
    // Two links: it is a blob by now, whose other name was to go.
    if (status === undefined || !status.isFile() || status.nlink !== 1) continue;
    const { isSameBoot } = writer;
    const allocatedBytes = status.blocks * 512;
    const progress = progressOf(status);
    const writtenMs = status.mtimeMs;
    if (writer.isHere && !writer.isAlive) {
      orphans.push({ path, how: "rename", isSameBoot, allocatedBytes });
    } else if (writer.isHere) {
      living.push({ name, progress, allocatedBytes, writtenMs });
    } else {
      const abandoned: Orphan = { path, how: "copy", isSameBoot, allocatedBytes };
      if (await isOlder(layout, writtenMs, foreignOrphanAgeMs)) orphans.push(abandoned);
      else living.push({ name, progress, allocatedBytes, writtenMs, abandoned });
    }
  }
  return { orphans, living };
}

function progressOf({ size, mtimeMs, blocks }: Stats): string {
  return `${size} ${mtimeMs} ${blocks}`;
}

async function freshStatus(path: string): Promise<Stats | undefined> {
  // Not what others may have put there: opening a pipe or a device does things.
  if ((await lstat(path).catch(() => undefined))?.isFile() !== true) return undefined;
  const handle = await open(path, readFlags).catch(() => undefined);
  try {
    return await handle?.stat();
  } finally {
    await handle?.close();
  }
}

/** By the clock of the volume, which is asked, by a file, only where ours says the same: others look as often as they wait. */
async function isOlder(layout: StoreLayout, writtenMs: number, ageMs: number): Promise<boolean> {
  if (Date.now() - writtenMs <= ageMs) return false;
  try {
    return (await volumeNowMs(layout)) - writtenMs > ageMs;
  } catch {
    // A full volume takes no file to tell the time by.
    return false;
  }
}

/**
 * Bytes of these blobs that the volume has already in partials which will become them: of dead writers, to be renamed, or of others
 * that are writing. One of another machine that is not written to any more will be copied, and a copy takes its room once more.
 */
export async function startedBytes(
  layout: StoreLayout,
  blobs: readonly Pick<Descriptor, "digest" | "sizeBytes">[],
): Promise<number> {
  const begun = new Set(await readdir(layout.ingest).catch(() => []));
  let sum = 0;
  for (const { digest, sizeBytes } of blobs) {
    if (!begun.has(digestHex(digest))) continue;
    const { orphans, living } = await lookForPartials(layout, digest);
    const kept: { readonly allocatedBytes: number }[] = orphans.filter(({ how }) => how === "rename");
    for (const each of living) {
      const isLeft =
        each.abandoned !== undefined && (await isOlder(layout, each.writtenMs, defaultTurnTimes.stillMs));
      if (!isLeft) kept.push(each);
    }
    sum += Math.min(sizeBytes, Math.max(0, ...kept.map(({ allocatedBytes }) => allocatedBytes)));
  }
  return sum;
}

type Writer = {
  /** Of this machine, so that its process can be looked for. */
  readonly isHere: boolean;
  readonly isAlive: boolean;
  readonly isSameBoot: boolean;
};

/** Whose name a partial has; undefined for what is no partial, or is one that this process has closed. */
async function writerOf(name: string): Promise<Writer | undefined> {
  const [, host, boot, pid, ticks] = namePattern.exec(name) ?? [];
  if (host === undefined) return undefined;
  const isSameBoot = boot === mark(bootIdentity());
  if (host !== hostMark()) return { isHere: false, isAlive: true, isSameBoot };
  // A container that starts again has the same host name and other processes; a machine that does, none of the old ones.
  const isAlive = isSameBoot && (await startTicks(Number(pid))) === ticks;
  if (isAlive && Number(pid) === process.pid && !inWork.has(name)) return undefined;
  return { isHere: true, isAlive, isSameBoot };
}

/**
 * Removes what dead processes left of blobs that are on the volume by now, such as the other name of a blob whose writer was killed
 * before it removed that. Gives those blobs whose file was changed by it.
 */
export async function removeOrphans<T extends Pick<Descriptor, "digest">>(
  layout: StoreLayout,
  blobs: readonly T[],
): Promise<readonly T[]> {
  const begun = new Set(await readdir(layout.ingest).catch(() => []));
  const changed: T[] = [];
  for (const blob of blobs.filter(({ digest }) => begun.has(digestHex(digest)))) {
    const directory = ingestDirectory(layout, blob.digest);
    for (const name of await readdir(directory).catch(() => [])) {
      const path = join(directory, name);
      const status = await lstat(path).catch(() => undefined);
      const writer = await writerOf(name);
      if (status === undefined || writer === undefined) continue;
      if (writer.isHere ? writer.isAlive : !(await isOlder(layout, status.mtimeMs, foreignOrphanAgeMs)))
        continue;
      await unlink(path).catch(() => undefined);
      if (status.nlink > 1) changed.push(blob);
    }
    // Empty by now, unless another process is fetching the same blob.
    await rmdir(directory).catch(() => undefined);
  }
  return changed;
}
