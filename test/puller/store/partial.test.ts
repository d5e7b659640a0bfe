import {
  chownSync,
  constants,
  linkSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
} from "node:fs";
import { chmod, open } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, onTestFinished, test, vi } from "vitest";
import type * as OciTypes from "../../../puller/oci/types.ts";
import type * as Journal from "../../../puller/store/journal.ts";
import { blobPath, type StoreLayout } from "../../../puller/store/layout.ts";
import type * as OpenStore from "../../../puller/store/open-store.ts";
import type * as Partials from "../../../puller/store/partial.ts";
import type * as VolumeCalls from "../../../puller/store/volume-calls.ts";
import type * as PieceMaps from "../../../puller/transfer/piece-map.ts";
import { waitFor } from "../../cluster/run-command.ts";
import { importCompiled } from "../../compiled/compiled-puller.ts";
import { digestOf } from "../artifact/manifest-builder.ts";
import { startBlobServer } from "../../registry/blob-server.ts";
import { expectModel, noise, pieceBytes, smallPull } from "../pull/small-pulls.ts";
import { filesBelow, sha256 } from "../store-assertions.ts";

const { Partial } = await importCompiled<typeof Partials>("puller/store/partial.ts");
const { openStore } = await importCompiled<typeof OpenStore>("puller/store/open-store.ts");
const { callsOn } = await importCompiled<typeof VolumeCalls>("puller/store/volume-calls.ts");
const { PieceMap } = await importCompiled<typeof PieceMaps>("puller/transfer/piece-map.ts");
const { adoptJournal, createJournal, journalPlace, noteSynced, readJournal } =
  await importCompiled<typeof Journal>("puller/store/journal.ts");

const content = noise("partial", 700_001);
const descriptor = { digest: digestOf(content), sizeBytes: content.length } as OciTypes.Descriptor;

let directory = "";
let layout: StoreLayout;
beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), "ocimodel-partial-"));
  layout = await openStore(directory);
});
afterEach(() => {
  rmSync(directory, { recursive: true, force: true });
});

/** The one partial gets the name of a process that is gone; its path. */
function orphan(boot?: string, { digest } = descriptor): string {
  const ingest = join(directory, ".ocimodel/ingest", digest.replace("sha256:", ""));
  const [name = ""] = readdirSync(ingest);
  const [random, host, ownBoot] = name.split("-");
  const dead = `${random}-${host}-${boot ?? ownBoot}-999999999-1.part`;
  renameSync(join(ingest, name), join(ingest, dead));
  return join(ingest, dead);
}

describe("a partial whose writer was killed", () => {
  test("while it was being written: all that was noted is taken over, and what is published is the content", async () => {
    const first = await Partial.create(layout, descriptor);
    await first.append(content.subarray(0, 300_000));
    // What `append` writes is noted by lanes only; here as they do.
    const journal = await open(orphan(), "r+");
    const { done } = journalPlace(first.map);
    for (let piece = 0; piece < first.map.count; piece += 1) {
      const entry = Buffer.alloc(4);
      entry.writeInt32LE(first.map.done(piece));
      await journal.write(entry, 0, 4, done + 4 * piece);
    }
    await journal.close();
    const second = await Partial.adopt(layout, descriptor);
    expect(second.doneBytes).toBe(300_000);
    await second.append(content.subarray(300_000));
    await second.publish(sha256(content));
    expect(readFileSync(join(directory, ".ocimodel/blobs/sha256", sha256(content))).equals(content)).toBe(
      true,
    );
  });

  test.runIf(process.getuid?.() === 0)(
    "when it was read-only already, by a user who is not root: nothing is fetched again",
    async () => {
      const first = await Partial.create(layout, descriptor);
      await first.append(content);
      const path = orphan();
      // As `publish` does before it syncs.
      const handle = await open(path, "r+");
      await handle.truncate(content.length);
      await handle.close();
      await chmod(path, 0o444);
      for (const name of ["", ...readdirSync(directory, { recursive: true, encoding: "utf8" })])
        chownSync(join(directory, name), 65_532, 65_532);
      process.seteuid?.(65_532);
      try {
        const second = await Partial.adopt(layout, descriptor);
        expect(second.doneBytes).toBe(content.length);
        await second.publish(sha256(content));
      } finally {
        process.seteuid?.(0);
      }
      expect(readFileSync(join(directory, ".ocimodel/blobs/sha256", sha256(content))).equals(content)).toBe(
        true,
      );
    },
  );

  test("between its name as a blob and its end as a partial: the next pull removes that and fetches nothing", async () => {
    const file = { name: "killed.safetensors", content };
    const server = await startBlobServer([file]);
    try {
      expect((await smallPull(server, directory)).error?.message).toBeUndefined();
      const again = async (): Promise<void> => {
        rmSync(join(directory, "models"), { recursive: true });
        rmSync(layout.stamps, { recursive: true });
        server.behave(() => undefined);
        expect((await smallPull(server, directory)).error?.message).toBeUndefined();
        expect(server.fileRequests).toHaveLength(0);
      };
      await (await Partial.create(layout, descriptor)).keep();
      const path = orphan();
      const blob = blobPath(layout, descriptor.digest);
      rmSync(path);
      linkSync(blob, path);
      await again();
      expectModel(directory, server, [file]);
      // One whose writer lives is that one's own.
      const alive = await Partial.create(layout, descriptor);
      await again();
      expect(filesBelow(join(directory, ".ocimodel/ingest"))).toHaveLength(1);
      await alive.discard();
    } finally {
      await server.stop();
    }
  });

  test("with a machine that has gone down since: only what was synced counts", async () => {
    const first = await Partial.create(layout, descriptor);
    await first.append(content.subarray(0, 2 * pieceBytes + 5));
    first.syncBehind(1);
    await first.keep();
    const path = orphan("00000000");
    const handle = await open(path, "r+");
    const { head } = journalPlace(first.map);
    const block = Buffer.alloc(4096);
    await handle.read(block, 0, 4096, head);
    const text = block.toString("utf8", 0, block.indexOf(0)).replace(/"boot":"[^"]*"/, '"boot":"another"');
    await handle.write(Buffer.concat([Buffer.from(text), Buffer.alloc(64)]), 0, undefined, head);
    // Written since the sync, and noted, but never synced.
    await handle.write(Buffer.from([255, 255, 0, 0]), 0, 4, journalPlace(first.map).done + 12);
    await handle.close();
    const second = await Partial.adopt(layout, descriptor);
    expect(second.doneBytes).toBe(2 * pieceBytes + 5);
    expect(second.map.done(3)).toBe(0);
    await second.discard();
  });
});

