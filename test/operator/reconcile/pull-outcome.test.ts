import { expect, test } from "vitest";
import { pullOutcome } from "../../../operator/reconcile/pull-outcome.ts";
import type { Pod } from "../../../operator/reconcile/workload-types.ts";

const pod = (state: object): Pod => ({
  apiVersion: "v1",
  kind: "Pod",
  metadata: { name: "m" },
  status: { initContainerStatuses: [{ name: "pull", state }] },
});
const ended = (bytesTotal: number, bytesFetched: number, exitCode = 0): Pod =>
  pod({
    terminated: {
      exitCode,
      message: JSON.stringify({
        v: 1,
        command: "pull",
        code: "Ready",
        retryable: false,
        message: "",
        bytesTotal,
        bytesFetched,
      }),
    },
  });
const running = pod({ running: {} });

const rows: readonly (readonly [string, Pod | undefined, Pod | undefined, unknown])[] = [
  ["a cold start", running, ended(100, 100), { fetchedBytes: 100, foundBytes: 0 }],
  ["a start that finds a part", running, ended(100, 40), { fetchedBytes: 40, foundBytes: 60 }],
  ["a warm start", running, ended(100, 0), { fetchedBytes: 0, foundBytes: 100 }],
  ["counted already", ended(100, 0), ended(100, 0), undefined],
  ["seen for the first time, when it may have been counted before", undefined, ended(100, 0), undefined],
  ["failed", running, ended(100, 10, 74), undefined],
  ["still running", running, running, undefined],
  ["gone", running, undefined, undefined],
];

test.each(rows)("%s", (_name, before, after, outcome) => {
  expect(pullOutcome(before, after)).toEqual(outcome);
});
