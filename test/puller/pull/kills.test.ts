import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { readdirSync, readFileSync, rmSync } from "node:fs";
import { open } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Descriptor } from "../../../puller/oci/types.ts";
import type * as Journal from "../../../puller/store/journal.ts";
import { waitFor } from "../../cluster/run-command.ts";
import { compiledPuller, compiledPullerEnvironment, importCompiled } from "../../compiled/compiled-puller.ts";
import { startBlobServer, type Behaviour, type BlobServer } from "../../registry/blob-server.ts";
import { digestOf } from "../artifact/manifest-builder.ts";
import { expectNoWrongByte, filesBelow } from "../store-assertions.ts";
import {
  expectModel,
  freshStore,
  noise,
  pieceBytes,
  seededRandom,
  smallPull,
  smallTuning,
} from "./small-pulls.ts";

/** Runs of each mode that a kill has really ended, whose process was not through before; many by OCIMODEL_KILLS=200. */
const kills = Number(process.env["OCIMODEL_KILLS"] ?? 8);
const seed = process.env["OCIMODEL_SEED"] ?? randomBytes(4).toString("hex");
const size = 2 * 1024 * 1024 + 4_321;
const content = noise("killed", size);
const files = [{ name: "large.safetensors", content }];
const paced: Behaviour = { chunkBytes: 16 * 1024, gapMs: 2 };
const tunings = {
  stream: smallTuning.replace("largeBlobBytes=1048576", "largeBlobBytes=999999999"),
  range: smallTuning,
};

let server: BlobServer;
const { journalPlace, readJournal } = await importCompiled<typeof Journal>("puller/store/journal.ts");
beforeAll(async () => {
  server = await startBlobServer(files);
});
afterAll(async () => {
  await server?.stop();
});

/** Bytes that the partial of a killed run can be believed to hold; all of them once the blob is there. */
async function keptBytes(store: string, of: Buffer = content): Promise<number> {
  const [digest, size] = [digestOf(of), of.length];
  if (filesBelow(join(store, ".ocimodel/blobs")).length > 0) return size;
  const directory = join(store, ".ocimodel/ingest", digest.replace("sha256:", ""));
  let most = 0;
  let names: readonly string[] = [];
  try {
    names = readdirSync(directory);
  } catch {
    return 0;
  }
  for (const name of names) {
    const handle = await open(join(directory, name));
    if ((await handle.stat()).size === size) most = size;
    const map = await readJournal(handle, { digest, sizeBytes: size } as Descriptor);
    await handle.close();
    most = Math.max(most, map?.doneBytes() ?? 0);
  }
  return most;
}

const sentBytes = (): number => server.fileRequests.reduce((sum, each) => sum + each.sentBytes, 0);

/** Starts a pull and kills it when `isDue`, after a look at it while it is stopped; whether it was killed. */
async function killedRun(
  store: string,
  tuning: string,
  isDue: () => boolean | Promise<boolean>,
  look?: () => Promise<void>,
  of: Pick<BlobServer, "host"> = server,
): Promise<boolean> {
  const args = ["pull", `--reference=${of.host}/ai/small:x`, `--store=${store}`, `--plain-http=${of.host}`];
  const child = spawn(process.execPath, [compiledPuller(), ...args, "--log-level=silent"], {
    stdio: "ignore",
    env: { PATH: process.env["PATH"] ?? "", ...compiledPullerEnvironment(), OCIMODEL_TEST_TUNING: tuning },
  });
  const state = { isOver: false };
  const ended = new Promise<boolean>((resolve) =>
    child.on("close", (_code, signal) => {
      state.isOver = true;
      resolve(signal === "SIGKILL");
    }),
  );
  while (!state.isOver && !(await isDue())) await delay(1);
  if (look !== undefined && child.kill("SIGSTOP")) await look();
  child.kill("SIGKILL");
  return ended;
}

