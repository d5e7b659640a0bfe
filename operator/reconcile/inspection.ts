// Decides which inspect pods to create and delete, and reads the results of finished ones. Pure.

import {
  isInspectFailure,
  maxInspectReferences,
  retryableExitCodes,
  failureExitCodes,
  type InspectFailure,
  type InspectResult,
} from "../../puller/contract.ts";
import { createHash } from "node:crypto";
import { inspectPod } from "../desired/inspect-pod.ts";
import { inspectContainerName } from "../desired/names.ts";
import type { KubeObject } from "../kube/types.ts";
import { parseDuration } from "./duration.ts";
import type { Observed } from "./observed.ts";
import { parseTerminationMessage, podFailure, pullerFailure, type PodFailure } from "./pod-failure.ts";
import { effectiveVariants, knownArtifact } from "./variants.ts";
import type { Pod, TerminatedState } from "./workload-types.ts";

/** Wait before a failed inspection is tried again: doubles from the first to the last, milliseconds. */
const retryDelaysMs = {
  transient: { first: 5_000, last: 300_000 },
  permanent: { first: 30_000, last: 300_000 },
};

export type InspectionPlan = {
  readonly create: readonly KubeObject[];
  readonly remove: readonly Pod[];
  /** Results of finished pods, by reference. A failure of a reference that is known already is not among them. */
  readonly results: ReadonlyMap<string, InspectResult>;
  /** When the newest result was told, RFC 3339; undefined when there is none. */
  readonly resolvedAt: string | undefined;
  /** Whether references are still being read for the first time. */
  readonly isPending: boolean;
  /** What keeps an inspect pod from running or reporting at all. */
  readonly podFailure: PodFailure | undefined;
  readonly recheckAfterMs: number | undefined;
};

/** Time of the next refresh, milliseconds since 1970; undefined when tags are not followed. */
function refreshDueMs(observed: Observed, references: readonly string[]): number | undefined {
  const { refresh } = observed.model.spec.source;
  const resolvedAt = observed.model.status?.source?.resolvedAt;
  if (refresh?.policy !== "OnChange" || resolvedAt === undefined) return undefined;
  if (references.every((reference) => reference.includes("@"))) return undefined;
  return Date.parse(resolvedAt) + parseDuration(refresh.interval ?? "1h");
}

function terminated(pod: Pod): TerminatedState | undefined {
  return pod.status?.containerStatuses?.find(({ name }) => name === inspectContainerName)?.state?.terminated;
}

/** Results of a finished inspect pod, for each reference asked; undefined while it runs. */
function resultsOf(pod: Pod, references: readonly string[]): readonly InspectResult[] | undefined {
  const end = terminated(pod);
  const isOver = pod.status?.phase === "Failed" || pod.status?.phase === "Succeeded";
  if (end === undefined && !isOver) return undefined;
  const report = parseTerminationMessage(end?.message);
  if (report?.inspected !== undefined) return report.inspected;
  const failure = pullerFailure(end);
  const code =
    report !== undefined && report.code !== "Ready"
      ? report.code
      : failure?.reason !== undefined && failure.reason in failureExitCodes
        ? (failure.reason as InspectFailure["code"])
        : "InternalError";
  const message =
    failure?.message ?? pod.status?.message ?? "the inspect pod ended without a report; see its log";
  return references.map((reference) => ({ reference, code, message }));
}

function retryDelayMs(results: readonly InspectResult[], attempt: number): number {
  const isTransient = results.some(
    (result) => isInspectFailure(result) && retryableExitCodes.has(failureExitCodes[result.code]),
  );
  const { first, last } = isTransient ? retryDelaysMs.transient : retryDelaysMs.permanent;
  return Math.min(first * 2 ** attempt, last);
}

/**
 * One pod per group of references. A group is due when one of its references is not known yet, or its refresh is
 * due. Its pod is deleted once the status (as read back) holds what it told; a failed one is kept until its successor
 * is created, since its name and its end say when that is.
 */
export function planInspection(observed: Observed): InspectionPlan {
  const { model, configuration, nowMs } = observed;
  const references = [...new Set(effectiveVariants(model.spec).map(({ reference }) => reference))];
  const round = createHash("sha256").update(JSON.stringify(model.spec.source)).digest("hex").slice(0, 16);
  const create: KubeObject[] = [];
  const kept = new Set<string>();
  const results = new Map<string, InspectResult>();
  let resolvedAt: string | undefined;
  let isPending = false;
  let failure: PodFailure | undefined;
  const rechecks: number[] = [];

  for (let start = 0; start < references.length; start += maxInspectReferences) {
    const group = references.slice(start, start + maxInspectReferences);
    const render = (attempt: number): KubeObject =>
      inspectPod({ model, configuration, references: group, attempt, round });
    const prefix = render(0).metadata.name.replace(/0$/, "");
    const latest = observed.inspectPods
      .filter(({ metadata }) => metadata.name.startsWith(prefix))
      .map((pod) => ({ pod, attempt: Number(pod.metadata.name.slice(prefix.length)) }))
      .sort((one, other) => other.attempt - one.attempt)[0];
    const isKnown = group.every((reference) => knownArtifact(model, reference) !== undefined);
    const dueMs = refreshDueMs(observed, group);
    if (latest === undefined) {
      if (!isKnown || (dueMs !== undefined && dueMs <= nowMs)) create.push(render(0));
      else if (dueMs !== undefined) rechecks.push(dueMs - nowMs);
      isPending ||= !isKnown;
      continue;
    }
    const told = resultsOf(latest.pod, group);
    if (told === undefined) {
      kept.add(latest.pod.metadata.name);
      isPending ||= !isKnown;
      failure ??= podFailure(latest.pod, inspectContainerName);
      continue;
    }
    const endedAt = terminated(latest.pod)?.finishedAt ?? new Date(nowMs).toISOString();
    for (const result of told) results.set(result.reference, result);
    const failed = told.filter(isInspectFailure);
    if (failed.length < told.length && (resolvedAt === undefined || endedAt > resolvedAt))
      resolvedAt = endedAt;
    if (failed.length === 0) {
      const isStored = told.every(
        (result) =>
          !isInspectFailure(result) && knownArtifact(model, result.reference)?.digest === result.digest,
      );
      const isRefreshed = (model.status?.source?.resolvedAt ?? "") >= endedAt;
      if (!isStored || !isRefreshed) kept.add(latest.pod.metadata.name);
      continue;
    }
    const retryAtMs = Date.parse(endedAt) + retryDelayMs(told, latest.attempt);
    if (retryAtMs <= nowMs) {
      create.push(render(latest.attempt + 1));
    } else {
      kept.add(latest.pod.metadata.name);
      rechecks.push(retryAtMs - nowMs);
    }
  }
  return {
    create,
    remove: observed.inspectPods.filter(({ metadata }) => !kept.has(metadata.name)),
    results,
    resolvedAt,
    isPending,
    podFailure: failure,
    recheckAfterMs: rechecks.length === 0 ? undefined : Math.min(...rechecks),
  };
}
