// Makes a model visible as a whole: built aside from verified blobs, synced, renamed, sealed. Never a part of it.

import { randomBytes } from "node:crypto";
import { copyFile, mkdir, open, readdir, rename, rm, symlink } from "node:fs/promises";
import { dirname, join } from "node:path";
import { makeDirectories } from "../store/make-directories.ts";
import { PlacedPaths } from "../artifact/safe-path.ts";
import type { SafePath } from "../artifact/types.ts";
import { eachOf } from "../each-of.ts";
import { AppError } from "../oci/errors.ts";
import type { Descriptor, Digest } from "../oci/types.ts";
import { syncDirectory } from "../store/durability.ts";
import { blobPath, modelDirectory, type StoreLayout } from "../store/layout.ts";
import type { Verified } from "../store/partial.ts";
import { isSealedModelTrusted, writeSeal, type Seal } from "../store/seal.ts";
import { onVolume } from "../store/storage-error.ts";
import { readVerified, stampAll } from "../store/trust.ts";
import { callsOn } from "../store/volume-calls.ts";
import type { PlannedArchive, PullPlan } from "./plan.ts";
import type { UnpackedArchive } from "./unpacking.ts";

type SealedFile = Seal["files"][number];

/** What a model is made of, each with the file that was judged. */
export type Verdicts = {
  readonly blobs: ReadonlyMap<Digest, Verified>;
  readonly unpacked: ReadonlyMap<PlannedArchive, UnpackedArchive>;
};

const filesAtOnce = 4;

/** File systems on which a link cannot be made; the file is copied then. */
const linkless: ReadonlySet<string> = new Set([
  "EPERM",
  "EXDEV",
  "EMLINK",
  "ENOTSUP",
  "EOPNOTSUPP",
  "ENOSYS",
]);

/**
 * Publishes the model of a plan whose blobs are all on the volume, and whose archives are unpacked. Fails with AppError; what was made
 * aside is removed.
 */
export async function publishModel(
  layout: StoreLayout,
  plan: PullPlan,
  verdicts: Verdicts,
  signal: AbortSignal,
): Promise<void> {
  const aside = join(layout.staging, randomBytes(8).toString("hex"));
  try {
    await onVolume(`publishing ${plan.digest}`, async () => {
      await mkdir(aside);
      const files: SealedFile[] = [];
      const links: ArchivedLink[] = [];
      const verified = new Map<string, Verified>();
      const placed = new PlacedPaths();
      for (const { path, descriptor } of plan.files) {
        signal.throwIfAborted();
        placed.claimFile(path, descriptor.digest);
        files.push({ path, sizeBytes: descriptor.sizeBytes, digest: descriptor.digest });
      }
      for (const directory of new Set(plan.files.map(({ path }) => dirname(join(aside, path)))))
        await makeDirectories(directory);
      await eachOf(plan.files, filesAtOnce, signal, async ({ path, descriptor }) => {
        const copy = await placeFile(layout, descriptor, join(aside, path), signal);
        const file = copy ?? verdicts.blobs.get(descriptor.digest);
        if (file !== undefined) verified.set(path, file);
      });
      for (const archive of plan.archives) {
        const found = verdicts.unpacked.get(archive);
        if (found === undefined) throw new Error("an archive was not unpacked");
        files.push(...(await placeArchive(found, aside, { placed, links, verified }, signal)));
      }
      if (plan.entry !== undefined && !files.some(({ path }) => path === plan.entry)) {
        throw new AppError(
          "InvalidArtifact",
          `the archives of the artifact do not hold its entry file ${JSON.stringify(plan.entry)}; package it with one file per layer`,
        );
      }
      // Links come after the files of all layers: none is ever written through a link, whoever brought it.
      for (const { path, target } of links) {
        await makeDirectories(dirname(join(aside, path)));
        await symlink(target, join(aside, path));
        files.push({ path, sizeBytes: 0, target });
      }
      if (files.length === 0) {
        throw new AppError(
          "InvalidUsage",
          "--include and --exclude leave no file of the artifact's archives",
        );
      }
      // Before it can be seen: a file that was linked looks touched until it is stamped, and others would read it.
      await stampModel(layout, aside, files, plan.blobs, verdicts.blobs, ({ path }) => verified.get(path));
      await syncTree(aside);
      signal.throwIfAborted();
      const seal: Seal = {
        v: 1,
        name: plan.name,
        digest: plan.digest,
        files,
        blobs: plan.blobs.map(({ digest }) => digest),
        ...(plan.entry === undefined ? {} : { entry: plan.entry }),
      };
      if (await replaceDirectory(layout, aside, seal, signal)) {
        await writeSeal(layout, seal);
        return;
      }
      // Another puller's stays. Links that go make its files look touched once more.
      await rm(aside, { recursive: true, force: true });
      const target = modelDirectory(layout, seal.name);
      await stampModel(layout, target, files, plan.blobs, verdicts.blobs, ({ digest }) =>
        digest === undefined ? undefined : verdicts.blobs.get(digest),
      );
      await writeSeal(layout, seal);
    });
  } finally {
    await rm(aside, { recursive: true, force: true }).catch(() => undefined);
  }
}

