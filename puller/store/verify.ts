// Reads a whole store again and tells every damage. Changes nothing.

import { lstat, readdir } from "node:fs/promises";
import { join } from "node:path";
import { isDigest } from "../oci/digest.ts";
import type { Digest } from "../oci/types.ts";
import { blobPath, isHeldOpenName, modelDirectory, type StoreLayout } from "./layout.ts";
import { isSealedModelWhole, listSeals, readSeal, type Seal } from "./seal.ts";
import { onVolume } from "./storage-error.ts";
import { hasContent } from "./trust.ts";

/** What can be wrong with a store, and what that means. */
export const damageKinds = {
  "blob-modified": "a blob does not have the bytes of its digest",
  "blob-missing": "a model was made from a blob that is not there",
  "blob-foreign": "something that is no blob lies among the blobs",
  "model-incomplete":
    "a file of a model is missing, of another size or kind, or one lies there that is not the model's",
  "model-modified": "a file of a model does not have the bytes that it was published with",
  "model-unsealed": "a model was not published to the end, or its seal is lost",
  "seal-unreadable": "the seal of a model is damaged",
} as const;

export type Damage = {
  readonly kind: keyof typeof damageKinds;
  /** A digest, the name of a model, or both a model's name and a path in it. */
  readonly what: string;
  /** The file, relative to the model. */
  readonly path?: string;
};

export type VerifyReport = {
  readonly blobs: number;
  readonly models: number;
  readonly damages: readonly Damage[];
};

async function statOf(path: string): Promise<Awaited<ReturnType<typeof lstat>> | undefined> {
  return lstat(path).catch(() => undefined);
}

/** Damages of the blobs, and those that are good. */
async function verifyBlobs(
  layout: StoreLayout,
  signal: AbortSignal,
): Promise<{
  readonly count: number;
  readonly good: ReadonlySet<string>;
  readonly damages: readonly Damage[];
}> {
  const damages: Damage[] = [];
  const good = new Set<string>();
  let count = 0;
  for (const algorithm of await readdir(layout.blobs).catch(() => [])) {
    for (const name of await readdir(join(layout.blobs, algorithm)).catch(() => [])) {
      const digest = `${algorithm}:${name}`;
      const path = join(layout.blobs, algorithm, name);
      const status = await statOf(path);
      if (status === undefined || (status.isFile() && isHeldOpenName(name))) continue;
      if (!isDigest(digest) || !status.isFile()) {
        damages.push({ kind: "blob-foreign", what: `${algorithm}/${name}` });
        continue;
      }
      count += 1;
      if (await hasContent(path, { digest, sizeBytes: Number(status.size) }, signal)) good.add(digest);
      else damages.push({ kind: "blob-modified", what: digest });
    }
  }
  return { count, good, damages };
}

async function verifyModel(
  layout: StoreLayout,
  seal: Seal,
  good: ReadonlySet<string>,
  signal: AbortSignal,
): Promise<readonly Damage[]> {
  const damages: Damage[] = [];
  const { name } = seal;
  if (!(await isSealedModelWhole(layout, seal))) damages.push({ kind: "model-incomplete", what: name });
  for (const { path, digest, sizeBytes } of seal.files) {
    if (digest === undefined) continue;
    const file = join(modelDirectory(layout, name), path);
    const status = await statOf(file);
    if (status?.isFile() !== true) continue;
    const blob = await statOf(blobPath(layout, digest));
    // A hard link to a good blob is that blob.
    const isLink = good.has(digest) && blob?.ino === status.ino && blob.dev === status.dev;
    if (!isLink && !(await hasContent(file, { digest, sizeBytes }, signal))) {
      damages.push({ kind: "model-modified", what: name, path });
    }
  }
  return damages;
}

/** Checks every blob against its name, and every model against its seal. */
export async function verifyStore(layout: StoreLayout, signal: AbortSignal): Promise<VerifyReport> {
  return onVolume("verifying the store", async () => {
    const { count, good, damages: ofBlobs } = await verifyBlobs(layout, signal);
    const damages: Damage[] = [...ofBlobs];
    const sealed = await listSeals(layout);
    const missing = new Set<Digest>();
    for (const name of sealed) {
      const seal = await readSeal(layout, name);
      if (seal === undefined) {
        damages.push({ kind: "seal-unreadable", what: name });
        continue;
      }
      damages.push(...(await verifyModel(layout, seal, good, signal)));
      for (const digest of seal.blobs) {
        if ((await statOf(blobPath(layout, digest))) === undefined) missing.add(digest);
      }
    }
    damages.push(...[...missing].map((what): Damage => ({ kind: "blob-missing", what })));
    const directories = await readdir(layout.models).catch(() => []);
    damages.push(
      ...directories
        .filter((name) => !sealed.includes(name))
        .map((what): Damage => ({ kind: "model-unsealed", what })),
    );
    return { blobs: count, models: sealed.length, damages };
  });
}
