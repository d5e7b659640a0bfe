import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { availableParallelism, tmpdir, totalmem } from "node:os";
import { dirname, join } from "node:path";
import fc from "fast-check";
import { describe, expect, onTestFinished, test } from "vitest";
import { isAsked } from "../../../puller/transfer/lane.ts";
import { LanePool, type LeasedLane } from "../../../puller/transfer/lane-pool.ts";
import {
  limitBytes,
  machineLimits,
  quotaProcessors,
  type MachineLimits,
} from "../../../puller/transfer/machine-limits.ts";
import { PieceMap, pieceBytesFor } from "../../../puller/transfer/piece-map.ts";
import {
  backOff,
  firstLaneState,
  modeOf,
  nextLaneState,
  planTransfer,
  type LaneState,
} from "../../../puller/transfer/schedule.ts";
import { parseTuning } from "../../../puller/transfer/tuning.ts";

const MiB = 1024 * 1024;
const GiB = 1024 * MiB;

describe("limits of the machine", () => {
  test.each([
    ["max 100000", undefined, undefined],
    ["200000 100000", undefined, 2],
    ["50000 100000", undefined, 1],
    ["250000 100000\n", undefined, 3],
    ["120000 100000", undefined, 1],
    ["", undefined, undefined],
    [undefined, undefined, undefined],
    ["-1", "100000", undefined],
    ["400000", "100000", 4],
    ["400000", "", undefined],
    ["x y", undefined, undefined],
  ])("quota %j of period %j is %j processors", (quota, period, processors) => {
    expect(quotaProcessors(quota, period)).toBe(processors);
  });
  test.each([
    ["max\n", undefined],
    ["536870912\n", 536_870_912],
    ["9223372036854771712", undefined],
    ["0", undefined],
    [undefined, undefined],
    ["x", undefined],
  ])("memory limit %j is %j bytes", (text, bytes) => {
    expect(limitBytes(text)).toBe(bytes);
  });
});

describe("limits of this process", () => {
  const read = (files: Readonly<Record<string, string>>): MachineLimits => {
    const root = mkdtempSync(join(tmpdir(), "ocimodel-cgroup-"));
    onTestFinished(() => {
      rmSync(root, { recursive: true, force: true });
    });
    for (const [name, text] of Object.entries(files)) {
      mkdirSync(dirname(join(root, name)), { recursive: true });
      writeFileSync(join(root, name), text);
    }
    return machineLimits(root);
  };
  const all = { processors: availableParallelism(), memoryBytes: totalmem() };
  test("are those of the machine without a cgroup's, and with one that sets none", () => {
    expect(read({})).toEqual(all);
    expect(read({ "cpu.max": "max 100000\n", "memory.max": "max\n" })).toEqual(all);
    expect(
      read({
        "cpu/cpu.cfs_quota_us": "-1\n",
        "cpu/cpu.cfs_period_us": "100000\n",
        "memory/memory.limit_in_bytes": "9223372036854771712\n",
      }),
    ).toEqual(all);
  });
  test("are those of its cgroup, of either version, and never more than the machine has", () => {
    expect(read({ "cpu.max": "100000 100000\n", "memory.max": "67108864\n" })).toEqual({
      processors: 1,
      memoryBytes: 64 * MiB,
    });
    expect(
      read({
        "cpu/cpu.cfs_quota_us": "50000\n",
        "cpu/cpu.cfs_period_us": "100000\n",
        "memory/memory.limit_in_bytes": "134217728\n",
      }),
    ).toEqual({ processors: 1, memoryBytes: 128 * MiB });
    expect(read({ "cpu.max": "99900000 100000\n", "memory.max": `${2 ** 50}\n` })).toEqual(all);
  });
});

