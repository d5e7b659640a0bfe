// Whose a partial file is, by its name and by what the volume tells of it; and what is taken over of it.

import { spawnSync } from "node:child_process";
import {
  chmodSync,
  constants,
  copyFileSync,
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  closeSync,
  readFileSync,
  readdirSync,
  readlinkSync,
  renameSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import type * as FilePromises from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { noise, pieceBytes } from "../pull/small-pulls.ts";
import type { Descriptor } from "../../../puller/oci/types.ts";
import { bootIdentity, journalPlace } from "../../../puller/store/journal.ts";
import { blobPath, ingestDirectory, type StoreLayout } from "../../../puller/store/layout.ts";
import { openStore } from "../../../puller/store/open-store.ts";
import { lookForPartials, removeOrphans, startedBytes } from "../../../puller/store/orphans.ts";
import { Partial } from "../../../puller/store/partial.ts";
import { PieceMap } from "../../../puller/transfer/piece-map.ts";
import { hostMark, mark } from "../../../puller/store/writer.ts";
import { digestOf } from "../artifact/manifest-builder.ts";
import { sha256 } from "../store-assertions.ts";

const hooks = vi.hoisted(() => ({
  afterCopy: (_from: string, _to: string): void => undefined,
  beforeOpen: (_path: string, _flags: number): void => undefined,
  afterOpen: (_handle: FilePromises.FileHandle): void => undefined,
}));
vi.mock("node:fs/promises", async (original) => {
  const real = await original<typeof FilePromises>();
  return {
    ...real,
    copyFile: async (from: string, to: string, mode?: number) => {
      await real.copyFile(from, to, mode);
      hooks.afterCopy(from, to);
    },
    open: async (path: string, flags: number, mode?: number) => {
      hooks.beforeOpen(path, flags);
      const handle = await real.open(path, flags, mode);
      hooks.afterOpen(handle);
      return handle;
    },
  };
});

const content = noise("orphans", 300_000);
const descriptor = { digest: digestOf(content), sizeBytes: content.length } as Descriptor;
const large = noise("large orphan", 700_001);
const largeDescriptor = { digest: digestOf(large), sizeBytes: large.length } as Descriptor;
const boot = mark(bootIdentity());

let root = "";
let layout: StoreLayout;
let ingest = "";
beforeEach(async () => {
  root = mkdtempSync(join(tmpdir(), "ocimodel-orphans-"));
  layout = await openStore(root);
  ingest = ingestDirectory(layout, descriptor.digest);
  mkdirSync(ingest, { recursive: true });
  hooks.afterCopy = () => undefined;
  hooks.beforeOpen = () => undefined;
  hooks.afterOpen = () => undefined;
});
afterEach(() => {
  vi.restoreAllMocks();
  rmSync(root, { recursive: true, force: true });
});

let count = 0;
/** A file with the name of a partial; its path. */
const partialOf = (writer: string, bytes: Buffer = content.subarray(0, 100_000)): string => {
  const path = join(ingest, `${String((count += 1)).padStart(16, "0")}-${writer}.part`);
  writeFileSync(path, bytes);
  return path;
};
const dead = `${hostMark()}-${boot}-999999999-1`;
const foreign = `99999999-${boot}-1-1`;
const found = async (): Promise<readonly [orphans: number, living: number]> => {
  const { orphans, living } = await lookForPartials(layout, descriptor.digest);
  return [orphans.length, living.length];
};
const age = (path: string, seconds: number): void => {
  const at = new Date(Date.now() - seconds * 1000);
  utimesSync(path, at, at);
};

/** Notes in the journal of a large blob that a piece is there, as lanes do. */
const note = (file: string, piece: number): void => {
  const entry = Buffer.alloc(4);
  entry.writeInt32LE(pieceBytes);
  const handle = openSync(file, "r+");
  writeSync(handle, entry, 0, 4, journalPlace(new PieceMap(large.length)).done + 4 * piece);
  closeSync(handle);
};
/** What this process has open below a directory. */
const openBelow = (directory: string): readonly string[] =>
  readdirSync("/proc/self/fd")
    .map((fd) => {
      try {
        return readlinkSync(join("/proc/self/fd", fd));
      } catch {
        // The one that lists them.
        return "";
      }
    })
    .filter((target) => target.startsWith(directory));

test("a process is known by its start and its run of the machine, not by its number alone", async () => {
  const own = await Partial.create(layout, descriptor);
  expect(await found()).toEqual([0, 1]);
  const [, , , pid = "", ticks = ""] = own.name.replace(".part", "").split("-");
  // Another process had the number before; and one before the machine was started again.
  partialOf(`${hostMark()}-${boot}-${pid}-${Number(ticks) - 1}`);
  partialOf(`${hostMark()}-00000000-${pid}-${ticks}`);
  expect(await found()).toEqual([2, 1]);
  // What this process has closed is nobody's: it is neither waited for nor taken over.
  await own.keep();
  expect(await found()).toEqual([2, 0]);
});

test("where a full volume has no room for its journal, nothing of a partial stays, neither open nor on the volume", async () => {
  const fullError = Object.assign(new Error("no space"), { code: "ENOSPC" });
  hooks.afterOpen = (handle) => {
    handle.truncate = async () => Promise.reject(fullError);
  };
  const directory = ingestDirectory(layout, largeDescriptor.digest);
  await expect(Partial.create({ ...layout, isLocal: false }, largeDescriptor)).rejects.toMatchObject({
    code: "OutOfSpace",
  });
  expect(openBelow(directory)).toEqual([]);
  expect(existsSync(directory)).toBe(false);
});

test.each<[string, (handle: FilePromises.FileHandle, fail: () => Promise<never>) => void]>([
  ["what it has", (handle, fail) => Object.assign(handle, { stat: fail })],
  ["its journal", (handle, fail) => Object.assign(handle, { read: fail })],
  ["what of it is believed", (handle, fail) => Object.assign(handle, { write: fail })],
])(
  "where a disk fails at %s of one, the pull goes on without it, it stays, and is neither open nor counts as written to",
  async (_name, breakIt) => {
    const directory = ingestDirectory(layout, largeDescriptor.digest);
    mkdirSync(directory, { recursive: true });
    const first = await Partial.create(layout, largeDescriptor);
    await first.append(large.subarray(0, pieceBytes));
    note(join(directory, first.name), 0);
    await first.keep();
    for (const letter of ["1", "2"])
      copyFileSync(join(directory, first.name), join(directory, `${letter.repeat(16)}-${dead}.part`));
    rmSync(join(directory, first.name));
    const fresh = await Partial.create(layout, largeDescriptor);
    let [taken, breaksFrom] = [0, 2];
    hooks.beforeOpen = (_path, flags) => {
      if ((flags & constants.O_RDWR) !== 0 && (taken += 1) >= breaksFrom)
        hooks.afterOpen = (handle) => {
          breakIt(handle, async () => Promise.reject(Object.assign(new Error("lost"), { code: "EIO" })));
        };
    };
    const best = await Partial.adopt(layout, largeDescriptor, undefined, fresh);
    expect(taken).toBe(2);
    expect(best.doneBytes).toBe(pieceBytes);
    expect(openBelow(directory)).toEqual([join(directory, best.name)]);
    await best.keep();
    const left = readdirSync(directory);
    expect(left).toHaveLength(2);
    // Another process, for which neither can be read: afresh.
    for (const [index, name] of left.entries())
      renameSync(join(directory, name), join(directory, `${String(index).repeat(16)}-${dead}.part`));
    hooks.afterOpen = () => undefined;
    breaksFrom = Number.POSITIVE_INFINITY;
    const anew = await Partial.create(layout, largeDescriptor);
    [taken, breaksFrom] = [0, 1];
    expect(await Partial.adopt(layout, largeDescriptor, undefined, anew)).toBe(anew);
    expect(taken).toBe(2);
    expect(openBelow(directory)).toEqual([join(directory, anew.name)]);
    await anew.discard();
    expect(await lookForPartials(layout, largeDescriptor.digest)).toEqual({ orphans: [], living: [] });
    expect(readdirSync(directory)).toHaveLength(2);
  },
);

test("a blob's other name, a link and a directory are no partials", async () => {
  const path = partialOf(dead);
  expect(await found()).toEqual([1, 0]);
  linkSync(path, join(root, "blob"));
  expect(await found()).toEqual([0, 0]);
  rmSync(path);
  renameSync(join(root, "blob"), join(root, "elsewhere"));
  symlinkSync(join(root, "elsewhere"), path);
  expect(await found()).toEqual([0, 0]);
  rmSync(path);
  mkdirSync(path);
  expect(await found()).toEqual([0, 0]);
});

test("the clock of the volume says how old another machine's is: ours may be wrong, and a full volume tells none", async () => {
  const path = partialOf(foreign);
  const now = Date.now();
  vi.spyOn(Date, "now").mockReturnValue(now + 86_400_000);
  expect(await found()).toEqual([0, 1]);
  vi.restoreAllMocks();
  age(path, 3_600);
  expect(await found()).toEqual([1, 0]);
  rmSync(layout.staging, { recursive: true });
  expect(await found()).toEqual([0, 1]);
});

test("that of a dead process is taken by its name, so that one takes it; longer than the blob it is none", async () => {
  partialOf(dead);
  const partial = await Partial.adopt(layout, descriptor);
  expect(partial.doneBytes).toBe(100_000);
  expect(readdirSync(ingest)).toEqual([partial.name]);
  await partial.discard();
  mkdirSync(ingest, { recursive: true });
  partialOf(dead, Buffer.concat([content, Buffer.from("more")]));
  const fresh = await Partial.adopt(layout, descriptor);
  expect(fresh.doneBytes).toBe(0);
  expect(readdirSync(ingest)).toEqual([fresh.name]);
  await fresh.discard();
});

test("a link that is put in the place of one at the last moment is not followed: what it leads to stays as it is", async () => {
  const outside = join(root, "outside");
  writeFileSync(outside, content.subarray(0, 50_000));
  chmodSync(outside, 0o400);
  const path = join(ingest, `ffffffffffffffff-${dead}.part`);
  for (const how of ["rename", "copy"] as const) {
    symlinkSync(outside, path);
    const partial = await Partial.adopt(layout, descriptor, [
      { path, how, isSameBoot: true, allocatedBytes: 0 },
    ]);
    expect(partial.doneBytes).toBe(0);
    expect(lstatSync(outside).mode & 0o777).toBe(0o400);
    await partial.discard();
    rmSync(path, { force: true });
    mkdirSync(ingest, { recursive: true });
  }
});

test("nor one that is put there after it was made writable", async () => {
  const outside = join(root, "outside");
  const before = content.subarray(0, 50_000);
  writeFileSync(outside, before);
  const path = partialOf(dead);
  hooks.beforeOpen = (opened, flags) => {
    if ((flags & constants.O_RDWR) === 0) return;
    hooks.beforeOpen = () => undefined;
    rmSync(opened);
    symlinkSync(outside, opened);
  };
  const partial = await Partial.adopt(layout, descriptor, [
    { path, how: "rename", isSameBoot: true, allocatedBytes: 0 },
  ]);
  expect(partial.doneBytes).toBe(0);
  await partial.append(content);
  await partial.discard();
  expect(readFileSync(outside).equals(before)).toBe(true);
});

test("a copy that cannot be read leaves nothing: there is what it was copied from", async () => {
  const path = partialOf(dead);
  hooks.beforeOpen = (_path, flags) => {
    if ((flags & constants.O_RDWR) === 0 || (flags & constants.O_CREAT) !== 0) return;
    hooks.afterOpen = (handle) => {
      hooks.afterOpen = () => undefined;
      handle.stat = async () => Promise.reject(Object.assign(new Error("lost"), { code: "EIO" }));
    };
  };
  const partial = await Partial.adopt(layout, descriptor, [
    { path, how: "copy", isSameBoot: true, allocatedBytes: 0 },
  ]);
  expect(partial.doneBytes).toBe(0);
  expect(readdirSync(dirname(path)).toSorted()).toEqual([basename(path), partial.name].toSorted());
  await partial.discard();
});

test("a pipe with the name of another machine's is not opened: that would wake whoever waits for its other end", async () => {
  const path = partialOf(foreign);
  rmSync(path);
  expect(spawnSync("mkfifo", [path]).status).toBe(0);
  const opened: string[] = [];
  hooks.beforeOpen = (each) => {
    opened.push(each);
  };
  expect(await found()).toEqual([0, 0]);
  expect(opened).toEqual([]);
});

test("of one whose writer goes on while it is copied, no more counts than was noted before", async () => {
  const writer = await Partial.create(layout, largeDescriptor);
  const directory = ingestDirectory(layout, largeDescriptor.digest);
  const path = join(directory, `eeeeeeeeeeeeeeee-${foreign}.part`);
  await writer.append(large.subarray(0, pieceBytes));
  copyFileSync(join(directory, writer.name), path);
  note(path, 0);
  // The journal lies behind the bytes: copied after them, it tells of a piece whose place was copied when it was still empty.
  hooks.afterCopy = (_from, to) => note(to, 1);
  const partial = await Partial.adopt(layout, largeDescriptor, [
    { path, how: "copy", isSameBoot: true, allocatedBytes: 0 },
  ]);
  expect(partial.doneBytes).toBe(pieceBytes);
  await partial.append(large.subarray(pieceBytes));
  await partial.publish(sha256(large));
  await writer.discard();
});

test("room is counted as taken by what will become the blob: not by what another machine has left and will be copied", async () => {
  const bytes = async (): Promise<number> => startedBytes(layout, [descriptor]);
  const path = partialOf(foreign);
  expect(await bytes()).toBeGreaterThanOrEqual(100_000);
  age(path, 60);
  expect(await found()).toEqual([0, 1]);
  expect(await bytes()).toBe(0);
  age(path, 3_600);
  expect(await bytes()).toBe(0);
  partialOf(dead);
  expect(await bytes()).toBeGreaterThanOrEqual(100_000);
});

test("blobs whose other name was removed are told, since their files were changed by it", async () => {
  mkdirSync(join(layout.blobs, "sha256"), { recursive: true });
  const path = partialOf(dead);
  linkSync(path, blobPath(layout, descriptor.digest));
  partialOf(dead);
  expect(await removeOrphans(layout, [descriptor])).toEqual([descriptor]);
  expect(await removeOrphans(layout, [descriptor])).toEqual([]);
});
