// How a store is begun where nothing is yet, and where nothing can be.

import { lstatSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { openStore } from "../../../puller/store/open-store.ts";

let root = "";
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), "ocimodel-open-"));
});
afterEach(() => {
  rmSync(root, { recursive: true, force: true });
});

test.skipIf(process.platform !== "linux")(
  "below a directory in which nothing can be made it ends at once, and says so",
  async () => {
    for (const path of ["/proc/ocimodel-test", "/proc/ocimodel-test/deeper"]) {
      await expect(openStore(path)).rejects.toMatchObject({
        code: "StorageFailed",
        // Who is not root may not write there to begin with.
        message: expect.stringMatching(
          /at \/proc\/ocimodel-test\S* \(ENOENT\); give --store|EACCES/,
        ) as string,
      });
    }
  },
  5_000,
);

test("directories that are missing on the way are made, by several at once too", async () => {
  const path = join(root, "a/b/c");
  await Promise.all(Array.from({ length: 8 }, async () => openStore(path)));
  expect(lstatSync(join(path, ".ocimodel")).isDirectory()).toBe(true);
});

test("a link to a directory is one; a file, a way through one and a link to nothing are refused", async () => {
  mkdirSync(join(root, "real"));
  symlinkSync("real", join(root, "link"));
  await openStore(join(root, "link"));
  expect(lstatSync(join(root, "real/.ocimodel")).isDirectory()).toBe(true);
  writeFileSync(join(root, "file"), "x");
  symlinkSync("nothing", join(root, "dangling"));
  for (const path of ["file", "file/below", "dangling"])
    await expect(openStore(join(root, path))).rejects.toMatchObject({ code: "StorageFailed" });
});
