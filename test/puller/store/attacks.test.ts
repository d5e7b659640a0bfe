// Somebody who may write to the volume does so while a model is pulled to it: to the partial files, which belong to the puller by
// their names alone.

import {
  appendFileSync,
  chmodSync,
  closeSync,
  linkSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  truncateSync,
  unlinkSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { describeUnless } from "../../cluster/suites.ts";
import { startBlobServer, type BlobServer } from "../../registry/blob-server.ts";
import { expectModel, noise, smallPull } from "../pull/small-pulls.ts";
import { runInProcess } from "../run-in-process.ts";
import { filesBelow } from "../store-assertions.ts";
import { fileSystems, mountVolume, volumeObstacle, type Volume } from "./volumes.ts";

/** One without a journal, over one connection; and one with a journal, in ranges. */
const files = [
  { name: "small.safetensors", content: noise("small", 300_001) },
  { name: "large.safetensors", content: noise("large", 1_500_001) },
];
const poison = noise("poison", 300_001);
const everyMs = 12;

/** Writes over bytes of a file that is there. */
function overwrite(path: string): void {
  const handle = openSync(path, "r+");
  writeSync(handle, poison, 0, 1_000, 0);
  closeSync(handle);
}

const attacks: readonly (readonly [string, (partial: string, volume: string) => void])[] = [
  ["truncates it", (partial) => truncateSync(partial, 0)],
  ["cuts its end", (partial) => truncateSync(partial, 100_000)],
  // Little, since on a slow machine it is done often: a full volume would be another fault.
  ["appends to it", (partial) => appendFileSync(partial, poison.subarray(0, 1_000))],
  ["makes it unreadable", (partial) => chmodSync(partial, 0)],
  ["removes it", (partial) => unlinkSync(partial)],
  [
    "puts another file in its place",
    (partial) => {
      unlinkSync(partial);
      writeFileSync(partial, poison, { mode: 0o444 });
    },
  ],
  [
    "puts a link in its place",
    (partial, volume) => {
      unlinkSync(partial);
      symlinkSync(join(volume, "poison"), partial);
    },
  ],
  [
    "links it elsewhere",
    (partial, volume) => {
      linkSync(partial, join(volume, "links", String(readdirSync(join(volume, "links")).length)));
    },
  ],
];

describe.each(fileSystems)("a volume of %s", (kind) => {
  describeUnless(volumeObstacle(kind), `on which others write to partial files (${kind})`, () => {
    let server: BlobServer;
    let volume: Volume;
    let store = "";
    let count = 0;
    beforeAll(async () => {
      server = await startBlobServer(files);
      volume = mountVolume(kind, 24 * 2 ** 20);
    });
    afterAll(async () => {
      volume?.unmount();
      await server?.stop();
    });
    beforeEach(() => {
      for (const name of readdirSync(volume.path).filter((each) => each !== "lost+found"))
        rmSync(join(volume.path, name), { recursive: true, force: true });
      store = join(volume.path, `store-${(count += 1)}`);
      mkdirSync(join(volume.path, "links"));
      writeFileSync(join(volume.path, "poison"), poison, { mode: 0o444 });
    });

    /** A pull during which something is done to every partial again and again; the code of its failure, and how often it was done. */
    const attacked = async (
      attack: (partial: string, volume: string) => void,
    ): Promise<{ readonly code: string; readonly times: number }> => {
      server.behave(() => ({ chunkBytes: 32 * 1024, gapMs: 6 }));
      const ingest = join(store, ".ocimodel/ingest");
      let times = 0;
      const timer = setInterval(() => {
        for (const name of filesBelow(ingest)) {
          try {
            attack(join(ingest, name), volume.path);
            times += 1;
          } catch {
            // It was published, or went, at this moment.
          }
        }
      }, everyMs);
      const { error } = await smallPull(server, store, { budgetMs: 1_000 });
      clearInterval(timer);
      return { code: error?.code ?? "Ready", times };
    };
    const expectHealed = async (): Promise<void> => {
      server.behave(() => undefined);
      expect((await smallPull(server, store)).error?.message).toBeUndefined();
      expectModel(store, server, files, { leftovers: true });
    };

    test.each(attacks)("somebody else %s while it is written: never a wrong byte", async (_what, attack) => {
      const { code, times } = await attacked(attack);
      expect(times).toBeGreaterThan(0);
      expect(["Ready", "DigestMismatch", "StorageFailed"]).toContain(code);
      // What they made of a blob after it was checked is not believed: no model is made of it.
      const model = join(store, "models", server.digest.replace("sha256:", ""));
      expect(filesBelow(model)).toHaveLength(code === "Ready" ? files.length : 0);
      for (const { name, content } of code === "Ready" ? files : [])
        expect(readFileSync(join(model, name)).equals(content)).toBe(true);
      await expectHealed();
    });

    test("bytes that are changed in place behind the puller's back are found by verify, and repaired", async () => {
      await attacked(overwrite);
      const verified = await runInProcess(["verify", `--store=${store}`]);
      expect([0, 65]).toContain(verified.exitCode);
      await runInProcess(["repair", `--store=${store}`]);
      await expectHealed();
      expect((await runInProcess(["verify", `--store=${store}`])).exitCode).toBe(0);
    });
  });
});
