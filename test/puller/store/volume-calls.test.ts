import fs, { constants, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { makeDirectories, makeDirectoriesAtOnce } from "../../../puller/store/make-directories.ts";
import { callsOn, type VolumeCalls, type VolumeFile } from "../../../puller/store/volume-calls.ts";

const { O_CREAT, O_EXCL, O_RDWR } = constants;

const inMemory = { isLocal: true, isInMemory: true };
const onDisk = { isLocal: true, isInMemory: false };
const onServer = { isLocal: false, isInMemory: false };

let directory = "";
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "ocimodel-calls-"));
});
afterEach(() => {
  vi.restoreAllMocks();
  rmSync(directory, { recursive: true, force: true });
});

const place = (...names: readonly string[]): string => join(directory, ...names);
const newFile = async (calls: VolumeCalls): Promise<VolumeFile> =>
  calls.open(place("file"), O_RDWR | O_CREAT | O_EXCL, 0o644);

/** Everything that is done with names and files, once. */
async function useAll(calls: VolumeCalls): Promise<void> {
  await calls.mkdir(place("a", "b"));
  await calls.mkdir(place("a", "b"));
  const file = await newFile(calls);
  expect((await file.write(Buffer.from("-abc"), 1, 3, 0)).bytesWritten).toBe(3);
  await file.datasync();
  await file.sync();
  await file.truncate(2);
  const read = Buffer.alloc(5, "-");
  expect((await file.read(read, 1, 4, 1)).bytesRead).toBe(1);
  expect(read.toString()).toBe("-b---");
  await file.chmod(0o444);
  const { size, mode, ino } = await file.stat({ bigint: true });
  expect([size, mode & 0o777n]).toEqual([2n, 0o444n]);
  await file.close();
  await calls.link(place("file"), place("a", "linked"));
  await calls.writeNew(place("a", "note"), "text");
  expect(await calls.readStart(place("a", "note"), 9)).toBe("text");
  expect(await calls.readStart(place("a", "note"), 3)).toBe("tex");
  await calls.rename(place("a", "note"), place("a", "renamed"));
  expect((await calls.readdir(place("a"))).sort()).toEqual(["b", "linked", "renamed"]);
  expect((await calls.lstat(place("a", "linked"))).nlink).toBe(2);
  expect((await calls.lstatExactly(place("a", "linked"))).ino).toBe(ino);
  await calls.unlink(place("a", "linked"));
  await calls.rmdir(place("a", "b"));
  expect(await calls.readdir(place("a"))).toEqual(["renamed"]);
}

describe.each([
  ["in memory", inMemory],
  ["on a disk", onDisk],
  ["on a file server", onServer],
])("calls %s", (_name, medium) => {
  const calls = callsOn(medium);

  test("do what their names say", async () => {
    await useAll(calls);
  });

  test.each<[string, string, (path: string) => Promise<unknown>]>([
    ["lstat", "ENOENT", calls.lstat],
    ["lstatExactly", "ENOENT", calls.lstatExactly],
    ["readdir", "ENOENT", calls.readdir],
    ["rmdir", "ENOENT", calls.rmdir],
    ["unlink", "ENOENT", calls.unlink],
    ["link", "ENOENT", async (path) => calls.link(path, place("x"))],
    ["rename", "ENOENT", async (path) => calls.rename(path, place("x"))],
    ["open", "ENOENT", async (path) => calls.open(path, O_RDWR, 0)],
    ["open of what is there", "EEXIST", async () => calls.open(directory, O_RDWR | O_CREAT | O_EXCL, 0)],
    ["readStart", "ENOENT", async (path) => calls.readStart(path, 1)],
    ["readStart of a directory", "EISDIR", async () => calls.readStart(directory, 1)],
    [
      "readStart of a link",
      "ELOOP",
      async () => {
        fs.symlinkSync(directory, place("link"));
        return calls.readStart(place("link"), 1);
      },
    ],
    ["writeNew of what is there", "EEXIST", async () => calls.writeNew(directory, "text")],
    ["mkdir below a file", "ENOTDIR", async () => calls.mkdir(join(import.meta.filename, "x"))],
  ])("%s fails with %s, as a promise", async (_call, code, call) => {
    const made = call(place("missing"));
    await expect(made).rejects.toMatchObject({ code, errno: expect.any(Number) });
  });

  test("of a file that is closed fail, and do not reach the one that has its number now", async () => {
    const file = await newFile(calls);
    const number = file.fd;
    await file.close();
    expect(file.fd).toBe(-1);
    const other = fs.openSync(place("other"), "w+");
    try {
      expect(other).toBe(number);
      await file.close().catch(() => undefined);
      await expect(file.write(Buffer.from("x"), 0, 1, 0)).rejects.toThrow();
      await expect(file.truncate(0)).rejects.toThrow();
      await expect(file.chmod(0o777)).rejects.toThrow();
      fs.writeSync(other, "still open");
    } finally {
      fs.closeSync(other);
    }
  });
});

test.each([
  ["on a file server, which may hang, no call is", onServer, []],
  [
    "on a disk, whose journal may stand still, looks alone are",
    onDisk,
    ["closeSync", "lstatSync", "openSync", "readSync", "readdirSync"],
  ],
])("%s made at once: that would hold up the thread that hears signals", async (_name, medium, atOnce) => {
  const names = Object.keys(fs).filter(
    (name) => name.endsWith("Sync") && typeof fs[name as "lstatSync"] === "function",
  ) as "lstatSync"[];
  const spies = names.map((name) => vi.spyOn(fs, name));
  await useAll(callsOn(medium));
  expect(names.filter((_, index) => spies[index]?.mock.calls.length !== 0).sort()).toEqual(atOnce);
});

describe.each([
  ["handed over", makeDirectories],
  ["at once", makeDirectoriesAtOnce],
])("directories with their parents, %s", (_name, make) => {
  test("are made, and are no error where they are", async () => {
    await make(place("a", "b", "c"));
    await Promise.all([make(place("a", "b", "c", "d")), make(place("a", "b", "c", "d")), make(place("a"))]);
    expect(fs.statSync(place("a", "b", "c", "d")).isDirectory()).toBe(true);
  });

  test("below a directory that was removed, or on a file system without any, fail and do not try for ever", async () => {
    fs.mkdirSync(place("gone"));
    const gone = fs.openSync(place("gone"), "r");
    try {
      fs.rmdirSync(place("gone"));
      await expect(make(`/proc/self/fd/${gone}/store/own`)).rejects.toMatchObject({ code: "ENOENT" });
    } finally {
      fs.closeSync(gone);
    }
    await expect(make("/proc/ocimodel-test/store")).rejects.toMatchObject({ code: "ENOENT" });
  });

  test("in the place of a file, or below one, fail", async () => {
    fs.writeFileSync(place("file"), "-");
    await expect(make(place("file"))).rejects.toMatchObject({ code: "EEXIST" });
    await expect(make(place("file", "below"))).rejects.toMatchObject({ code: "ENOTDIR" });
  });
});
