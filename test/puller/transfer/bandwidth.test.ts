// The limit of bytes per second by a played clock: what lanes take within ten seconds, whatever the timer, the servers and the lanes do.

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  Allowance,
  divide,
  lanesWithin,
  mayRead,
  readBytes,
  refillAt,
} from "../../../puller/transfer/bandwidth.ts";

const KiB = 1024;
const MiB = 1024 * KiB;
const largestReadBytes = 128 * KiB;
/** What comes of a TLS connection once it is read from, before it heeds a pause: three records. */
const recordsBytes = 48 * KiB;

/** A lane by what its server sends: bytes per second, from some time on. */
type Feed = { readonly bytesPerSecond: number; readonly fromMs?: number; readonly isTLS?: boolean };

/**
 * Bytes that each lane takes within `totalMs`. Between two refills each takes in its turn, the first one always first, all that its
 * server has sent and that it may.
 */
function taken(
  bytesPerSecond: number,
  feeds: readonly Feed[],
  totalMs: number,
  waits: Iterator<number>,
): { readonly bytes: readonly number[]; readonly most: number } {
  const allowance = new Allowance(bytesPerSecond, feeds.length + 2, 0);
  // Not the first ones of those that there might be.
  const inUse = new Set(feeds.map((_, lane) => feeds.length + 1 - lane));
  const bytes = feeds.map(() => 0);
  let [nowMs, most] = [0, 0];
  while (nowMs < totalMs) {
    nowMs = Math.min(totalMs, nowMs + (waits.next().value as number));
    allowance.refill(nowMs, inUse);
    let now = 0;
    for (const [index, feed] of feeds.entries()) {
      const own = allowance.of(feeds.length + 1 - index);
      const sent = ((nowMs - (feed.fromMs ?? 0)) * feed.bytesPerSecond) / 1000;
      const there = (): number => Math.floor(sent - (bytes[index] ?? 0));
      while (mayRead(Atomics.load(own, 0)) && there() > 0) {
        const least = feed.isTLS === true ? recordsBytes : 0;
        const read = Math.min(there(), Math.max(least, readBytes(Atomics.load(own, 0), largestReadBytes)));
        Atomics.sub(own, 0, read);
        bytes[index] = (bytes[index] ?? 0) + read;
        now += read;
      }
    }
    most = Math.max(most, now);
  }
  return { bytes, most };
}

function* cycle(values: readonly number[]): Generator<number, never> {
  for (;;) yield* values;
}
const sum = (values: readonly number[]): number => values.reduce((all, each) => all + each, 0);

const seconds = 10;
const waits = fc.array(fc.integer({ min: 20, max: 150 }), { minLength: 1, maxLength: 20 });
/** Limits from the least that may be asked for, small ones as often as large ones. */
const limits = fc
  .double({ min: 16, max: 31, noNaN: true })
  .map((power) => Math.min(2047 * MiB, Math.floor(2 ** power)));

