// Prepares a volume: our directories and the version of the layout.

import { mkdir, open, readFile } from "node:fs/promises";
import { AppError } from "../oci/errors.ts";
import { storeLayout, storeVersion, type StoreLayout } from "./layout.ts";
import { onVolume } from "./storage-error.ts";

/** Makes what is missing. A store of another version is refused with StorageFailed; nothing of it is touched. */
export async function openStore(root: string): Promise<StoreLayout> {
  const layout = storeLayout(root);
  await onVolume(`preparing the store ${root}`, async () => {
    for (const path of [layout.blobs, layout.ingest, layout.staging, layout.seals, layout.models]) {
      await mkdir(path, { recursive: true });
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