/** A point of the transfer, or of what comes after it. */
function due(random: () => number, total = size): () => boolean {
  const bytes = random() * 1.15 * total;
  const pauseMs = random() * 40;
  let sinceMs: number | undefined;
  return () => {
    if (sinceMs === undefined && sentBytes() >= Math.min(bytes, total)) sinceMs = performance.now();
    return sinceMs !== undefined && performance.now() - sinceMs >= (bytes > total ? pauseMs * 4 : pauseMs);
  };
}

async function cleanRun(store: string): Promise<void> {
  const kept = await keptBytes(store);
  server.behave(() => undefined);
  const { report, error } = await smallPull(server, store);
  expect(error?.message).toBeUndefined();
  expectModel(store, server, files);
  // What had been written is not fetched again, to the byte.
  expect(report?.fetchedBytes).toBe(size - kept);
}

describe.each(["stream", "range", "resume"] as const)("SIGKILL in %s mode", (mode) => {
  test(
    `at ${kills} seeded points: no wrong byte, and the next run fetches only what is missing`,
    async () => {
      console.log(`kill points in ${mode} mode are seeded with OCIMODEL_SEED=${seed}`);
      let [killed, atBytes, afterBytes, lost] = [0, 0, 0, 0];
      let index = 0;
      for (; killed < kills; index += 1) {
        // Most points are within the transfer: were they not met, this would not test what it says.
        expect(index).toBeLessThan(4 * kills + 10);
        const random = seededRandom(`${seed} ${mode} ${index}`);
        const store = freshStore();
        let before = 0;
        if (mode === "resume") {
          server.behave(() => paced);
          const isCut = await killedRun(
            store,
            tunings.range,
            due(() => 0.2 + random() * 0.5),
          );
          before = await keptBytes(store);
          if (!isCut || before === 0 || before === size) {
            rmSync(store, { recursive: true, force: true });
            continue;
          }
        }
        server.behave(() => paced);
        const sent = (): number => before + sentBytes();
        const tuning = mode === "stream" ? tunings.stream : tunings.range;
        const isKilled = await killedRun(store, tuning, due(random, size - before));
        const kept = await keptBytes(store);
        if (isKilled) {
          killed += 1;
          if (sent() < size) atBytes += 1;
          else afterBytes += 1;
        }
        expect(kept).toBeGreaterThanOrEqual(before);
        lost = Math.max(lost, sent() - kept);
        expectNoWrongByte(store);
        await cleanRun(store);
        rmSync(store, { recursive: true, force: true });
      }
      console.log(
        `${mode}: ${killed} kills in ${index} runs, ${atBytes} while bytes came and ${afterBytes} behind the last one; at most ${lost} bytes sent and not kept`,
      );
    },
    60_000 + kills * 60_000,
  );
});

test.each(["stream", "range"] as const)(
  "killed while every connection is silent, %s mode: all that had come is kept",
  async (mode) => {
    const store = freshStore();
    // Not a whole slab on any connection: what lies in memory is written when nothing more comes.
    server.behave(() => ({ ...paced, endsAfter: 77_777, ending: "hang" }));
    let stable = 0;
    const killed = await killedRun(store, tunings[mode], async () => {
      const kept = await keptBytes(store);
      stable = kept > 0 && kept === sentBytes() ? stable + 1 : 0;
      return stable > 100;
    });
    expect(killed).toBe(true);
    expect(await keptBytes(store)).toBe(sentBytes());
    await cleanRun(store);
    rmSync(store, { recursive: true, force: true });
  },
);

