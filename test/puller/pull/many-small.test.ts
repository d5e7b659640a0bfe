// Models of many small files: what is done once for all of them and not for each.

import { chmodSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { startBlobServer, type BlobServer } from "../../registry/blob-server.ts";
import { expectModel, freshStore, noise, smallPull } from "./small-pulls.ts";

const files = [
  { name: "large.safetensors", content: noise("large", 1024 * 1024 + 77) },
  ...Array.from({ length: 20 }, (_, index) => ({
    name: `part-${index}.json`,
    content: noise(`part-${index}`, 5_000 + index),
  })),
];

let server: BlobServer;
let store: string;
const stores: string[] = [];
beforeAll(async () => {
  server = await startBlobServer(files);
});
afterAll(async () => {
  await server?.stop();
  for (const each of stores) rmSync(each, { recursive: true, force: true });
});
beforeEach(() => {
  store = freshStore();
  stores.push(store);
});

const requestsFor = (length: number): number =>
  server.fileRequests.filter(({ sentBytes }) => sentBytes === length).length;

test("two pulls at once fetch each small file once, and leave no ticket behind", async () => {
  // Slow enough that the second one finds the first at work.
  server.behave(() => ({ chunkBytes: 1_000, gapMs: 5 }));
  const runs = await Promise.all([smallPull(server, store), smallPull(server, store)]);
  for (const { error } of runs) expect(error?.message).toBeUndefined();
  expectModel(store, server, files);
  for (const { content } of files.slice(1)) expect(requestsFor(content.length)).toBe(1);
  const fetched = runs.reduce((sum, { report }) => sum + (report?.fetchedBytes ?? 0), 0);
  expect(fetched).toBe(files.reduce((sum, { content }) => sum + content.length, 0));
  expect(readdirSync(join(store, ".ocimodel/turns"))).toEqual([]);
});

test("a small file that somebody writes to before the model is published is not published", async () => {
  let isHeld = true;
  server.behave(({ range }) => {
    // The large blob ends last: meanwhile the small ones are there, and unstamped on the volume.
    if (isHeld && range !== undefined) return { chunkBytes: 16 * 1024, gapMs: 20 };
    return {};
  });
  const running = smallPull(server, store);
  const blobs = join(store, ".ocimodel/blobs/sha256");
  let path: string | undefined;
  while (path === undefined) {
    await delay(5);
    try {
      path = readdirSync(blobs)
        .map((name) => join(blobs, name))
        .at(0);
    } catch {
      // Not made yet.
    }
  }
  // Later than the last write by any clock, and after the puller has noted what it verified.
  await delay(30);
  chmodSync(path, 0o644);
  writeFileSync(path, noise("other", statSync(path).size));
  chmodSync(path, 0o444);
  isHeld = false;
  const { error } = await running;
  expect(error?.code).toBe("StorageFailed");
  expect(readdirSync(join(store, "models"))).toEqual([]);
  // The next run puts it right.
  expect((await smallPull(server, store)).error?.message).toBeUndefined();
  expectModel(store, server, files);
});
