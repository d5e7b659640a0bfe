// Removes what nobody needs: blobs of no model, partial files of the dead, and, when told which models are in use, the others.
// Everything goes aside first and is deleted only after another look at what is used: a pull that begins meanwhile loses nothing.

import { randomBytes } from "node:crypto";
import { lstat, readdir, rename, rm, rmdir } from "node:fs/promises";
import { join } from "node:path";
import { isModelDirectoryName } from "../contract.ts";
import { isDigest } from "../oci/digest.ts";
import type { Digest } from "../oci/types.ts";
import { blobPath, modelDirectory, sealFile, type StoreLayout } from "./layout.ts";
import type { Verified } from "./partial.ts";
import { listSeals, readSeal, type Seal } from "./seal.ts";
import { onVolume } from "./storage-error.ts";
import { stamp, stampedFile } from "./trust.ts";
import { listUses, removeUse, volumeNowMs, type Use } from "./uses.ts";

export type GcOptions = {
  /** What was written to or used within this time stays, milliseconds by the volume's clock. */
  readonly minimumAgeMs: number;
  /** Names of model directories that stay, whatever their age: pods have them mounted. */
  readonly keep: ReadonlySet<string>;
  /** "keep": no model is removed. "remove": those not in `keep`, all of them or, with `sizeLimitBytes`, as many as it takes. */
  readonly unusedModels: "keep" | "remove";
  /** The store may have this many bytes; the model that was not used for the longest time goes first. */
  readonly sizeLimitBytes?: number;
};

export type GcReport = {
  readonly removedModels: readonly string[];
  readonly removedBlobs: number;
  readonly removedPartials: number;
  readonly freedBytes: number;
  /** Bytes of blobs and unpacked files that stay. */
  readonly storedBytes: number;
};

type Model = {
  readonly name: string;
  readonly seal: Seal | undefined;
  /** There is a seal, but what it names cannot be told. */
  readonly isUnreadable: boolean;
  readonly usedMs: number;
};
type Blob = { readonly digest: Digest; readonly bytes: number; readonly changedMs: number };

/** What is in a store, as far as garbage collection looks. */
type Contents = {
  readonly models: readonly Model[];
  readonly blobs: readonly Blob[];
  readonly uses: readonly Use[];
};

/** What goes, from what is there. Pure. */
export function planGarbage(
  { models, blobs, uses }: Contents,
  options: GcOptions,
  nowMs: number,
): { readonly models: readonly string[]; readonly blobs: readonly Digest[]; readonly storedBytes: number } {
  const isOld = (ms: number): boolean => nowMs - ms > options.minimumAgeMs;
  const fresh = uses.filter(({ writtenMs }) => !isOld(writtenMs));
  const remaining = new Map(models.map((model) => [model.name, model]));
  /** Blobs of which some model or use has need; undefined: not known, so any. */
  const needed = (): ReadonlySet<Digest> | undefined => {
    const lists = [
      ...[...remaining.values()].map(({ seal, isUnreadable }) =>
        isUnreadable ? undefined : (seal?.blobs ?? []),
      ),
      ...fresh.map((use) => use.blobs),
    ];
    return lists.includes(undefined) ? undefined : new Set(lists.flatMap((list) => list ?? []));
  };
  const staying = (): readonly Blob[] => {
    const wanted = needed();
    return blobs.filter(({ digest, changedMs }) => wanted?.has(digest) !== false || !isOld(changedMs));
  };
  const unpackedBytes = ({ seal }: Model): number =>
    (seal?.files ?? [])
      .filter(({ digest }) => digest === undefined || seal?.blobs.includes(digest) !== true)
      .reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  const stored = (): number =>
    staying().reduce((sum, { bytes }) => sum + bytes, 0) +
    [...remaining.values()].reduce((sum, model) => sum + unpackedBytes(model), 0);
  const removable =
    options.unusedModels === "keep"
      ? []
      : models
          .filter(({ name, usedMs }) => !options.keep.has(name) && isOld(usedMs))
          .sort((one, other) => one.usedMs - other.usedMs);
  const removed: string[] = [];
  for (const { name } of removable) {
    if (options.sizeLimitBytes !== undefined && stored() <= options.sizeLimitBytes) break;
    remaining.delete(name);
    removed.push(name);
  }
  const stays = new Set(staying().map(({ digest }) => digest));
  return {
    models: removed,
    blobs: blobs.map(({ digest }) => digest).filter((digest) => !stays.has(digest)),
    storedBytes: stored(),
  };
}

