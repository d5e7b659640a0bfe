// A partial file of one blob: one writing process each, kept when that dies, taken over by the next, published by its digest.

import { constants } from "node:fs";
import { copyFile, lstat, open, rename, rm, rmdir, unlink, type FileHandle } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { makeDirectories } from "./make-directories.ts";
import { digestAlgorithm, digestHex, Verifier } from "../oci/digest.ts";
import { AppError } from "../oci/errors.ts";
import type { Descriptor } from "../oci/types.ts";
import { PieceMap } from "../transfer/piece-map.ts";
import { believed, believedNow, makeWritable } from "./believed.ts";
import { syncDirectory } from "./durability.ts";
import { adoptJournal, createJournal, journaledBlobBytes, journalPlace, noteSynced } from "./journal.ts";
import { blobPath, ingestDirectory, type StoreLayout } from "./layout.ts";
import { inMadeDirectory } from "./made-directory.ts";
import { lookForPartials, newPartialName, releasePartial, type Orphan } from "./orphans.ts";
import { onVolume } from "./storage-error.ts";
import { callsOn, type VolumeCalls, type VolumeFile } from "./volume-calls.ts";

const { O_CREAT, O_EXCL, O_NOFOLLOW, O_RDWR } = constants;
const newFlags = O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW;

/** A file whose content was verified, by what shows a later write to it. */
export type Verified = { readonly ino: bigint; readonly mtimeNs: bigint };

export class Partial {
  readonly #layout: StoreLayout;
  readonly #descriptor: Descriptor;
  readonly #path: string;
  readonly #handle: VolumeFile;
  #map: PieceMap;
  /** Of the last sync, and the failure of one: the kernel tells it once. */
  #syncedBytes = 0;
  #syncFailure: unknown;
  #syncing: Promise<void> | undefined;

  private constructor(
    layout: StoreLayout,
    descriptor: Descriptor,
    path: string,
    handle: VolumeFile,
    map: PieceMap,
  ) {
    this.#layout = layout;
    this.#descriptor = descriptor;
    this.#path = path;
    this.#handle = handle;
    this.#map = map;
  }

  /** A fresh partial. */
  static async create(layout: StoreLayout, descriptor: Descriptor): Promise<Partial> {
    return onVolume(`making a partial file of ${descriptor.digest}`, async () => {
      const directory = ingestDirectory(layout, descriptor.digest);
      const name = await newPartialName();
      const path = join(directory, name);
      const calls = callsOn(layout);
      let partial: Partial | undefined;
      try {
        const handle = await inMadeDirectory(calls, directory, async () => calls.open(path, newFlags, 0o644));
        partial = new Partial(layout, descriptor, path, handle, new PieceMap(descriptor.sizeBytes));
        if (partial.journalOffset !== undefined) await createJournal(handle, descriptor, partial.#map);
        return partial;
      } catch (error) {
        // A full volume: what stays open keeps its room, and counts as written to.
        releasePartial(name);
        await partial?.discard();
        throw error;
      }
    });
  }

  /**
   * Takes over the partial with the most bytes whose writer is gone. What is there is hashed before it counts: of a dead writer
   * only the bytes on the volume can be believed. Where there is none: `fresh`, or one that is made.
   */
  static async adopt(
    layout: StoreLayout,
    descriptor: Descriptor,
    orphans?: readonly Orphan[],
    fresh?: Partial,
  ): Promise<Partial> {
    let best: Partial | undefined;
    for (const found of orphans ?? (await lookForPartials(layout, descriptor.digest)).orphans) {
      const partial = await Partial.#takeOver(layout, descriptor, found);
      if (partial === undefined) continue;
      const [more, less] =
        best === undefined || partial.#map.doneBytes() > best.#map.doneBytes()
          ? [partial, best]
          : [best, partial];
      await less?.discard();
      best = more;
    }
    if (best === undefined) return fresh ?? Partial.create(layout, descriptor);
    await fresh?.discard();
    return best;
  }

  /**
   * Undefined when another process was quicker, when nothing of it can be believed, or when the disk fails at it: one bad place is no
   * reason to fail every pull of a blob from here on. The file stays then: what failed may be a file server that comes back.
   */
  static async #takeOver(
    layout: StoreLayout,
    descriptor: Descriptor,
    { path, how, isSameBoot }: Orphan,
  ): Promise<Partial | undefined> {
    const own = join(dirname(path), await newPartialName());
    let handle: FileHandle | undefined;
    let taken: Partial | undefined;
    try {
      const { COPYFILE_EXCL, COPYFILE_FICLONE } = constants;
      // Its writer may go on while it is copied: what is noted after the bytes were read is not in the copy.
      const before = how === "copy" ? await believedNow(path, descriptor, isSameBoot) : undefined;
      if (how === "copy" && before === undefined) return undefined;
      try {
        // Another process may be taking it over too: only one rename succeeds.
        if (how === "rename") await rename(path, own);
        else await copyFile(path, own, COPYFILE_EXCL | COPYFILE_FICLONE);
      } catch {
        // Of a copy that failed, such as for lack of room, copyFile leaves nothing.
        return undefined;
      }
      if (!(await makeWritable(own))) {
        await unlink(own).catch(() => undefined);
        return undefined;
      }
      handle = await open(own, constants.O_RDWR | constants.O_NOFOLLOW);
      const { size } = await handle.stat();
      const map = before ?? (await believed(handle, descriptor, size, isSameBoot));
      if (map === undefined || map.doneBytes() === 0) {
        await unlink(own).catch(() => undefined);
        return undefined;
      }
      const partial = new Partial(layout, descriptor, own, handle, map);
      if (partial.journalOffset !== undefined) await adoptJournal(handle, descriptor, map);
      return (taken = partial);
    } catch {
      // Of a copy there is another one.
      if (how === "copy") await unlink(own).catch(() => undefined);
      return undefined;
    } finally {
      if (taken === undefined) {
        await handle?.close().catch(() => undefined);
        releasePartial(basename(own));
      }
    }
  }