test("what has come is brought to the disk while the rest is still to come, and noted for a machine that goes down", async () => {
  const store = freshStore();
  const half = Math.floor(size / 2);
  const gate = Promise.withResolvers<undefined>();
  server.behave(({ range }) => {
    const first = range?.first ?? 0;
    return first >= half ? { after: gate.promise } : { endsAfter: half - first };
  });
  const pull = smallPull(server, store, { stallTimeoutMs: 60_000 });
  try {
    const pieces = Math.ceil(size / pieceBytes);
    const table = Buffer.alloc(4 * pieces);
    await waitFor("a sync", async () => {
      const directory = join(store, ".ocimodel/ingest", digestOf(content).replace("sha256:", ""));
      const [name] = filesBelow(directory);
      if (name === undefined) return false;
      const handle = await open(join(directory, name));
      const { synced } = journalPlace({ sizeBytes: size, count: pieces });
      await handle.read(table, 0, table.length, synced);
      await handle.close();
      // As often as the tuning says.
      return (
        Array.from({ length: pieces }, (_, piece) => table.readInt32LE(4 * piece)).reduce(
          (sum, each) => sum + each,
          0,
        ) >= 524_288
      );
    });
  } finally {
    gate.resolve(undefined);
  }
  expect((await pull).error?.message).toBeUndefined();
  expectModel(store, server, files);
  rmSync(store, { recursive: true, force: true });
});

/** Bytes that lie in the kernel between the server and whoever it serves: not yet sent, or not yet read. */
function bytesInKernel(host: string): number {
  const port = Number(host.split(":")[1]).toString(16).toUpperCase().padStart(4, "0");
  let bytes = 0;
  for (const line of readFileSync("/proc/net/tcp", "utf8").split("\n")) {
    const [, local = "", remote = "", , queues = ""] = line.trim().split(/\s+/);
    const [unacknowledged = 0, unread = 0] = queues.split(":").map((each) => Number.parseInt(each, 16));
    if (local.endsWith(`:${port}`)) bytes += unacknowledged;
    if (remote.endsWith(`:${port}`)) bytes += unread;
  }
  return bytes;
}

describe.runIf(process.platform === "linux")("killed at any moment", () => {
  const [lanes, slabBytes, largePieceBytes] = [4, 160 * 1024, 2 * 1024 * 1024];
  // Pieces far larger than slabs: what is not noted before a piece is whole would show.
  const tuning = [
    "largeBlobBytes=1048576",
    "journaledBlobBytes=524288",
    `pieceBytes=${largePieceBytes}`,
    `slabBytes=${slabBytes}`,
    `lanes=${lanes}`,
    "processors=4",
  ].join(" ");
  const large = [{ name: "large.safetensors", content: noise("slabs", 12 * 1024 * 1024) }];
  const whole = large[0]?.content ?? Buffer.alloc(0);
  let slow: BlobServer;
  beforeAll(async () => {
    slow = await startBlobServer(large);
  });
  afterAll(async () => {
    await slow?.stop();
  });

  test("at most an unfinished slab of each lane is lost, of all that the process had read", async () => {
    let most = 0;
    for (let index = 0; index < 6; index += 1) {
      const random = seededRandom(`${seed} slabs ${index}`);
      const store = freshStore();
      // No answer goes beyond a piece: what a lane leaves unread where another one has begun is none of what it had read.
      slow.behave(({ range }) => ({
        ...paced,
        endsAfter: largePieceBytes - ((range?.first ?? 0) % largePieceBytes),
      }));
      const sent = (): number => slow.fileRequests.reduce((sum, each) => sum + each.sentBytes, 0);
      const point = (0.05 + 0.85 * random()) * whole.length;
      let read = 0;
      const wasKilled = await killedRun(
        store,
        tuning,
        () => sent() >= point,
        async () => {
          // Whatever it was at when it was stopped is over by now; the server goes on, into the kernel.
          await delay(50);
          read = sent() - slow.unsentBytes() - bytesInKernel(slow.host);
        },
        slow,
      );
      expect(wasKilled).toBe(true);
      const kept = await keptBytes(store, whole);
      most = Math.max(most, read - kept);
      expect(read - kept).toBeLessThanOrEqual(lanes * slabBytes);
      expectNoWrongByte(store);
      slow.behave(() => undefined);
      const { report, error } = await smallPull(slow, store);
      expect(error?.message).toBeUndefined();
      expectModel(store, slow, large);
      expect(report?.fetchedBytes).toBe(whole.length - kept);
      rmSync(store, { recursive: true, force: true });
    }
    console.log(`at most ${most} bytes were read and not kept; ${lanes} slabs are ${lanes * slabBytes}`);
  });
});
