// Prepares a volume: our directories and the version of the layout.

import { randomBytes } from "node:crypto";
import { constants } from "node:fs";
import { access, chmod, lstat, mkdir, readFile, stat, unlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { makeDirectories } from "./make-directories.ts";
import { AppError } from "../oci/errors.ts";
import { fileSystemOf } from "./file-system.ts";
import { readFlags, storeLayout, storeVersion, type StoreLayout } from "./layout.ts";
import { onVolume, storageError } from "./storage-error.ts";

/** A store that must be there already: for commands that only look, a misspelt directory is no empty store. */
export async function openExistingStore(root: string): Promise<StoreLayout> {
  const isStore = await stat(storeLayout(root).versionFile).then(
    () => true,
    (error: NodeJS.ErrnoException) => {
      if (error.code === "ENOENT" || error.code === "ENOTDIR") return false;
      throw storageError(error, `opening the store ${root}`);
    },
  );
  if (!isStore) {
    throw new AppError(
      "InvalidUsage",
      `${root} holds no store; name the directory that pull --store was given`,
    );
  }
  return openStore(root);
}

/**
 * Makes what is missing. A store of another version is refused with StorageFailed; nothing of it is touched. A store that is
 * there and cannot be written to is opened read-only.
 */
export async function openStore(root: string): Promise<StoreLayout> {
  const layout = storeLayout(root);
  return onVolume(`preparing the store ${root}`, async () => {
    const isReadOnly = await mayOnlyRead(layout);
    if (!isReadOnly) await makeVersioned(layout);
    await refuseOtherVersion(layout);
    if (isReadOnly) return { ...layout, isReadOnly };
    const { blobs, ingest, staging, seals, turns, uses, stamps, models } = layout;
    for (const path of [blobs, ingest, staging, seals, turns, uses, stamps, models])
      await makeDirectory(path);
    return { ...layout, ...(await probe(layout)), ...(await fileSystemOf(layout.own)) };
  });
}

async function makeVersioned({ root, own, versionFile }: StoreLayout): Promise<void> {
  await makeDirectories(root).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== "ENOENT") throw error;
    throw new AppError(
      "StorageFailed",
      `no directory can be made at ${root} (ENOENT); give --store a directory on a volume`,
      { cause: error, context: { errno: "ENOENT" }, retry: "never" },
    );
  });
  await makeDirectory(own);
  try {
    await writeFile(versionFile, `${storeVersion}\n`, { flag: "wx" });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
  }
}

async function refuseOtherVersion({ root, versionFile }: StoreLayout): Promise<void> {
  if (!(await lstat(versionFile)).isFile())
    throw new AppError(
      "StorageFailed",
      `${versionFile} is no file of its own; remove it, and the puller makes a new one`,
    );
  const found = (await readFile(versionFile, { encoding: "utf8", flag: readFlags })).trim();
  // Empty: another process is writing it at this moment.
  if (found === "" || found === String(storeVersion)) return;
  throw new AppError(
    "StorageFailed",
    `the store ${root} has layout version ${JSON.stringify(found.slice(0, 20))}; this puller knows ${storeVersion}. Use a puller of that version, or another volume`,
  );
}

/** Makes a directory. A link in its place would lead out of the volume, or into somebody else's store. */
async function makeDirectory(path: string): Promise<void> {
  // Not with its parents: of a read-only volume, a recursive mkdir says ENOENT.
  await mkdir(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== "EEXIST") throw error;
  });
  if ((await lstat(path)).isDirectory()) return;
  throw new AppError(
    "StorageFailed",
    `${path} is no directory of its own but a link or a file; remove it, and the puller makes a new one`,
  );
}

/** Writes a file to see what the volume makes of it. */
async function probe({ staging }: StoreLayout): Promise<Pick<StoreLayout, "ownerId" | "hasModes">> {
  const path = join(staging, `.${randomBytes(8).toString("hex")}.probe`);
  await writeFile(path, "-", { flag: "wx", mode: 0o644 });
  try {
    await chmod(path, 0o444);
    const { uid, mode } = await lstat(path, { bigint: true });
    return { ownerId: uid, hasModes: (mode & 0o777n) === 0o444n };
  } finally {
    await unlink(path).catch(() => undefined);
  }
}

/** Whether a store is there that this process may only read. */
async function mayOnlyRead({ own, versionFile }: StoreLayout): Promise<boolean> {
  try {
    await access(own, constants.W_OK);
    return false;
  } catch (error) {
    // Not there at this moment is no reason: another process may be making it.
    if (!["EROFS", "EACCES"].includes((error as NodeJS.ErrnoException).code ?? "")) return false;
    return access(versionFile, constants.R_OK).then(
      () => true,
      () => false,
    );
  }
}
