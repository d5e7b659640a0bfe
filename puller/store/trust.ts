// Whether a file that is on the volume already still has the bytes that were verified: without reading it, if nothing has
// touched it since; else by reading it. What others may have changed is never used unread.

import { randomBytes } from "node:crypto";
import { constants, type BigIntStats } from "node:fs";
import { lstat, mkdir, open, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { digestHex, Verifier } from "../oci/digest.ts";
import { AppError } from "../oci/errors.ts";
import type { Descriptor } from "../oci/types.ts";
import { blobPath, readFlags, type StoreLayout } from "./layout.ts";

/** What a file has to hold. */
export type Content = Pick<Descriptor, "digest" | "sizeBytes">;

const writableByAnybody = 0o222n;

/** Where the stamp of a file is: a copy of the same content is another file. */
function stampFile(layout: StoreLayout, { digest }: Content, { ino }: BigIntStats): string {
  return join(layout.stamps, `${digestHex(digest)}-${ino}`);
}

/** Changes with every write to a file, to its mode, owner or links, and cannot be set back: the kernel sets ctime. */
function stampOf({ dev: _dev, ino, size, mtimeNs, ctimeNs, mode, uid }: BigIntStats): string {
  return [ino, size, mtimeNs, ctimeNs, mode, uid].join(" ");
}

async function statOf(path: string): Promise<BigIntStats | undefined> {
  return lstat(path, { bigint: true }).catch(() => undefined);
}

/** Whether a file is one that only this user can have written, and that nobody may write to any more. */
function isOurs({ hasModes, ownerId }: StoreLayout, { mode, uid }: BigIntStats): boolean {
  if (hasModes && (mode & writableByAnybody) !== 0n) return false;
  return ownerId === undefined || uid === ownerId;
}

/** Notes that a file has the content of its digest: right after it was verified, or linked once more. */
export async function stamp(layout: StoreLayout, path: string, descriptor: Content): Promise<void> {
  const status = await statOf(path);
  // What somebody else put there meanwhile was never verified.
  if (status?.isFile() !== true || !isOurs(layout, status)) return;
  try {
    await mkdir(layout.stamps, { recursive: true });
    const file = stampFile(layout, descriptor, status);
    const draft = `${file}.${randomBytes(6).toString("hex")}`;
    await writeFile(draft, stampOf(status), { flag: "wx" });
    await rename(draft, file);
  } catch {
    // Without a stamp the file is read again next time.
  }
}

/** Whether the stamp of a file says that nothing has touched it since it was verified. */
export async function isStamped(layout: StoreLayout, path: string, descriptor: Content): Promise<boolean> {
  const status = await statOf(path);
  if (status?.isFile() !== true) return false;
  try {
    return (
      (await readFile(stampFile(layout, descriptor, status), { encoding: "utf8", flag: readFlags })) ===
      stampOf(status)
    );
  } catch {
    return false;
  }
}

/** Whether a file is exactly what its descriptor says, by reading it. Follows no link and waits for no pipe. */
export async function hasContent(path: string, descriptor: Content, signal: AbortSignal): Promise<boolean> {
  const { O_RDONLY, O_NOFOLLOW, O_NONBLOCK } = constants;
  const handle = await open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK).catch(
    (error: NodeJS.ErrnoException) => {
      // Taken away or replaced by a link at this moment.
      if (error.code === "ENOENT" || error.code === "ELOOP") return undefined;
      throw error;
    },
  );
  if (handle === undefined) return false;
  try {
    if (!(await handle.stat()).isFile()) return false;
    const verifier = new Verifier(descriptor);
    const buffer = Buffer.allocUnsafe(1024 * 1024);
    for (;;) {
      signal.throwIfAborted();
      const { bytesRead } = await handle.read(buffer, 0, buffer.length, verifier.bytes);
      if (bytesRead === 0) break;
      verifier.update(buffer.subarray(0, bytesRead));
    }
    verifier.finish();
    return true;
  } catch (error) {
    if (error instanceof AppError) return false;
    throw error;
  } finally {
    await handle.close();
  }
}

/**
 * Whether the file can be used as it is: a regular file of our own that nobody may write to, of the right size, and either
 * untouched since it was verified or, when it was touched, with the right bytes still.
 */
export async function isTrusted(
  layout: StoreLayout,
  path: string,
  content: Content,
  signal: AbortSignal,
): Promise<boolean> {
  const status = await statOf(path);
  return status !== undefined && (await isGood(layout, path, status, content, signal));
}

async function isGood(
  layout: StoreLayout,
  path: string,
  status: BigIntStats,
  content: Content,
  signal: AbortSignal,
): Promise<boolean> {
  if (!status.isFile() || status.size !== BigInt(content.sizeBytes)) return false;
  // Nobody here can have changed it, and there is nowhere to note anything.
  if (layout.isReadOnly) return true;
  if (!isOurs(layout, status)) return false;
  if (await isStamped(layout, path, content)) return true;
  if (!(await hasContent(path, content, signal))) return false;
  await stamp(layout, path, content);
  return true;
}

/**
 * Whether a blob is on the volume and can be used. One that cannot is taken out of the way, whatever it is, so that the right one
 * can take its place.
 */
export async function hasTrustedBlob(
  layout: StoreLayout,
  content: Content,
  signal: AbortSignal,
): Promise<boolean> {
  const path = blobPath(layout, content.digest);
  const status = await statOf(path);
  if (status === undefined) return false;
  if (await isGood(layout, path, status, content, signal)) return true;
  if (!layout.isReadOnly) await takeAway(layout, path, status);
  return false;
}

/**
 * Moves what was judged out of the way in one step, then deletes it. Another puller may have put the right blob there since:
 * that one goes back.
 */
async function takeAway(layout: StoreLayout, path: string, judged: BigIntStats): Promise<void> {
  const aside = join(layout.staging, `${randomBytes(8).toString("hex")}.gone`);
  try {
    await rename(path, aside);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return;
    throw error;
  }
  const moved = await statOf(aside);
  if (moved?.ino !== judged.ino) await rename(aside, path).catch(() => undefined);
  await rm(aside, { recursive: true, force: true });
}