  /** Of the file. */
  get name(): string {
    return basename(this.#path);
  }

  /** What is written, piece by piece; shared with the threads that write. */
  get map(): PieceMap {
    return this.#map;
  }

  /** Descriptor of the open file, valid until it is published, kept or discarded. */
  get descriptor(): number {
    return this.#handle.fd;
  }

  /** Where each piece's progress is to be noted; absent for small blobs, which are written in order. */
  get journalOffset(): number | undefined {
    return this.#map.sizeBytes < journaledBlobBytes ? undefined : journalPlace(this.#map).done;
  }

  /** Bytes from the beginning that are there without a gap. */
  get contiguousBytes(): number {
    return this.#map.contiguousBytes();
  }

  get doneBytes(): number {
    return this.#map.doneBytes();
  }

  /** Appends bytes behind those that are there without a gap; a short write is continued. */
  async append(chunk: Uint8Array): Promise<void> {
    const map = this.#map;
    await onVolume(`writing ${this.#descriptor.digest}`, async () => {
      let rest = chunk;
      while (rest.length > 0) {
        const piece = map.firstIncomplete();
        const done = map.done(piece);
        const part = rest.subarray(0, map.length(piece) - done);
        const { bytesWritten } = await this.#handle.write(part, 0, part.length, map.start(piece) + done);
        if (bytesWritten === 0) throw Object.assign(new Error("a write of no bytes"), { code: "EIO" });
        map.setDone(piece, done + bytesWritten);
        rest = rest.subarray(bytesWritten);
      }
    });
  }

  /** The file opened once more, to be read from whatever becomes of the partial; closed by who asked for it. */
  async openReader(): Promise<FileHandle> {
    return onVolume(`reading ${this.#descriptor.digest}`, async () =>
      open(this.#path, constants.O_RDONLY | constants.O_NOFOLLOW),
    );
  }

  /** Goes on with a map of its own, if threads were told to leave this one alone: the same bytes are there. */
  async goOn(): Promise<void> {
    if (!this.#map.isStopped) return;
    await this.#syncing;
    this.#map = this.#map.copy();
  }

  /** Reads bytes that are there. */
  async read(buffer: Buffer, position: number): Promise<number> {
    return onVolume(`reading ${this.#descriptor.digest}`, async () => {
      return (await this.#handle.read(buffer, 0, buffer.length, position)).bytesRead;
    });
  }

  /** Begins again from nothing, with a map of its own: no thread that had the old one counts any more. */
  async restart(): Promise<void> {
    this.#map.stop();
    await this.#syncing;
    this.#map = new PieceMap(this.#descriptor.sizeBytes);
    this.#syncedBytes = 0;
    await onVolume(`restarting ${this.#descriptor.digest}`, async () => {
      await this.#handle.truncate(0);
      if (this.journalOffset !== undefined) await createJournal(this.#handle, this.#descriptor, this.#map);
    });
  }

  /**
   * Brings what is written to the disk once that is `everyBytes` more than the last time, beside the writing: the last sync then
   * has little to do, and a machine that goes down costs little. Returns at once.
   */
  syncBehind(everyBytes: number): void {
    if (this.#syncing !== undefined || this.#syncFailure !== undefined) return;
    const map = this.#map;
    const bytes = map.doneBytes();
    if (bytes - this.#syncedBytes < everyBytes) return;
    this.#syncedBytes = bytes;
    const done = Array.from({ length: map.count }, (_, piece) => map.done(piece));
    const sync = async (): Promise<void> => {
      try {
        await this.#handle.datasync();
        if (this.journalOffset !== undefined) await noteSynced(this.#handle, map, done);
      } catch (error) {
        // The kernel reports a lost write once: whoever publishes must hear of it.
        this.#syncFailure = error;
      } finally {
        this.#syncing = undefined;
      }
    };
    this.#syncing = sync();
  }

  /**
   * Compares size and digest (hex, of what was written), syncs, and makes the blob visible under its digest: in this order. A
   * partial whose sync failed is lost: what the kernel dropped, a second sync would not bring back. Tells which file it was, so that
   * one that is written to from here on is not taken for it.
   */
  async publish(hex: string): Promise<Verified> {
    const { digest, sizeBytes } = this.#descriptor;
    const calls = callsOn(this.#layout);
    try {
      if (this.#map.doneBytes() !== sizeBytes || hex !== digestHex(digest)) {
        throw new AppError(
          "DigestMismatch",
          `${digest} came as bytes that hash to ${digestAlgorithm(digest)}:${hex}; the content was discarded`,
          { context: { digest, sizeBytes } },
        );
      }
      return await onVolume(`storing ${digest}`, async () => {
        await this.#syncing;
        if (this.#syncFailure !== undefined) throw this.#syncFailure as Error;
        if (this.journalOffset !== undefined) {
          // Made so long at the beginning, and nothing of ours shortens it: where it is not, bytes are missing in the middle.
          if ((await this.#handle.stat({ bigint: true })).size !== BigInt(journalPlace(this.#map).end))
            throw this.#changedByOthers();
          await this.#handle.truncate(sizeBytes);
        }
        const { size, ino, mtimeNs } = await this.#handle.stat({ bigint: true });
        if (size !== BigInt(sizeBytes)) {
          throw new AppError(
            "DigestMismatch",
            `${digest} is ${size} bytes on the volume; the content was discarded`,
          );
        }
        await this.#handle.chmod(0o444);
        await this.#handle.sync();
        if (this.journalOffset === undefined) await this.#refuseHoles();
        await this.#handle.close();
        releasePartial(this.name);
        const target = blobPath(this.#layout, digest);
        await placeBlob(this.#layout, this.#path, target, this.#descriptor);
        // Small blobs are many: their directory is synced once for all of them, before a model is made of them.
        if (sizeBytes >= journaledBlobBytes) await syncDirectory(dirname(target));
        // Empty by now, unless another process is fetching the same blob.
        await calls.rmdir(dirname(this.#path)).catch(() => undefined);
        return { ino, mtimeNs };
      });
    } catch (error) {
      await this.discard();
      throw error;
    }
  }

  /**
   * A file that has fewer blocks than bytes was cut by somebody else and written on behind the cut, or lies on a file system that
   * compresses: only reading it tells.
   */
  async #refuseHoles(): Promise<void> {
    const { size, blocks } = await this.#handle.stat({ bigint: true });
    if (blocks * 512n >= size) return;
    const verifier = new Verifier(this.#descriptor);
    const buffer = Buffer.allocUnsafe(1024 * 1024);
    try {
      while (verifier.bytes < size) {
        const { bytesRead } = await this.#handle.read(buffer, 0, buffer.length, verifier.bytes);
        if (bytesRead === 0) break;
        verifier.update(buffer.subarray(0, bytesRead));
      }
      verifier.finish();
    } catch (error) {
      throw error instanceof AppError ? this.#changedByOthers() : error;
    }
  }

  #changedByOthers(): AppError {
    const { digest } = this.#descriptor;
    return new AppError(
      "StorageFailed",
      `${digest} was changed on the volume by somebody else while it was written; it is fetched again`,
      { context: { digest } },
    );
  }

  /** Closes and keeps what is there for the next run; synced, so that the machine may go down. */
  async keep(): Promise<void> {
    this.#map.stop();
    await this.#syncing;
    await this.#handle.sync().catch(() => undefined);
    await this.#handle.close().catch(() => undefined);
    releasePartial(this.name);
  }

  /** Closes and removes it. */
  async discard(): Promise<void> {
    this.#map.stop();
    await this.#syncing;
    await this.#handle.close().catch(() => undefined);
    releasePartial(this.name);
    await unlink(this.#path).catch(() => undefined);
    await rmdir(dirname(this.#path)).catch(() => undefined);
  }
}

/** Gives the checked file its final name. What is there already is kept if it is whole, replaced if it is damaged. */
async function placeBlob(
  layout: StoreLayout,
  path: string,
  target: string,
  descriptor: Descriptor,
): Promise<void> {
  const calls = callsOn(layout);
  try {
    await linkInto(calls, path, target);
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code === "EEXIST" && (await isWholeBlob(layout, target, descriptor.sizeBytes))) {
      await unlink(path);
      return;
    }
    // Damaged, or a file system without links: rename replaces in one step whatever is no directory.
    await makeDirectories(dirname(target));
    if ((await lstat(target).catch(() => undefined))?.isDirectory() === true)
      await rm(target, { recursive: true, force: true });
    await rename(path, target);
    return;
  }
  await calls.unlink(path);
}

/** Links into a directory that the first blob of a kind has to make. */
async function linkInto({ link, mkdir: make }: VolumeCalls, path: string, target: string): Promise<void> {
  try {
    await link(path, target);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
    await make(dirname(target));
    await link(path, target);
  }
}

/** Whether a blob is there as this store puts it there: a regular file of the right size. Its bytes were checked before. */
export async function isWholeBlob(layout: StoreLayout, path: string, sizeBytes: number): Promise<boolean> {
  const status = await callsOn(layout)
    .lstat(path)
    .catch(() => undefined);
  return status !== undefined && status.isFile() && status.size === sizeBytes;
}
