// How much a container may still write to a volume in RAM: every byte there counts against its memory limit.

import { readFile } from "node:fs/promises";
import { join } from "node:path";

/** `f_type` of a tmpfs, Linux `magic.h`. */
const tmpfsType = 0x01021994;

/** Cgroup v2 first, then v1: the file of the limit and that of what is used. */
const limitFiles: readonly (readonly [limit: string, used: string])[] = [
  ["memory.max", "memory.current"],
  ["memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"],
];

/** Limits at or above this are none: cgroup v1 writes the largest multiple of a page. */
const unlimitedBytes = 2 ** 62;

/** Whether a file system (`statfs`) keeps its files in RAM. */
export function isInMemory(fileSystem: { readonly type: number }): boolean {
  return fileSystem.type === tmpfsType;
}

/** Bytes that the container's memory limit leaves; undefined when it has none, or none can be read. */
export async function memoryRoom(root = "/sys/fs/cgroup"): Promise<number | undefined> {
  const number = async (file: string): Promise<number> =>
    Number((await readFile(join(root, file), "utf8")).trim());
  for (const [limitFile, usedFile] of limitFiles) {
    try {
      const limit = await number(limitFile);
      // "max" is no number: there is no limit.
      if (Number.isNaN(limit) || limit >= unlimitedBytes) return undefined;
      return Math.max(0, limit - (await number(usedFile)));
    } catch {
      continue;
    }
  }
  return undefined;
}
