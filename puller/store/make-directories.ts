// Directories with their parents. Node's own recursive mkdir never returns where a directory cannot be made although its parent is
// there, as below a mount whose directory was removed.

import { mkdirSync, statSync } from "node:fs";
import { mkdir, stat } from "node:fs/promises";
import { dirname } from "node:path";

const isErrno = (error: unknown, code: string): boolean => (error as NodeJS.ErrnoException).code === code;

/** Makes a directory and what is missing above it; one that is there is no error. Fails with the errno of the call that failed. */
export async function makeDirectories(path: string): Promise<void> {
  try {
    await mkdir(path);
  } catch (error) {
    if (isErrno(error, "EEXIST")) {
      if ((await stat(path)).isDirectory()) return;
      throw error;
    }
    const parent = dirname(path);
    if (!isErrno(error, "ENOENT") || parent === path) throw error;
    await makeDirectories(parent);
    await mkdir(path).catch((again: unknown) => {
      if (!isErrno(again, "EEXIST")) throw again;
    });
  }
}

/** The same, at once. */
export function makeDirectoriesSync(path: string): void {
  try {
    mkdirSync(path);
  } catch (error) {
    if (isErrno(error, "EEXIST")) {
      if (statSync(path).isDirectory()) return;
      throw error;
    }
    const parent = dirname(path);
    if (!isErrno(error, "ENOENT") || parent === path) throw error;
    makeDirectoriesSync(parent);
    try {
      mkdirSync(path);
    } catch (again) {
      if (!isErrno(again, "EEXIST")) throw again;
    }
  }
}
