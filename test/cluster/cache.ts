// The cache outside the checkout, and locks that die with their holder. No knowledge of what is cached.

import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";

/** Folder for what is expensive to make and depends only on files of the project. */
export const cacheDirectory = join(process.env["XDG_CACHE_HOME"] ?? join(homedir(), ".cache"), "ocimodel");

/** Whether a process with this id and start time still runs; guards against reused ids. */
export function isAlive(owner: { readonly pid: number; readonly startTicks: string }): boolean {
  return startTicks(owner.pid) === owner.startTicks;
}

/** Field 22 of /proc/<pid>/stat: with the pid it names a process for good. Empty when it is gone. */
export function startTicks(pid: number): string {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, "utf8");
    return text.slice(text.lastIndexOf(")") + 2).split(" ")[19] ?? "";
  } catch {
    return "";
  }
}

type Owner = { readonly pid: number; readonly startTicks: string };

function readOwner(file: string): Owner | undefined {
  try {
    return JSON.parse(readFileSync(file, "utf8")) as Owner;
  } catch {
    return undefined;
  }
}

/** Takes a lock, waiting for a living holder; one whose holder is dead is broken. Returns its release. */
export async function takeLock(name: string, signal?: AbortSignal): Promise<() => void> {
  mkdirSync(cacheDirectory, { recursive: true });
  const file = join(cacheDirectory, `${name}.lock`);
  const me: Owner = { pid: process.pid, startTicks: startTicks(process.pid) };
  for (;;) {
    try {
      writeFileSync(file, JSON.stringify(me), { flag: "wx" });
      return () => {
        rmSync(file, { force: true });
      };
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
    }
    const owner = readOwner(file);
    if (owner !== undefined && !isAlive(owner)) rmSync(file, { force: true });
    else await delay(200, undefined, signal === undefined ? {} : { signal });
  }
}

/** Runs `work` while holding the lock. */
export async function withLock<T>(name: string, work: () => Promise<T>): Promise<T> {
  const release = await takeLock(name);
  try {
    return await work();
  } finally {
    release();
  }
}