/** Links a blob; a copy, where it took one, is another file, which is judged by its own bytes and given. */
async function placeFile(
  layout: StoreLayout,
  descriptor: Descriptor,
  target: string,
  signal: AbortSignal,
): Promise<Verified | undefined> {
  const blob = blobPath(layout, descriptor.digest);
  try {
    await callsOn(layout).link(blob, target);
    return undefined;
  } catch (error) {
    if (!linkless.has((error as NodeJS.ErrnoException).code ?? "")) throw error;
    await copyFile(blob, target);
    await syncFile(target);
    const copy = await readVerified(target, descriptor, signal);
    if (copy === undefined)
      throw new AppError(
        "StorageFailed",
        `a copy of ${descriptor.digest} on the volume has other bytes than the blob; check the disk of the volume`,
      );
    return copy;
  }
}

async function syncFile(path: string): Promise<void> {
  const handle = await open(path, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** A symbolic link of an archive, made when all files are there. */
type ArchivedLink = { readonly path: SafePath; readonly target: string };

/**
 * Moves the files of an unpacked archive to the model; its links are added to `model.links`. Every path is claimed in `model.placed`,
 * so that no layer can put a file below another layer's file or link.
 */
async function placeArchive(
  { directory, entries }: UnpackedArchive,
  aside: string,
  model: {
    readonly placed: PlacedPaths;
    readonly links: ArchivedLink[];
    readonly verified: Map<string, Verified>;
  },
  signal: AbortSignal,
): Promise<readonly SealedFile[]> {
  const files: SealedFile[] = [];
  for (const entry of entries) {
    signal.throwIfAborted();
    const { path } = entry;
    if (entry.type === "directory") {
      model.placed.claimDirectory(path);
      await makeDirectories(join(aside, path));
    } else if (entry.type === "symlink") {
      model.placed.claimFile(path, undefined);
      model.links.push({ path, target: entry.target });
    } else {
      model.placed.claimFile(path, undefined);
      await makeDirectories(dirname(join(aside, path)));
      await rename(join(directory, entry.source), join(aside, path));
      model.verified.set(path, entry.verified);
      files.push({ path, sizeBytes: entry.sizeBytes, digest: entry.digest });
    }
  }
  return files;
}

/** Syncs all directories below and including `path`, the deepest first. */
async function syncTree(path: string): Promise<void> {
  for (const entry of await readdir(path, { withFileTypes: true })) {
    if (entry.isDirectory()) await syncTree(join(path, entry.name));
  }
  await syncDirectory(path);
}

/**
 * Puts `aside` in the place of the model; false where one stays that is there. What another puller put there meanwhile stays if it is the same: pods may have mounted
 * it already, and a directory that is replaced is empty for those. What is damaged goes aside first, since a directory cannot be
 * replaced in one step, and is deleted by garbage collection, when no pod can have it mounted any more.
 */
async function replaceDirectory(
  layout: StoreLayout,
  aside: string,
  seal: Seal,
  signal: AbortSignal,
): Promise<boolean> {
  const target = modelDirectory(layout, seal.name);
  for (let attempt = 1; ; attempt += 1) {
    try {
      await rename(aside, target);
      break;
    } catch (error) {
      const code = (error as NodeJS.ErrnoException).code ?? "";
      if (attempt > 5 || !["ENOTEMPTY", "EEXIST", "ENOTDIR"].includes(code)) throw error;
      if (await isSealedModelTrusted(layout, seal, signal)) return false;
      await rename(target, `${aside}.${attempt}.gone`).catch((gone: NodeJS.ErrnoException) => {
        if (gone.code !== "ENOENT") throw gone;
      });
    }
  }
  await syncDirectory(layout.models);
  return true;
}

/** Notes which files were verified in this run, of a model and its blobs, so that the next start need not read them. */
async function stampModel(
  layout: StoreLayout,
  directory: string,
  files: readonly SealedFile[],
  blobs: readonly Descriptor[],
  trusted: Verdicts["blobs"],
  verifiedAs: (file: SealedFile) => Verified | undefined,
): Promise<void> {
  const ofModel = files.map((file) => ({
    ...file,
    path: join(directory, file.path),
    verified: verifiedAs(file),
  }));
  const ofStore = blobs.map(({ digest, sizeBytes }) => ({
    path: blobPath(layout, digest),
    sizeBytes,
    digest,
    verified: trusted.get(digest),
  }));
  const judged = [...ofModel, ...ofStore].flatMap(({ path, sizeBytes, digest, verified }) =>
    digest === undefined || verified === undefined
      ? []
      : [{ path, content: { digest, sizeBytes }, verified }],
  );
  await stampAll(layout, judged);
}
