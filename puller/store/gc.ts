// Removes what no sealed model needs. Cautious: what is young, or may be in the making, stays.

import { lstat, readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import type { StoreLayout } from "./layout.ts";
import { listSeals, readSeal } from "./seal.ts";
import { onVolume } from "./storage-error.ts";

export type GcReport = {
  readonly removedBlobs: number;
  readonly removedPartials: number;
  readonly freedBytes: number;
};

/**
 * Removes blobs that no seal names and partial or staged files, all only when they are older than `minimumAgeMs`: a pull
 * in progress has blobs that no seal names yet. An unreadable seal keeps every blob.
 */
export async function collectGarbage(
  layout: StoreLayout,
  minimumAgeMs: number,
  nowMs: number,
): Promise<GcReport> {
  return onVolume("collecting garbage", async () => {
    const wanted = new Set<string>();
    let isCertain = true;
    for (const name of await listSeals(layout)) {
      const seal = await readSeal(layout, name);
      if (seal === undefined) isCertain = false;
      else for (const digest of seal.blobs) wanted.add(digest);
    }
    let removedBlobs = 0;
    let removedPartials = 0;
    let freedBytes = 0;
    const isOld = (mtimeMs: number): boolean => nowMs - mtimeMs > minimumAgeMs;
    for (const algorithm of isCertain ? await readdir(layout.blobs).catch(() => []) : []) {
      for (const name of await readdir(join(layout.blobs, algorithm))) {
        const path = join(layout.blobs, algorithm, name);
        const status = await lstat(path);
        // ctime: linking a blob into a model that is being published makes it young again.
        if (wanted.has(`${algorithm}:${name}`) || !isOld(status.ctimeMs)) continue;
        await rm(path, { force: true });
        removedBlobs += 1;
        freedBytes += status.nlink === 1 ? status.size : 0;
      }
    }
    for (const directory of await readdir(layout.ingest).catch(() => [])) {
      for (const name of await readdir(join(layout.ingest, directory)).catch(() => [])) {
        const path = join(layout.ingest, directory, name);
        const status = await lstat(path);
        if (!isOld(status.mtimeMs)) continue;
        await rm(path, { force: true });
        removedPartials += 1;
        freedBytes += status.size;
      }
    }
    for (const name of await readdir(layout.staging).catch(() => [])) {
      const path = join(layout.staging, name);
      if (isOld((await lstat(path)).mtimeMs)) await rm(path, { recursive: true, force: true });
    }
    return { removedBlobs, removedPartials, freedBytes };
  });
}
