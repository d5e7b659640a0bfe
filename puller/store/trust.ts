// Whether a file that is on the volume already still has the bytes that were verified: without reading it, if nothing has
// touched it since; else by reading it. What others may have changed is never used unread.

import { randomBytes } from "node:crypto";
import { constants, type BigIntStats } from "node:fs";
import { open, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { eachOf } from "../each-of.ts";
import { digestHex, Verifier } from "../oci/digest.ts";
import { AppError } from "../oci/errors.ts";
import type { Descriptor } from "../oci/types.ts";
import { blobPath, type StoreLayout } from "./layout.ts";
import type { Verified } from "./partial.ts";
import { callsOn } from "./volume-calls.ts";

/** What a file has to hold. */
export type Content = Pick<Descriptor, "digest" | "sizeBytes">;

/** Six numbers of at most twenty digits are shorter. */
const mostStampBytes = 256;
const writableByAnybody = 0o222n;

const stampsAtOnce = 4;

/** While a file is read, it is looked at again so often. */
const bytesBetweenAsking = 16 * 1024 * 1024;

/** Where the stamp of a file is: a copy of the same content is another file. */
function stampFile(layout: StoreLayout, { digest }: Content, { ino }: BigIntStats): string {
  return join(layout.stamps, `${digestHex(digest)}-${ino}`);
}

/** Changes with every write to a file, to its mode, owner or links, and cannot be set back: the kernel sets ctime. */
function stampOf({ dev: _dev, ino, size, mtimeNs, ctimeNs, mode, uid }: BigIntStats): string {
  return [ino, size, mtimeNs, ctimeNs, mode, uid].join(" ");
}

async function statOf(layout: StoreLayout, path: string): Promise<BigIntStats | undefined> {
  return callsOn(layout)
    .lstatExactly(path)
    .catch(() => undefined);
}

/** Whether a file is one that only this user can have written, and that nobody may write to any more. */
function isOurs({ hasModes, ownerId }: StoreLayout, { mode, uid }: BigIntStats): boolean {
  if (hasModes && (mode & writableByAnybody) !== 0n) return false;
  return ownerId === undefined || uid === ownerId;
}

/** Stamps of small blobs between their fetch and the publication of their model: not worth a file, they are soon read again. */
const remembered = new WeakMap<StoreLayout, Map<string, string>>();

/** As `stamp`, for this process alone: should it end before the model is published, the file is read again. */
export async function remember(
  layout: StoreLayout,
  path: string,
  descriptor: Content,
  verified: Verified,
): Promise<void> {
  const status = await statOf(layout, path);
  if (status === undefined || !isVerified(layout, status, verified)) return;
  const own = remembered.get(layout) ?? new Map<string, string>();
  remembered.set(layout, own);
  own.set(stampFile(layout, descriptor, status), stampOf(status));
}

/**
 * Notes that a file has the content of its digest: right after it was verified, or linked once more. `verified`: the file that was
 * judged. Whoever may rename in the volume can put another one of ours in its place, which would be believed unread from then on.
 */
export async function stamp(
  layout: StoreLayout,
  path: string,
  descriptor: Content,
  verified: Verified,
): Promise<void> {
  await stampAll(layout, [{ path, content: descriptor, verified }]);
}

/** What somebody else put there meanwhile, or wrote to, was never verified. */
function isVerified(layout: StoreLayout, status: BigIntStats, { ino, mtimeNs }: Verified): boolean {
  return status.isFile() && isOurs(layout, status) && status.ino === ino && status.mtimeNs === mtimeNs;
}

/** As `stamp`, for files that may be names of one and the same. */
export async function stampAll(
  layout: StoreLayout,
  files: readonly { readonly path: string; readonly content: Content; readonly verified: Verified }[],
): Promise<void> {
  const calls = callsOn(layout);
  const noted = new Set<string>();
  try {
    await calls.mkdir(layout.stamps);
  } catch {
    return;
  }
  await eachOf(files, stampsAtOnce, new AbortController().signal, async ({ path, content, verified }) => {
    const status = await statOf(layout, path);
    if (status === undefined || !isVerified(layout, status, verified)) return;
    const file = stampFile(layout, content, status);
    if (noted.has(file)) return;
    noted.add(file);
    try {
      const draft = join(layout.staging, `${randomBytes(8).toString("hex")}.stamp`);
      await calls.writeNew(draft, stampOf(status));
      await calls.rename(draft, file);
    } catch {
      // Without a stamp the file is read again next time.
    }
  });
}

/** The file, if its stamp says that nothing has touched it since it was verified. */
export async function stampedFile(
  layout: StoreLayout,
  path: string,
  content: Content,
): Promise<Verified | undefined> {
  const status = await statOf(layout, path);
  return status?.isFile() === true && (await hasStamp(layout, status, content)) ? status : undefined;
}

async function hasStamp(layout: StoreLayout, status: BigIntStats, content: Content): Promise<boolean> {
  const expected = stampOf(status);
  const path = stampFile(layout, content, status);
  if (remembered.get(layout)?.get(path) === expected) return true;
  const found = await callsOn(layout)
    .readStart(path, mostStampBytes)
    .catch(() => undefined);
  return found === expected;
}

/**
 * Whether a file is exactly what its descriptor says, by reading it. Follows no link and waits for no pipe. `isKnown` is asked again and
 * again meanwhile: once it says that the file can be used, no more is read.
 */
export async function hasContent(
  path: string,
  descriptor: Content,
  signal: AbortSignal,
  isKnown?: () => Promise<boolean>,
): Promise<boolean> {
  return (await readVerified(path, descriptor, signal, isKnown)) !== undefined;
}

/** As `hasContent`; gives the file that was read, as it was before the first byte. */
export async function readVerified(
  path: string,
  descriptor: Content,
  signal: AbortSignal,
  isKnown?: () => Promise<boolean>,
): Promise<BigIntStats | undefined> {
  const { O_RDONLY, O_NOFOLLOW, O_NONBLOCK } = constants;
  const handle = await open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK).catch(
    (error: NodeJS.ErrnoException) => {
      // Taken away or replaced by a link at this moment.
      if (error.code === "ENOENT" || error.code === "ELOOP") return undefined;
      throw error;
    },
  );
  if (handle === undefined) return undefined;
  try {
    const status = await handle.stat({ bigint: true });
    if (!status.isFile()) return undefined;
    const verifier = new Verifier(descriptor);
    const buffer = Buffer.allocUnsafe(1024 * 1024);
    let askedAt = 0;
    for (;;) {
      signal.throwIfAborted();
      const { bytesRead } = await handle.read(buffer, 0, buffer.length, verifier.bytes);
      if (bytesRead === 0) break;
      verifier.update(buffer.subarray(0, bytesRead));
      if (verifier.bytes - askedAt < bytesBetweenAsking) continue;
      if ((await isKnown?.()) === true) return status;
      askedAt = verifier.bytes;
    }
    verifier.finish();
    return status;
  } catch (error) {
    if (error instanceof AppError) return undefined;
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
  const status = await statOf(layout, path);
  return status !== undefined && (await judged(layout, path, status, content, signal)) !== undefined;
}

/** The file that was found good; `status` is what was there before. */
async function judged(
  layout: StoreLayout,
  path: string,
  status: BigIntStats,
  content: Content,
  signal: AbortSignal,
): Promise<Verified | undefined> {
  if (!isOfSize(status, content)) return undefined;
  // Nobody here can have changed it, and there is nowhere to note anything.
  if (layout.isReadOnly) return status;
  if (!isOurs(layout, status)) return undefined;
  if (await hasStamp(layout, status, content)) return status;
  // Another puller that links it at this moment makes it look touched, and stamps it a moment later.
  let stamped: Verified | undefined;
  const look = async (): Promise<boolean> => {
    const now = await statOf(layout, path);
    const isStampedNow =
      now !== undefined &&
      isOfSize(now, content) &&
      isOurs(layout, now) &&
      (await hasStamp(layout, now, content));
    stamped = isStampedNow ? now : undefined;
    return isStampedNow;
  };
  const read = await readVerified(path, content, signal, look);
  if (read === undefined || stamped !== undefined) return stamped;
  await stamp(layout, path, content, read);
  return read;
}

function isOfSize(status: BigIntStats, { sizeBytes }: Content): boolean {
  return status.isFile() && status.size === BigInt(sizeBytes);
}

/**
 * The file of a blob that is on the volume and can be used. One that cannot is taken out of the way, whatever it is, so that the right one
 * can take its place.
 */
export async function trustedBlob(
  layout: StoreLayout,
  content: Content,
  signal: AbortSignal,
): Promise<Verified | undefined> {
  const path = blobPath(layout, content.digest);
  const status = await statOf(layout, path);
  if (status === undefined) return undefined;
  const found = await judged(layout, path, status, content, signal);
  if (found === undefined && !layout.isReadOnly) await takeAway(layout, path, status);
  return found;
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
  const moved = await statOf(layout, aside);
  if (moved?.ino !== judged.ino) await rename(aside, path).catch(() => undefined);
  await rm(aside, { recursive: true, force: true });
}
