import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { divideReplicas, type Shareable } from "../../../operator/selection/shares.ts";

const of = (...capacities: number[]): Shareable[] =>
  capacities.map((capacity, index) => ({ key: String(index), tier: 0, capacity, current: 0 }));
const classes = fc.array(
  fc.record({
    key: fc.constant("k"),
    tier: fc.constantFrom(0, 1),
    capacity: fc.nat(20),
    current: fc.constant(0),
  }),
  { minLength: 1, maxLength: 5 },
);
const sum = (counts: readonly number[]): number => counts.reduce((total, count) => total + count, 0);

describe("replicas", () => {
  test("are divided by capacity, and wait at the first class where there is room for no more", () => {
    expect(divideReplicas(5, of(8, 2))).toEqual([4, 1]);
    expect(divideReplicas(10, of(8, 2))).toEqual([8, 2]);
    expect(divideReplicas(3, of(1, 1))).toEqual([2, 1]);
    expect(divideReplicas(2, of(0, 0))).toEqual([1, 1]);
    expect(divideReplicas(0, of(4))).toEqual([0]);
  });

  test("go to CPUs only when accelerators are full", () => {
    const mixed = [...of(2, 100)].map((each, index) => ({ ...each, tier: index }));
    expect(divideReplicas(2, mixed)).toEqual([2, 0]);
    expect(divideReplicas(5, mixed)).toEqual([2, 3]);
  });

  test("are all given out, whatever the classes", () => {
    fc.assert(
      fc.property(
        classes,
        fc.nat(100),
        (given, replicas) => sum(divideReplicas(replicas, given)) === replicas,
      ),
    );
  });

  test("one more never takes one from another class", () => {
    fc.assert(
      fc.property(classes, fc.nat(60), (given, replicas) => {
        const before = divideReplicas(replicas, given);
        const after = divideReplicas(replicas + 1, given);
        expect(after.filter((count, index) => count < (before[index] ?? 0))).toEqual([]);
      }),
    );
  });

  test("stay where they are while they fit there, up and down again", () => {
    fc.assert(
      fc.property(classes, fc.nat(40), fc.nat(40), (given, first, second) => {
        const capacity = sum(given.map((each) => each.capacity));
        const start = divideReplicas(Math.min(first, capacity), given);
        const running = given.map((each, index) => ({ ...each, current: start[index] ?? 0 }));
        expect(divideReplicas(sum(start), running)).toEqual(start);
        const next = divideReplicas(second, running);
        const sign = Math.sign(second - sum(start));
        expect(next.every((count, index) => Math.sign(count - (start[index] ?? 0)) * sign >= 0)).toBe(true);
      }),
    );
  });
});