describe("the plan of a transfer", () => {
  test.each([
    ["one large blob", [40 * GiB], 4, { threads: 1, lanes: 1 }],
    ["eight large blobs", Array.from({ length: 8 }, () => 5 * GiB), 4, { threads: 4, lanes: 4 }],
    [
      "eight large blobs on one processor",
      Array.from({ length: 8 }, () => 5 * GiB),
      1,
      { threads: 1, lanes: 1 },
    ],
    ["a hundred small files", Array.from({ length: 100 }, () => MiB), 2, { threads: 2, lanes: 6 }],
    ["nothing", [], 2, { threads: 1, lanes: 1 }],
  ])("%s", (_name, sizes, processors, expected) => {
    expect(planTransfer(sizes, { processors, memoryBytes: 4 * GiB })).toMatchObject(expected);
  });
  test("stays within what it is given, whatever that is", () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 0, max: 300 * GiB }), { maxLength: 300 }),
        fc.integer({ min: 1, max: 128 }),
        fc.integer({ min: 64 * MiB, max: 2 ** 40 }),
        fc.integer({ min: 1, max: 64 }),
        (sizes, processors, memoryBytes, mostLanes) => {
          const plan = planTransfer(sizes, { processors, memoryBytes }, mostLanes);
          expect(plan.threads).toBeGreaterThanOrEqual(1);
          expect(plan.threads).toBeLessThanOrEqual(Math.min(4, processors));
          expect(plan.lanes).toBeGreaterThanOrEqual(1);
          expect(plan.lanes).toBeLessThanOrEqual(mostLanes);
          expect(plan.leadBytes).toBeLessThanOrEqual(Math.min(GiB, memoryBytes / 4));
        },
      ),
    );
  });
  test.each([
    [MiB, false, 0, 8, "stream"],
    [127 * MiB, true, 0, 8, "stream"],
    [128 * MiB, false, 0, 2, "range"],
    [128 * MiB, false, 0, 1, "stream"],
    [128 * MiB, true, 9, 1, "range"],
    [5 * GiB, false, 7, 4, "stream"],
    [5 * GiB, false, 2, 4, "range"],
    [5 * GiB, false, 3, 4, "stream"],
  ] as const)(
    "%d bytes, resumed %j, %d others, %d processors: %s",
    (sizeBytes, isResumed, others, processors, mode) => {
      expect(modeOf({ sizeBytes, isResumed }, others, { processors })).toBe(mode);
    },
  );
});

describe("the number of lanes", () => {
  const look = (
    state: LaneState,
    nowMs: number,
    bytes: number,
    more: { utilization?: number; isWanted?: boolean; isAtLimit?: boolean } = {},
  ) =>
    nextLaneState(state, { nowMs, bytes, utilization: 0.2, isWanted: true, isAtLimit: false, ...more }, 16);
  test("doubles while that brings more, and goes back when it does not", () => {
    let state = firstLaneState(2, 0);
    state = look(state, 50, 1_000_000);
    expect(state.lanes).toBe(2);
    state = look(state, 100, 1_000_000);
    expect(state.lanes).toBe(4);
    state = look(state, 200, 3_000_000);
    expect(state.lanes).toBe(8);
    // New connections have to begin: they get a while.
    state = look(state, 300, 3_500_000);
    expect(state.lanes).toBe(8);
    state = look(state, 500, 9_000_000);
    expect(state.lanes).toBe(4);
    // Held: however well it goes.
    state = look(state, 600, 50_000_000);
    expect(state.lanes).toBe(4);
    state = look(state, 5_501, 60_000_000);
    expect(state.lanes).toBe(8);
  });
  test.each([
    ["a busy thread", { utilization: 0.9 }, 1_000_000],
    ["nobody who wants one", { isWanted: false }, 1_000_000],
    ["a server that has not begun", {}, 0],
  ])("does not grow with %s", (_name, more, bytes) => {
    expect(look(firstLaneState(2, 0), 200, bytes, more).lanes).toBe(2);
  });
  test("stays while the user's limit is used up, and fewer lanes that reached it as well are no reason to have less", () => {
    let state = look(firstLaneState(2, 0), 100, 1_000_000);
    expect(state.lanes).toBe(4);
    // Once within a sample is enough, and nothing is held against the four later.
    state = look(state, 150, 1_100_000, { isAtLimit: true });
    state = look(state, 200, 1_200_000);
    state = look(state, 600, 1_300_000, { isAtLimit: true });
    expect(state.lanes).toBe(4);
    // Unused again: more are tried at once.
    state = look(state, 700, 1_400_000);
    expect(state.lanes).toBe(8);
  });
  test("is halved by 429, and does not grow for a while", () => {
    let state = backOff(firstLaneState(8, 0), 1_000, 0);
    expect(state.lanes).toBe(4);
    state = look(state, 15_999, 1_000_000);
    expect(state.lanes).toBe(4);
    state = look(state, 16_100, 2_000_000);
    expect(state.lanes).toBe(8);
    expect(backOff(firstLaneState(1, 0), 0, 0).lanes).toBe(1);
  });
  // Answers of 429 to requests by when these were sent, in the order of the answers, each a second after the one before.
  test.each([
    ["of one burst are one reason", [0, 0, 0, 0, 0, 0, 0, 0], 8],
    ["sent until the first came", [0, 999, 1_000, 500], 8],
    ["to the half, which is too much as well", [0, 0, 1_500, 1_400], 4],
    ["each after the last came", [0, 1_001, 2_001, 3_001, 4_001], 1],
  ])("is halved once by 429s %s", (_name, askedMs, lanes) => {
    let state = firstLaneState(16, 0);
    for (const [index, asked] of askedMs.entries()) state = backOff(state, (index + 1) * 1_000, asked);
    expect(state.lanes).toBe(lanes);
    // The last one is waited for, whatever it was an answer to.
    expect(state.holdUntilMs).toBe(askedMs.length * 1_000 + 15_000);
  });
  test("stays between one and the most, whatever is seen", () => {
    const step = fc.record({
      afterMs: fc.integer({ min: 0, max: 20_000 }),
      bytes: fc.integer({ min: 0, max: 1e9 }),
      utilization: fc.double({ min: 0, max: 1, noNaN: true }),
      isWanted: fc.boolean(),
      is429: fc.boolean(),
    });
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 64 }), fc.array(step, { maxLength: 60 }), (most, steps) => {
        let state = firstLaneState(1, 0);
        let [nowMs, bytes] = [0, 0];
        for (const { afterMs, bytes: more, utilization, isWanted, is429 } of steps) {
          nowMs += afterMs;
          bytes += more;
          const before = state.lanes;
          state = is429
            ? backOff(state, nowMs, nowMs)
            : nextLaneState(state, { nowMs, bytes, utilization, isWanted, isAtLimit: false }, most);
          expect(state.lanes).toBeGreaterThanOrEqual(1);
          expect(state.lanes).toBeLessThanOrEqual(most);
          expect(state.lanes).toBeLessThanOrEqual(before * 2);
        }
      }),
    );
  });
});

