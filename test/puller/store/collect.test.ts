// Garbage collection on a volume on which others work: what they take up at the last moment stays, and so does what is young.

import {
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  renameSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import type * as FilePromises from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import type { Digest } from "../../../puller/oci/types.ts";
import { collectGarbage, type GcOptions } from "../../../puller/store/gc.ts";
import { blobPath, modelDirectory, sealFile, type StoreLayout } from "../../../puller/store/layout.ts";
import { noteUse } from "../../../puller/store/note-use.ts";
import { openStore } from "../../../puller/store/open-store.ts";
import { findPublished } from "../../../puller/pull/warm.ts";
import { stamp, stampedFile } from "../../../puller/store/trust.ts";
import { digestOf } from "../artifact/manifest-builder.ts";
import { noise } from "../store-assertions.ts";

const hooks = vi.hoisted(() => ({
  beforeRename: async (_to: string): Promise<void> => Promise.resolve(),
  afterRename: async (_from: string): Promise<void> => Promise.resolve(),
  beforeRemoval: (_path: string): void => undefined,
}));
vi.mock("node:fs/promises", async (original) => {
  const real = await original<typeof FilePromises>();
  return {
    ...real,
    rename: async (from: string, to: string) => {
      await hooks.beforeRename(to);
      await real.rename(from, to);
      await hooks.afterRename(from);
    },
    rm: async (path: string, how: object) => {
      hooks.beforeRemoval(path);
      await real.rm(path, how);
    },
  };
});

const bytes = noise("collect", 1_000);
const digest = digestOf(bytes);
const name = digest.replace("sha256:", "");
const content = { digest, sizeBytes: bytes.length };
const options: GcOptions = { minimumAgeMs: 0, keep: new Set(), unusedModels: "remove" };
const minute: GcOptions = { ...options, minimumAgeMs: 60_000 };

let root = "";
let layout: StoreLayout;
beforeEach(async () => {
  root = mkdtempSync(join(tmpdir(), "ocimodel-collect-"));
  layout = await openStore(root);
  mkdirSync(join(layout.blobs, "sha256"), { recursive: true });
  writeFileSync(blobPath(layout, digest), bytes, { mode: 0o444 });
  mkdirSync(modelDirectory(layout, name));
  writeFileSync(join(modelDirectory(layout, name), "m"), bytes, { mode: 0o444 });
  const files = [{ path: "m", sizeBytes: bytes.length, digest }];
  writeFileSync(sealFile(layout, name), JSON.stringify({ v: 1, name, digest, files, blobs: [digest] }));
  hooks.beforeRename = async () => Promise.resolve();
  hooks.afterRename = async () => Promise.resolve();
  hooks.beforeRemoval = () => undefined;
  await delay(20);
});
afterEach(() => {
  rmSync(root, { recursive: true, force: true });
});
const old = (path: string): void => {
  const at = new Date(Date.now() - 3_600_000);
  utimesSync(path, at, at);
};

test("a model and a blob that a puller says it uses, after they were set aside, go back to where they were", async () => {
  hooks.afterRename = async (from) => {
    // By the volume's clock after the collection began.
    if (from === modelDirectory(layout, name))
      await delay(20).then(async () => noteUse(layout, name, [digest]));
  };
  expect(await collectGarbage(layout, options)).toMatchObject({ removedModels: [], removedBlobs: 0 });
  expect(existsSync(join(modelDirectory(layout, name), "m"))).toBe(true);
  expect(existsSync(sealFile(layout, name))).toBe(true);
  expect(existsSync(blobPath(layout, digest))).toBe(true);
  hooks.afterRename = async () => Promise.resolve();
  hooks.beforeRemoval = () => undefined;
  await delay(20);
  expect(await collectGarbage(layout, options)).toMatchObject({ removedModels: [name], removedBlobs: 1 });
  expect(
    [layout.models, layout.seals, layout.uses, layout.staging].flatMap((each) => readdirSync(each)),
  ).toEqual([]);
});

test("a start says that it uses the model before it looks at it", async () => {
  const found = await findPublished(layout, { name, digest }, new AbortController().signal);
  expect(found?.name).toBe(name);
  expect(await collectGarbage(layout, minute)).toMatchObject({ removedModels: [], removedBlobs: 0 });
  // Also when what it finds there is not to be used: it will make it anew.
  rmSync(join(layout.uses, name));
  rmSync(join(modelDirectory(layout, name), "m"));
  expect(await findPublished(layout, { name, digest }, new AbortController().signal)).toBeUndefined();
  expect(readdirSync(layout.uses)).toEqual([name]);
});

test("partials, tickets and what was set aside stay until they are old, by their own times", async () => {
  const partial = join(layout.ingest, name, "x.part");
  const ticket = join(layout.turns, name, "ticket");
  for (const each of [partial, ticket]) {
    mkdirSync(join(each, ".."));
    writeFileSync(each, "x");
  }
  const staged = join(layout.staging, "0123456789abcdef.gone");
  writeFileSync(staged, "x");
  // What a blob is called aside has the time of the blob's content: the move itself is what counts.
  old(staged);
  expect(await collectGarbage(layout, minute)).toMatchObject({ removedPartials: 0 });
  expect([partial, ticket, staged].map((each) => existsSync(each))).toEqual([true, true, true]);
  old(partial);
  old(ticket);
  expect(await collectGarbage(layout, minute)).toMatchObject({ removedPartials: 1 });
  expect([partial, ticket, staged].map((each) => existsSync(each))).toEqual([false, false, true]);
});

test("a record of use goes when it is old and its model is not there", async () => {
  const [gone, coming] = ["b".repeat(64), "c".repeat(64)];
  for (const each of [name, gone, coming]) await noteUse(layout, each, []);
  old(join(layout.uses, name));
  old(join(layout.uses, gone));
  await collectGarbage(layout, { ...minute, unusedModels: "keep" });
  expect(readdirSync(layout.uses).sort()).toEqual([name, coming].sort());
});

test("stamps of what is there stay, those of other files go, and nothing is stamped that was not", async () => {
  await stamp(
    layout,
    blobPath(layout, digest),
    content,
    lstatSync(blobPath(layout, digest), { bigint: true }),
  );
  writeFileSync(join(layout.stamps, `${name}-1`), "x");
  await collectGarbage(layout, minute);
  expect(await stampedFile(layout, blobPath(layout, digest), content)).toBeDefined();
  expect(readdirSync(layout.stamps)).toHaveLength(1);
  // The model goes, its blob is needed by another one: that it was not stamped stays so.
  rmSync(layout.stamps, { recursive: true });
  await noteUse(layout, "d".repeat(64), [digest as Digest]);
  hooks.afterRename = async () => Promise.resolve();
  await collectGarbage(layout, { ...options, keep: new Set() });
  expect(await stampedFile(layout, blobPath(layout, digest), content)).toBeUndefined();
});

test("a blob that loses a link, since a model goes, is as good as before: it is not read again", async () => {
  rmSync(join(modelDirectory(layout, name), "m"));
  linkSync(blobPath(layout, digest), join(modelDirectory(layout, name), "m"));
  await stamp(
    layout,
    blobPath(layout, digest),
    content,
    lstatSync(blobPath(layout, digest), { bigint: true }),
  );
  await noteUse(layout, "d".repeat(64), [digest]);
  await delay(20);
  const [unused, used] = [{ ...options, minimumAgeMs: 10 }, join(layout.uses, "d".repeat(64))];
  const soon = new Date(Date.now() + 60_000);
  utimesSync(used, soon, soon);
  expect(await collectGarbage(layout, unused)).toMatchObject({ removedModels: [name], removedBlobs: 0 });
  expect(await stampedFile(layout, blobPath(layout, digest), content)).toBeDefined();
});

test("a file that somebody puts in the place of such a blob meanwhile is not stamped for it", async () => {
  const blob = blobPath(layout, digest);
  await stamp(layout, blob, content, lstatSync(blob, { bigint: true }));
  await noteUse(layout, "d".repeat(64), [digest]);
  const soon = new Date(Date.now() + 60_000);
  utimesSync(join(layout.uses, "d".repeat(64)), soon, soon);
  hooks.afterRename = async (from) => {
    if (from !== modelDirectory(layout, name)) return;
    writeFileSync(`${blob}.other`, noise("another file of ours", bytes.length), { mode: 0o444 });
    renameSync(`${blob}.other`, blob);
    return Promise.resolve();
  };
  expect(await collectGarbage(layout, options)).toMatchObject({ removedModels: [name], removedBlobs: 0 });
  expect(await stampedFile(layout, blob, content)).toBeUndefined();
});

test("stamps of files of a model that is about to be put in its place stay", async () => {
  const aside = join(layout.staging, "0123456789abcdef");
  mkdirSync(join(aside, "folder"), { recursive: true });
  const unpacked = join(aside, "folder", "unpacked");
  writeFileSync(unpacked, bytes, { mode: 0o444 });
  await stamp(layout, unpacked, content, lstatSync(unpacked, { bigint: true }));
  await collectGarbage(layout, minute);
  const placed = join(layout.models, "e".repeat(64));
  renameSync(aside, placed);
  expect(await stampedFile(layout, join(placed, "folder", "unpacked"), content)).toBeDefined();
});

test("a stamp that another puller is writing stays: a large file would be read again for want of it", async () => {
  const blob = blobPath(layout, digest);
  hooks.beforeRename = async (to) => {
    if (!to.startsWith(layout.stamps)) return;
    await noteUse(layout, name, [digest]);
    expect(await collectGarbage(layout, minute)).toMatchObject({ removedModels: [], removedBlobs: 0 });
  };
  const handedOver = { ...layout, isLocal: false, isInMemory: false };
  await stamp(handedOver, blob, content, lstatSync(blob, { bigint: true }));
  expect(await stampedFile(layout, blob, content)).toBeDefined();
  expect([layout.stamps, layout.staging].map((each) => readdirSync(each).length)).toEqual([1, 0]);
});

test("what somebody else keeps beside the models is no model", async () => {
  mkdirSync(join(layout.models, "by-hand"));
  expect(await collectGarbage(layout, options)).toMatchObject({ removedModels: [name] });
  expect(readdirSync(layout.models)).toEqual(["by-hand"]);
});

test.each(["ENOTEMPTY", "EBUSY"])(
  "a model of which a reader has a file open on a file server (%s) stays aside, and the rest goes; a disk that fails is told",
  async (code) => {
    let fails = code;
    hooks.beforeRemoval = (path) => {
      if (path.startsWith(layout.staging) && existsSync(join(path, "m")))
        throw Object.assign(new Error(fails), { code: fails });
    };
    expect(await collectGarbage(layout, options)).toMatchObject({ removedModels: [name], removedBlobs: 1 });
    expect(existsSync(modelDirectory(layout, name))).toBe(false);
    expect(readdirSync(layout.staging)).toHaveLength(1);
    fails = "EIO";
    await delay(20);
    await expect(collectGarbage(layout, options)).rejects.toMatchObject({ code: "StorageFailed" });
    hooks.beforeRemoval = () => undefined;
    await collectGarbage(layout, options);
    expect(readdirSync(layout.staging)).toEqual([]);
  },
);
