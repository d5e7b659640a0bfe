// Pullers are asked beside the reconcile: it waits for none, what was told is kept, and news alone wakes a Model.

import { expect, test } from "vitest";
import { leastIntervalMs, PullProgressBoard } from "../../../operator/reconcile/pull-progress.ts";
import type { Pod } from "../../../operator/reconcile/workload-types.ts";
import type { PullProgress } from "../../../puller/contract.ts";

const model = { namespace: "ai", name: "qwen" };
const pod = (uid: string): Pod => ({ apiVersion: "v1", kind: "Pod", metadata: { name: `p-${uid}`, uid } });
const progress = (completedBytes: number): PullProgress => ({
  v: 1,
  phase: "fetching",
  reference: "r.example.com/q",
  totalBytes: 100,
  completedBytes,
  bytesPerSecond: 1,
  filesTotal: 1,
  filesCompleted: 0,
});

function rig() {
  const asked: string[] = [];
  const woken: string[] = [];
  const waiting: ((answer: PullProgress | undefined) => void)[] = [];
  let nowMs = 1_000;
  const board = new PullProgressBoard({
    ask: async ({ metadata }) => {
      asked.push(metadata.uid ?? "");
      return new Promise((resolve) => waiting.push(resolve));
    },
    onNews: ({ name }) => void woken.push(name),
    nowMs: () => nowMs,
  });
  return {
    board,
    asked,
    woken,
    pass: (ms: number): void => {
      nowMs += ms;
    },
    answer: async (told: PullProgress | undefined): Promise<void> => {
      waiting.shift()?.(told);
      await new Promise((resolve) => setImmediate(resolve));
    },
  };
}

test("a puller that does not answer holds nothing up, and is not asked twice at once", () => {
  const { board, asked, woken, pass } = rig();
  for (let round = 0; round < 5; round += 1) {
    expect(board.of(pod("a"), model)).toBeUndefined();
    pass(leastIntervalMs);
  }
  expect(asked).toEqual(["a"]);
  expect(woken).toEqual([]);
});

test("an answer wakes the Model, once for each that is news; the reconcile that follows does not ask again", async () => {
  const { board, asked, woken, pass, answer } = rig();
  board.of(pod("a"), model);
  await answer(progress(10));
  expect(woken).toEqual(["qwen"]);
  expect(board.of(pod("a"), model)).toEqual(progress(10));
  expect(asked).toEqual(["a"]);
  pass(leastIntervalMs);
  board.of(pod("a"), model);
  await answer(progress(10));
  expect(woken).toEqual(["qwen"]);
  pass(leastIntervalMs);
  board.of(pod("a"), model);
  await answer(progress(20));
  expect(woken).toEqual(["qwen", "qwen"]);
  expect(asked).toEqual(["a", "a", "a"]);
});

test("what was told stays when the puller has ended and answers no more, so that 100 % never falls to 0 %", async () => {
  const { board, pass, answer } = rig();
  board.of(pod("a"), model);
  await answer(progress(100));
  pass(leastIntervalMs);
  board.of(pod("a"), model);
  await answer(undefined);
  expect(board.of(pod("a"), model)).toMatchObject({ completedBytes: 100, totalBytes: 100 });
});

test("of a puller that falls silent the bytes stay and its speed goes, which is news, once", async () => {
  const { board, woken, pass, answer } = rig();
  board.of(pod("a"), model);
  await answer({ ...progress(40), bytesPerSecond: 1_000, remainingSeconds: 60 });
  expect(woken).toHaveLength(1);
  for (let round = 0; round < 3; round += 1) {
    pass(leastIntervalMs);
    board.of(pod("a"), model);
    await answer(undefined);
    expect(board.of(pod("a"), model)).toEqual({ ...progress(40), bytesPerSecond: 0 });
    expect(woken).toHaveLength(2);
  }
  // It may be heard again.
  pass(leastIntervalMs);
  board.of(pod("a"), model);
  await answer({ ...progress(50), bytesPerSecond: 2_000 });
  expect(board.of(pod("a"), model)).toMatchObject({ completedBytes: 50, bytesPerSecond: 2_000 });
  expect(woken).toHaveLength(3);
});

test("each pod is asked for itself, and of one that is gone nothing is kept, nor is its last answer told", async () => {
  const { board, asked, woken, answer } = rig();
  board.of(pod("a"), model);
  board.of(pod("b"), model);
  expect(asked).toEqual(["a", "b"]);
  board.forget(pod("a"));
  await answer(progress(50));
  expect(woken).toEqual([]);
  expect(board.of(pod("a"), model)).toBeUndefined();
  expect(asked).toEqual(["a", "b", "a"]);
  await answer(progress(60));
  expect(board.of(pod("b"), model)).toEqual(progress(60));
});
