// Mends a store without a registry: damaged blobs go, good files of models become blobs again, and damaged files of models are
// replaced, one rename each, so that a reader sees the old file or the new one. What cannot be mended is fetched by the next pull.

import { randomBytes } from "node:crypto";
import { copyFile, link, lstat, rename, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import { makeDirectories } from "./make-directories.ts";
import type { Digest } from "../oci/types.ts";
import { syncDirectory } from "./durability.ts";
import { blobPath, modelDirectory, sealFile, type StoreLayout } from "./layout.ts";
import { isSealedModelWhole, listSeals, readSeal, type Seal } from "./seal.ts";
import { onVolume } from "./storage-error.ts";
import { hasContent } from "./trust.ts";
import { verifyStore, type Damage } from "./verify.ts";

/** What became of one damage. "left": a pull, or garbage collection, sees to it. */
export type Repair = Damage & { readonly outcome: "mended" | "removed" | "left" };

export type RepairReport = {
  readonly blobs: number;
  readonly models: number;
  readonly repairs: readonly Repair[];
};

/** Finds every damage and mends what can be mended here. Models that stay damaged lose their seal, so that a pull rebuilds them. */
export async function repairStore(layout: StoreLayout, signal: AbortSignal): Promise<RepairReport> {
  const { blobs, models, damages } = await verifyStore(layout, signal);
  const repairs: Repair[] = [];
  await onVolume("repairing the store", async () => {
    // Blobs first: files of models are mended from them.
    for (const damage of damages.toSorted((one, other) => rank(one) - rank(other))) {
      signal.throwIfAborted();
      repairs.push({ ...damage, outcome: await mend(layout, damage, signal) });
    }
    const unmended = new Set(
      repairs
        .filter(
          ({ kind, outcome }) => kind.startsWith("model-") && kind !== "model-unsealed" && outcome === "left",
        )
        .map(({ what }) => what),
    );
    for (const name of unmended) await rm(sealFile(layout, name), { force: true });
    if (repairs.length > 0) await syncDirectory(layout.seals);
  });
  return { blobs, models, repairs };
}

function rank({ kind }: Damage): number {
  if (kind === "blob-modified" || kind === "blob-foreign") return 0;
  return kind === "blob-missing" ? 1 : 2;
}

async function mend(layout: StoreLayout, damage: Damage, signal: AbortSignal): Promise<Repair["outcome"]> {
  const { kind, what, path } = damage;
  switch (kind) {
    case "blob-foreign":
      await rm(join(layout.blobs, what), { recursive: true, force: true });
      return "removed";
    case "blob-modified":
      await rm(blobPath(layout, what as Digest), { force: true });
      return (await blobFromModel(layout, what as Digest, signal)) ? "mended" : "removed";
    case "blob-missing":
      return (await blobFromModel(layout, what as Digest, signal)) ? "mended" : "left";
    case "seal-unreadable":
      await rm(sealFile(layout, what), { force: true });
      return "removed";
    case "model-modified": {
      const seal = await readSeal(layout, what);
      return seal !== undefined && (await fileFromBlob(layout, seal, path ?? "", signal)) ? "mended" : "left";
    }
    case "model-incomplete":
      return mendModel(layout, what, signal);
    case "model-unsealed":
      return "left";
  }
}

/** Makes a blob again from a file of a model that has its bytes. */
async function blobFromModel(layout: StoreLayout, digest: Digest, signal: AbortSignal): Promise<boolean> {
  for (const name of await listSeals(layout)) {
    for (const file of (await readSeal(layout, name))?.files ?? []) {
      if (file.digest !== digest) continue;
      const path = join(modelDirectory(layout, name), file.path);
      const isGood =
        (await lstat(path).catch(() => undefined))?.isFile() === true &&
        (await hasContent(path, { digest, sizeBytes: file.sizeBytes }, signal));
      if (isGood) {
        await place(layout, path, blobPath(layout, digest));
        return true;
      }
    }
  }
  return false;
}

/** Puts a blob in the place of a model's file. */
async function fileFromBlob(
  layout: StoreLayout,
  seal: Seal,
  path: string,
  signal: AbortSignal,
): Promise<boolean> {
  const file = seal.files.find((each) => each.path === path);
  if (file?.digest === undefined) return false;
  const blob = blobPath(layout, file.digest);
  const isGood =
    (await lstat(blob).catch(() => undefined))?.isFile() === true &&
    (await hasContent(blob, { digest: file.digest, sizeBytes: file.sizeBytes }, signal));
  if (!isGood || !(await isInside(modelDirectory(layout, seal.name), path))) return false;
  await place(layout, blob, join(modelDirectory(layout, seal.name), path));
  return true;
}

/** Whether nothing on the way to the path is a link, which would lead out of the model. */
async function isInside(directory: string, path: string): Promise<boolean> {
  const parents = path.split("/").slice(0, -1);
  for (let count = 0; count <= parents.length; count += 1) {
    const status = await lstat(join(directory, ...parents.slice(0, count))).catch(() => undefined);
    if (status !== undefined && !status.isDirectory()) return false;
  }
  return true;
}

/** Brings back the missing files of a model, if all of them are blobs. Files that are not the model's are left to the next pull. */
async function mendModel(layout: StoreLayout, name: string, signal: AbortSignal): Promise<Repair["outcome"]> {
  const seal = await readSeal(layout, name);
  if (seal === undefined) return "left";
  for (const { path, sizeBytes } of seal.files) {
    const status = await lstat(join(modelDirectory(layout, name), path)).catch(() => undefined);
    if (status?.isFile() === true && status.size === sizeBytes) continue;
    if (!(await fileFromBlob(layout, seal, path, signal))) return "left";
  }
  return (await isSealedModelWhole(layout, seal)) ? "mended" : "left";
}

/** Links or copies `from` to `to` in one visible step, replacing what is there. */
async function place(layout: StoreLayout, from: string, to: string): Promise<void> {
  const draft = join(layout.staging, `${randomBytes(8).toString("hex")}.repair`);
  await link(from, draft).catch(async () => copyFile(from, draft));
  await makeDirectories(dirname(to));
  await rename(draft, to);
  await syncDirectory(dirname(to));
}
