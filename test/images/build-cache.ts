// Keeps what is slow to make outside the checkout, under a name that is the hash of what it was made from.
// Safe with several processes at once and after a kill: an entry is made aside and renamed in whole.

import { createHash } from "node:crypto";
import { mkdir, mkdtemp, readdir, readFile, rename, rm, stat, utimes } from "node:fs/promises";
import { homedir } from "node:os";
import path from "node:path";

const keptEntries = 4;
const unusedForMs = 60 * 60 * 1000;

/** The folder that test/cluster/cache.ts names too, looked up at each call so that a test can have one of its own. */
export function cacheDirectory(): string {
  return path.join(process.env["XDG_CACHE_HOME"] ?? path.join(homedir(), ".cache"), "ocimodel");
}

const lastUsedMs = (target: string): Promise<number> =>
  stat(target).then(
    (found) => found.mtimeMs,
    () => Number.NaN,
  );

/** Removes all but the newest entries, and what killed processes left; never what was used within the hour. */
async function removeUnused(kindDirectory: string): Promise<void> {
  const names = await readdir(kindDirectory);
  const used = await Promise.all(
    names.map(async (name) => {
      const target = path.join(kindDirectory, name);
      return { target, partial: name.startsWith("."), usedAtMs: await lastUsedMs(target) };
    }),
  );
  const entries = used.filter((entry) => !entry.partial).toSorted((a, b) => b.usedAtMs - a.usedAtMs);
  const candidates = [...entries.slice(keptEntries), ...used.filter((entry) => entry.partial)];
  const unused = candidates.filter((entry) => entry.usedAtMs < Date.now() - unusedForMs);
  await Promise.all(
    unused.map((entry) => rm(entry.target, { recursive: true, force: true }).catch(() => {})),
  );
}

/**
 * The directory made by `fill` for this key; made now if there is none. `fill` gets an empty directory on the same file system.
 * Two processes that make the same entry at once do the work twice and keep one result.
 */
export async function cachedDirectory(
  kind: string,
  key: string,
  fill: (directory: string) => Promise<void>,
): Promise<string> {
  const kindDirectory = path.join(cacheDirectory(), kind);
  const entry = path.join(kindDirectory, key);
  const now = new Date();
  const present = await utimes(entry, now, now).then(
    () => true,
    () => false,
  );
  if (present) return entry;
  await mkdir(kindDirectory, { recursive: true });
  await removeUnused(kindDirectory);
  const partial = await mkdtemp(path.join(kindDirectory, ".partial-"));
  try {
    await fill(partial);
    await rename(partial, entry).catch(async (error: unknown) => {
      if (Number.isNaN(await lastUsedMs(entry))) throw error;
    });
    return entry;
  } finally {
    await rm(partial, { recursive: true, force: true });
  }
}

async function filesUnder(target: string): Promise<readonly string[]> {
  const found = await stat(target).catch(() => undefined);
  if (found === undefined) return [];
  if (!found.isDirectory()) return [target];
  const names = await readdir(target, { recursive: true, withFileTypes: true });
  return names
    .filter((name) => name.isFile() && !name.name.endsWith(".test.ts"))
    .map((name) => path.join(name.parentPath, name.name))
    .filter((file) => !file.includes("/node_modules/"));
}

/**
 * Hash over names and contents of files, of the files in directories (tests and node_modules left out), and of plain texts; short
 * enough for a file name.
 */
export async function contentKey(
  root: string,
  targets: readonly string[],
  texts: readonly string[] = [],
): Promise<string> {
  const lists = await Promise.all(targets.map((target) => filesUnder(path.join(root, target))));
  const files = lists.flat().toSorted();
  const contents = await Promise.all(files.map((file) => readFile(file)));
  const hash = createHash("sha256").update(JSON.stringify(texts));
  for (const [index, file] of files.entries()) {
    const content = contents[index] ?? Buffer.alloc(0);
    hash.update(`\n${path.relative(root, file)}\n${content.length}\n`).update(content);
  }
  return hash.digest("hex").slice(0, 32);
}
