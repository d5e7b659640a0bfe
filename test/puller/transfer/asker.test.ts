// The end of an exchange that somebody gave up: on the threads of the data plane, at a server that would go on for hours.

import { mkdtempSync, openSync, closeSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { afterEach, beforeEach, expect, test } from "vitest";
import type * as DataPlanes from "../../../puller/transfer/data-plane.ts";
import type { LeasedLane } from "../../../puller/transfer/lane-pool.ts";
import type * as PieceMaps from "../../../puller/transfer/piece-map.ts";
import { waitFor } from "../../cluster/run-command.ts";
import { importCompiled } from "../../compiled/compiled-puller.ts";
import { startBlobServer, type Behaviour, type BlobServer } from "../../registry/blob-server.ts";
import { digestOf } from "../artifact/manifest-builder.ts";
import { noise } from "../pull/small-pulls.ts";

const { DataPlane } = await importCompiled<typeof DataPlanes>("puller/transfer/data-plane.ts");
const { PieceMap } = await importCompiled<typeof PieceMaps>("puller/transfer/piece-map.ts");

const file = { name: "large.safetensors", content: noise("asker", 100_000) };
const sizeBytes = file.content.length;
const hourMs = 3_600_000;
/** What is to happen at once may take so long on a loaded machine; without anybody's doing it would be hours. */
const atOnce = { timeoutMs: 20_000, intervalMs: 5 };

let server: BlobServer;
let directory = "";
let descriptor = -1;
let plane: DataPlanes.DataPlane;
let lane: LeasedLane;
let map: PieceMaps.PieceMap;
beforeEach(async () => {
  server = await startBlobServer([file]);
  directory = mkdtempSync(join(tmpdir(), "ocimodel-asker-"));
  descriptor = openSync(join(directory, "blob"), "w+");
  plane = new DataPlane({
    connectTimeoutMs: hourMs,
    stallTimeoutMs: hourMs,
    slowest: { bytes: 0, windowMs: hourMs },
    limits: { processors: 1, memoryBytes: 2 ** 30 },
    plan: { threads: 1, lanes: 1, mostLanes: 1, slabBytes: 262_144, leadBytes: 0 },
  });
  lane = await plane.pool.acquire(new AbortController().signal);
  map = new PieceMap(sizeBytes);
  await plane.open(lane.thread, { blob: 1, descriptor, map: map.share() });
});
afterEach(async () => {
  await plane.stop();
  await server.stop();
  closeSync(descriptor);
  rmSync(directory, { recursive: true, force: true });
});

/** Asks for the whole blob and waits until it is written. */
async function ask(signal: AbortSignal): Promise<void> {
  map.setDone(0, 0);
  const asked = { lane, blob: 1, piece: 0, offset: 0, endExclusive: sizeBytes, isRun: false, lead: 1 };
  const hop = {
    method: "GET" as const,
    url: new URL(`${server.url}/v2/ai/small/blobs/${digestOf(file.content)}`),
    anyAddress: true,
    isProxied: false,
    headers: {},
    stallCode: "TransferStalled" as const,
  };
  const answer = await plane.asker(asked)(hop, signal);
  expect(answer.taken).toBe(true);
  await answer.written;
}

/** How something ended that was given up a moment ago. */
async function endOf(what: Promise<void>): Promise<unknown> {
  return Promise.race([
    what.then(
      () => "it is written",
      (error: unknown) => error,
    ),
    delay(atOnce.timeoutMs, "it goes on", { ref: false }),
  ]);
}

const never = new Promise(() => undefined);
test.each<[string, Behaviour, number]>([
  ["has not answered", { after: never }, 0],
  ["is silent in the middle of the body", { endsAfter: 1_000, ending: "hang" }, 1_000],
  ["sends a byte now and then", { chunkBytes: 1, gapMs: 20 }, 5],
])(
  "a server that %s is left at once, for the reason that was given, and the lane can be used again",
  async (_name, behaviour, bytes) => {
    server.behave(({ index }) => (index === 0 ? behaviour : {}));
    const givenUp = new AbortController();
    const first = ask(givenUp.signal);
    first.catch(() => undefined);
    await waitFor(
      "the answer",
      () => server.fileRequests.length === 1 && (server.fileRequests[0]?.sentBytes ?? 0) >= bytes,
      atOnce,
    );
    const reason = new Error("another connection is quicker");
    givenUp.abort(reason);
    expect(await endOf(first)).toBe(reason);
    await waitFor("the server to be left", () => server.openConnections === 0, atOnce);
    expect(await endOf(ask(new AbortController().signal))).toBe("it is written");
    expect(map.doneBytes()).toBe(sizeBytes);
  },
);

test("nothing is asked for somebody who has given up already", async () => {
  const reason = new Error("another blob failed");
  expect(await endOf(ask(AbortSignal.abort(reason)))).toBe(reason);
  // A request would have been sent before this one.
  expect(await endOf(ask(new AbortController().signal))).toBe("it is written");
  expect(server.fileRequests).toHaveLength(1);
});

test("who gives up what is through ends nothing that the lane does for others since", async () => {
  const through = new AbortController();
  expect(await endOf(ask(through.signal))).toBe("it is written");
  const gate = Promise.withResolvers<undefined>();
  server.behave(() => ({ after: gate.promise }));
  const second = ask(new AbortController().signal);
  await waitFor("the request", () => server.fileRequests.length === 1, atOnce);
  through.abort(new Error("late"));
  // Should it reach the lane, it is there before what is sent after it.
  await plane.hashPrefix(lane.thread, 1, 0);
  gate.resolve(undefined);
  expect(await endOf(second)).toBe("it is written");
});
