import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { WorkQueue, type WorkResult } from "../../../operator/kube/work-queue.ts";

const never = new AbortController().signal;

beforeEach(() => {
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "performance"] });
});
afterEach(() => {
  vi.useRealTimers();
});

/** Work that ends when told to. */
class Workshop {
  readonly started: string[] = [];
  readonly startedMs: number[] = [];
  readonly #open = new Map<string, (result: WorkResult | Error) => void>();

  readonly worker = async (key: string): Promise<WorkResult> => {
    expect(this.#open.has(key)).toBe(false);
    this.started.push(key);
    this.startedMs.push(performance.now());
    return new Promise((resolve, reject) => {
      this.#open.set(key, (result) => {
        this.#open.delete(key);
        if (result instanceof Error) reject(result);
        else resolve(result);
      });
    });
  };

  get open(): readonly string[] {
    return [...this.#open.keys()];
  }

  async finish(key: string, result: WorkResult | Error = { kind: "done" }): Promise<void> {
    this.#open.get(key)?.(result);
    await vi.advanceTimersByTimeAsync(0);
  }
}

function started(queue: WorkQueue): Workshop {
  const workshop = new Workshop();
  void queue.run(workshop.worker, never);
  return workshop;
}

describe("work queue", () => {
  test("a key that is woken often before its work begins is worked on once", async () => {
    const queue = new WorkQueue({ concurrency: 2 });
    for (let round = 0; round < 5; round += 1) queue.add("a");
    expect(queue.depth).toBe(1);
    const workshop = started(queue);
    await workshop.finish("a");
    expect(workshop.started).toEqual(["a"]);
    expect(queue.depth).toBe(0);
  });

  test("woken while it is worked on, it is worked on once more afterwards, and not at the same time", async () => {
    const queue = new WorkQueue({ concurrency: 4 });
    const workshop = started(queue);
    queue.add("a");
    queue.add("a");
    queue.add("a");
    expect(workshop.started).toEqual(["a"]);
    await workshop.finish("a");
    expect(workshop.started).toEqual(["a", "a"]);
    await workshop.finish("a");
    expect(workshop.started).toEqual(["a", "a"]);
  });

  test("at most so many at once; a key that is busy does not hold up those behind it", async () => {
    const queue = new WorkQueue({ concurrency: 2 });
    const workshop = started(queue);
    for (const key of ["a", "b", "a", "c"]) queue.add(key);
    expect(workshop.open).toEqual(["a", "b"]);
    await workshop.finish("b");
    expect(workshop.open).toEqual(["a", "c"]);
    await workshop.finish("a");
    expect(workshop.open).toEqual(["c", "a"]);
  });

  test("failures wait twice as long each time up to the longest, with jitter; success begins anew", async () => {
    const queue = new WorkQueue({
      concurrency: 1,
      backoff: { firstMs: 100, lastMs: 1_000 },
      random: () => 1,
    });
    const workshop = started(queue);
    queue.add("a");
    for (const result of [
      new Error("thrown"),
      { kind: "retry" },
      { kind: "retry" },
      { kind: "retry" },
      { kind: "retry" },
    ] as const) {
      await workshop.finish("a", result);
      await vi.advanceTimersToNextTimerAsync();
    }
    const gaps = workshop.startedMs.slice(1).map((ms, index) => ms - (workshop.startedMs[index] ?? 0));
    expect(gaps).toEqual([100, 200, 400, 800, 1_000]);
    await workshop.finish("a");
    queue.add("a");
    await workshop.finish("a", { kind: "retry" });
    const sinceMs = performance.now();
    await vi.advanceTimersToNextTimerAsync();
    expect(performance.now() - sinceMs).toBe(100);
    const half = new WorkQueue({ concurrency: 1, backoff: { firstMs: 100, lastMs: 1_000 }, random: () => 0 });
    const other = started(half);
    half.add("a");
    await other.finish("a", { kind: "retry" });
    await vi.advanceTimersByTimeAsync(49);
    expect(other.started).toHaveLength(1);
    await vi.advanceTimersByTimeAsync(1);
    expect(other.started).toHaveLength(2);
  });

  test("a wake-up passes by the backoff, and a server's Retry-After holds it up", async () => {
    const queue = new WorkQueue({ concurrency: 1, backoff: { firstMs: 100, lastMs: 100 }, random: () => 1 });
    const workshop = started(queue);
    queue.add("a");
    await workshop.finish("a", { kind: "retry", notBeforeMs: 5_000 });
    await vi.advanceTimersByTimeAsync(4_999);
    expect(workshop.started).toHaveLength(1);
    queue.add("a");
    expect(workshop.started).toHaveLength(2);
    await workshop.finish("a");
  });

  test("of several times the earliest holds", async () => {
    const queue = new WorkQueue({ concurrency: 1 });
    const workshop = started(queue);
    queue.addAfter("a", 300);
    queue.addAfter("a", 100);
    queue.addAfter("a", 200);
    await vi.advanceTimersByTimeAsync(99);
    expect(workshop.started).toEqual([]);
    await vi.advanceTimersByTimeAsync(1);
    await workshop.finish("a");
    await vi.advanceTimersByTimeAsync(1_000);
    expect(workshop.started).toEqual(["a"]);
  });

  test("a time beyond what a timer takes (25 days) waits, and does not fire at once", async () => {
    const queue = new WorkQueue({ concurrency: 1 });
    const workshop = started(queue);
    queue.add("a");
    await workshop.finish("a", { kind: "done", recheckAfterMs: 99_999 * 3_600_000 });
    await vi.advanceTimersByTimeAsync(2 ** 31 - 2);
    expect(workshop.started).toEqual(["a"]);
    await vi.advanceTimersByTimeAsync(1);
    expect(workshop.started).toEqual(["a", "a"]);
  });

  test("what is added before it runs is not lost", async () => {
    const queue = new WorkQueue({ concurrency: 1 });
    queue.add("a");
    queue.addAfter("b", 10);
    await vi.advanceTimersByTimeAsync(20);
    expect(queue.depth).toBe(2);
    const workshop = started(queue);
    await workshop.finish("a");
    expect(workshop.started).toEqual(["a", "b"]);
  });

  test("stopped, it begins nothing more and ends when the last work has", async () => {
    const stop = new AbortController();
    const queue = new WorkQueue({ concurrency: 1 });
    const workshop = new Workshop();
    let isOver = false;
    const running = queue.run(workshop.worker, stop.signal).then(() => {
      isOver = true;
    });
    queue.add("a");
    queue.add("b");
    queue.addAfter("c", 10);
    stop.abort();
    queue.add("d");
    await vi.advanceTimersByTimeAsync(100);
    expect([isOver, workshop.started]).toEqual([false, ["a"]]);
    await workshop.finish("a", { kind: "retry" });
    await running;
    await vi.advanceTimersByTimeAsync(1_000_000);
    expect(workshop.started).toEqual(["a"]);
    expect(queue.depth).toBe(0);
  });

  test("says how long the longest work has been going on, and how long each key had waited", async () => {
    const waited: number[] = [];
    const queue = new WorkQueue({ concurrency: 1, onStart: (waitedMs) => waited.push(waitedMs) });
    expect(queue.busyMs).toBe(0);
    const workshop = started(queue);
    queue.add("a");
    queue.add("b");
    await vi.advanceTimersByTimeAsync(700);
    expect(queue.busyMs).toBe(700);
    await workshop.finish("a");
    expect([queue.busyMs, waited]).toEqual([0, [0, 700]]);
  });

  type Step =
    | { readonly kind: "add"; readonly key: string }
    | { readonly kind: "after"; readonly key: string; readonly ms: number }
    | { readonly kind: "finish"; readonly pick: number; readonly result: WorkResult | "throw" }
    | { readonly kind: "pass"; readonly ms: number };
  const key = fc.constantFrom("a", "b", "c", "d");
  const result: fc.Arbitrary<WorkResult | "throw"> = fc.oneof(
    fc.constant({ kind: "done" } as const),
    fc.constant({ kind: "retry" } as const),
    fc.constant("throw" as const),
    fc.integer({ min: 0, max: 500 }).map((recheckAfterMs) => ({ kind: "done", recheckAfterMs }) as const),
  );
  const step: fc.Arbitrary<Step> = fc.oneof(
    fc.record({ kind: fc.constant("add" as const), key }),
    fc.record({ kind: fc.constant("after" as const), key, ms: fc.integer({ min: 0, max: 500 }) }),
    fc.record({ kind: fc.constant("finish" as const), pick: fc.nat(), result }),
    fc.record({ kind: fc.constant("pass" as const), ms: fc.integer({ min: 0, max: 300 }) }),
  );

  test("whatever happens in whatever order: one worker for a key, a bound for all, and no wake-up lost", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(step, { maxLength: 40 }),
        fc.integer({ min: 1, max: 3 }),
        async (steps, concurrency) => {
          const queue = new WorkQueue({ concurrency, backoff: { firstMs: 10, lastMs: 100 } });
          const workshop = started(queue);
          // For each key the number of works begun when it was last woken: one more must begin after that.
          const owed = new Map<string, number>();
          const begun = (name: string): number => workshop.started.filter((each) => each === name).length;
          for (const each of steps) {
            if (each.kind === "add") {
              owed.set(each.key, begun(each.key));
              queue.add(each.key);
            } else if (each.kind === "after") {
              owed.set(each.key, begun(each.key));
              queue.addAfter(each.key, each.ms);
            } else if (each.kind === "finish") {
              const name = workshop.open[each.pick % Math.max(workshop.open.length, 1)];
              if (name !== undefined) {
                if (
                  each.result !== "throw" &&
                  each.result.kind === "done" &&
                  each.result.recheckAfterMs === undefined
                ) {
                  await workshop.finish(name, each.result);
                } else {
                  owed.set(name, begun(name));
                  await workshop.finish(name, each.result === "throw" ? new Error("thrown") : each.result);
                }
              }
            } else {
              await vi.advanceTimersByTimeAsync(each.ms);
            }
            expect(workshop.open.length).toBeLessThanOrEqual(concurrency);
            expect(new Set(workshop.open).size).toBe(workshop.open.length);
          }
          for (let round = 0; round < 200; round += 1) {
            await vi.advanceTimersByTimeAsync(10);
            for (const name of workshop.open) await workshop.finish(name);
          }
          for (const [name, before] of owed) expect([name, begun(name) > before]).toEqual([name, true]);
          expect([queue.depth, workshop.open]).toEqual([0, []]);
        },
      ),
      { numRuns: 100, seed: 1 },
    );
  });
});
