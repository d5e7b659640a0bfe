// Makes names durable: a rename is safe from a power loss only when its directory was synced.

import { open } from "node:fs/promises";
import type { VolumeFile } from "./volume-calls.ts";

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

/** Writes all bytes at a position; a short write is continued, one of nothing fails with EIO. */
export async function writeWhole(handle: VolumeFile, bytes: Uint8Array, position: number): Promise<void> {
  let written = 0;
  while (written < bytes.length) {
    const { bytesWritten } = await handle.write(bytes, written, bytes.length - written, position + written);
    if (bytesWritten === 0) throw Object.assign(new Error("a write of no bytes"), { code: "EIO" });
    written += bytesWritten;
  }
}
