// How far lanes may be ahead of the hash, and how many requests there are before a server has shown that it answers: with the lanes
// that the machine decides, and pieces that are two ahead at most.

import { rmSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import type * as Oci from "../../../puller/oci/index.ts";
import type { Descriptor } from "../../../puller/oci/types.ts";
import type * as Progress from "../../../puller/pull/progress.ts";
import type * as RangeBlob from "../../../puller/pull/range-blob.ts";
import type * as OpenStore from "../../../puller/store/open-store.ts";
import type * as Partials from "../../../puller/store/partial.ts";
import type * as DataPlanes from "../../../puller/transfer/data-plane.ts";
import type { PieceMap } from "../../../puller/transfer/piece-map.ts";
import { waitFor } from "../../cluster/run-command.ts";
import { importCompiled } from "../../compiled/compiled-puller.ts";
import { startBlobServer, type BlobServer } from "../../registry/blob-server.ts";
import { digestOf } from "../artifact/manifest-builder.ts";
import { sha256 } from "../store-assertions.ts";

const leadPieces = 2;
process.env["OCIMODEL_TEST_TUNING"] = [
  "largeBlobBytes=1048576",
  "journaledBlobBytes=524288",
  "pieceBytes=131072",
  "processors=4",
  "slabBytes=262144",
  `leadPieces=${leadPieces}`,
].join(" ");
const { expectModel, freshStore, noise, pieceBytes, smallPull } = await import("./small-pulls.ts");
const { rangeBlob } = await importCompiled<typeof RangeBlob>("puller/pull/range-blob.ts");
const { DataPlane } = await importCompiled<typeof DataPlanes>("puller/transfer/data-plane.ts");
const { Partial } = await importCompiled<typeof Partials>("puller/store/partial.ts");
const { openStore } = await importCompiled<typeof OpenStore>("puller/store/open-store.ts");
const { createRegistry, parseReference } = await importCompiled<typeof Oci>("puller/oci/index.ts");
const { ProgressTracker } = await importCompiled<typeof Progress>("puller/pull/progress.ts");

const file = { name: "large.safetensors", content: noise("lead", 1_500_000) };
const descriptor = { digest: digestOf(file.content), sizeBytes: file.content.length } as Descriptor;

let server: BlobServer;
let store: string;
const stores: string[] = [];
beforeAll(async () => {
  server = await startBlobServer([file]);
});
afterAll(async () => {
  await server?.stop();
  for (const each of stores) rmSync(each, { recursive: true, force: true });
});
beforeEach(() => {
  store = freshStore();
  stores.push(store);
  server.behave(() => undefined);
});

/** A thread that hashes, as slow as the test says: it is through with so many pieces. */
class SlowHash {
  #map: PieceMap | undefined;
  readonly #hex = Promise.withResolvers<string>();

  readonly begin = async (_descriptor: number, map: PieceMap): Promise<string> => {
    this.#map = map;
    return this.#hex.promise;
  };

  get writtenBytes(): number {
    return this.#map?.doneBytes() ?? 0;
  }

  reach(pieces: number): void {
    this.#map?.setHashedPieces(pieces);
  }

  end(): void {
    this.#hex.resolve(sha256(file.content));
  }
}

describe("what was received and is not hashed", () => {
  test.each([1, 4])(
    "is two pieces at most, with %d lanes: however slow the hash, lanes wait for it, and go on behind it",
    async (lanes) => {
      const registry = createRegistry({ plainHTTPHosts: [server.host] });
      const plane = new DataPlane({
        connectTimeoutMs: 5_000,
        stallTimeoutMs: 60_000,
        slowest: { bytes: 0, windowMs: 60_000 },
        limits: { processors: 4, memoryBytes: 2 ** 30 },
        plan: { threads: 2, lanes, mostLanes: lanes, slabBytes: 262_144, leadBytes: 0 },
      });
      const hash = new SlowHash();
      plane.hashBehind = hash.begin;
      const partial = await Partial.create(await openStore(store), descriptor);
      const fetching = rangeBlob(
        partial,
        descriptor,
        {
          source: registry,
          plane,
          layout: await openStore(store),
          reference: parseReference(`${server.host}/ai/small:x`),
          policy: { firstWaitMs: 10, longestWaitMs: 50, budgetMs: 60_000 },
          progress: new ProgressTracker("lead"),
          slowest: { bytes: 0, windowMs: 60_000 },
          onRetry: () => undefined,
          log: { warn: () => undefined },
          otherLargeBlobs: () => 0,
        },
        new AbortController().signal,
      );
      fetching.catch(() => undefined);
      try {
        const pieces = Math.ceil(descriptor.sizeBytes / pieceBytes);
        for (const hashed of [0, 1, 3, 7]) {
          hash.reach(hashed);
          const most = (hashed + leadPieces) * pieceBytes;
          await waitFor("what may be written", () => hash.writtenBytes === most, { intervalMs: 5 });
          // Long enough for a lane that does not wait: the server has sent what follows already.
          await delay(150);
          expect(hash.writtenBytes).toBe(most);
        }
        hash.reach(pieces);
        await waitFor("the rest", () => hash.writtenBytes === descriptor.sizeBytes, { intervalMs: 5 });
        hash.end();
        expect(await fetching).toBe(sha256(file.content));
      } finally {
        await partial.keep();
        await plane.stop();
        await registry.close();
      }
    },
  );
});

describe("a server that has not answered yet", () => {
  test("is asked once, whatever lanes there could be: others begin when bytes come", async () => {
    const gate = Promise.withResolvers<undefined>();
    server.behave(({ index }) => ({
      chunkBytes: 16 * 1024,
      gapMs: 4,
      ...(index === 0 ? { after: gate.promise } : {}),
    }));
    const pull = smallPull(server, store, { stallTimeoutMs: 60_000 });
    await waitFor("the first request", () => server.fileRequests.length > 0, { intervalMs: 5 });
    // Looks at the number of lanes come twenty times a second.
    await delay(400);
    expect(server.fileRequests).toHaveLength(1);
    gate.resolve(undefined);
    const { error, report } = await pull;
    expect(error?.message).toBeUndefined();
    expectModel(store, server, [file]);
    expect(report?.transfer).toMatchObject({ rangedBlobs: 1 });
  });
});
