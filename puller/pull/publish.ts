// Makes a model visible as a whole: built aside from verified blobs, synced, renamed, sealed. Never a part of it.

import { createHash, randomBytes } from "node:crypto";
import { createReadStream } from "node:fs";
import { copyFile, link, lstat, mkdir, open, readdir, rename, rm, symlink } from "node:fs/promises";
import { dirname, join } from "node:path";
import { baseName, PlacedPaths, placeExtracted, tarEntries } from "../artifact/index.ts";
import type { SafePath } from "../artifact/types.ts";
import { parseDigest, Verifier } from "../oci/digest.ts";
import { AppError } from "../oci/errors.ts";
import type { Descriptor, Digest } from "../oci/types.ts";
import { syncDirectory, writeWhole } from "../store/durability.ts";
import { blobPath, modelDirectory, type StoreLayout } from "../store/layout.ts";
import { isSealedModelTrusted, readSeal, writeSeal, type Seal } from "../store/seal.ts";
import { onVolume } from "../store/storage-error.ts";
import { stamp } from "../store/trust.ts";
import type { PlannedArchive, PullPlan } from "./plan.ts";

type SealedFile = Seal["files"][number];

/** File systems on which a link cannot be made; the file is copied then. */
const linkless: ReadonlySet<string> = new Set([
  "EPERM",
  "EXDEV",
  "EMLINK",
  "ENOTSUP",
  "EOPNOTSUPP",
  "ENOSYS",
]);

/** Whether the model is there, whole and sealed: then nothing is to be done. */
export async function isPublished(
  layout: StoreLayout,
  plan: Pick<PullPlan, "name" | "digest">,
  signal: AbortSignal,
): Promise<boolean> {
  const seal = await readSeal(layout, plan.name);
  return seal?.digest === plan.digest && (await isSealedModelTrusted(layout, seal, signal));
}

/** Publishes the model of a plan whose blobs are all on the volume. Fails with AppError; what was made aside is removed. */
export async function publishModel(layout: StoreLayout, plan: PullPlan, signal: AbortSignal): Promise<void> {
  const aside = join(layout.staging, randomBytes(8).toString("hex"));
  try {
    await onVolume(`publishing ${plan.digest}`, async () => {
      await mkdir(aside);
      const files: SealedFile[] = [];
      const links: ArchivedLink[] = [];
      const placed = new PlacedPaths();
      for (const { path, descriptor } of plan.files) {
        signal.throwIfAborted();
        placed.claimFile(path, descriptor.digest);
        await placeFile(blobPath(layout, descriptor.digest), join(aside, path), descriptor.sizeBytes);
        files.push({ path, sizeBytes: descriptor.sizeBytes, digest: descriptor.digest });
      }
      for (const archive of plan.archives) {
        files.push(...(await extract(layout, archive, aside, { placed, links }, plan.isWanted, signal)));
      }
      if (plan.entry !== undefined && !files.some(({ path }) => path === plan.entry)) {
        throw new AppError(
          "InvalidArtifact",
          `the archives of the artifact do not hold its entry file ${JSON.stringify(plan.entry)}; package it with one file per layer`,
        );
      }
      // Links come after the files of all layers: none is ever written through a link, whoever brought it.
      for (const { path, target } of links) {
        await mkdir(dirname(join(aside, path)), { recursive: true });
        await symlink(target, join(aside, path));
        files.push({ path, sizeBytes: 0, target });
      }
      if (files.length === 0) {
        throw new AppError(
          "InvalidUsage",
          "--include and --exclude leave no file of the artifact's archives",
        );
      }
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
      await replaceDirectory(layout, aside, seal, signal);
      await writeSeal(layout, seal);
      await stampModel(layout, seal, plan.blobs);
    });
  } finally {
    await rm(aside, { recursive: true, force: true }).catch(() => undefined);
  }
}

