// A partial file of one blob: one writer each, checked as it is written, kept when the writer dies, taken over by hash.

import { createHash, randomBytes } from "node:crypto";
import { constants } from "node:fs";
import {
  copyFile,
  link,
  lstat,
  mkdir,
  open,
  readFile,
  readdir,
  rename,
  rm,
  unlink,
  type FileHandle,
} from "node:fs/promises";
import { hostname } from "node:os";
import { dirname, join } from "node:path";
import { Verifier } from "../oci/digest.ts";
import { AppError } from "../oci/errors.ts";
import type { Descriptor } from "../oci/types.ts";
import { syncDirectory } from "./durability.ts";
import { blobPath, ingestDirectory, type StoreLayout } from "./layout.ts";
import { onVolume } from "./storage-error.ts";

/** A partial of another machine that was not written to for this long has lost its writer, milliseconds. */
const foreignOrphanAgeMs = 600_000;

const namePattern = /^[0-9a-f]{16}-([0-9a-f]{8})-(\d+)-(\d+)\.part$/;

/** Start time of a process in clock ticks; with the pid it names a process for good. Empty when it is gone. */
async function startTicks(pid: number): Promise<string> {
  try {
    const text = await readFile(`/proc/${pid}/stat`, "utf8");
    return text.slice(text.lastIndexOf(")") + 2).split(" ")[19] ?? "";
  } catch {
    return "";
  }
}

function hostMark(): string {
  return createHash("sha256").update(hostname()).digest("hex").slice(0, 8);
}

async function newName(): Promise<string> {
  const ticks = (await startTicks(process.pid)) || "0";
  return `${randomBytes(8).toString("hex")}-${hostMark()}-${process.pid}-${ticks}.part`;
}

/** How a partial without a writer may be taken over: as it is, or, where a writer may still live elsewhere, as a copy. */
async function orphanage(path: string, name: string): Promise<"rename" | "copy" | undefined> {
  const match = namePattern.exec(name);
  if (match === null) return undefined;
  const status = await lstat(path).catch(() => undefined);
  if (status === undefined || !status.isFile() || status.nlink !== 1) return undefined;
  const [, host, pid, ticks] = match;
  if (host === hostMark()) {
    const isMine = Number(pid) === process.pid && ticks === (await startTicks(process.pid));
    if (isMine) return undefined;
    // A container that starts again has the same host name and other processes.
    return (await startTicks(Number(pid))) === ticks ? undefined : "rename";
  }
  return Date.now() - status.mtimeMs > foreignOrphanAgeMs ? "copy" : undefined;
}

export class Partial {
  readonly #layout: StoreLayout;
  readonly #descriptor: Descriptor;
  readonly #path: string;
  #handle: FileHandle;
  #verifier: Verifier;

  private constructor(
    layout: StoreLayout,
    descriptor: Descriptor,
    path: string,
    handle: FileHandle,
    verifier: Verifier,
  ) {
    this.#layout = layout;
    this.#descriptor = descriptor;
    this.#path = path;
    this.#handle = handle;
    this.#verifier = verifier;
  }

  /** A fresh partial. */
  static async create(layout: StoreLayout, descriptor: Descriptor): Promise<Partial> {
    return onVolume(`making a partial file of ${descriptor.digest}`, async () => {
      const directory = ingestDirectory(layout, descriptor.digest);
      await mkdir(directory, { recursive: true });
      const path = join(directory, await newName());
      const { O_CREAT, O_EXCL, O_NOFOLLOW, O_RDWR } = constants;
      const handle = await open(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0o644);
      return new Partial(layout, descriptor, path, handle, new Verifier(descriptor));
    });
  }

  /**
   * Takes over the longest partial whose writer is gone, or makes a fresh one. What is there is read and hashed: of a dead
   * writer only the bytes on disk can be believed.
   */
  static async adopt(layout: StoreLayout, descriptor: Descriptor, signal: AbortSignal): Promise<Partial> {
    const directory = ingestDirectory(layout, descriptor.digest);
    const names = await readdir(directory).catch(() => []);
    const found: { readonly path: string; readonly how: "rename" | "copy"; readonly size: number }[] = [];
    for (const name of names) {
      const path = join(directory, name);
      const how = await orphanage(path, name);
      if (how === undefined) continue;
      const { size } = await lstat(path);
      found.push({ path, how, size });
    }
    found.sort((one, other) => other.size - one.size);
    for (const { path, how, size } of found) {
      if (size === 0 || size > descriptor.sizeBytes) {
        await unlink(path).catch(() => undefined);
        continue;
      }
      const partial = await Partial.#takeOver(layout, descriptor, path, how, signal);
      if (partial !== undefined) return partial;
    }
    return Partial.create(layout, descriptor);
  }

