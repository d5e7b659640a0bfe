import { createHash } from "node:crypto";
import {
  appendFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { hostname, tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { digestHex } from "../../../puller/oci/digest.ts";
import type { Descriptor, Digest } from "../../../puller/oci/types.ts";
import { beginPartial, Watch } from "../../../puller/store/begin-partial.ts";
import { bootIdentity } from "../../../puller/store/journal.ts";
import { blobPath, ingestDirectory, type StoreLayout } from "../../../puller/store/layout.ts";
import { openStore } from "../../../puller/store/open-store.ts";
import { removeOrphans } from "../../../puller/store/orphans.ts";
import type { Partial } from "../../../puller/store/partial.ts";
import { waitFor } from "../../cluster/run-command.ts";
import { filesBelow, noise, sha256 } from "../store-assertions.ts";

const content = noise("begin", 100_000);
const descriptor: Descriptor = {
  mediaType: "application/octet-stream",
  digest: `sha256:${sha256(content)}` as Digest,
  sizeBytes: content.length,
  annotations: {},
};
/** Long enough for a writer of this test to be late on a machine with much to do. */
const times = { pollMs: 20, settleMs: 300, stillMs: 3_000 };
const never = new AbortController().signal;
const mark = (text: string): string => createHash("sha256").update(text).digest("hex").slice(0, 8);

let root = "";
let layout: StoreLayout;
beforeEach(async () => {
  root = mkdtempSync(join(tmpdir(), "ocimodel-begin-"));
  layout = await openStore(root);
});
afterEach(() => {
  rmSync(root, { recursive: true, force: true });
});

const isThere = async (): Promise<boolean> =>
  Promise.resolve(filesBelow(layout.blobs).includes(join("sha256", digestHex(descriptor.digest))));
const begin = async (
  options: { readonly hasTurn?: boolean; readonly signal?: AbortSignal; readonly stillMs?: number } = {},
): Promise<Partial | undefined> =>
  beginPartial(
    {
      layout,
      descriptor,
      hasTurn: options.hasTurn ?? false,
      times: { ...times, stillMs: options.stillMs ?? times.stillMs },
      isThere,
    },
    options.signal ?? never,
  );
const publish = async (partial: Partial | undefined): Promise<void> => {
  if (partial === undefined) throw new Error("there is no partial to fill");
  await partial.append(content.subarray(partial.doneBytes));
  await partial.publish(sha256(content));
};
/** The partial of another machine, with the beginning of the blob in it; its path. */
const foreign = (bytes: number, random = "0000000000000000"): string => {
  const directory = ingestDirectory(layout, descriptor.digest);
  mkdirSync(directory, { recursive: true });
  const path = join(directory, `${random}-99999999-${mark(bootIdentity())}-1-1.part`);
  writeFileSync(path, content.subarray(0, bytes));
  return path;
};
const partials = (): readonly string[] => filesBelow(ingestDirectory(layout, descriptor.digest));

describe.each([false, true])("a blob that another machine is bringing, with the turn: %s", (hasTurn) => {
  test("is waited for as long as its partial grows, and not fetched when it is there", async () => {
    const path = foreign(1_000);
    let isOver = false;
    const waiting = begin({ hasTurn, stillMs: 10_000 }).finally(() => {
      isOver = true;
    });
    for (let chunk = 1; chunk < 10; chunk += 1) {
      appendFileSync(path, content.subarray(chunk * 1_000, (chunk + 1) * 1_000));
      await delay(50);
      expect(isOver).toBe(false);
    }
    mkdirSync(join(layout.blobs, "sha256"), { recursive: true });
    writeFileSync(blobPath(layout, descriptor.digest), content);
    rmSync(path);
    expect(await waiting).toBeUndefined();
  });

  test("is taken over in bounded time once its partial does not grow any more: a copy, since the writer may come back", async () => {
    const path = foreign(60_000);
    const partial = await begin({ hasTurn, stillMs: 200 });
    expect(partial?.doneBytes).toBe(60_000);
    // Should it write once more, that is no byte of ours.
    appendFileSync(path, "wrong");
    await publish(partial);
    expect(readFileSync(blobPath(layout, descriptor.digest)).equals(content)).toBe(true);
    expect(partials()).toHaveLength(1);
  });

  test("is taken over at once when the volume's clock says that its partial is old; a time in the future says nothing", async () => {
    const path = foreign(60_000);
    const old = new Date(Date.now() - 3_600_000);
    utimesSync(path, old, old);
    const partial = await begin({ hasTurn, stillMs: 3_600_000 });
    expect(partial?.doneBytes).toBe(60_000);
    await partial?.discard();
    const future = new Date(Date.now() + 315_360_000_000);
    utimesSync(path, future, future);
    const stop = new AbortController();
    const waiting = begin({ hasTurn, stillMs: 3_600_000, signal: stop.signal });
    await delay(200);
    stop.abort(new Error("stopped"));
    await expect(waiting).rejects.toThrow();
    expect(partials()).toHaveLength(1);
  });
});

test("several that begin at the same moment without tickets: one fetches, the others have it then", async () => {
  const all = Array.from({ length: 8 }, async () => begin({ stillMs: 60_000 }));
  const first = await Promise.race(all);
  expect(first).toBeDefined();
  // What lost its claim is gone; the others wait.
  await waitFor("the claims of the others to go", () => partials().length === 1);
  await publish(first);
  expect((await Promise.all(all)).filter((partial) => partial !== undefined)).toEqual([first]);
  expect(partials()).toEqual([]);
});

test("a claim of a blob that was published while it settled goes, and nothing is fetched", async () => {
  let looks = 0;
  const partial = await beginPartial(
    {
      layout,
      descriptor,
      hasTurn: false,
      times: { ...times, settleMs: 10 },
      // Not there at the first look; there when the claim has settled, and then for good.
      isThere: async () => Promise.resolve((looks += 1) > 1),
    },
    never,
  );
  expect(partial).toBeUndefined();
  expect(partials()).toEqual([]);
});

test("of a process of this machine that is gone, the partial is taken over without a wait, by one of several", async () => {
  const path = foreign(60_000);
  const dead = join(
    ingestDirectory(layout, descriptor.digest),
    `0000000000000001-${mark(hostname())}-${mark(bootIdentity())}-999999999-1.part`,
  );
  renameSync(path, dead);
  const all = Array.from({ length: 4 }, async () => begin({ stillMs: 60_000 }));
  const first = await Promise.race(all);
  expect(first?.doneBytes).toBe(60_000);
  await publish(first);
  expect((await Promise.all(all)).filter((partial) => partial !== undefined)).toEqual([first]);
});

test("a signal ends the wait, and the claim of whoever waited goes", async () => {
  const stop = new AbortController();
  const claiming = begin({ signal: stop.signal });
  await waitFor("the claim", () => partials().length === 1);
  stop.abort(new Error("stopped"));
  await expect(claiming).rejects.toThrow();
  expect(partials()).toEqual([]);
});

test("names that no puller makes, links, pipes and directories hold up nobody", async () => {
  const directory = ingestDirectory(layout, descriptor.digest);
  mkdirSync(join(directory, `0000000000000002-99999999-${mark(bootIdentity())}-1-1.part`), {
    recursive: true,
  });
  for (const name of ["x.part", ".nfs000000000000abcd00000001"]) writeFileSync(join(directory, name), "x");
  const partial = await begin({ hasTurn: true, stillMs: 3_600_000 });
  expect(partial?.doneBytes).toBe(0);
  await partial?.discard();
  expect(readdirSync(directory)).toHaveLength(3);
});

test("what another machine is writing of a blob that is there stays until it is old", async () => {
  const path = foreign(10);
  await removeOrphans(layout, [descriptor]);
  expect(partials()).toHaveLength(1);
  const old = new Date(Date.now() - 3_600_000);
  utimesSync(path, old, old);
  await removeOrphans(layout, [descriptor]);
  expect(partials()).toHaveLength(0);
});

test("looks are counted and not time: whoever was stopped for an hour does not take the others for dead", () => {
  const watch = new Watch({ pollMs: 100, stillMs: 250 });
  const look = (progress: string): boolean => watch.isStill({ name: "one", progress });
  expect([look("a"), look("a"), look("b"), look("b"), look("b"), look("b"), look("c")]).toEqual([
    false,
    false,
    false,
    false,
    false,
    true,
    false,
  ]);
  expect(watch.isStill({ name: "another", progress: "c" })).toBe(false);
});