describe("the pool of lanes", () => {
  test("is not crowded by lanes that rest, and lends nobody their place", () => {
    const pool = new LanePool({ threads: 1, lanes: 4, mostLanes: 4 }, 0);
    const lanes = [1, 2, 3, 4].map(() => pool.tryAcquire() as LeasedLane);
    const wakes = [pool.rest(), pool.rest()];
    pool.backOff(0, 0);
    expect([pool.lanes, pool.isCrowded]).toEqual([2, false]);
    pool.backOff(1, 1);
    expect([pool.lanes, pool.isCrowded]).toEqual([1, true]);
    // One of those that work leaves: the other one stays.
    pool.release(lanes[0] as LeasedLane);
    expect(pool.isCrowded).toBe(false);
    expect(pool.tryAcquire()).toBeUndefined();
    // Woken, each is one too many.
    wakes[0]?.();
    expect(pool.isCrowded).toBe(true);
    pool.release(lanes[1] as LeasedLane);
    expect(pool.isCrowded).toBe(false);
    wakes[1]?.();
    expect(pool.isCrowded).toBe(true);
  });

  test("grows again after a server has taken its requests, also where nobody waits but those that have rested", async () => {
    const pool = new LanePool({ threads: 1, lanes: 4, mostLanes: 4 }, 0);
    const never = new AbortController().signal;
    for (const _ of [1, 2, 3, 4]) pool.tryAcquire();
    for (const askedMs of [0, 1]) pool.backOff(askedMs, askedMs);
    for (const _ of [1, 2, 3, 4]) pool.rest();
    const back = [1, 2, 3, 4].map(async () => pool.comeBack(never));
    expect([await back[0], pool.lanes]).toEqual([false, 1]);
    let bytes = 0;
    for (let nowMs = 100; nowMs < 60_000; nowMs += 100) {
      bytes += pool.lanes * MiB;
      pool.look({ nowMs, bytes, utilization: 0, isAtLimit: false });
    }
    expect(pool.lanes).toBe(4);
    expect(await Promise.all(back)).toEqual([false, true, true, true]);
  });

  test("lets those that have rested come back as there is room, in order, before others that wait", async () => {
    const pool = new LanePool({ threads: 1, lanes: 4, mostLanes: 4 }, 0);
    const lanes = [1, 2, 3, 4].map(() => pool.tryAcquire() as LeasedLane);
    const never = new AbortController().signal;
    const order: string[] = [];
    const note = (name: string, what: Promise<unknown>): void => {
      void what.then(
        () => order.push(name),
        () => order.push(`${name} not`),
      );
    };
    const settled = async () => new Promise((resolve) => setImmediate(resolve));
    for (let each = 0; each < 4; each += 1) pool.rest();
    pool.backOff(0, 0);
    const gone = new AbortController();
    expect([await pool.comeBack(never), await pool.comeBack(never)]).toEqual([false, false]);
    note("third", pool.comeBack(gone.signal));
    note("fourth", pool.comeBack(never));
    note("new", pool.acquire(never));
    await settled();
    expect(order).toEqual([]);
    // One that works rests: the next one takes its turn.
    pool.rest();
    await settled();
    expect(order).toEqual(["third"]);
    note("again", pool.comeBack(gone.signal));
    gone.abort(new Error("gone"));
    await settled();
    expect(order).toEqual(["third", "again not"]);
    pool.release(lanes[0] as LeasedLane);
    await settled();
    expect(order).toEqual(["third", "again not", "fourth"]);
    // Three are in use still, one of which rests.
    pool.release(lanes[1] as LeasedLane);
    await settled();
    expect(order).toEqual(["third", "again not", "fourth"]);
    pool.release(lanes[2] as LeasedLane);
    await settled();
    expect(order.at(-1)).toBe("new");
  });

  test("never lends more than allowed, never the same twice, and nobody waits while one is free", async () => {
    type Action = "acquire" | "release" | "abort" | "backOff";
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 6 }),
        fc.array(fc.constantFrom<Action>("acquire", "acquire", "release", "release", "abort", "backOff"), {
          maxLength: 60,
        }),
        async (lanes, actions) => {
          const pool = new LanePool({ threads: 2, lanes, mostLanes: lanes }, 0);
          const held: LeasedLane[] = [];
          const waiting = new Map<AbortController, Promise<void>>();
          let nowMs = 0;
          for (const action of actions) {
            const before = held.length;
            if (action === "acquire") {
              const aborted = new AbortController();
              waiting.set(
                aborted,
                pool.acquire(aborted.signal).then(
                  (lane) => {
                    held.push(lane);
                    waiting.delete(aborted);
                  },
                  () => {
                    waiting.delete(aborted);
                  },
                ),
              );
            } else if (action === "release") {
              const lane = held.shift();
              if (lane !== undefined) pool.release(lane);
            } else if (action === "abort") [...waiting.keys()][0]?.abort(new Error("aborted"));
            else pool.backOff((nowMs += 1), nowMs);
            await new Promise((resolve) => setImmediate(resolve));
            expect(new Set(held.map(({ id }) => id)).size).toBe(held.length);
            expect(held.length).toBeLessThanOrEqual(Math.max(pool.lanes, before));
            if (action !== "backOff" && held.length > pool.lanes) expect(pool.isCrowded).toBe(true);
            if (waiting.size > 0) expect(held.length).toBeGreaterThanOrEqual(pool.lanes);
          }
          // Everybody who waits is served in the end.
          for (let turn = 0; turn < 200 && waiting.size > 0; turn += 1) {
            const lane = held.shift();
            if (lane !== undefined) pool.release(lane);
            await new Promise((resolve) => setImmediate(resolve));
          }
          expect(waiting.size).toBe(0);
        },
      ),
      { numRuns: 60 },
    );
  });
  test("offers a lane that was given back to those who wish for one, once for each", () => {
    const pool = new LanePool({ threads: 1, lanes: 1, mostLanes: 1 }, 0);
    const lane = pool.tryAcquire() as LeasedLane;
    let offers = 0;
    const forget = pool.onFree(() => {
      offers += 1;
    });
    pool.release(lane);
    expect(offers).toBe(1);
    forget();
    pool.release(pool.tryAcquire() as LeasedLane);
    expect(offers).toBe(1);
  });
});

