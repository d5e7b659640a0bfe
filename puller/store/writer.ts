// Which process wrote a file, told by the file's name: its machine, the run of that machine, its number and its start.

import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { hostname } from "node:os";

/** Start time of a process in clock ticks; with the pid it names a process for good. Empty when it is gone or not to be seen. */
export async function startTicks(pid: number | string): Promise<string> {
  try {
    const text = await readFile(`/proc/${pid}/stat`, "utf8");
    return text.slice(text.lastIndexOf(")") + 2).split(" ")[19] ?? "";
  } catch {
    return "";
  }
}

/** Eight hex digits that stand for a text in the name of a file. */
export function mark(text: string): string {
  return createHash("sha256").update(text).digest("hex").slice(0, 8);
}

/** Stands for this machine; a container that starts again keeps its host name. */
export function hostMark(): string {
  return mark(hostname());
}
