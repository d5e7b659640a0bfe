// What somebody who may write to a volume can plant there: it must not lead a puller out of the store, nor make it wait.

import { spawnSync } from "node:child_process";
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { beforeEach, describe, expect, onTestFinished, test } from "vitest";
import { digestOf } from "../../../puller/oci/digest.ts";
import { blobPath, modelDirectory, sealFile, type StoreLayout } from "../../../puller/store/layout.ts";
import { openStore } from "../../../puller/store/open-store.ts";
import { repairStore } from "../../../puller/store/repair.ts";
import { isTrusted } from "../../../puller/store/trust.ts";
import { noteUse } from "../../../puller/store/note-use.ts";
import { listUses } from "../../../puller/store/uses.ts";

const content = Buffer.from("bytes that somebody wants elsewhere");
const digest = digestOf(content);
const name = "a".repeat(64);
const { signal } = new AbortController();

describe("a store that others have prepared", () => {
  let outside: string;
  let layout: StoreLayout;

  beforeEach(async () => {
    outside = mkdtempSync(join(tmpdir(), "ocimodel-hostile-"));
    onTestFinished(() => rmSync(outside, { recursive: true, force: true }));
    layout = await openStore(join(outside, "volume"));
    mkdirSync(dirname(blobPath(layout, digest)), { recursive: true });
    writeFileSync(blobPath(layout, digest), content);
    chmodSync(blobPath(layout, digest), 0o444);
  });

  const seal = (path: string): void => {
    const files = [{ path, sizeBytes: content.length, digest }];
    writeFileSync(sealFile(layout, name), JSON.stringify({ v: 1, name, digest, files, blobs: [digest] }));
  };
  const pipe = (path: string): void => {
    rmSync(path, { force: true });
    expect(spawnSync("mkfifo", ["-m", "666", path]).status).toBe(0);
  };

  test.each(["../../../planted", "x/../../../../planted", "/planted", "x/../planted"])(
    "a seal that names %s is damaged, and repair writes nothing there",
    async (path) => {
      mkdirSync(modelDirectory(layout, name));
      seal(path);
      expect((await repairStore(layout, signal)).repairs).toContainEqual({
        kind: "seal-unreadable",
        what: name,
        outcome: "removed",
      });
      expect(existsSync(join(outside, "planted"))).toBe(false);
      expect(existsSync("/planted")).toBe(false);
    },
  );

  test("a link within a model is not followed by repair", async () => {
    mkdirSync(modelDirectory(layout, name));
    mkdirSync(join(outside, "elsewhere"));
    symlinkSync(join(outside, "elsewhere"), join(modelDirectory(layout, name), "x"));
    seal("x/planted");
    expect((await repairStore(layout, signal)).repairs).toMatchObject([
      { kind: "model-incomplete", what: name, outcome: "left" },
    ]);
    expect(existsSync(join(outside, "elsewhere/planted"))).toBe(false);
  });

  test("a version that another process is writing at this moment is none to refuse", async () => {
    writeFileSync(layout.versionFile, "");
    expect((await openStore(layout.root)).root).toBe(layout.root);
  });

  test("pipes in the place of small files are not waited for", async () => {
    pipe(join(layout.uses, name));
    await noteUse(layout, name, [digest]);
    expect(await listUses(layout)).toEqual([]);
    const blob = blobPath(layout, digest);
    const { ino } = lstatSync(blob);
    mkdirSync(layout.stamps, { recursive: true });
    pipe(join(layout.stamps, `${digest.slice(7)}-${ino}`));
    expect(await isTrusted(layout, blob, { digest, sizeBytes: content.length }, signal)).toBe(true);
    pipe(layout.versionFile);
    await expect(openStore(layout.root)).rejects.toMatchObject({ code: "StorageFailed" });
  });
});
