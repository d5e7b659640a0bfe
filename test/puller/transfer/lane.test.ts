import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { listen } from "../../registry/sockets.ts";
import { Lane, OpenBlob } from "../../../puller/transfer/lane.ts";
import type { FromLane } from "../../../puller/transfer/messages.ts";
import { PieceMap } from "../../../puller/transfer/piece-map.ts";

const content = Buffer.from(Array.from({ length: 40_000 }, (_, index) => index % 251));
const piece = 10_000;

let directory = "";
let descriptor = -1;
const cleanups: (() => void)[] = [];
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "ocimodel-lane-"));
  descriptor = openSync(join(directory, "blob"), "w+");
});
afterEach(() => {
  for (const clean of cleanups.splice(0)) clean();
  closeSync(descriptor);
  rmSync(directory, { recursive: true, force: true });
});

/** A server of ranges; `isRude` names requests whose connection is closed in place of an answer. */
async function serve(
  isRude: (index: number, isFirst: boolean) => boolean,
): Promise<{ port: number; asked: () => number }> {
  let index = 0;
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on("error", () => undefined);
    let isFirst = true;
    socket.on("data", (bytes: Buffer) => {
      const [, first = "", last = ""] = /range: bytes=(\d+)-(\d+)/.exec(bytes.toString("latin1")) ?? [];
      const isClosed = isRude(index, isFirst);
      index += 1;
      isFirst = false;
      if (isClosed) {
        socket.destroy();
        return;
      }
      const body = content.subarray(Number(first), Number(last) + 1);
      socket.write(
        `HTTP/1.1 206 Partial\r\nContent-Length: ${body.length}\r\nContent-Range: bytes ${first}-${last}/${content.length}\r\n\r\n`,
      );
      socket.write(body);
    });
  });
  const port = await listen(server, "127.0.0.1");
  cleanups.push(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return { port, asked: () => index };
}

/** Fetches all pieces one after the other on one lane; how each ended. */
async function fetchAll(port: number): Promise<{ readonly ends: readonly string[]; readonly map: PieceMap }> {
  const map = new PieceMap(content.length, piece);
  const blob = new OpenBlob({ blob: 1, descriptor, map: map.share() });
  let tell: (message: FromLane) => void = () => undefined;
  const lane = new Lane(
    {
      secureContext: undefined,
      connectTimeoutMs: 5_000,
      stallTimeoutMs: 5_000,
      slowest: { bytes: 1, windowMs: 60_000 },
      allowance: undefined,
    },
    256 * 1024,
    (message) => {
      tell(message);
    },
  );
  const timer = setInterval(() => {
    lane.tick(performance.now());
  }, 20);
  cleanups.push(() => {
    clearInterval(timer);
    lane.close();
  });
  const ends: string[] = [];
  for (let each = 0; each < map.count; each += 1) {
    map.claim(each);
    const [offset, endExclusive] = [map.start(each), map.start(each) + map.length(each)];
    const ended = new Promise<FromLane>((resolve) => {
      tell = (message) => {
        if (message.kind === "done" || message.kind === "failed") resolve(message);
      };
    });
    lane.fetch(
      {
        kind: "fetch",
        exchange: each,
        lane: 1,
        blob: 1,
        target: { isSecure: false, hostname: "127.0.0.1", port, isGuarded: false },
        head: `GET /x HTTP/1.1\r\nhost: x\r\nrange: bytes=${offset}-${endExclusive - 1}`,
        stallCode: "TransferStalled",
        piece: each,
        offset,
        endExclusive,
        isRun: false,
        lead: 100,
      },
      blob,
    );
    const message = await ended;
    ends.push(message.kind === "failed" ? message.failure.code : message.kind);
  }
  return { ends, map };
}

test("a kept connection that the server closes at the moment of its reuse is made anew, and nothing is told", async () => {
  // Every second request of a connection meets its end.
  const { port, asked } = await serve((_index, isFirst) => !isFirst);
  const { ends, map } = await fetchAll(port);
  expect(ends).toEqual(["done", "done", "done", "done"]);
  expect(map.doneBytes()).toBe(content.length);
  expect(readFileSync(join(directory, "blob")).equals(content)).toBe(true);
  expect(asked()).toBe(7);
});

test("a fresh connection that is closed without an answer is a failure, once, and its piece is not counted", async () => {
  const { port } = await serve((index) => index === 0);
  const { ends, map } = await fetchAll(port);
  expect(ends[0]).not.toBe("done");
  expect(ends.slice(1)).toEqual(["done", "done", "done"]);
  expect(map.done(0)).toBe(0);
});
