// What a pull that has just ended well fetched, and what it found on the volume, for metrics. Pure.

import { pullContainerName } from "../desired/names.ts";
import { parseTerminationMessage } from "./pod-failure.ts";
import type { Pod } from "./workload-types.ts";

export type PullOutcome = { readonly fetchedBytes: number; readonly foundBytes: number };

/** What the pull of a pod came to; undefined until it has ended well. */
export function pullReport(pod: Pod | undefined): PullOutcome | undefined {
  const { initContainerStatuses = [], containerStatuses = [] } = pod?.status ?? {};
  const status = [...initContainerStatuses, ...containerStatuses].find(
    ({ name }) => name === pullContainerName,
  );
  const end = status?.state?.terminated;
  if (end?.exitCode !== 0) return undefined;
  const { bytesTotal = 0, bytesFetched = 0 } = parseTerminationMessage(end.message) ?? {};
  return { fetchedBytes: bytesFetched, foundBytes: Math.max(0, bytesTotal - bytesFetched) };
}

/** The outcome of a pull between two states of its pod; undefined when none has ended, or the first state is not known. */
export function pullOutcome(before: Pod | undefined, after: Pod | undefined): PullOutcome | undefined {
  if (before === undefined || pullReport(before) !== undefined) return undefined;
  return pullReport(after);
}