describe("a partial without a journal", () => {
  test.each([
    ["on the same run of the machine: by its length", undefined, 100_000],
    ["with a machine that has gone down since: nothing", "00000000", 0],
  ])("of a writer that is gone, %s", async (_name, boot, believed) => {
    const small = { digest: digestOf("small"), sizeBytes: 200_000 } as OciTypes.Descriptor;
    const first = await Partial.create(layout, small);
    await first.append(content.subarray(0, 100_000));
    await first.keep();
    orphan(boot, small);
    const second = await Partial.adopt(layout, small);
    expect(second.doneBytes).toBe(believed);
    await second.discard();
  });
});

describe("what is synced behind the writing", () => {
  /** Has the next syncs of data take until the test says so, or fail. */
  const holdSyncs = async (error?: Error) => {
    const alike = await callsOn(layout).open(join(directory, "alike"), constants.O_CREAT, 0o600);
    const gate = Promise.withResolvers<undefined>();
    const spy = vi
      .spyOn(Object.getPrototypeOf(alike) as typeof alike, "datasync")
      .mockImplementation(async () => {
        await gate.promise;
        if (error !== undefined) throw error;
      });
    await alike.close();
    onTestFinished(() => {
      spy.mockRestore();
    });
    return { spy, end: () => gate.resolve(undefined) };
  };
  /** Bytes of each piece that a run after a crash of the machine would believe. */
  const synced = async (partial: Partials.Partial): Promise<readonly number[]> => {
    const reader = await partial.openReader();
    const table = Buffer.alloc(4 * partial.map.count);
    await reader.read(table, 0, table.length, journalPlace(partial.map).synced);
    await reader.close();
    return Array.from({ length: partial.map.count }, (_, piece) => table.readInt32LE(4 * piece));
  };

  test("counts from the end of the sync on, and as it was when that began: never what was written meanwhile", async () => {
    const partial = await Partial.create(layout, descriptor);
    await partial.append(content.subarray(0, pieceBytes + 100));
    const { spy, end } = await holdSyncs();
    partial.syncBehind(1);
    await partial.append(content.subarray(pieceBytes + 100, 3 * pieceBytes));
    // One at a time, and none for what is not enough.
    partial.syncBehind(1);
    expect(spy).toHaveBeenCalledTimes(1);
    expect(await synced(partial)).toEqual([0, 0, 0, 0, 0, 0]);
    end();
    await waitFor("the note", async () => (await synced(partial))[0] !== 0, { intervalMs: 2 });
    expect(await synced(partial)).toEqual([pieceBytes, 100, 0, 0, 0, 0]);
    partial.syncBehind(3 * pieceBytes);
    expect(spy).toHaveBeenCalledTimes(1);
    await waitFor("another one", () => {
      partial.syncBehind(pieceBytes);
      return spy.mock.calls.length === 2;
    });
    await partial.discard();
  });

  test("that fails is no sync: nothing is noted, and what was written is never published", async () => {
    const partial = await Partial.create(layout, descriptor);
    await partial.append(content);
    const { end } = await holdSyncs(Object.assign(new Error("lost"), { code: "EIO" }));
    partial.syncBehind(1);
    end();
    await expect(partial.publish(sha256(content))).rejects.toMatchObject({ code: "StorageFailed" });
    expect(filesBelow(join(directory, ".ocimodel/blobs"))).toEqual([]);
    expect(filesBelow(join(directory, ".ocimodel/ingest"))).toEqual([]);
  });

  test("of a blob that began anew in the meantime is noted nowhere", async () => {
    const partial = await Partial.create(layout, descriptor);
    await partial.append(content.subarray(0, 2 * pieceBytes));
    const { end } = await holdSyncs();
    partial.syncBehind(1);
    const restarted = partial.restart();
    end();
    await restarted;
    expect(await synced(partial)).toEqual([0, 0, 0, 0, 0, 0]);
    await partial.discard();
  });
});

