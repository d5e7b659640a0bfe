// The limit of bytes per second by a played clock: what lanes take within ten seconds, whatever the timer and the lanes do.

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { readBytes, refillAt } from "../../../puller/transfer/bandwidth.ts";

const MiB = 1024 * 1024;
const largestReadBytes = 128 * 1024;

/**
 * Bytes that lanes take within `totalMs`. They all see what is unused at the same moment, so that each may take one read more than
 * there is; whoever finds nothing waits for the next refill.
 */
function taken(
  bytesPerSecond: number,
  lanes: number,
  totalMs: number,
  waits: Iterator<number>,
  isIdle: (nowMs: number) => boolean = () => false,
): { readonly bytes: number; readonly most: number } {
  const refill = refillAt(bytesPerSecond, 0);
  let [nowMs, unused, bytes, most] = [0, 0, 0, 0];
  while (nowMs < totalMs) {
    nowMs = Math.min(totalMs, nowMs + (waits.next().value as number));
    unused += refill(nowMs, unused);
    if (isIdle(nowMs)) continue;
    let now = 0;
    while (unused > 0) {
      const each = readBytes(unused, largestReadBytes);
      unused -= lanes * each;
      now += lanes * each;
    }
    bytes += now;
    most = Math.max(most, now);
  }
  return { bytes, most };
}

function* cycle(values: readonly number[]): Generator<number, never> {
  for (;;) yield* values;
}

describe("a limit of bytes per second", () => {
  const waits = fc.array(fc.integer({ min: 1, max: 150 }), { minLength: 1, maxLength: 20 });
  test("is kept to within 5 % over ten seconds, however late the refills come and however many lanes read", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1 * MiB, max: 2047 * MiB }),
        fc.integer({ min: 1, max: 16 }),
        waits,
        (bytesPerSecond, lanes, steps) => {
          const { bytes } = taken(bytesPerSecond, lanes, 10_000, cycle(steps));
          expect(bytes / (bytesPerSecond * 10)).toBeGreaterThan(0.95);
          expect(bytes / (bytesPerSecond * 10)).toBeLessThan(1.05);
        },
      ),
    );
  });

  test("of few bytes is kept as well, by few lanes: a read takes no more than a record", () => {
    for (const lanes of [1, 2, 4]) {
      const { bytes } = taken(256 * 1024, lanes, 10_000, cycle([20]));
      expect(bytes / (256 * 1024 * 10)).toBeGreaterThan(0.95);
      expect(bytes / (256 * 1024 * 10)).toBeLessThan(1.05);
    }
  });

  test("gives no more than a fifth of a second's worth at once after a pause of any length", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: MiB, max: 100 * MiB }),
        fc.integer({ min: 1_000, max: 9_000 }),
        (bytesPerSecond, idleMs) => {
          const { most } = taken(bytesPerSecond, 1, 10_000, cycle([20]), (nowMs) => nowMs < idleMs);
          expect(most).toBeLessThanOrEqual(bytesPerSecond / 5 + largestReadBytes);
        },
      ),
    );
  });

  test("loses no part of a byte, and survives a machine that slept", () => {
    const refill = refillAt(3_333, 0);
    let bytes = 0;
    for (let nowMs = 1; nowMs <= 3_000; nowMs += 1) bytes += refill(nowMs, 0);
    expect(bytes).toBeGreaterThanOrEqual(9_998);
    expect(bytes).toBeLessThanOrEqual(9_999);
    expect(refill(1e9, 0)).toBe(64 * 1024);
    // What is unused has 32 bits, and so has what is added to it.
    expect(refillAt(1e12, 0)(1e9, 0)).toBe(2 ** 30);
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
