// The build cache: one result per key, nothing half-made, old entries removed.

import { mkdir, mkdtemp, readdir, readFile, rm, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { cachedDirectory, cacheDirectory, contentKey } from "./build-cache.ts";

let root: string;
beforeEach(async () => {
  root = await mkdtemp(path.join(tmpdir(), "ocimodel-cache-"));
  vi.stubEnv("XDG_CACHE_HOME", root);
});
afterEach(async () => {
  vi.unstubAllEnvs();
  await rm(root, { recursive: true, force: true });
});

const fillWith =
  (text: string) =>
  async (directory: string): Promise<void> =>
    await writeFile(path.join(directory, "text"), text);

test("fills an entry once", async () => {
  const fill = vi.fn(fillWith("made"));
  const entries = [await cachedDirectory("kind", "key", fill), await cachedDirectory("kind", "key", fill)];
  expect(entries).toEqual([
    path.join(cacheDirectory(), "kind", "key"),
    path.join(cacheDirectory(), "kind", "key"),
  ]);
  expect(fill).toHaveBeenCalledTimes(1);
});

test("two at once end with one whole entry", async () => {
  const entries = await Promise.all(
    ["one", "two", "three"].map((text) => cachedDirectory("kind", "key", fillWith(text))),
  );
  expect(new Set(entries).size).toBe(1);
  expect(await readdir(path.join(root, "ocimodel", "kind"))).toEqual(["key"]);
  expect(["one", "two", "three"]).toContain(await readFile(path.join(entries[0] ?? "", "text"), "utf8"));
});

test("a failure leaves nothing, and the next call tries again", async () => {
  const failing = async (directory: string): Promise<void> => {
    await fillWith("half")(directory);
    throw new Error("out of luck");
  };
  await expect(cachedDirectory("kind", "key", failing)).rejects.toThrow("out of luck");
  expect(await readdir(path.join(root, "ocimodel", "kind"))).toEqual([]);
  const entry = await cachedDirectory("kind", "key", fillWith("whole"));
  expect(await readFile(path.join(entry, "text"), "utf8")).toBe("whole");
});

test("removes what killed processes left and all but four old entries, never what was used within the hour", async () => {
  const kind = path.join(root, "ocimodel", "kind");
  const longAgo = (hours: number): Date => new Date(Date.now() - hours * 3_600_000);
  for (const [name, hours] of [
    [".partial-dead", 2],
    [".partial-alive", 0],
    ["a", 2],
    ["b", 3],
    ["c", 4],
    ["d", 5],
    ["e", 6],
    ["f", 0],
  ] as const) {
    await mkdir(path.join(kind, name), { recursive: true });
    await utimes(path.join(kind, name), longAgo(hours), longAgo(hours));
  }
  await cachedDirectory("kind", "new", fillWith("new"));
  expect((await readdir(kind)).toSorted()).toEqual([".partial-alive", "a", "b", "c", "f", "new"]);
});

test("the key changes with content, name and added texts, and not with tests or packages", async () => {
  const key = (): Promise<string> => contentKey(root, ["tree", "absent"], ["text"]);
  const write = async (name: string, text: string): Promise<void> => {
    await mkdir(path.dirname(path.join(root, "tree", name)), { recursive: true });
    await writeFile(path.join(root, "tree", name), text);
  };
  await write("a.ts", "1");
  const first = await key();
  await write("a.test.ts", "x");
  await write("node_modules/b/index.js", "x");
  expect(await key()).toBe(first);
  await write("a.ts", "2");
  const second = await key();
  await write("sub/a.ts", "2");
  const third = await key();
  expect(new Set([first, second, third, await contentKey(root, ["tree"], ["other"])]).size).toBe(4);
});
