// The cache outside the checkout, files written in whole, and locks that end with their holder. Knows nothing of what is cached.

import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { homedir } from "node:os";
import { dirname, join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";

/** Folder for what is expensive to make and depends only on files of the project. */
export const cacheDirectory = join(process.env["XDG_CACHE_HOME"] ?? join(homedir(), ".cache"), "ocimodel");

/** Whether a process with this id and start time still runs; guards against reused ids. */
export function isAlive(owner: { readonly pid: number; readonly startTicks: string }): boolean {
  return owner.startTicks !== "" && startTicks(owner.pid) === owner.startTicks;
}

/** Field 22 of /proc/<pid>/stat: with the pid it names a process for good. Empty when it is gone (or only waits to be reaped). */
export function startTicks(pid: number): string {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, "utf8");
    const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
    return fields[0] === "Z" ? "" : (fields[19] ?? "");
  } catch {
    return "";
  }
}

/** Writes a file so that a reader, also after a kill, sees the old content or the new one. */
export function writeWhole(file: string, content: string): void {
  mkdirSync(dirname(file), { recursive: true });
  const temporary = `${file}.${process.pid}`;
  writeFileSync(temporary, content);
  renameSync(temporary, file);
}

export type LockOptions = {
  readonly signal?: AbortSignal;
  /** `machine` for what there is once per machine (packages, the node); `cache`, the default, for what is in this cache. */
  readonly scope?: "cache" | "machine";
};

/** The lock if it is free now: a socket in Linux's abstract namespace, which the kernel frees however its holder ends. */
export async function tryLock(name: string, options: LockOptions = {}): Promise<(() => void) | undefined> {
  const scope =
    options.scope === "machine" ? "machine" : createHash("sha256").update(cacheDirectory).digest("hex");
  const server = createServer((socket) => {
    socket.destroy();
  });
  return new Promise((resolve, reject) => {
    server.once("error", (error: NodeJS.ErrnoException) => {
      if (error.code === "EADDRINUSE") resolve(undefined);
      else reject(error);
    });
    server.listen(`\0ocimodel/${scope.slice(0, 16)}/${name}`, () => {
      server.unref();
      resolve(() => {
        server.close();
      });
    });
  });
}

/** Takes a lock, waiting for its holder, and says so when that takes long. Returns its release. */
export async function takeLock(name: string, options: LockOptions = {}): Promise<() => void> {
  for (let attempt = 0; ; attempt += 1) {
    options.signal?.throwIfAborted();
    const release = await tryLock(name, options);
    if (release !== undefined) return release;
    if (attempt === 25) console.error(`waiting for another run that holds the lock "${name}"`);
    await delay(200, undefined, options.signal === undefined ? {} : { signal: options.signal });
  }
}

/** Runs `work` while holding the lock. */
export async function withLock<T>(
  name: string,
  work: () => Promise<T>,
  options: LockOptions = {},
): Promise<T> {
  const release = await takeLock(name, options);
  try {
    return await work();
  } finally {
    release();
  }
}
