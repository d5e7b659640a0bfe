// What a hash behind lanes says of a file whose pieces are written in any order: that of the content, each time.

import { createHash } from "node:crypto";
import { closeSync, mkdtempSync, openSync, rmSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, expect, test } from "vitest";
import type * as DataPlanes from "../../../puller/transfer/data-plane.ts";
import type * as PieceMaps from "../../../puller/transfer/piece-map.ts";
import { importCompiled } from "../../compiled/compiled-puller.ts";
import { noise } from "../store-assertions.ts";

const { DataPlane } = await importCompiled<typeof DataPlanes>("puller/transfer/data-plane.ts");
const { PieceMap } = await importCompiled<typeof PieceMaps>("puller/transfer/piece-map.ts");

const pieceBytes = 4096;
let directory = "";
let plane: DataPlanes.DataPlane;
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), "ocimodel-order-"));
  plane = new DataPlane({
    connectTimeoutMs: 1_000,
    stallTimeoutMs: 1_000,
    slowest: { bytes: 0, windowMs: 1_000 },
    limits: { processors: 2, memoryBytes: 2 ** 30 },
    plan: { threads: 1, lanes: 1, mostLanes: 1, slabBytes: 65_536, leadBytes: 2 ** 20 },
  });
});
afterAll(async () => {
  await plane?.stop();
  rmSync(directory, { recursive: true, force: true });
});

test("pieces in any order, each in parts: the digest is that of the content, and the hash never passes a gap", async () => {
  let runs = 0;
  await fc.assert(
    fc.asyncProperty(
      fc.integer({ min: 1, max: 12 * pieceBytes }),
      fc.array(fc.tuple(fc.nat(11), fc.integer({ min: 1, max: pieceBytes })), { maxLength: 40 }),
      async (sizeBytes, steps) => {
        const content = noise(`order ${sizeBytes}`, sizeBytes);
        const map = new PieceMap(sizeBytes, pieceBytes);
        const file = openSync(join(directory, `file-${(runs += 1)}`), "w+");
        const hashed = plane.hashBehind(file, map, "sha256");
        const write = (piece: number, bytes: number): void => {
          const done = map.done(piece);
          const count = Math.min(bytes, map.length(piece) - done);
          if (count === 0) return;
          const at = map.start(piece) + done;
          writeSync(file, content, at, count, at);
          map.setDone(piece, done + count);
        };
        for (const [at, bytes] of steps) {
          write(at % map.count, bytes);
          expect(map.hashedPieces * pieceBytes).toBeLessThanOrEqual(map.contiguousBytes());
        }
        // The rest from the end, so that the hash waits for the first of all.
        for (let piece = map.count - 1; piece >= 0; piece -= 1) write(piece, pieceBytes);
        expect(await hashed).toBe(createHash("sha256").update(content).digest("hex"));
        closeSync(file);
      },
    ),
    { numRuns: 60 },
  );
});
