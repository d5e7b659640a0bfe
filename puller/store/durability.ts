// Makes names durable: a rename is safe from a power loss only when its directory was synced.

import { open } from "node:fs/promises";

/** Syncs a directory. File systems that cannot sync directories (EINVAL) need not be asked. */
export async function syncDirectory(path: string): Promise<void> {
  const handle = await open(path, "r");
  try {
    await handle.sync();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EINVAL") throw error;
  } finally {
    await handle.close();
  }
}
