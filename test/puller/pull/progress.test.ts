// How far a pull is, as a bar, as lines in a log and as JSON.

import type { AddressInfo } from "node:net";
import fc from "fast-check";
import { expect, test, vi } from "vitest";
import { AppError } from "../../../puller/oci/errors.ts";
import {
  ProgressTracker,
  progressBar,
  reportProgress,
  serveProgress,
} from "../../../puller/pull/progress.ts";

test("a bar fits its terminal, whatever is told", () => {
  fc.assert(
    fc.property(fc.nat(), fc.nat(), fc.integer({ min: 1, max: 200 }), (total, completed, width) => {
      const tracker = new ProgressTracker("r");
      tracker.plan("sha256:x", total, 1);
      tracker.add(Math.min(completed, total), "volume");
      expect(progressBar(tracker.snapshot(), width).length).toBeLessThanOrEqual(width);
    }),
  );
  const tracker = new ProgressTracker("r");
  tracker.plan("sha256:x", 4 * 1024 * 1024, 1);
  tracker.enter("fetching");
  tracker.add(1024 * 1024, "volume");
  expect(progressBar(tracker.snapshot(), 80)).toBe(
    "fetching [##########..............................]  25% 1.0/4.0 MiB 0.0 MiB/s",
  );
});

test("a terminal gets a bar and no log; anything else a line every five seconds", () => {
  vi.useFakeTimers();
  try {
    const tracker = new ProgressTracker("r");
    for (const isTTY of [true, false]) {
      const [written, logged]: [string[], unknown[]] = [[], []];
      const reporter = reportProgress(tracker, { write: (text) => written.push(text), isTTY, columns: 80 }, {
        info: (fields: unknown) => void logged.push(fields),
      } as never);
      vi.advanceTimersByTime(10_100);
      reporter.stop();
      vi.advanceTimersByTime(60_000);
      expect([written.length > 40, logged.length]).toEqual(isTTY ? [true, 0] : [false, 2]);
    }
  } finally {
    vi.useRealTimers();
  }
});

test("GET /progress is the contract's document, and nothing else is served", async () => {
  const tracker = new ProgressTracker("r.io/a:x");
  const server = await serveProgress(tracker, "127.0.0.1:0");
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  tracker.plan("sha256:x", 10, 2);
  tracker.enter("fetching");
  tracker.add(4, "volume");
  tracker.completeFile();
  tracker.fail(new AppError("TransferStalled", "no byte"));
  const answer = await fetch(`${url}/progress`);
  expect(answer.headers.get("content-type")).toBe("application/json");
  expect(await answer.json()).toEqual({
    v: 1,
    phase: "fetching",
    reference: "r.io/a:x",
    digest: "sha256:x",
    totalBytes: 10,
    completedBytes: 4,
    bytesPerSecond: 0,
    filesTotal: 2,
    filesCompleted: 1,
    lastFailure: { code: "TransferStalled", message: "no byte" },
  });
  expect((await fetch(`${url}/metrics`)).status).toBe(404);
  expect((await fetch(`${url}/progress`, { method: "POST" })).status).toBe(404);
  server.closeAllConnections();
  server.close();
});
