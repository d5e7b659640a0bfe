// What kinds of file systems are known to be on a disk or in the memory of this machine.

import { statfs } from "node:fs/promises";

/** `f_type`, Linux `magic.h`: ext2 to ext4, XFS, Btrfs, tmpfs, overlay. */
const localTypes: ReadonlySet<number> = new Set([0xef53, 0x58465342, 0x9123683e, 0x01021994, 0x794c7630]);

/** Whether a call on this path waits for no other machine. What cannot be told is taken for no. */
export async function isLocalFileSystem(path: string): Promise<boolean> {
  const found = await statfs(path).catch(() => undefined);
  return found !== undefined && localTypes.has(found.type);
}