async function contents(layout: StoreLayout): Promise<Contents> {
  const uses = await listUses(layout);
  const usedMs = new Map(uses.map(({ name, writtenMs }) => [name, writtenMs]));
  const sealed = new Set(await listSeals(layout));
  // What else somebody keeps there is not ours to remove.
  const directories = (await readdir(layout.models).catch(() => [])).filter((name) =>
    isModelDirectoryName(name),
  );
  const names = new Set([...sealed, ...directories]);
  const models = await Promise.all(
    [...names].map(async (name): Promise<Model> => {
      const status = await lstat(modelDirectory(layout, name)).catch(() => undefined);
      const seal = await readSeal(layout, name);
      const isUnreadable = seal === undefined && sealed.has(name);
      return { name, seal, isUnreadable, usedMs: usedMs.get(name) ?? status?.ctimeMs ?? 0 };
    }),
  );
  const blobs: Blob[] = [];
  for (const algorithm of await readdir(layout.blobs).catch(() => [])) {
    for (const name of await readdir(join(layout.blobs, algorithm)).catch(() => [])) {
      const digest = `${algorithm}:${name}`;
      const status = await lstat(join(layout.blobs, algorithm, name)).catch(() => undefined);
      // ctime: linking a blob into a model that is being published makes it young again.
      if (isDigest(digest) && status !== undefined)
        blobs.push({ digest, bytes: status.size, changedMs: status.ctimeMs });
    }
  }
  return { models, blobs, uses };
}

/** Collects garbage. An unreadable seal or use record keeps every blob. */
export async function collectGarbage(layout: StoreLayout, options: GcOptions): Promise<GcReport> {
  return onVolume("collecting garbage", async () => {
    const nowMs = await volumeNowMs(layout);
    const before = await contents(layout);
    const plan = planGarbage(before, options, nowMs);
    const bytesOf = new Map(before.blobs.map(({ digest, bytes }) => [digest, bytes]));
    const going = new Set(plan.blobs);
    const shared = await stampedBlobs(layout, before, plan.models, going);

    const modelsAside = new Map<string, string>();
    for (const name of plan.models) await setAside(layout, modelDirectory(layout, name), name, modelsAside);
    const blobsAside = new Map<Digest, string>();
    for (const digest of plan.blobs) await setAside(layout, blobPath(layout, digest), digest, blobsAside);
    const freshAfter = (await listUses(layout)).filter(
      ({ writtenMs }) => nowMs - writtenMs <= options.minimumAgeMs,
    );

    const removedModels: string[] = [];
    for (const [name, aside] of modelsAside) {
      if (freshAfter.some((use) => use.name === name)) {
        await putBack(aside, modelDirectory(layout, name));
        continue;
      }
      await rm(sealFile(layout, name), { force: true });
      await removeAside(aside);
      removedModels.push(name);
    }
    let removedBlobs = 0;
    let freedBytes = 0;
    for (const [digest, aside] of blobsAside) {
      if (freshAfter.some(({ blobs }) => blobs?.includes(digest) !== false)) {
        await putBack(aside, blobPath(layout, digest));
        continue;
      }
      await removeAside(aside);
      removedBlobs += 1;
      freedBytes += bytesOf.get(digest) ?? 0;
    }
    // Removing a link is a change of the file that others of its links share.
    for (const { content, verified } of shared)
      await stamp(layout, blobPath(layout, content.digest), content, verified);
    const leftovers = await removeLeftovers(layout, nowMs, options.minimumAgeMs);
    return {
      removedModels,
      removedBlobs,
      removedPartials: leftovers.partials,
      freedBytes: freedBytes + leftovers.bytes,
      storedBytes: plan.storedBytes,
    };
  });
}

type Stamped = {
  readonly content: { readonly digest: Digest; readonly sizeBytes: number };
  readonly verified: Verified;
};

