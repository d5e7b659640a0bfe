// What a partial file must be to become a blob, and what becomes of what is in its place.

import {
  appendFileSync,
  constants,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, expect, onTestFinished, test, vi } from "vitest";
import { noise } from "../pull/small-pulls.ts";
import type { Descriptor } from "../../../puller/oci/types.ts";
import type * as Durability from "../../../puller/store/durability.ts";
import { blobPath, ingestDirectory, type StoreLayout } from "../../../puller/store/layout.ts";
import { openStore } from "../../../puller/store/open-store.ts";
import { Partial } from "../../../puller/store/partial.ts";
import { callsOn } from "../../../puller/store/volume-calls.ts";
import { digestOf } from "../artifact/manifest-builder.ts";
import { filesBelow, sha256 } from "../store-assertions.ts";

const synced = vi.hoisted(() => ({ paths: [] as string[] }));
vi.mock("../../../puller/store/durability.ts", async (original) => {
  const real = await original<typeof Durability>();
  return {
    ...real,
    syncDirectory: async (path: string) => {
      synced.paths.push(path);
      await real.syncDirectory(path);
    },
  };
});

/** One with a journal, one without. */
const [journaled, plain] = [noise("journaled", 700_001), noise("plain", 300_001)];
const of = (content: Buffer): Descriptor =>
  ({ digest: digestOf(content), sizeBytes: content.length }) as Descriptor;

let root = "";
let layout: StoreLayout;
beforeEach(async () => {
  root = mkdtempSync(join(tmpdir(), "ocimodel-publication-"));
  layout = await openStore(root);
});
afterEach(() => {
  rmSync(root, { recursive: true, force: true });
});

const written = async (content: Buffer, upTo = content.length): Promise<Partial> => {
  const partial = await Partial.create(layout, of(content));
  await partial.append(content.subarray(0, upTo));
  return partial;
};
const pathOf = (content: Buffer, partial: Partial): string =>
  join(ingestDirectory(layout, of(content).digest), partial.name);
const expectNothing = (): void => {
  expect(filesBelow(layout.blobs)).toEqual([]);
  expect(filesBelow(layout.ingest)).toEqual([]);
};
const expectBlob = (content: Buffer): void => {
  const blob = blobPath(layout, of(content).digest);
  expect(readFileSync(blob).equals(content)).toBe(true);
  expect(lstatSync(blob).mode & 0o777).toBe(0o444);
  expect(filesBelow(layout.ingest)).toEqual([]);
};

test.each([
  ["with a journal", journaled],
  ["without one", plain],
])("%s: not with bytes missing, nor with another digest, whatever else is right", async (_name, content) => {
  expect(await written(content).then(async (each) => each.publish(sha256(content)))).toBeDefined();
  expectBlob(content);
  rmSync(blobPath(layout, of(content).digest));
  const short = await written(content, content.length - 1);
  await expect(short.publish(sha256(content))).rejects.toMatchObject({ code: "DigestMismatch" });
  const other = await written(content);
  await expect(other.publish(sha256(Buffer.from("other")))).rejects.toMatchObject({ code: "DigestMismatch" });
  expectNothing();
});

test("the name of a large blob is brought to the disk at once; those of small ones are many, and wait for the model", async () => {
  synced.paths = [];
  await (await written(plain)).publish(sha256(plain));
  expect(synced.paths).toEqual([]);
  await (await written(journaled)).publish(sha256(journaled));
  expect(synced.paths).toEqual([dirname(blobPath(layout, of(journaled).digest))]);
});

test("not when somebody has cut it or written behind its end", async () => {
  const cut = await written(journaled);
  truncateSync(pathOf(journaled, cut), 100_000);
  await expect(cut.publish(sha256(journaled))).rejects.toMatchObject({ code: "StorageFailed" });
  const longer = await written(plain);
  appendFileSync(pathOf(plain, longer), "more");
  await expect(longer.publish(sha256(plain))).rejects.toMatchObject({ code: "DigestMismatch" });
  expectNothing();
});

test("not with a hole where somebody has cut it while it was being written", async () => {
  const partial = await written(plain, 200_000);
  truncateSync(pathOf(plain, partial), 0);
  await partial.append(plain.subarray(200_000));
  await expect(partial.publish(sha256(plain))).rejects.toMatchObject({ code: "StorageFailed" });
  expectNothing();
});

test("a blob that is there and whole stays the file that it is; one of another size is replaced, as is a directory", async () => {
  await (await written(plain)).publish(sha256(plain));
  const blob = blobPath(layout, of(plain).digest);
  const { ino } = lstatSync(blob);
  await (await written(plain)).publish(sha256(plain));
  expect(lstatSync(blob).ino).toBe(ino);
  expectBlob(plain);
  rmSync(blob);
  writeFileSync(blob, plain.subarray(1));
  await (await written(plain)).publish(sha256(plain));
  expectBlob(plain);
  rmSync(blob);
  mkdirSync(join(blob, "deep"), { recursive: true });
  await (await written(plain)).publish(sha256(plain));
  expectBlob(plain);
  expect(filesBelow(dirname(blob))).toHaveLength(1);
});

test("a volume that takes no byte of a write is one that fails, and is not asked for ever", async () => {
  const partial = await Partial.create(layout, of(plain));
  const alike = await callsOn(layout).open(join(root, "alike"), constants.O_CREAT, 0o600);
  await alike.close();
  // Without the refusal it would go on for ever: the tenth call ends it.
  let calls = 0;
  const spy = vi.spyOn(Object.getPrototypeOf(alike) as typeof alike, "write").mockImplementation(async () => {
    calls += 1;
    if (calls > 10) throw new Error("asked for ever");
    return Promise.resolve({ bytesWritten: 0 });
  });
  onTestFinished(() => {
    spy.mockRestore();
  });
  await expect(partial.append(plain)).rejects.toMatchObject({ code: "StorageFailed" });
  await partial.discard();
});

test("whoever had the map of a partial that begins again is told to stop", async () => {
  const partial = await written(journaled, 200_000);
  const before = partial.map;
  await partial.restart();
  expect(before.isStopped).toBe(true);
  expect(partial.map.isStopped).toBe(false);
  expect(partial.doneBytes).toBe(0);
  await partial.discard();
});
