// Lanes over a network that cuts what it sends into any pieces and breaks off anywhere: the same file, or a failure that says so, and
// what is noted as written is there. In this process, without threads: hundreds of networks in seconds.

import { createHash } from "node:crypto";
import { closeSync, mkdirSync, mkdtempSync, openSync, readFileSync, readSync, rmSync } from "node:fs";
import { open } from "node:fs/promises";
import { createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync, zstdCompressSync } from "node:zlib";
import fc from "fast-check";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { Descriptor } from "../../../puller/oci/types.ts";
import { createJournal, journalPlace, readJournal } from "../../../puller/store/journal.ts";
import { Lane, OpenBlob } from "../../../puller/transfer/lane.ts";
import type { FromLane } from "../../../puller/transfer/messages.ts";
import { PieceMap } from "../../../puller/transfer/piece-map.ts";
import { unpackArchive } from "../../../puller/transfer/unpack-archive.ts";
import { listen } from "../../registry/sockets.ts";
import { digestOf } from "../artifact/manifest-builder.ts";
import { archive } from "../artifact/tar-builder.ts";
import { noise, sha256 } from "../store-assertions.ts";

const pieceBytes = 16 * 1024;
const slabBytes = 160 * 1024;

/** What an answer does: cut into chunks of these sizes in turn, and broken off after so many bytes of it, head included. */
type Answer = {
  readonly chunks: readonly number[];
  readonly cutAfter: number | undefined;
  readonly isReset: boolean;
};
const answers = fc.array(
  fc.record<Answer>({
    chunks: fc.array(fc.integer({ min: 1, max: 60_000 }), { minLength: 1, maxLength: 5 }),
    cutAfter: fc.option(fc.integer({ min: 0, max: 120_000 }), { nil: undefined }),
    isReset: fc.boolean(),
  }),
  { maxLength: 12 },
);
const sound: Answer = { chunks: [65_536], cutAfter: undefined, isReset: false };

let directory = "";
let server: Server;
let port = 0;
let content: Buffer = Buffer.alloc(0);
/** Of the requests to come; then everything is well. */
let planned: Answer[] = [];
const sockets = new Set<Socket>();
beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), "ocimodel-network-"));
  server = createServer((socket) => {
    sockets.add(socket);
    socket.setNoDelay(true);
    socket.on("error", () => undefined);
    socket.on("close", () => sockets.delete(socket));
    socket.on("data", (bytes: Buffer) => {
      const [, first = "0", last = "0"] = /range: bytes=(\d+)-(\d+)/.exec(bytes.toString("latin1")) ?? [];
      void send(socket, Number(first), Number(last), planned.shift() ?? sound);
    });
  });
  port = await listen(server, "127.0.0.1");
});
afterAll(async () => {
  for (const socket of sockets) socket.destroy();
  await new Promise((resolve) => server.close(resolve));
  rmSync(directory, { recursive: true, force: true });
});

async function send(
  socket: Socket,
  first: number,
  last: number,
  { chunks, cutAfter, isReset }: Answer,
): Promise<void> {
  const body = content.subarray(first, last + 1);
  const head = `HTTP/1.1 206 Partial\r\nContent-Length: ${body.length}\r\nContent-Range: bytes ${first}-${last}/${content.length}\r\n\r\n`;
  const all = Buffer.concat([Buffer.from(head), body]);
  const end = Math.min(all.length, cutAfter ?? all.length);
  for (let position = 0, index = 0; position < end && !socket.destroyed; index += 1) {
    // However small the chunks, they are some hundreds.
    const next = Math.min(
      end,
      position + Math.max(chunks[index % chunks.length] ?? 1, Math.floor(end / 300)),
    );
    socket.write(all.subarray(position, next));
    position = next;
    await new Promise((resolve) => setImmediate(resolve));
  }
  if (end === all.length) return;
  if (isReset) socket.resetAndDestroy();
  else socket.end();
}

/** Lanes of one blob, and what each of them told last. */
class Lanes {
  readonly #lanes: readonly { readonly lane: Lane; tell: (message: FromLane) => void }[];
  readonly #timer: NodeJS.Timeout;