describe("a map of pieces", () => {
  test("has at most 4096 pieces of 16 MiB and more, up to a gibibyte", () => {
    expect(pieceBytesFor(1)).toBe(16 * MiB);
    expect(pieceBytesFor(64 * GiB)).toBe(16 * MiB);
    expect(pieceBytesFor(64 * GiB + 1)).toBe(32 * MiB);
    expect(pieceBytesFor(2 ** 50)).toBe(GiB);
  });
  test("agrees with a plain list, in any order of claims and writes", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 100 }),
        fc.array(fc.tuple(fc.nat(20), fc.nat(10), fc.boolean()), { maxLength: 80 }),
        (sizeBytes, steps) => {
          const map = new PieceMap(sizeBytes, 8);
          const twin = PieceMap.from(map.share());
          const done: number[] = Array.from({ length: map.count }, () => 0);
          const claimed = new Set<number>();
          for (const [at, bytes, releases] of steps) {
            const piece = at % map.count;
            if (releases) {
              map.release(piece);
              claimed.delete(piece);
            } else if (claimed.has(piece)) {
              done[piece] = Math.min(map.length(piece), (done[piece] ?? 0) + bytes);
              map.setDone(piece, done[piece]);
            } else {
              const isToBeHad = (done[piece] ?? 0) < map.length(piece);
              expect(twin.claim(piece)).toBe(isToBeHad);
              if (isToBeHad) claimed.add(piece);
            }
            const complete = done.map((each, index) => each === map.length(index));
            const first = complete.indexOf(false);
            expect(twin.firstIncomplete()).toBe(first === -1 ? map.count : first);
            expect(twin.doneBytes()).toBe(done.reduce((sum, each) => sum + each, 0));
            expect(twin.contiguousBytes()).toBe(first === -1 ? sizeBytes : first * 8 + (done[first] ?? 0));
            expect(twin.hasUnclaimed()).toBe(complete.some((each, index) => !each && !claimed.has(index)));
          }
          const next = twin.claimNext();
          const free = done.findIndex((each, index) => each < map.length(index) && !claimed.has(index));
          expect(next).toBe(free === -1 ? undefined : free);
        },
      ),
    );
  });
  test("gives no piece too far ahead of the hash", () => {
    const map = new PieceMap(80, 8);
    expect([map.claimNext(2), map.claimNext(2), map.claimNext(2)]).toEqual([0, 1, undefined]);
    expect([map.hasUnclaimed(2), map.hasUnclaimed(3), map.hasUnclaimed()]).toEqual([false, true, true]);
    map.setDone(0, 8);
    map.setHashedPieces(1);
    expect(map.claimNext(2)).toBe(2);
  });
});

