// What a hash behind lanes says of a file whose pieces are written in any order: that of the content, each time.

import { createHash } from "node:crypto";
import { closeSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync, zstdCompressSync } from "node:zlib";
import fc from "fast-check";
import { afterAll, beforeAll, expect, test } from "vitest";
import type * as DataPlanes from "../../../puller/transfer/data-plane.ts";
import type * as PieceMaps from "../../../puller/transfer/piece-map.ts";
import type * as Unpackings from "../../../puller/transfer/unpackers.ts";
import { importCompiled } from "../../compiled/compiled-puller.ts";
import { archive } from "../artifact/tar-builder.ts";
import { noise } from "../store-assertions.ts";

const { DataPlane } = await importCompiled<typeof DataPlanes>("puller/transfer/data-plane.ts");
const { PieceMap } = await importCompiled<typeof PieceMaps>("puller/transfer/piece-map.ts");
const { Unpackers } = await importCompiled<typeof Unpackings>("puller/transfer/unpackers.ts");

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

/** Writes parts of pieces in the order of the steps, then the rest from the end, so that whoever follows waits for the first of all. */
function writeInOrder(
  file: number,
  map: PieceMaps.PieceMap,
  content: Buffer,
  steps: readonly (readonly [piece: number, bytes: number])[],
  afterEach: () => void = () => undefined,
): void {
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
    afterEach();
  }
  for (let piece = map.count - 1; piece >= 0; piece -= 1) write(piece, pieceBytes);
}

const anySteps = fc.array(fc.tuple(fc.nat(11), fc.integer({ min: 1, max: pieceBytes })), { maxLength: 40 });

test("pieces in any order, each in parts: the digest is that of the content, and the hash never passes a gap", async () => {
  let runs = 0;
  await fc.assert(
    fc.asyncProperty(fc.integer({ min: 1, max: 12 * pieceBytes }), anySteps, async (sizeBytes, steps) => {
      const content = noise(`order ${sizeBytes}`, sizeBytes);
      const map = new PieceMap(sizeBytes, pieceBytes);
      const file = openSync(join(directory, `file-${(runs += 1)}`), "w+");
      const hashed = plane.hashBehind(file, map, "sha256");
      writeInOrder(file, map, content, steps, () => {
        expect(map.hashedPieces * pieceBytes).toBeLessThanOrEqual(map.contiguousBytes());
      });
      expect(await hashed).toBe(createHash("sha256").update(content).digest("hex"));
      closeSync(file);
    }),
    { numRuns: 60 },
  );
});

test.each(["tar", "tar+gzip", "tar+zstd"] as const)(
  "pieces of a %s layer in any order: its files and its digest are those of the content",
  async (encoding) => {
    const code = { tar: (bytes: Buffer) => bytes, "tar+gzip": gzipSync, "tar+zstd": zstdCompressSync }[
      encoding
    ];
    const unpackers = new Unpackers(2);
    let runs = 0;
    try {
      await fc.assert(
        fc.asyncProperty(
          fc.array(fc.integer({ min: 0, max: 9_000 }), { minLength: 1, maxLength: 4 }),
          anySteps,
          async (lengths, steps) => {
            const held = lengths.map(
              (length, index) => [`${index}.bin`, noise(`${length} ${index}`, length)] as const,
            );
            const content = Buffer.from(code(archive(held)));
            const map = new PieceMap(content.length, pieceBytes);
            const place = join(directory, `${encoding}-${(runs += 1)}`);
            mkdirSync(place);
            const file = openSync(`${place}.blob`, "w+");
            const { unpacked, hashed } = await unpackers.begin({
              descriptor: file,
              map,
              order: { encoding, directory: place, globs: { include: [], exclude: [] } },
              algorithm: "sha256",
            });
            writeInOrder(file, map, content, steps);
            expect(await hashed).toBe(createHash("sha256").update(content).digest("hex"));
            const entries = await unpacked;
            expect(entries.map(({ path }) => path)).toEqual(held.map(([name]) => name));
            for (const [name, bytes] of held)
              expect(readFileSync(join(place, name)).equals(bytes)).toBe(true);
            closeSync(file);
          },
        ),
        { numRuns: 25 },
      );
    } finally {
      await unpackers.stop();
    }
  },
);
