import { createHash } from "node:crypto";
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { listen } from "../../registry/sockets.ts";
import { Lane, OpenBlob } from "../../../puller/transfer/lane.ts";
import type { FromLane, LaneTarget } from "../../../puller/transfer/messages.ts";
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
): Promise<{ port: number; asked: () => number; connections: () => number }> {
  let index = 0;
  let connections = 0;
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    connections += 1;
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
  return { port, asked: () => index, connections: () => connections };
}

type Asked = {
  readonly port: number;
  readonly piece: number;
  readonly target?: Partial<LaneTarget>;
  readonly isRun?: boolean;
  /** Of the range; the piece's by default. */
  readonly endExclusive?: number;
};

/** A lane with a blob; `fetch` tells how one request ended. */
function openLane(): {
  readonly map: PieceMap;
  readonly fetch: (asked: Asked) => Promise<string>;
} {
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
  const fetch = async ({ port, piece: each, target, isRun = false, ...asked }: Asked): Promise<string> => {
    const offset = map.start(each);
    const endExclusive = asked.endExclusive ?? offset + map.length(each);
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
        target: { isSecure: false, hostname: "127.0.0.1", port, isGuarded: false, ...target },
        head: `GET /x HTTP/1.1\r\nhost: x\r\nrange: bytes=${offset}-${endExclusive - 1}`,
        stallCode: "TransferStalled",
        piece: each,
        offset,
        endExclusive,
        isRun,
        lead: 100,
      },
      blob,
    );
    const message = await ended;
    return message.kind === "failed" ? message.failure.code : message.kind;
  };
  return { map, fetch };
}

/** Fetches all pieces one after the other on one lane; how each ended. */
async function fetchAll(port: number): Promise<{ readonly ends: readonly string[]; readonly map: PieceMap }> {
  const { map, fetch } = openLane();
  const ends: string[] = [];
  for (let each = 0; each < map.count; each += 1) {
    map.claim(each);
    ends.push(await fetch({ port, piece: each }));
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

describe("a kept connection is used again for the same host, port, way and policy only", () => {
  const polite = async () => serve(() => false);
  test("for them it is", async () => {
    const { port, connections } = await polite();
    const { fetch } = openLane();
    expect([await fetch({ port, piece: 0 }), await fetch({ port, piece: 1 })]).toEqual(["done", "done"]);
    expect(connections()).toBe(1);
  });
  test.each<[string, Partial<LaneTarget>, Partial<LaneTarget>, boolean]>([
    ["another name", {}, { hostname: "localhost" }, true],
    // Its address was good for whoever the user named, and is none for whoever a server names.
    ["a name to be judged", { hostname: "localhost" }, { hostname: "localhost", isGuarded: true }, false],
    ["TLS", {}, { isSecure: true }, false],
  ])("not for %s", async (_name, first, second, isGood) => {
    const { port, asked, connections } = await polite();
    const { fetch } = openLane();
    expect(await fetch({ port, piece: 0, target: first })).toBe("done");
    expect((await fetch({ port, piece: 1, target: second })) === "done").toBe(isGood);
    if (isGood) expect([asked(), connections()]).toEqual([2, 2]);
  });
  test("not for another port", async () => {
    const [one, other] = [await polite(), await polite()];
    const { fetch } = openLane();
    await fetch({ port: one.port, piece: 0 });
    expect(await fetch({ port: other.port, piece: 1 })).toBe("done");
    expect([one.asked(), other.asked()]).toEqual([1, 1]);
  });
});

describe("a lane writes to pieces that are its own only", () => {
  const whole = { piece: 0, endExclusive: content.length };
  test("to the end of its piece when it was told to, whatever it asked for", async () => {
    const { port } = await serve(() => false);
    const { map, fetch } = openLane();
    map.claim(0);
    expect(await fetch({ ...whole, port, isRun: false })).toBe("done");
    expect([0, 1, 2].map((each) => map.done(each))).toEqual([piece, 0, 0]);
  });
  test.each<[string, (map: PieceMap) => unknown, readonly number[]]>([
    ["which nobody has", () => undefined, [piece, piece, piece, piece]],
    ["but not to one that another lane has", (map) => map.claim(2), [piece, piece, 0, 0]],
    ["but not to one that another lane has begun", (map) => map.setDone(2, 7), [piece, piece, 7, 0]],
  ])("on to the next one, %s", async (_name, prepare, done) => {
    const { port } = await serve(() => false);
    const { map, fetch } = openLane();
    map.claim(0);
    prepare(map);
    expect(await fetch({ ...whole, port, isRun: true })).toBe("done");
    expect([0, 1, 2, 3].map((each) => map.done(each))).toEqual(done);
  });
  test("to none of a blob that was given up", async () => {
    const { port } = await serve(() => false);
    const { map, fetch } = openLane();
    map.claim(0);
    map.stop();
    await fetch({ port, piece: 0 });
    expect(map.doneBytes()).toBe(0);
  });
  test("and gives its piece back once it was answered; before that it is whoever asked who has it", async () => {
    const { port } = await serve((index) => index === 0);
    const { map, fetch } = openLane();
    map.claim(0);
    expect(await fetch({ port, piece: 0 })).not.toBe("done");
    expect(map.claim(0)).toBe(false);
    // Answered, and then there was no more of it than this.
    map.setDone(0, 5);
    map.stop();
    expect(await fetch({ port, piece: 0 })).toBe("done");
    expect(map.claim(0)).toBe(true);
  });
});

describe("what a lane writes", () => {
  const open = (more: object = {}): { readonly map: PieceMap; readonly blob: OpenBlob } => {
    const map = new PieceMap(content.length, piece);
    return { map, blob: new OpenBlob({ blob: 1, descriptor, map: map.share(), ...more }) };
  };
  test("is noted by its length, behind the bytes, in the place of its piece", () => {
    const journalOffset = 50_000;
    const { map, blob } = open({ journalOffset });
    blob.write(1, content.subarray(piece, piece + 300));
    blob.write(1, content.subarray(piece + 300, piece + 1_000));
    const file = readFileSync(join(directory, "blob"));
    expect(file.readInt32LE(journalOffset + 4)).toBe(1_000);
    expect(file.subarray(piece, piece + 1_000).equals(content.subarray(piece, piece + 1_000))).toBe(true);
    expect(map.done(1)).toBe(1_000);
  });
  test("is hashed in order or refused", () => {
    const { blob } = open({ inlineHash: "sha256" });
    blob.write(0, content.subarray(0, piece));
    expect(() => {
      blob.write(2, content.subarray(2 * piece, 3 * piece));
    }).toThrow("out of order");
  });
  test("is neither hashed nor counted when the write fails: it comes again", () => {
    const readOnly = openSync(join(directory, "blob"), "r");
    cleanups.push(() => {
      closeSync(readOnly);
    });
    const { map, blob } = open({ inlineHash: "sha256", descriptor: readOnly });
    const mended = blob as { -readonly [key in keyof OpenBlob]: OpenBlob[key] };
    for (let each = 0; each < map.count; each += 1) {
      const bytes = content.subarray(map.start(each), map.start(each) + map.length(each));
      mended.descriptor = readOnly;
      expect(() => {
        blob.write(each, bytes);
      }).toThrow();
      expect(map.done(each)).toBe(0);
      mended.descriptor = descriptor;
      blob.write(each, bytes);
    }
    expect(blob.digestHex()).toBe(createHash("sha256").update(content).digest("hex"));
  });
});
