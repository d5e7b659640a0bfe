// Reads a whole store again and tells every damage. Changes nothing.

import { createReadStream } from "node:fs";
import { lstat, readdir } from "node:fs/promises";
import { join } from "node:path";
import { isDigest, Verifier } from "../oci/digest.ts";
import { AppError } from "../oci/errors.ts";
import type { Digest } from "../oci/types.ts";
import { blobPath, modelDirectory, type StoreLayout } from "./layout.ts";
import { isSealedModelWhole, listSeals, readSeal } from "./seal.ts";
import { onVolume } from "./storage-error.ts";

export type Damage = {
  readonly kind:
    | "blob-modified"
    | "blob-missing"
    | "blob-foreign"
    | "model-incomplete"
    | "model-modified"
    | "seal-unreadable";
  readonly what: string;
};

export type VerifyReport = {
  readonly blobs: number;
  readonly models: number;
  readonly damages: readonly Damage[];
};

/** Whether a file has exactly these bytes. */
async function hasContent(path: string, digest: Digest, signal: AbortSignal): Promise<boolean> {
  const { size } = await lstat(path);
  const verifier = new Verifier({ digest, sizeBytes: size });
  for await (const chunk of createReadStream(path, {
    highWaterMark: 1024 * 1024,
    signal,
  }) as AsyncIterable<Uint8Array>) {
    verifier.update(chunk);
  }
  try {
    verifier.finish();
    return true;
  } catch (error) {
    if (error instanceof AppError) return false;
    throw error;
  }
}

/** Checks every blob against its name, and every model against its seal. */
export async function verifyStore(layout: StoreLayout, signal: AbortSignal): Promise<VerifyReport> {
  return onVolume("verifying the store", async () => {
    const damages: Damage[] = [];
    const good = new Set<string>();
    let blobs = 0;
    for (const algorithm of await readdir(layout.blobs).catch(() => [])) {
      for (const name of await readdir(join(layout.blobs, algorithm)).catch(() => [])) {
        const digest = `${algorithm}:${name}`;
        const path = join(layout.blobs, algorithm, name);
        if (!isDigest(digest) || !(await lstat(path)).isFile()) {
          damages.push({ kind: "blob-foreign", what: `${algorithm}/${name}` });
          continue;
        }
        blobs += 1;
        if (await hasContent(path, digest, signal)) good.add(digest);
        else damages.push({ kind: "blob-modified", what: digest });
      }
    }
    const names = await listSeals(layout);
    for (const name of names) {
      const seal = await readSeal(layout, name);
      if (seal === undefined) {
        damages.push({ kind: "seal-unreadable", what: name });
        continue;
      }
      if (!(await isSealedModelWhole(layout, seal))) {
        damages.push({ kind: "model-incomplete", what: name });
        continue;
      }
      for (const digest of seal.blobs) {
        const isThere = (await lstat(blobPath(layout, digest)).catch(() => undefined)) !== undefined;
        if (!isThere) damages.push({ kind: "blob-missing", what: digest });
      }
      for (const { path, digest } of seal.files) {
        if (digest === undefined) continue;
        const file = join(modelDirectory(layout, name), path);
        const [status, blob] = [
          await lstat(file),
          await lstat(blobPath(layout, digest)).catch(() => undefined),
        ];
        // A hard link to a good blob is that blob.
        const isLink = good.has(digest) && blob?.ino === status.ino && blob.dev === status.dev;
        if (!isLink && !(await hasContent(file, digest, signal))) {
          damages.push({ kind: "model-modified", what: `${name}/${path}` });
        }
      }
    }
    return { blobs, models: names.length, damages };
  });
}
