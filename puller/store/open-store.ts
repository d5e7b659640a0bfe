// Prepares a volume: our directories and the version of the layout.

import { mkdir, open, readFile, stat } from "node:fs/promises";
import { AppError } from "../oci/errors.ts";
import { storeLayout, storeVersion, type StoreLayout } from "./layout.ts";
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

/** Makes what is missing. A store of another version is refused with StorageFailed; nothing of it is touched. */
export async function openStore(root: string): Promise<StoreLayout> {
  const layout = storeLayout(root);
  await onVolume(`preparing the store ${root}`, async () => {
    await mkdir(root, { recursive: true });
    // One by one, parents first: of a read-only volume, a recursive mkdir says ENOENT.
    const { own, blobs, ingest, staging, seals, models } = layout;
    for (const path of [own, blobs, ingest, staging, seals, models]) {
      await mkdir(path).catch((error: NodeJS.ErrnoException) => {
        if (error.code !== "EEXIST") throw error;
      });
    }
    const handle = await open(layout.versionFile, "wx").catch((error: NodeJS.ErrnoException) => {
      if (error.code === "EEXIST") return undefined;
      throw error;
    });
    await handle?.writeFile(`${storeVersion}\n`);
    await handle?.close();
    const found = (await readFile(layout.versionFile, "utf8")).trim();
    // Empty: another process is writing it at this moment.
    if (found !== "" && found !== String(storeVersion)) {
      throw new AppError(
        "StorageFailed",
        `the store ${root} has layout version ${JSON.stringify(found.slice(0, 20))}; this puller knows ${storeVersion}. Use a puller of that version, or another volume`,
      );
    }
  });
  return layout;
}
