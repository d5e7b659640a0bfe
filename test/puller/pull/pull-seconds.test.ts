import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { ProgressTracker } from "../../../puller/pull/progress.ts";

beforeEach(() => {
  vi.useFakeTimers({ toFake: ["performance"] });
});
afterEach(() => {
  vi.useRealTimers();
});

test("the time of each phase is told, and what passed since the last byte", () => {
  const progress = new ProgressTracker("r.example/m:1");
  vi.advanceTimersByTime(100);
  progress.enter("planning");
  vi.advanceTimersByTime(50);
  progress.enter("fetching");
  vi.advanceTimersByTime(2000);
  progress.add(10, "network");
  vi.advanceTimersByTime(300);
  progress.enter("publishing");
  vi.advanceTimersByTime(40);
  progress.enter("ready");
  expect(progress.seconds).toEqual({
    resolving: 0.1,
    planning: 0.05,
    fetching: 2.3,
    publishing: 0.04,
    settling: 0.34,
  });
});

test("nothing settles when no byte came, nor when the pull failed", () => {
  const warm = new ProgressTracker("r.example/m:1");
  warm.add(10, "volume");
  warm.enter("ready");
  expect(warm.seconds).toEqual({ resolving: 0 });
  const failed = new ProgressTracker("r.example/m:1");
  failed.enter("fetching");
  failed.add(10, "network");
  failed.enter("failed");
  expect(failed.seconds).toEqual({ resolving: 0, fetching: 0 });
});
