// The seal of a published model: what it holds. Written last; with it, a start needs no look at any byte.

import { randomBytes } from "node:crypto";
import { lstat, open, readFile, readdir, readlink, rename, rm } from "node:fs/promises";
import { join, relative } from "node:path";
import { makeDirectories } from "./make-directories.ts";
import { safePath } from "../artifact/safe-path.ts";
import { isDigest } from "../oci/digest.ts";
import type { Digest } from "../oci/types.ts";
import { syncDirectory } from "./durability.ts";
import { isHeldOpenName, modelDirectory, readFlags, sealFile, type StoreLayout } from "./layout.ts";
import { onVolume } from "./storage-error.ts";
import { isTrusted } from "./trust.ts";

type SealedFile = {
  readonly path: string;
  readonly sizeBytes: number;
  /** Of the content; absent for symbolic links. */
  readonly digest?: Digest;
  /** Of a symbolic link: what it points to. */
  readonly target?: string;
};

export type Seal = {
  readonly v: 1;
  readonly name: string;
  readonly digest: Digest;
  /** Everything in the model's directory. */
  readonly files: readonly SealedFile[];
  /** Blobs it was made from, for garbage collection. */
  readonly blobs: readonly Digest[];
  readonly entry?: string;
};

type Fields = Readonly<Record<string, (value: unknown) => boolean>>;

/** Whether a path is one that this store writes: others who can write to the volume must not name files outside of the model. */
function isModelPath(path: unknown): boolean {
  try {
    return typeof path === "string" && safePath(path) === path;
  } catch {
    return false;
  }
}

const isText = (value: unknown): boolean => typeof value === "string";
const isListOf =
  (isItem: (value: unknown) => boolean) =>
  (value: unknown): boolean =>
    Array.isArray(value) && value.every((item) => isItem(item));
const isObjectOf =
  (needed: Fields, allowed: Fields) =>
  (value: unknown): boolean =>
    typeof value === "object" &&
    value !== null &&
    !Array.isArray(value) &&
    Object.keys(needed).every((name) => Object.hasOwn(value, name)) &&
    Object.entries(value).every(([name, field]) => {
      const fields = Object.hasOwn(needed, name) ? needed : allowed;
      return Object.hasOwn(fields, name) && fields[name]?.(field) === true;
    });

const isSealedFile = isObjectOf(
  { path: isModelPath, sizeBytes: (value) => Number.isSafeInteger(value) && Number(value) >= 0 },
  { digest: isDigest, target: isText },
);
const isSealShape = isObjectOf(
  {
    v: (value) => value === 1,
    name: isText,
    digest: isDigest,
    files: isListOf(isSealedFile),
    blobs: isListOf(isDigest),
  },
  { entry: isText },
);

/**
 * Whether a value is a seal: every field and no other. By hand, and not by a schema: it is read at every start of every pod, and
 * loading the library takes longer than all the rest of it. Pure.
 */
export function isSeal(value: unknown): value is Seal {
  return isSealShape(value);
}

/** Largest seal, bytes: 4096 layers, archives with 100,000 files. */
const maxSealBytes = 64 * 1024 * 1024;

/** The seal of a model; undefined when there is none or it cannot be read, which is the same: the model is built again. */
export async function readSeal(layout: StoreLayout, name: string): Promise<Seal | undefined> {
  const path = sealFile(layout, name);
  try {
    const status = await lstat(path);
    if (!status.isFile() || status.size > maxSealBytes) return undefined;
    const parsed: unknown = JSON.parse(await readFile(path, { encoding: "utf8", flag: readFlags }));
    return isSeal(parsed) && parsed.name === name ? parsed : undefined;
  } catch {
    return undefined;
  }
}

/** Whether everything the seal names lies in the model's directory, by kind and size, and nothing else; reads no content. */
export async function isSealedModelWhole(layout: StoreLayout, seal: Seal): Promise<boolean> {
  const directory = modelDirectory(layout, seal.name);
  if ((await lstat(directory).catch(() => undefined))?.isDirectory() !== true) return false;
  const isThere = async ({ path, sizeBytes, target }: SealedFile): Promise<boolean> => {
    const status = await lstat(join(directory, path)).catch(() => undefined);
    if (status === undefined || !(status.isFile() || status.isSymbolicLink())) return false;
    if (status.isFile() && status.size !== sizeBytes) return false;
    return target === undefined || (await readlink(join(directory, path)).catch(() => "")) === target;
  };
  if (!(await everyOf(seal.files, isThere))) return false;
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
  return everyOf(seal.files, async ({ path, sizeBytes, digest }) => {
    if (digest === undefined) return true;
    return isTrusted(layout, join(modelDirectory(layout, seal.name), path), { digest, sizeBytes }, signal);
  });
}

/** Some at once: on a file server each look takes a round trip. */
const looksAtOnce = 8;

/** Whether all items are as they should be; looks at no more once one is not. */
async function everyOf<T>(items: readonly T[], isGood: (item: T) => Promise<boolean>): Promise<boolean> {
  const queue = items.values();
  let areGood = true;
  const look = async (): Promise<void> => {
    for (const item of queue) {
      if (!areGood) return;
      try {
        if (!(await isGood(item))) areGood = false;
      } catch (error) {
        areGood = false;
        throw error;
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(looksAtOnce, items.length) }, look));
  return areGood;
}

/** All that is no directory, relative to it; without what is removed and held open. */
async function pathsBelow(directory: string): Promise<readonly string[]> {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => !entry.isDirectory() && !(entry.isFile() && isHeldOpenName(entry.name)))
    .map((entry) => relative(directory, join(entry.parentPath, entry.name)));
}

export async function writeSeal(layout: StoreLayout, seal: Seal): Promise<void> {
  await onVolume("writing the seal of a model", async () => {
    await makeDirectories(layout.seals);
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
