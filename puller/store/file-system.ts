// What kinds of file systems are known to be on a disk or in the memory of this machine.

import { statfs } from "node:fs/promises";
import type { StoreLayout } from "./layout.ts";
import { isInMemory } from "./memory-room.ts";

/** `f_type`, Linux `magic.h`: ext2 to ext4, XFS, Btrfs, overlay. */
const diskTypes: ReadonlySet<number> = new Set([0xef53, 0x58465342, 0x9123683e, 0x794c7630]);

/** What calls on this path may wait for. What cannot be told is taken for another machine. */
export async function fileSystemOf(path: string): Promise<Pick<StoreLayout, "isLocal" | "isInMemory">> {
  const found = await statfs(path).catch(() => undefined);
  if (found === undefined) return { isLocal: false, isInMemory: false };
  const inMemory = isInMemory(found);
  return { isLocal: inMemory || diskTypes.has(found.type), isInMemory: inMemory };
}
