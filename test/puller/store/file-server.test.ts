// What NFS clients do that local file systems do not, by what of it a puller can see.

import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { describeUnless } from "../../cluster/suites.ts";
import { startBlobServer, type BlobServer } from "../../registry/blob-server.ts";
import { expectModel, noise, smallPull } from "../pull/small-pulls.ts";
import { runInProcess } from "../run-in-process.ts";
import { runPuller } from "../run-puller.ts";
import { filesBelow } from "../store-assertions.ts";

const files = [
  { name: "one.safetensors", content: noise("one", 10_000) },
  { name: "two.safetensors", content: noise("two", 10_000) },
];

let server: BlobServer;
let store = "";
beforeAll(async () => {
  server = await startBlobServer(files);
});
afterAll(async () => {
  await server?.stop();
});
beforeEach(async () => {
  store = mkdtempSync(join(tmpdir(), "ocimodel-file-server-"));
  server.behave(() => undefined);
  expect((await smallPull(server, store)).error?.message).toBeUndefined();
});
afterEach(() => {
  rmSync(store, { recursive: true, force: true });
});

describe("the name that a file server leaves of an open file", () => {
  const heldOpen = ".nfs000000000001a2b300000004";
  const model = (): string => join(store, "models", server.digest.replace("sha256:", ""));

  test("makes no model incomplete and no store damaged", async () => {
    writeFileSync(join(model(), heldOpen), "removed and still open");
    writeFileSync(join(store, ".ocimodel/blobs/sha256", heldOpen), "removed and still open");
    expect((await smallPull(server, store)).report?.isWarm).toBe(true);
    expect(await runInProcess(["verify", `--store=${store}`])).toMatchObject({ exitCode: 0 });
  });

  test.each([".nfs", ".nfs0", ".nfs000000000001a2b30000000g", "nfs000000000001a2b300000004"])(
    "is no other name: %s",
    async (name) => {
      writeFileSync(join(model(), name), "x");
      expect((await smallPull(server, store)).report?.isWarm).toBe(false);
      expectModel(store, server, files);
    },
  );
});

const straceObstacle =
  spawnSync("strace", ["-f", "-e", "inject=getppid:error=EIO:when=1", "true"]).status === 0
    ? undefined
    : "strace cannot trace here";

describeUnless(
  straceObstacle,
  "a directory that cannot be removed while a reader has a file of it open",
  () => {
    test.each(["ENOTEMPTY", "EBUSY"])(
      "%s: garbage collection does the rest, and removes it the next time",
      async (errno) => {
        const args = ["gc", `--store=${store}`, "--unused-models=remove", "--minimum-age=0"];
        const first = await runPuller(args, {
          prefix: [
            "strace",
            "-f",
            "-qq",
            "-o",
            "/dev/null",
            "-e",
            "trace=rmdir",
            "-e",
            `inject=rmdir:error=${errno}`,
          ],
        });
        expect({ exitCode: first.exitCode, stderr: first.exitCode === 0 ? "" : first.stderr }).toEqual({
          exitCode: 0,
          stderr: "",
        });
        expect(filesBelow(join(store, "models"))).toEqual([]);
        expect(filesBelow(join(store, ".ocimodel/blobs"))).toEqual([]);
        expect(readdirSync(join(store, ".ocimodel/staging")).length).toBeGreaterThan(0);
        expect((await runPuller(args)).exitCode).toBe(0);
        expect(readdirSync(join(store, ".ocimodel/staging"))).toEqual([]);
      },
    );
  },
);