/** Blobs that stay and share files with models that go, whose stamps are good now. */
async function stampedBlobs(
  layout: StoreLayout,
  { models, blobs }: Contents,
  removed: readonly string[],
  going: ReadonlySet<Digest>,
): Promise<readonly Stamped[]> {
  const touched = new Set(
    models.filter(({ name }) => removed.includes(name)).flatMap(({ seal }) => seal?.blobs ?? []),
  );
  const found: Stamped[] = [];
  for (const { digest, bytes } of blobs) {
    if (!touched.has(digest) || going.has(digest)) continue;
    const content = { digest, sizeBytes: bytes };
    const verified = await stampedFile(layout, blobPath(layout, digest), content);
    if (verified !== undefined) found.push({ content, verified });
  }
  return found;
}

async function setAside<K>(layout: StoreLayout, path: string, key: K, aside: Map<K, string>): Promise<void> {
  const target = join(layout.staging, `${randomBytes(8).toString("hex")}.gone`);
  try {
    await rename(path, target);
    aside.set(key, target);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
    // A seal without its model goes too; a blob that is gone is gone.
    aside.set(key, target);
  }
}

/** On a file server, a directory stays while a reader has a file of it open; garbage collection comes again. */
const heldOpen: ReadonlySet<string> = new Set(["ENOTEMPTY", "EBUSY"]);

async function removeAside(path: string): Promise<void> {
  await rm(path, { recursive: true, force: true }).catch((error: NodeJS.ErrnoException) => {
    if (!heldOpen.has(error.code ?? "")) throw error;
  });
}

/** Undoes setAside, unless something new has taken the place. */
async function putBack(aside: string, path: string): Promise<void> {
  try {
    await rename(aside, path);
  } catch {
    await rm(aside, { recursive: true, force: true });
  }
}

/** Partial files, tickets, use records and what was set aside, all of dead processes. */
async function removeLeftovers(
  layout: StoreLayout,
  nowMs: number,
  minimumAgeMs: number,
): Promise<{ readonly partials: number; readonly bytes: number }> {
  let partials = 0;
  let bytes = 0;
  for (const parent of [layout.ingest, layout.turns]) {
    for (const directory of await readdir(parent).catch(() => [])) {
      for (const name of await readdir(join(parent, directory)).catch(() => [])) {
        const path = join(parent, directory, name);
        const status = await lstat(path).catch(() => undefined);
        if (status === undefined || nowMs - status.mtimeMs <= minimumAgeMs) continue;
        await rm(path, { force: true });
        if (parent !== layout.ingest) continue;
        partials += 1;
        bytes += status.size;
      }
      // Empty by now, or in use.
      await rmdir(join(parent, directory)).catch(() => undefined);
    }
  }
  const staged: string[] = [];
  for (const name of await readdir(layout.staging).catch(() => [])) {
    const path = join(layout.staging, name);
    const status = await lstat(path).catch(() => undefined);
    if (status !== undefined && nowMs - status.ctimeMs > minimumAgeMs) staged.push(path);
  }
  // All were looked at first: deleting a link makes the file that others share young again.
  for (const path of staged) await removeAside(path);
  const models = new Set(await readdir(layout.models).catch(() => []));
  for (const { name, writtenMs } of await listUses(layout)) {
    if (!models.has(name) && nowMs - writtenMs > minimumAgeMs) await removeUse(layout, name);
  }
  await removeStamps(layout);
  return { partials, bytes };
}

/** Stamps of files that are not there any more. */
async function removeStamps(layout: StoreLayout): Promise<void> {
  // Before the files are looked at: what is stamped meanwhile may be of a file that was not there.
  const names = await readdir(layout.stamps).catch(() => []);
  const inodes = new Set<string>();
  // A model is stamped aside before it is put in its place, so that is looked at first: what is not there any more is there by now.
  for (const parent of [layout.staging, layout.blobs, layout.models]) {
    for (const entry of await readdir(parent, { recursive: true, withFileTypes: true }).catch(() => [])) {
      if (!entry.isFile()) continue;
      const status = await lstat(join(entry.parentPath, entry.name), { bigint: true }).catch(() => undefined);
      if (status !== undefined) inodes.add(String(status.ino));
    }
  }
  for (const name of names) {
    const [, inode = ""] = name.split("-");
    if (!inodes.has(inode)) await rm(join(layout.stamps, name), { force: true });
  }
}