describe("a journal", () => {
  const withFile = async <T>(work: (handle: Awaited<ReturnType<typeof open>>) => Promise<T>): Promise<T> => {
    const handle = await open(join(directory, "journal"), "w+");
    try {
      return await work(handle);
    } finally {
      await handle.close();
    }
  };
  const sized = (sizeBytes: number): OciTypes.Descriptor => ({ ...descriptor, sizeBytes });

  test("gives back what was noted, for any size and any progress", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 3_000_000 }),
        fc.array(fc.double({ min: 0, max: 1, noNaN: true })),
        async (sizeBytes, shares) =>
          withFile(async (handle) => {
            const map = new PieceMap(sizeBytes, pieceBytes);
            for (const [piece, share] of shares.slice(0, map.count).entries())
              map.setDone(piece, Math.floor(map.length(piece) * share));
            await adoptJournal(handle, sized(sizeBytes), map);
            const read = await readJournal(handle, sized(sizeBytes));
            expect(Array.from({ length: map.count }, (_, piece) => read?.done(piece))).toEqual(
              Array.from({ length: map.count }, (_, piece) => map.done(piece)),
            );
          }),
      ),
      { numRuns: 60 },
    );
  });

  test("of garbage, of any cut, or of another blob is none", async () => {
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 12_000 }), async (bytes) =>
        withFile(async (handle) => {
          await handle.write(bytes, 0, bytes.length, 0);
          expect(await readJournal(handle, sized(1_000))).toBeUndefined();
        }),
      ),
      { numRuns: 60 },
    );
    await withFile(async (handle) => {
      const map = new PieceMap(700_001, pieceBytes);
      await createJournal(handle, descriptor, map);
      expect((await readJournal(handle, descriptor))?.doneBytes()).toBe(0);
      expect(await readJournal(handle, { ...descriptor, digest: digestOf("another") })).toBeUndefined();
      expect(await readJournal(handle, sized(700_002))).toBeUndefined();
      await handle.truncate(journalPlace(map).done + 3);
      expect(await readJournal(handle, descriptor)).toBeUndefined();
    });
  });

  test.each([-1, pieceBytes + 1, 2 ** 31 - 1])("that claims %d bytes of a piece is none", async (bytes) => {
    await withFile(async (handle) => {
      const map = new PieceMap(700_001, pieceBytes);
      await createJournal(handle, descriptor, map);
      const entry = Buffer.alloc(4);
      entry.writeInt32LE(bytes);
      await handle.write(entry, 0, 4, journalPlace(map).done + 4);
      expect(await readJournal(handle, descriptor)).toBeUndefined();
    });
  });

  test("that is taken over after a crash of the machine, by a run that is killed at that: the next believes no more", async () => {
    await withFile(async (handle) => {
      const map = new PieceMap(700_001, pieceBytes);
      await createJournal(handle, descriptor, map);
      const { head, done } = journalPlace(map);
      const block = Buffer.alloc(4096);
      await handle.read(block, 0, 4096, head);
      const text = block.toString("utf8", 0, block.indexOf(0)).replace(/"boot":"[^"]*"/, '"boot":"another"');
      await handle.write(Buffer.concat([Buffer.from(text), Buffer.alloc(64)]), 0, undefined, head);
      // Written before the crash, of which 7 bytes were synced.
      const written = Buffer.alloc(4);
      written.writeInt32LE(pieceBytes);
      await handle.write(written, 0, 4, done);
      await noteSynced(handle, map, [7]);
      const believed = await readJournal(handle, descriptor);
      expect(believed?.doneBytes()).toBe(7);
      // Killed after each of its writes.
      for (let writes = 0; writes <= 3; writes += 1) {
        const copy = await open(join(directory, `copy-${writes}`), "w+");
        await copy.write(readFileSync(join(directory, "journal")), 0, undefined, 0);
        let left = writes;
        const dying = new Proxy(copy, {
          get: (target, name) => {
            const value = Reflect.get(target, name) as unknown;
            if (typeof value !== "function") return value;
            return async (...args: unknown[]) => {
              if ((left -= 1) < 0) throw new Error("killed");
              return (value as (...all: unknown[]) => unknown).apply(target, args);
            };
          },
        });
        await adoptJournal(dying, descriptor, believed as PieceMaps.PieceMap).catch(() => undefined);
        expect((await readJournal(copy, descriptor))?.doneBytes() ?? 0).toBeLessThanOrEqual(7);
        await copy.close();
      }
    });
  });

  test("notes what was synced apart from what was written", async () => {
    await withFile(async (handle) => {
      const map = new PieceMap(700_001, pieceBytes);
      await createJournal(handle, descriptor, map);
      await noteSynced(handle, map, [7, 8]);
      expect((await readJournal(handle, descriptor))?.doneBytes()).toBe(0);
    });
  });
});