  static async #takeOver(
    layout: StoreLayout,
    descriptor: Descriptor,
    path: string,
    how: "rename" | "copy",
    signal: AbortSignal,
  ): Promise<Partial | undefined> {
    const own = join(dirname(path), await newName());
    try {
      // Another process may be taking it over too: only one rename succeeds.
      if (how === "rename") await rename(path, own);
      else await copyFile(path, own, constants.COPYFILE_EXCL);
    } catch {
      return undefined;
    }
    return onVolume(`reading a partial file of ${descriptor.digest}`, async () => {
      const handle = await open(own, constants.O_RDWR | constants.O_NOFOLLOW);
      const verifier = new Verifier(descriptor);
      const buffer = Buffer.allocUnsafe(1024 * 1024);
      for (;;) {
        signal.throwIfAborted();
        const { bytesRead } = await handle.read(buffer, 0, buffer.length, verifier.bytes);
        if (bytesRead === 0) break;
        verifier.update(buffer.subarray(0, bytesRead));
      }
      return new Partial(layout, descriptor, own, handle, verifier);
    });
  }

  /** Bytes that are written and hashed. */
  get bytes(): number {
    return this.#verifier.bytes;
  }

  /** Appends bytes; every byte handed over is written before it counts, a short write is continued. */
  async append(chunk: Uint8Array): Promise<void> {
    const position = this.#verifier.bytes;
    // Before the write: it refuses the first byte too many.
    this.#verifier.update(chunk);
    await onVolume(`writing ${this.#descriptor.digest}`, async () => {
      let written = 0;
      while (written < chunk.length) {
        const { bytesWritten } = await this.#handle.write(
          chunk,
          written,
          chunk.length - written,
          position + written,
        );
        if (bytesWritten === 0) throw Object.assign(new Error("a write of no bytes"), { code: "EIO" });
        written += bytesWritten;
      }
    });
  }

  /** Begins again from nothing. */
  async restart(): Promise<void> {
    await onVolume(`restarting ${this.#descriptor.digest}`, async () => {
      await this.#handle.truncate(0);
    });
    this.#verifier = new Verifier(this.#descriptor);
  }

  /**
   * Checks size and digest, syncs, and makes the blob visible under its digest: in this order. A partial whose sync failed is
   * lost: what the kernel dropped, a second sync would not bring back.
   */
  async publish(): Promise<void> {
    const { digest } = this.#descriptor;
    try {
      this.#verifier.finish();
      await onVolume(`storing ${digest}`, async () => {
        const { size } = await this.#handle.stat();
        if (size !== this.#descriptor.sizeBytes) {
          throw new AppError(
            "DigestMismatch",
            `${digest} is ${size} bytes on the volume; the content was discarded`,
          );
        }
        await this.#handle.chmod(0o444);
        await this.#handle.sync();
        await this.#handle.close();
        const target = blobPath(this.#layout, digest);
        await mkdir(dirname(target), { recursive: true });
        await placeBlob(this.#path, target, this.#descriptor);
        await syncDirectory(dirname(target));
        // Empty by now, unless another process is fetching the same blob.
        await rm(dirname(this.#path), { recursive: false }).catch(() => undefined);
      });
    } catch (error) {
      await this.discard();
      throw error;
    }
  }

  /** Closes and keeps what is there for the next run; synced, so that the machine may go down. */
  async keep(): Promise<void> {
    await this.#handle.sync().catch(() => undefined);
    await this.#handle.close().catch(() => undefined);
  }

  /** Closes and removes it. */
  async discard(): Promise<void> {
    await this.#handle.close().catch(() => undefined);
    await unlink(this.#path).catch(() => undefined);
  }
}

/** Gives the checked file its final name. What is there already is kept if it is whole, replaced if it is damaged. */
async function placeBlob(path: string, target: string, descriptor: Descriptor): Promise<void> {
  try {
    await link(path, target);
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code === "EEXIST" && (await isWholeBlob(target, descriptor.sizeBytes))) {
      await unlink(path);
      return;
    }
    // Damaged, or a file system without links: rename replaces in one step.
    await rm(target, { recursive: true, force: true });
    await rename(path, target);
    return;
  }
  await unlink(path);
}

/** Whether a blob is there as this store puts it there: a regular file of the right size. Its bytes were checked before. */
export async function isWholeBlob(path: string, sizeBytes: number): Promise<boolean> {
  const status = await lstat(path).catch(() => undefined);
  return status !== undefined && status.isFile() && status.size === sizeBytes;
}
