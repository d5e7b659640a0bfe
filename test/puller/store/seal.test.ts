import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import type * as FilePromises from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { expect, onTestFinished, test, vi } from "vitest";
import { sealFile } from "../../../puller/store/layout.ts";
import { openStore } from "../../../puller/store/open-store.ts";
import { isSeal, readSeal, writeSeal, type Seal } from "../../../puller/store/seal.ts";

const reads = vi.hoisted(() => ({ paths: [] as string[] }));
vi.mock("node:fs/promises", async (original) => {
  const real = await original<typeof FilePromises>();
  return {
    ...real,
    readFile: async (path: string, ...more: []) => {
      reads.paths.push(path);
      return real.readFile(path, ...more);
    },
  };
});

const digest = `sha256:${"a".repeat(64)}`;
const file = { path: "model.gguf", sizeBytes: 3, digest };
const seal = { v: 1, name: "m", digest, files: [file], blobs: [digest], entry: "model.gguf" };

test("a seal has every field and no other", () => {
  expect(isSeal(seal)).toBe(true);
  const { entry: _entry, ...plain } = seal;
  expect(isSeal({ ...plain, files: [{ path: "link", sizeBytes: 0, target: "model.gguf" }] })).toBe(true);
  expect(isSeal({ ...plain, files: [], blobs: [] })).toBe(true);
});

test.each<[string, unknown]>([
  ["nothing", undefined],
  ["null", null],
  ["a list", [seal]],
  ["another version", { ...seal, v: 2 }],
  ["a field more", { ...seal, more: 1 }],
  ["a field of every object", { ...seal, constructor: 1 }],
  ["no name", { ...seal, name: undefined }],
  ["a digest that is none", { ...seal, digest: "sha256:../../x" }],
  ["a blob that is no digest", { ...seal, blobs: [digest, "x"] }],
  ["blobs in no list", { ...seal, blobs: { 0: digest } }],
  ["an entry that is no text", { ...seal, entry: 1 }],
  ["a file that is no object", { ...seal, files: ["model.gguf"] }],
  ["a file with a field more", { ...seal, files: [{ ...file, mode: 1 }] }],
  ["a file without its path", { ...seal, files: [{ sizeBytes: 3 }] }],
  ["a negative size", { ...seal, files: [{ ...file, sizeBytes: -1 }] }],
  ["half a byte", { ...seal, files: [{ ...file, sizeBytes: 0.5 }] }],
  ["a size beyond what can be counted", { ...seal, files: [{ ...file, sizeBytes: 2 ** 53 }] }],
  ["a file's digest that is none", { ...seal, files: [{ ...file, digest: "md5:0" }] }],
  ["a target that is no text", { ...seal, files: [{ ...file, target: null }] }],
])("%s is no seal", (_name, value) => {
  expect(isSeal(value)).toBe(false);
});

test("any JSON is judged without an exception", () => {
  fc.assert(
    fc.property(fc.jsonValue(), (value) => {
      expect(typeof isSeal(value)).toBe("boolean");
    }),
  );
});

test("what is no file, or larger than any seal, is not read", async () => {
  const root = mkdtempSync(join(tmpdir(), "ocimodel-seal-"));
  onTestFinished(() => {
    rmSync(root, { recursive: true, force: true });
  });
  const layout = await openStore(root);
  await writeSeal(layout, seal as unknown as Seal);
  expect(await readSeal(layout, "m")).toEqual(seal);
  const path = sealFile(layout, "m");
  // A hole behind it: it takes no room.
  truncateSync(path, 64 * 1024 * 1024 + 1);
  reads.paths = [];
  expect(await readSeal(layout, "m")).toBeUndefined();
  rmSync(path);
  expect(spawnSync("mkfifo", [path]).status).toBe(0);
  expect(await readSeal(layout, "m")).toBeUndefined();
  expect(reads.paths).toEqual([]);
  rmSync(path);
  writeFileSync(path, JSON.stringify(seal));
  expect(await readSeal(layout, "m")).toEqual(seal);
  expect(reads.paths).toEqual([path]);
});
