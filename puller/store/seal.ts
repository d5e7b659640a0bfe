// The seal of a published model: what it holds. Written last; with it, a start needs no look at any byte.

import { randomBytes } from "node:crypto";
import { lstat, mkdir, open, readFile, readdir, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { isDigest } from "../oci/digest.ts";
import type { Digest } from "../oci/types.ts";
import { syncDirectory } from "./durability.ts";
import { modelDirectory, sealFile, type StoreLayout } from "./layout.ts";
import { onVolume } from "./storage-error.ts";

const digest = z.custom<Digest>(isDigest);

const schema = z.strictObject({
  v: z.literal(1),
  name: z.string(),
  digest,
  /** Everything in the model's directory. */
  files: z.array(z.strictObject({ path: z.string(), sizeBytes: z.int().min(0), digest: digest.optional() })),
  /** Blobs it was made from, for garbage collection. */
  blobs: z.array(digest),
  entry: z.string().optional(),
});

export type Seal = z.infer<typeof schema>;

/** Largest seal, bytes: 4096 layers, archives with 100,000 files. */
const maxSealBytes = 64 * 1024 * 1024;

/** The seal of a model; undefined when there is none or it cannot be read, which is the same: the model is built again. */
export async function readSeal(layout: StoreLayout, name: string): Promise<Seal | undefined> {
  const path = sealFile(layout, name);
  try {
    const status = await lstat(path);
    if (!status.isFile() || status.size > maxSealBytes) return undefined;
    const parsed = schema.safeParse(JSON.parse(await readFile(path, "utf8")));
    return parsed.success && parsed.data.name === name ? parsed.data : undefined;
  } catch {
    return undefined;
  }
}

/** Whether everything the seal names lies in the model's directory, by kind and size; reads no content. */
export async function isSealedModelWhole(layout: StoreLayout, seal: Seal): Promise<boolean> {
  const directory = modelDirectory(layout, seal.name);
  for (const { path, sizeBytes } of seal.files) {
    const status = await lstat(join(directory, path)).catch(() => undefined);
    if (status === undefined || status.isDirectory()) return false;
    if (status.isFile() && status.size !== sizeBytes) return false;
  }
  const status = await lstat(directory).catch(() => undefined);
  return status?.isDirectory() === true;
}

export async function writeSeal(layout: StoreLayout, seal: Seal): Promise<void> {
  await onVolume("writing the seal of a model", async () => {
    await mkdir(layout.seals, { recursive: true });
    const temporary = join(layout.seals, `.${randomBytes(8).toString("hex")}.tmp`);
    const handle = await open(temporary, "wx", 0o644);
    try {
      await handle.writeFile(JSON.stringify(seal));
      await handle.sync();
      await handle.close();
      await rename(temporary, sealFile(layout, seal.name));
    } catch (error) {
      await handle.close().catch(() => undefined);
      await rm(temporary, { force: true });
      throw error;
    }
    await syncDirectory(layout.seals);
  });
}

/** Names of all sealed models. */
export async function listSeals(layout: StoreLayout): Promise<readonly string[]> {
  const names = await readdir(layout.seals).catch(() => []);
  return names
    .filter((name) => !name.startsWith(".") && name.endsWith(".json"))
    .map((name) => name.slice(0, -5));
}
