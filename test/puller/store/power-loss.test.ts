// A machine that loses power: what the kernel had not brought to the disk is gone. The volume is a real file system on a loop device, whose file is copied while the puller is stopped: the copy has what the disk had at that moment and nothing of the page
// cache. Mounted, its journal is replayed, as after a real loss. It is ext4, or xfs or btrfs by OCIMODEL_FILE_SYSTEM.

import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import {
  copyFileSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import { bootIdentity } from "../../../puller/store/journal.ts";
import { mark } from "../../../puller/store/writer.ts";
import { runCommand, waitFor } from "../../cluster/run-command.ts";
import { describeUnless } from "../../cluster/suites.ts";
import { compiledPuller, compiledPullerEnvironment } from "../../compiled/compiled-puller.ts";
import { startBlobServer, type BlobServer } from "../../registry/blob-server.ts";
import { expectModel, noise, seededRandom, smallPull, smallTuning } from "../pull/small-pulls.ts";
import { expectNoWrongByte, filesBelow } from "../store-assertions.ts";
import {
  askedFileSystem,
  isDisk,
  mountImage,
  mountVolume,
  quickDirectory,
  volumeObstacle,
  type Volume,
} from "./volumes.ts";

/** Moments of each run; more by OCIMODEL_POWER_LOSSES. */
const moments = Number(process.env["OCIMODEL_POWER_LOSSES"] ?? 3);
const seed = process.env["OCIMODEL_SEED"] ?? randomBytes(4).toString("hex");
const file = (name: string, size: number): { readonly name: string; readonly content: Buffer } => ({
  name,
  content: noise(name, size),
});
const shared = file("shared.safetensors", 700_001);
const files = [file("large.safetensors", 2 * 2 ** 20 + 77), shared, file("small.json", 1_234)];
const otherFiles = [shared, file("other.safetensors", 900_000)];
const asked = askedFileSystem();
const kind = asked !== undefined && isDisk(asked) ? asked : "ext4";
/** The kernel writes nothing back by itself within a test. `data=writeback` lets names reach the disk before their data. */
const mountOptions: readonly string[] = {
  ext4: ["data=writeback", "commit=300"],
  xfs: ["nouuid"],
  btrfs: ["commit=300"],
}[kind];

describeUnless(volumeObstacle(kind), `power is lost (${kind})`, () => {
  let directory = "";
  let server: BlobServer;
  let other: BlobServer;
  let count = 0;
  beforeAll(async () => {
    directory = mkdtempSync(join(quickDirectory(), "ocimodel-power-"));
    server = await startBlobServer(files);
    other = await startBlobServer(otherFiles);
    console.log(`moments are seeded with OCIMODEL_SEED=${seed}`);
  });
  afterAll(async () => {
    await server?.stop();
    await other?.stop();
    rmSync(directory, { recursive: true, force: true });
  });

  /** What the disk has at this moment; the puller is stopped, and so are its writes once two copies are the same. */
  const copyOf = (volume: Volume): string => {
    const state = join(directory, `state-${(count += 1)}`);
    let before: Buffer | undefined;
    for (;;) {
      copyFileSync(volume.image ?? "", state);
      const bytes = readFileSync(state);
      if (before?.equals(bytes) === true) return state;
      before = bytes;
    }
  };

  /** Runs the puller and takes what the disk has at some moments of the run, and at its end. */
  const statesOf = async (
    volume: Volume,
    args: readonly string[],
    pausesMs: readonly number[],
  ): Promise<readonly string[]> => {
    const child = spawn(process.execPath, [compiledPuller(), ...args, "--log-level=silent"], {
      stdio: "ignore",
      env: {
        PATH: process.env["PATH"] ?? "",
        ...compiledPullerEnvironment(),
        OCIMODEL_TEST_TUNING: smallTuning,
      },
    });
    const life = { isOver: false };
    const ended = once(child, "exit").then(([code]) => {
      life.isOver = true;
      return code as number | null;
    });
    const states: string[] = [];
    for (const pauseMs of pausesMs) {
      await Promise.race([delay(pauseMs), ended]);
      if (life.isOver) break;
      child.kill("SIGSTOP");
      states.push(copyOf(volume));
      child.kill("SIGCONT");
    }
    expect(await ended).toBe(0);
    return [...states, copyOf(volume)];
  };

  const pullOf = (of: BlobServer, store: string): readonly string[] => [
    "pull",
    `--reference=${of.host}/ai/small:x`,
    `--store=${store}`,
    `--plain-http=${of.host}`,
  ];

  /** Makes what pullers left look as after a start of the machine, which has another identity then. */
  const bootAgain = (store: string): void => {
    const ingest = join(store, ".ocimodel/ingest");
    for (const name of filesBelow(ingest)) {
      const path = join(ingest, name);
      const bytes = readFileSync(path);
      const at = bytes.lastIndexOf(bootIdentity());
      if (at !== -1) bytes.write("00000000", at);
      writeFileSync(path, bytes);
      renameSync(path, path.replace(mark(bootIdentity()), "00000000"));
    }
  };

  /** Every state is right as far as it goes, and the next pull of each model ends well. */
  const expectSound = async (
    states: readonly string[],
    more: (store: string) => void = () => undefined,
  ): Promise<void> => {
    for (const [index, state] of states.entries()) {
      const volume = mountImage(state, mountOptions);
      try {
        const store = join(volume.path, "store");
        const isThere = statSync(store, { throwIfNoEntry: false }) !== undefined;
        if (isThere) {
          expectNoWrongByte(store);
          more(store);
          // With the old identity more is believed than is there: the digest finds that out.
          if (index % 2 === 1) bootAgain(store);
        }
        for (const of of [server, other]) {
          of.behave(() => undefined);
          const { error } = await smallPull(of, store);
          expect(error?.message).toBeUndefined();
        }
        expectModel(store, server, files);
      } finally {
        volume.unmount();
        rmSync(state, { force: true });
      }
    }
  };

  const pausesFor = (what: string, longestMs: number): readonly number[] => {
    const random = seededRandom(`${seed} ${what}`);
    return Array.from({ length: moments }, () => random() * longestMs);
  };
  /** The states that `work` gives. A copy cannot be told from its original, and btrfs takes the one for the other: that goes first. */
  const withVolume = async (
    work: (volume: Volume, store: string) => Promise<readonly string[]>,
  ): Promise<readonly string[]> => {
    const volume = mountVolume(kind, 24 * 2 ** 20, 500, mountOptions);
    try {
      return await work(volume, join(volume.path, "store"));
    } finally {
      volume.unmount();
    }
  };
  const paced = { chunkBytes: 64 * 1024, gapMs: 4 };

  test("while a model is pulled: no wrong byte is visible afterwards, and the next pull ends well", async () => {
    const states = await withVolume(async (volume, store) => {
      server.behave(() => paced);
      return statesOf(volume, pullOf(server, store), pausesFor("pull", 150));
    });
    await expectSound(states);
  }, 240_000);

  test("while a partial file is taken over", async () => {
    const states = await withVolume(async (volume, store) => {
      server.behave(() => ({ endsAfter: 300_000, ending: "hang" }));
      const first = spawn(
        process.execPath,
        [compiledPuller(), ...pullOf(server, store), "--log-level=silent"],
        {
          stdio: "ignore",
          env: {
            PATH: process.env["PATH"] ?? "",
            ...compiledPullerEnvironment(),
            OCIMODEL_TEST_TUNING: smallTuning,
          },
        },
      );
      const ended = once(first, "exit");
      await waitFor(
        "bytes",
        () => server.fileRequests.reduce((sum, { sentBytes }) => sum + sentBytes, 0) >= 300_000,
      );
      first.kill("SIGKILL");
      await ended;
      // What the dead one wrote is on the disk in part: its newest bytes are not.
      await runCommand("sync", ["-f", store]);
      server.behave(() => paced);
      return statesOf(volume, pullOf(server, store), pausesFor("takeover", 150));
    });
    await expectSound(states);
  }, 240_000);

  test("while garbage is collected: what is kept is whole, and what was going can be pulled again", async () => {
    const states = await withVolume(async (volume, store) => {
      for (const of of [server, other]) {
        of.behave(() => undefined);
        expect((await smallPull(of, store)).error?.message).toBeUndefined();
      }
      await runCommand("sync", ["-f", store]);
      const kept = server.digest.replace("sha256:", "");
      const args = ["gc", `--store=${store}`, "--unused-models=remove", "--minimum-age=0", `--keep=${kept}`];
      return statesOf(volume, args, pausesFor("garbage", 60));
    });
    await expectSound(states, (at) => expectModel(at, server, files));
  }, 240_000);
});