describe("a limit of bytes per second", () => {
  test("is kept to within 5 % over ten seconds: any limit, any number of connections, plain or TLS, refills however late", () => {
    fc.assert(
      fc.property(
        limits,
        fc.integer({ min: 1, max: 64 }),
        fc.boolean(),
        waits,
        (limit, wanted, isTLS, steps) => {
          const lanes = lanesWithin(limit, wanted);
          const feeds = Array.from({ length: lanes }, () => ({ bytesPerSecond: limit * 2, isTLS }));
          const share = sum(taken(limit, feeds, seconds * 1000, cycle(steps)).bytes) / (limit * seconds);
          expect(share).toBeGreaterThan(0.95);
          expect(share).toBeLessThan(1.05);
        },
      ),
    );
  });

  test("is used up by those whose servers have more where others have less, and each has its fair part of it", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 16 * MiB, max: 1024 * MiB }),
        fc.array(fc.integer({ min: 1, max: 400 }), { minLength: 2, maxLength: 16 }),
        fc.array(fc.integer({ min: 20, max: 60 }), { minLength: 1, maxLength: 20 }),
        (limit, hundredths, steps) => {
          const feeds = hundredths.map((part) => ({
            bytesPerSecond: (limit * part) / 100 / hundredths.length,
          }));
          const { bytes } = taken(limit, feeds, seconds * 1000, cycle(steps));
          const offered = sum(feeds.map(({ bytesPerSecond }) => bytesPerSecond));
          // A part follows what its lane reads some refills behind: the later those are, the more of the beginning is lost.
          expect(sum(bytes) / seconds).toBeGreaterThan(0.9 * Math.min(limit, offered));
          expect(sum(bytes) / seconds).toBeLessThan(1.05 * limit);
          for (const [index, { bytesPerSecond }] of feeds.entries()) {
            const fair = Math.min(bytesPerSecond, limit / feeds.length);
            expect((bytes[index] ?? 0) / seconds).toBeGreaterThan(0.85 * fair);
          }
        },
      ),
    );
  });

  test("gives no more than a fifth of a second's worth at once after a pause of any length", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: MiB, max: 100 * MiB }),
        fc.integer({ min: 1_000, max: 9_000 }),
        (limit, fromMs) => {
          const feeds = [{ bytesPerSecond: limit * 1000, fromMs }];
          const { most } = taken(limit, feeds, seconds * 1000, cycle([20]));
          expect(most).toBeLessThanOrEqual(limit / 5 + 3 * 48 * KiB);
        },
      ),
    );
  });

  test("gives a connection that begins what it needs at once, while others that wait for their servers had all there was", () => {
    const allowance = new Allowance(8 * MiB, 16, 0);
    const inUse = new Set(Array.from({ length: 15 }, (_, lane) => lane));
    for (let nowMs = 0; nowMs <= 5_000; nowMs += 20) allowance.refill(nowMs, inUse);
    allowance.refill(5_001, inUse.add(15));
    expect(mayRead(Atomics.load(allowance.of(15), 0))).toBe(true);
    // And what they did have is there for the one that reads.
    let read = 0;
    for (let nowMs = 5_020; nowMs <= 6_020; nowMs += 20) {
      const level = Atomics.load(allowance.of(15), 0);
      Atomics.sub(allowance.of(15), 0, level);
      read += level;
      allowance.refill(nowMs, inUse);
    }
    expect(read).toBeGreaterThan(8 * MiB);
    expect(read).toBeLessThan(8 * MiB * 1.2 + 48 * KiB);
  });

  test("goes on where a lane is given back and another one taken: what the first had left or owed is not lost", () => {
    const allowance = new Allowance(MiB, 2, 0);
    allowance.refill(100, new Set([0]));
    const [one, other] = [allowance.of(0), allowance.of(1)];
    const had = Math.floor(MiB / 10);
    expect(Atomics.load(one, 0)).toBe(had);
    Atomics.sub(one, 0, had + 50_000);
    allowance.refill(100, new Set([1]));
    expect([Atomics.load(one, 0), Atomics.load(other, 0)]).toEqual([0, 0]);
    allowance.refill(200, new Set([1]));
    expect(Atomics.load(other, 0)).toBe(Math.floor(MiB / 5) - had - 50_000);
    Atomics.sub(other, 0, 10_000);
    allowance.refill(200, new Set([0]));
    expect([Atomics.load(one, 0), Atomics.load(other, 0)]).toEqual([Math.floor(MiB / 5) - had - 60_000, 0]);
  });

  test("loses no part of a byte, and survives a machine that slept", () => {
    const refill = refillAt(3_333, 0);
    let bytes = 0;
    for (let nowMs = 1; nowMs <= 3_000; nowMs += 1) bytes += refill(nowMs, 0);
    expect(bytes).toBeGreaterThanOrEqual(9_998);
    expect(bytes).toBeLessThanOrEqual(9_999);
    expect(refill(1e9, 0)).toBe(40 * KiB + 666);
    // What is unused has 32 bits, and so has what is added to it.
    expect(refillAt(1e12, 0)(1e9, 0)).toBe(2 ** 30);
  });

  test("lets a lane read at any time that gets a few bytes now and then: a server that drips is seen to do so", () => {
    const inUse = new Set([0, 1]);
    for (const other of [0, 400 * KiB]) {
      const allowance = new Allowance(MiB, 2, 0);
      for (let nowMs = 0; nowMs < 5_000; nowMs += 5) {
        if (nowMs % 20 === 0) allowance.refill(nowMs, inUse);
        if (nowMs < 1_000) continue;
        expect(mayRead(Atomics.load(allowance.of(0), 0)), `at ${nowMs} ms`).toBe(true);
        Atomics.sub(allowance.of(0), 0, 20);
        if (mayRead(Atomics.load(allowance.of(1), 0)))
          Atomics.sub(allowance.of(1), 0, Math.floor(other / 200));
      }
    }
  });
  test("never takes back what it gave", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 0, max: 2 ** 31 - 1 }),
        fc.integer({ min: 0, max: 1e6 }),
        (unused, nowMs) => {
          expect(refillAt(65_536, 0)(nowMs, unused)).toBeGreaterThanOrEqual(0);
        },
      ),
    );
  });
});

test("what is divided is given out to the byte, nobody loses, and those who are given something end level", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 2 ** 30 }),
      fc.array(fc.integer({ min: -(2 ** 20), max: 2 ** 28 }), { minLength: 1, maxLength: 64 }),
      (bytes, levels) => {
        const shares = divide(bytes, levels);
        expect(sum(shares)).toBe(bytes);
        expect(Math.min(...shares)).toBeGreaterThanOrEqual(0);
        const after = levels.map((level, lane) => level + (shares[lane] ?? 0));
        const given = after.filter((_, lane) => (shares[lane] ?? 0) > 0);
        expect(Math.max(...given) - Math.min(...after)).toBeLessThanOrEqual(1);
      },
    ),
  );
});

test.each([
  [undefined, 64, 64],
  [64 * KiB, 64, 1],
  [512 * KiB, 64, 1],
  [MiB, 64, 2],
  [2 * MiB, 16, 4],
  [100 * MiB, 16, 16],
  [100 * MiB, 1, 1],
])("with a limit of %j bytes per second, of %d connections there are %d", (limit, most, lanes) => {
  expect(lanesWithin(limit, most)).toBe(lanes);
});
