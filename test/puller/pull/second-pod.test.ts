// A second pod on a volume while the first one pulls: it waits, and then does next to nothing.

import { lstatSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { afterAll, beforeAll, expect, onTestFinished, test, vi } from "vitest";
import { defaultTurnTimes, ticketFiles } from "../../../puller/store/turn.ts";
import { startBlobServer, type BlobServer } from "../../registry/blob-server.ts";
import { expectModel, freshStore, noise, smallPull } from "./small-pulls.ts";

const files = [{ name: "model.gguf", content: noise("waited for", 300_001) }];

let server: BlobServer;
const store = freshStore();
beforeAll(async () => {
  server = await startBlobServer(files);
});
afterAll(async () => {
  await server?.stop();
  rmSync(store, { recursive: true, force: true });
});

test("it finds what the other has published, fetches nothing and builds no model of its own", async () => {
  const go = Promise.withResolvers<undefined>();
  server.behave(() => ({ chunkBytes: 50_000, gapMs: 20 }));
  const staging = join(store, ".ocimodel/staging");
  let stagingMtimeNs: bigint | undefined;
  const first = smallPull(server, store).then((run) => {
    stagingMtimeNs = lstatSync(staging, { bigint: true }).mtimeNs;
    go.resolve(undefined);
    return run;
  });
  const turns = join(store, ".ocimodel/turns");
  const tickets = (): readonly string[] => {
    try {
      return readdirSync(turns).flatMap((each) => readdirSync(join(turns, each)));
    } catch {
      return [];
    }
  };
  while (!tickets().some((name) => name.startsWith("0"))) await delay(1);
  let looks = 0;
  const second = await smallPull(server, store, {
    turns: {
      times: { ...defaultTurnTimes, operationMs: 60_000 },
      files: {
        ...ticketFiles,
        // It takes its ticket while the first one fetches, and sees that it is its turn when that one has ended.
        list: async (directory) => {
          looks += 1;
          if (looks > 1) await go.promise;
          return ticketFiles.list(directory);
        },
      },
    },
  });
  for (const { error } of [await first, second]) expect(error?.message).toBeUndefined();
  expect(second.report).toMatchObject({ fetchedBytes: 0, isWarm: false });
  expect(lstatSync(staging, { bigint: true }).mtimeNs).toBe(stagingMtimeNs);
  expectModel(store, server, files);
});

test("a pull that has ended says no more that it uses the model", async () => {
  const started = vi.spyOn(globalThis, "setInterval");
  const ended = vi.spyOn(globalThis, "clearInterval");
  onTestFinished(() => {
    vi.restoreAllMocks();
  });
  const fresh = freshStore();
  const { error } = await smallPull(server, fresh);
  rmSync(fresh, { recursive: true, force: true });
  expect(error?.message).toBeUndefined();
  const beats = started.mock.results.filter((_each, index) => started.mock.calls[index]?.[1] === 60_000);
  expect(beats).toHaveLength(1);
  expect(ended.mock.calls.map(([timer]) => timer)).toContain(beats[0]?.value);
});