  constructor(count: number) {
    this.#lanes = Array.from({ length: count }, () => {
      const held: { lane: Lane; tell: (message: FromLane) => void } = {
        lane: undefined as never,
        tell: () => undefined,
      };
      held.lane = new Lane(
        {
          secureContext: undefined,
          connectTimeoutMs: 5_000,
          stallTimeoutMs: 30_000,
          slowest: { bytes: 0, windowMs: 60_000 },
          allowance: undefined,
        },
        slabBytes,
        (message) => {
          held.tell(message);
        },
      );
      return held;
    });
    this.#timer = setInterval(() => {
      for (const { lane } of this.#lanes) lane.tick(performance.now());
    }, 5);
  }

  /** One request for a piece from where it is; its failure, if it has one. */
  async fetch(index: number, blob: OpenBlob, piece: number, isRun: boolean): Promise<string | undefined> {
    const held = this.#lanes[index];
    if (held === undefined) throw new Error("no such lane");
    const { map } = blob;
    const offset = map.start(piece) + map.done(piece);
    const endExclusive = isRun ? map.sizeBytes : map.start(piece) + map.length(piece);
    return new Promise((resolve) => {
      held.tell = (message) => {
        if (message.kind === "done") resolve(undefined);
        else if (message.kind === "failed") {
          // As the main thread does where the answer was not taken.
          map.release(piece);
          resolve(message.failure.code);
        }
      };
      held.lane.fetch(
        {
          kind: "fetch",
          exchange: 1,
          lane: index,
          blob: 1,
          target: { isSecure: false, hostname: "127.0.0.1", port, isGuarded: false },
          head: `GET /x HTTP/1.1\r\nhost: x\r\nrange: bytes=${offset}-${endExclusive - 1}`,
          stallCode: "TransferStalled",
          piece,
          offset,
          endExclusive,
          isRun,
          lead: Number.POSITIVE_INFINITY,
        },
        blob,
      );
    });
  }

  close(): void {
    clearInterval(this.#timer);
    for (const { lane } of this.#lanes) lane.close();
  }
}

/** Nothing, or what a broken network may be told as. */
function expectClean(failure: string | undefined): void {
  expect([undefined, "RegistryUnreachable", "TransferStalled"]).toContain(failure);
}

let files = 0;
const newFile = (): string => join(directory, `file-${(files += 1)}`);
const sizes = fc.integer({ min: 1, max: 150_000 });

test("one lane that hashes: any chunking, any cut; the file and its digest are those of the content", async () => {
  await fc.assert(
    fc.asyncProperty(sizes, answers, async (sizeBytes, plan) => {
      content = noise(`stream ${sizeBytes}`, sizeBytes);
      planned = [...plan];
      const path = newFile();
      const descriptor = openSync(path, "w+");
      const map = new PieceMap(sizeBytes, pieceBytes);
      const blob = new OpenBlob({ blob: 1, descriptor, map: map.share(), inlineHash: "sha256" });
      const lanes = new Lanes(1);
      try {
        while (map.firstIncomplete() < map.count) {
          const piece = map.firstIncomplete();
          expect(map.claim(piece)).toBe(true);
          expectClean(await lanes.fetch(0, blob, piece, true));
        }
        expect(blob.digestHex()).toBe(sha256(content));
        expect(readFileSync(path).equals(content)).toBe(true);
      } finally {
        lanes.close();
        closeSync(descriptor);
      }
    }),
    { numRuns: 60 },
  );
});

/** Whether every byte that a map tells of is in the file. */
function holds(descriptor: number, map: PieceMap): boolean {
  for (let piece = 0; piece < map.count; piece += 1) {
    const bytes = Buffer.alloc(map.done(piece));
    const read = bytes.length === 0 ? 0 : readSync(descriptor, bytes, 0, bytes.length, map.start(piece));
    if (read !== bytes.length || !bytes.equals(content.subarray(map.start(piece), map.start(piece) + read)))
      return false;
  }
  return true;
}

test("several lanes, pieces in any order, ended anywhere and gone on with by the journal: the same file, and all that is noted is there", async () => {
  await fc.assert(
    fc.asyncProperty(
      sizes,
      answers,
      fc.integer({ min: 1, max: 3 }),
      fc.array(fc.nat(9), { minLength: 1, maxLength: 10 }),
      fc.array(fc.integer({ min: 1, max: 6 }), { maxLength: 4 }),
      async (sizeBytes, plan, laneCount, order, runs) => {
        content = noise(`ranges ${sizeBytes}`, sizeBytes);
        planned = [...plan];
        const named = { digest: digestOf(content), sizeBytes } as Descriptor;
        const handle = await open(newFile(), "w+");
        try {
          let map = new PieceMap(sizeBytes, pieceBytes);
          await createJournal(handle, named, map);
          let turn = 0;
          // Each run is killed after so many requests; the last one is not.
          for (const requests of [...runs, Number.POSITIVE_INFINITY]) {
            const before = map.doneBytes();
            const blob = new OpenBlob({
              blob: 1,
              descriptor: handle.fd,
              map: map.share(),
              journalOffset: journalPlace(map).done,
            });
            const lanes = new Lanes(laneCount);
            let left = requests;
            const work = async (index: number): Promise<void> => {
              while (left > 0) {
                left -= 1;
                // Any that is to be had, from a place that the order names.
                const from = (order[(turn += 1) % order.length] ?? 0) % map.count;
                const pieces = Array.from({ length: map.count }, (_, step) => (from + step) % map.count);
                const piece = pieces.find((each) => map.claim(each));
                if (piece === undefined) return;
                expectClean(await lanes.fetch(index, blob, piece, turn % 3 === 0));
              }
            };
            await Promise.all(Array.from({ length: laneCount }, async (_, index) => work(index)));
            lanes.close();
            expect(holds(handle.fd, map)).toBe(true);
            const noted = await readJournal(handle, named);
            expect(Array.from({ length: map.count }, (_, piece) => noted?.done(piece))).toEqual(
              Array.from({ length: map.count }, (_, piece) => map.done(piece)),
            );
            expect(map.doneBytes()).toBeGreaterThanOrEqual(before);
            map = noted as PieceMap;
          }
          // Lanes that found everything in others' hands have left; whatever those could not bring is brought alone.
          const blob = new OpenBlob({ blob: 1, descriptor: handle.fd, map: map.share() });
          const lanes = new Lanes(1);
          while (map.firstIncomplete() < map.count) {
            const piece = map.firstIncomplete();
            map.claim(piece);
            await lanes.fetch(0, blob, piece, false);
          }
          lanes.close();
          const whole = Buffer.alloc(sizeBytes);
          await handle.read(whole, 0, sizeBytes, 0);
          expect(createHash("sha256").update(whole).digest("hex")).toBe(sha256(content));
        } finally {
          await handle.close();
        }
      },
    ),
    { numRuns: 60 },
  );
});

test.each(["tar", "tar+gzip", "tar+zstd"] as const)(
  "a %s layer in any chunks, whole, cut or with a wrong byte: its files exactly, or a refusal; never other bytes under its digest",
  async (encoding) => {
    const code = { tar: (bytes: Buffer) => bytes, "tar+gzip": gzipSync, "tar+zstd": zstdCompressSync }[
      encoding
    ];
    let runs = 0;
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.integer({ min: 0, max: 3_000 }), { minLength: 1, maxLength: 4 }),
        fc.array(fc.integer({ min: 1, max: 2_000 }), { minLength: 1, maxLength: 6 }),
        fc.constantFrom("whole", "cut", "wrong"),
        fc.double({ min: 0, max: 1, noNaN: true, maxExcluded: true }),
        async (lengths, chunks, fate, place) => {
          const held = lengths.map(
            (length, index) => [`d/${index}.bin`, noise(`${length} ${index}`, length)] as const,
          );
          const layer = Buffer.from(code(archive(held)));
          const at = Math.floor(layer.length * place);
          if (fate === "wrong") layer[at] = (layer[at] ?? 0) ^ 0x55;
          const wire = fate === "cut" ? layer.subarray(0, at) : layer;
          const hash = createHash("sha256");
          const source = async function* (): AsyncGenerator<Buffer> {
            for (let position = 0, index = 0; position < wire.length; index += 1) {
              const chunk = wire.subarray(position, position + (chunks[index % chunks.length] ?? 1));
              position += chunk.length;
              hash.update(chunk);
              // Valid until the next one is asked for.
              const lent = Buffer.from(chunk);
              yield lent;
              lent.fill(0xee);
            }
          };
          const target = join(directory, `unpacked-${encoding}-${(runs += 1)}`);
          mkdirSync(target);
          const found = await unpackArchive(source(), {
            encoding,
            directory: target,
            globs: { include: [], exclude: [] },
          }).then(
            (entries) => entries,
            (error: unknown) => {
              expect(error).toMatchObject({ code: "InvalidArtifact" });
              return undefined;
            },
          );
          if (fate === "whole") {
            expect(found?.map(({ path }) => path)).toEqual(held.map(([name]) => name));
            // All of it was read, whatever stands behind the archive's end.
            expect(hash.digest("hex")).toBe(sha256(wire));
          }
          for (const entry of found ?? []) {
            if (entry.type !== "file") continue;
            const bytes = readFileSync(join(target, entry.source));
            expect(entry.digest).toBe(`sha256:${sha256(bytes)}`);
            expect(bytes.length).toBe(entry.sizeBytes);
            if (fate === "whole")
              expect(bytes.equals(new Map<string, Buffer>(held).get(entry.path) ?? Buffer.alloc(0))).toBe(
                true,
              );
          }
        },
      ),
      { numRuns: 60 },
    );
  },
);