async function placeFile(blob: string, target: string, sizeBytes: number): Promise<void> {
  await mkdir(dirname(target), { recursive: true });
  try {
    await link(blob, target);
  } catch (error) {
    if (!linkless.has((error as NodeJS.ErrnoException).code ?? "")) throw error;
    await copyFile(blob, target);
    await syncFile(target);
    const { size } = await lstat(target);
    if (size !== sizeBytes)
      throw new AppError("StorageFailed", `a copy on the volume has ${size} of ${sizeBytes} bytes`);
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
 * Unpacks an archive's blob, but for its links, which it adds to `model.links`; every path is claimed in `model.placed`, so
 * that no layer can put a file below another layer's file or link. The bytes are hashed once more, since they are read anyhow.
 */
async function extract(
  layout: StoreLayout,
  archive: PlannedArchive,
  aside: string,
  model: { readonly placed: PlacedPaths; readonly links: ArchivedLink[] },
  isWanted: (path: string) => boolean,
  signal: AbortSignal,
): Promise<readonly SealedFile[]> {
  const verifier = new Verifier(archive.descriptor);
  const blob = createReadStream(blobPath(layout, archive.descriptor.digest), { highWaterMark: 1024 * 1024 });
  const source = async function* (): AsyncGenerator<Uint8Array> {
    for await (const chunk of blob as AsyncIterable<Uint8Array>) {
      signal.throwIfAborted();
      verifier.update(chunk);
      yield chunk;
    }
  };
  const { singleFilePath } = archive;
  // A file of this name goes elsewhere if it is the only one, which shows at the archive's end.
  const loneName = singleFilePath === undefined ? undefined : baseName(singleFilePath);
  const all: SafePath[] = [];
  const written: { readonly path: SafePath; readonly sizeBytes: number; readonly digest: Digest }[] = [];
  for await (const entry of tarEntries(source(), archive.encoding)) {
    const { path } = entry;
    if (entry.type === "directory") {
      if (!isWanted(`${path}/`) && !isWanted(path)) continue;
      model.placed.claimDirectory(path);
      await mkdir(join(aside, path), { recursive: true });
    } else if (entry.type === "symlink") {
      if (!isWanted(path)) continue;
      model.placed.claimFile(path, undefined);
      model.links.push({ path, target: entry.target });
    } else {
      all.push(path);
      const isLoneCandidate = path === loneName && singleFilePath !== undefined;
      if (!isWanted(path) && !(isLoneCandidate && isWanted(singleFilePath))) continue;
      if (!isLoneCandidate) model.placed.claimFile(path, undefined);
      const digest = await writeFile(join(aside, path), entry.content);
      written.push({ path, sizeBytes: entry.sizeBytes, digest });
    }
  }
  verifier.finish();
  const [lone] = placeExtracted(all, singleFilePath);
  const result: SealedFile[] = [];
  for (const { path, sizeBytes, digest } of written) {
    const target = all.length === 1 && lone !== undefined ? lone : path;
    if (!isWanted(target)) {
      await rm(join(aside, path));
      continue;
    }
    if (path === loneName) model.placed.claimFile(target, undefined);
    if (target !== path) {
      await mkdir(dirname(join(aside, target)), { recursive: true });
      await rename(join(aside, path), join(aside, target));
    }
    result.push({ path: target, sizeBytes, digest });
  }
  return result;
}

/** Writes a new file; its digest, so that it can be checked again later without its archive. */
async function writeFile(path: string, content: AsyncIterable<Uint8Array>): Promise<Digest> {
  await mkdir(dirname(path), { recursive: true });
  const handle = await open(path, "wx", 0o644).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "EEXIST") {
      throw new AppError("InvalidArtifact", "two layers of the artifact hold a file of the same name");
    }
    throw error;
  });
  try {
    const hash = createHash("sha256");
    let position = 0;
    for await (const chunk of content) {
      hash.update(chunk);
      await writeWhole(handle, chunk, position);
      position += chunk.length;
    }
    await handle.chmod(0o444);
    await handle.sync();
    return parseDigest(`sha256:${hash.digest("hex")}`);
  } finally {
    await handle.close();
  }
}

/** Syncs all directories below and including `path`, the deepest first. */
async function syncTree(path: string): Promise<void> {
  for (const entry of await readdir(path, { withFileTypes: true })) {
    if (entry.isDirectory()) await syncTree(join(path, entry.name));
  }
  await syncDirectory(path);
}

/**
 * Puts `aside` in the place of the model. What another puller put there meanwhile stays if it is the same: pods may have mounted
 * it already, and a directory that is replaced is empty for those. What is damaged goes aside first, since a directory cannot be
 * replaced in one step, and is deleted by garbage collection, when no pod can have it mounted any more.
 */
async function replaceDirectory(
  layout: StoreLayout,
  aside: string,
  seal: Seal,
  signal: AbortSignal,
): Promise<void> {
  const target = modelDirectory(layout, seal.name);
  for (let attempt = 1; ; attempt += 1) {
    try {
      await rename(aside, target);
      break;
    } catch (error) {
      const code = (error as NodeJS.ErrnoException).code ?? "";
      if (attempt > 5 || !["ENOTEMPTY", "EEXIST", "ENOTDIR"].includes(code)) throw error;
      if (await isSealedModelTrusted(layout, seal, signal)) return;
      await rename(target, `${aside}.${attempt}.gone`).catch((gone: NodeJS.ErrnoException) => {
        if (gone.code !== "ENOENT") throw gone;
      });
    }
  }
  await syncDirectory(layout.models);
}

/** Notes what was verified in this run, so that the next start need not read it. */
async function stampModel(layout: StoreLayout, seal: Seal, blobs: readonly Descriptor[]): Promise<void> {
  for (const { path, sizeBytes, digest } of seal.files) {
    if (digest === undefined) continue;
    await stamp(layout, join(modelDirectory(layout, seal.name), path), { digest, sizeBytes });
  }
  for (const blob of blobs) await stamp(layout, blobPath(layout, blob.digest), blob);
}
