// Directories with their parents. Node's own recursive mkdir never returns where a directory cannot be made although its parent is
// there, as below a mount whose directory was removed.

import { mkdirSync, statSync, type Stats } from "node:fs";
import { mkdir, stat } from "node:fs/promises";
import { dirname } from "node:path";

const isErrno = (error: unknown, code: string): boolean => (error as NodeJS.ErrnoException).code === code;

type DirectoryCalls = {
  readonly mkdir: (path: string) => Promise<unknown>;
  readonly stat: (path: string) => Promise<Stats>;
};
const handedOver: DirectoryCalls = { mkdir, stat };
const atOnce: DirectoryCalls = {
  mkdir: async (path) => mkdirSync(path),
  stat: async (path) => statSync(path),
};

async function make(path: string, calls: DirectoryCalls): Promise<void> {
  try {
    await calls.mkdir(path);
  } catch (error) {
    if (isErrno(error, "EEXIST")) {
      if ((await calls.stat(path)).isDirectory()) return;
      throw error;
    }
    const parent = dirname(path);
    if (!isErrno(error, "ENOENT") || parent === path) throw error;
    await make(parent, calls);
    await calls.mkdir(path).catch((again: unknown) => {
      if (!isErrno(again, "EEXIST")) throw again;
    });
  }
}

/** Makes a directory and what is missing above it; one that is there is no error. Fails with the errno of the call that failed. */
export async function makeDirectories(path: string): Promise<void> {
  await make(path, handedOver);
}

/** The same by calls that block; where there is no other thread to wait for. */
export async function makeDirectoriesAtOnce(path: string): Promise<void> {
  await make(path, atOnce);
}