describe("whether an answer is what was asked for", () => {
  const asked = { offset: 100, endExclusive: 200, sizeBytes: 1_000 };
  const whole = { offset: 0, endExclusive: 1_000, sizeBytes: 1_000 };
  const range = "bytes 100-199/1000";
  test.each<[string, number, Record<string, string | string[]>, number, typeof asked, boolean]>([
    ["the range", 206, { "content-range": range }, 100, asked, true],
    ["of unknown total", 206, { "content-range": "bytes 100-199/*" }, 100, asked, true],
    ["identity", 206, { "content-range": range, "content-encoding": "identity" }, 100, asked, true],
    ["coded", 206, { "content-range": range, "content-encoding": "gzip" }, 100, asked, false],
    [
      "coded twice",
      206,
      { "content-range": range, "content-encoding": ["identity", "gzip"] },
      100,
      asked,
      false,
    ],
    ["fewer bytes", 206, { "content-range": range }, 99, asked, false],
    ["more bytes", 206, { "content-range": range }, 101, asked, false],
    ["another first", 206, { "content-range": "bytes 99-199/1000" }, 100, asked, false],
    ["another last", 206, { "content-range": "bytes 100-198/1000" }, 100, asked, false],
    ["another total", 206, { "content-range": "bytes 100-199/1001" }, 100, asked, false],
    ["another unit", 206, { "content-range": "octets 100-199/1000" }, 100, asked, false],
    ["two ranges", 206, { "content-range": [range, range] }, 100, asked, false],
    ["no range", 206, {}, 100, asked, false],
    ["200 to a range", 200, {}, 100, asked, false],
    ["the whole", 200, {}, 1_000, whole, true],
    ["a short whole, whose rest is asked for again", 200, {}, 900, whole, true],
    ["a long whole", 200, {}, 1_001, whole, false],
    ["200 to the first piece only", 200, {}, 100, { ...whole, endExclusive: 100 }, false],
    ["204", 204, {}, 0, whole, false],
    ["the range, by another status", 404, { "content-range": range }, 100, asked, false],
    ["203", 203, {}, 1_000, whole, false],
    ["416", 416, { "content-range": "bytes */1000" }, 0, asked, false],
  ])("%s", (_name, status, headers, contentLength, what, expected) => {
    expect(isAsked({ status, headers, isKeptAlive: true }, contentLength, what)).toBe(expected);
  });
});

describe("sizes for tests", () => {
  test("are those of users without the variable, and nothing unknown passes", () => {
    expect(parseTuning(undefined)).toMatchObject({
      largeBlobBytes: 128 * MiB,
      journaledBlobBytes: 64 * MiB,
      lanes: 0,
    });
    expect(parseTuning("pieceBytes=65536 lanes=3")).toMatchObject({ pieceBytes: 65_536, lanes: 3 });
    for (const text of ["pieceByte=1", "lanes=-1", "lanes=x", "toString=1", "lanes"])
      expect(() => parseTuning(text)).toThrow(text);
  });
});
