// The seal of a published model: what it holds. Written last; with it, a start needs no look at any byte.

import { randomBytes } from "node:crypto";
import { lstat, mkdir, open, readFile, readdir, readlink, rename, rm } from "node:fs/promises";
import { join, relative } from "node:path";
import * as z from "zod";
import { safePath } from "../artifact/safe-path.ts";
import { isDigest } from "../oci/digest.ts";
import type { Digest } from "../oci/types.ts";
import { syncDirectory } from "./durability.ts";
import { modelDirectory, readFlags, sealFile, type StoreLayout } from "./layout.ts";
import { onVolume } from "./storage-error.ts";
import { isTrusted } from "./trust.ts";

const digest = z.custom<Digest>(isDigest);

/** Whether a path is one that this store writes: others who can write to the volume must not name files outside of the model. */
function isModelPath(path: unknown): path is string {
  try {
    return typeof path === "string" && safePath(path) === path;
  } catch {
    return false;
  }
}

const schema = z.strictObject({
  v: z.literal(1),
  name: z.string(),
  digest,
  /** Everything in the model's directory. */
  files: z.array(
    z.strictObject({
      path: z.custom<string>(isModelPath),
      sizeBytes: z.int().min(0),
      /** Of the content; absent for symbolic links. */
      digest: digest.optional(),
      /** Of a symbolic link: what it points to. */
      target: z.string().optional(),
    }),
  ),
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
    const parsed = schema.safeParse(JSON.parse(await readFile(path, { encoding: "utf8", flag: readFlags })));
    return parsed.success && parsed.data.name === name ? parsed.data : undefined;
  } catch {
    return undefined;
  }
}

/** Whether everything the seal names lies in the model's directory, by kind and size, and nothing else; reads no content. */
export async function isSealedModelWhole(layout: StoreLayout, seal: Seal): Promise<boolean> {
  const directory = modelDirectory(layout, seal.name);
  if ((await lstat(directory).catch(() => undefined))?.isDirectory() !== true) return false;
  for (const { path, sizeBytes, target } of seal.files) {
    const status = await lstat(join(directory, path)).catch(() => undefined);
    if (status === undefined || !(status.isFile() || status.isSymbolicLink())) return false;
    if (status.isFile() && status.size !== sizeBytes) return false;
    if (target !== undefined && (await readlink(join(directory, path)).catch(() => "")) !== target)
      return false;
  }
  const named = new Set(seal.files.map(({ path }) => path));
  return (await pathsBelow(directory)).every((path) => named.has(path));
}

/** Whether a sealed model is whole and each of its files can be used as it is; what was touched is read again. */
export async function isSealedModelTrusted(
  layout: StoreLayout,
  seal: Seal,
  signal: AbortSignal,
): Promise<boolean> {
  if (!(await isSealedModelWhole(layout, seal))) return false;
  for (const { path, sizeBytes, digest: content } of seal.files) {
    if (content === undefined) continue;
    const file = join(modelDirectory(layout, seal.name), path);
    if (!(await isTrusted(layout, file, { digest: content, sizeBytes }, signal))) return false;
  }
  return true;
}

/** All that is no directory, relative to it. */
async function pathsBelow(directory: string): Promise<readonly string[]> {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => !entry.isDirectory())
    .map((entry) => relative(directory, join(entry.parentPath, entry.name)));
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
