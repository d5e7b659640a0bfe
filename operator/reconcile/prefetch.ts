// Decides which nodes the selected model is brought to before any server wants it there, a few at a time. Pure.

import { earliest } from "./earliest.ts";
import { modelDirectoryName } from "../../puller/contract.ts";
import type { CopyStatus, JsonObject, PrefetchSpec } from "../api/model.ts";
import { modelDirectoryAnnotation, prefetchNodeOf, pullContainerName } from "../desired/names.ts";
import { prefetchPod } from "../desired/prefetch-pod.ts";
import type { NodeHardware } from "../hardware/types.ts";
import type { KubeObject } from "../kube/types.ts";
import type { Candidate, Choice } from "../selection/types.ts";
import { untoleratedTaints } from "../selection/tolerations.ts";
import { canMount } from "./claims.ts";
import { pullerStatus } from "./copies.ts";
import type { Observed } from "./observed.ts";
import { podFailure, type PodFailure } from "./pod-failure.ts";
import { tolerationsOf } from "./variants.ts";

/** Nodes that fetch at once unless the Model says otherwise: more would only share what the registry gives. */
const defaultParallelism = 2;
/** A pod that has ended badly for good (evicted, its node lost) is made anew after this long, milliseconds. */
const retryMs = 300_000;

export type PrefetchPlan = {
  readonly create: readonly KubeObject[];
  readonly remove: readonly KubeObject[];
  /** Nodes that should have the model; 0 when none is prefetched to. */
  readonly nodes: number;
  /** Of these, nodes that have it. */
  readonly done: number;
  readonly failure: PodFailure | undefined;
  readonly recheckAfterMs: number | undefined;
};

const nothing = { create: [], nodes: 0, done: 0, failure: undefined, recheckAfterMs: undefined } as const;

/** Nodes that the spec chooses and that pods may go to, sorted. */
export function chosenNodes(
  nodes: readonly NodeHardware[],
  { nodeSelector = {} }: PrefetchSpec,
  tolerations: readonly JsonObject[],
): readonly string[] {
  return nodes
    .filter(
      (node) =>
        !node.isUnschedulable &&
        untoleratedTaints(node, tolerations).length === 0 &&
        Object.entries(nodeSelector).every(([key, value]) => node.labels[key] === value),
    )
    .map(({ name }) => name)
    .sort();
}

/** Pods to be made and removed now. One that has ended well goes once the status knows of its copy. */
export function planPrefetch(
  observed: Observed,
  choice: Choice | undefined,
  copies: readonly CopyStatus[],
): PrefetchPlan {
  const { model, configuration, nodes, claim, prefetchPods, nowMs } = observed;
  const prefetch = model.spec.storage?.prefetch;
  const isWanted = model.spec.storage?.type === "NodeCache" && prefetch !== undefined;
  if (!isWanted) return { ...nothing, remove: prefetchPods };
  // Undecided for the moment: what goes on, goes on.
  if (choice?.kind !== "selected" || claim === undefined || !canMount(observed)) {
    return { ...nothing, remove: [] };
  }
  const { candidate } = choice;
  const { include = [], exclude = [] } = model.spec.puller ?? {};
  const directory = modelDirectoryName(candidate.artifact.digest, include, exclude);
  const tolerations = tolerationsFor(model.spec, prefetch, candidate);
  const wanted = chosenNodes(nodes, prefetch, tolerations);
  const has = new Set(copies.flatMap((copy) => (copy.model === directory ? [copy.node] : [])));
  const known = new Set(
    (model.status?.storage?.copies ?? []).flatMap((copy) => (copy.model === directory ? [copy.node] : [])),
  );
  const remove: KubeObject[] = [];
  const busy = new Set<string>();
  const failures: PodFailure[] = [];
  const rechecks: number[] = [];
  for (const pod of prefetchPods) {
    const node = prefetchNodeOf(pod);
    const isOurs =
      pod.metadata.annotations?.[modelDirectoryAnnotation] === directory && wanted.includes(node);
    const hasEnded = pod.status?.phase === "Succeeded";
    if (!isOurs || (hasEnded && known.has(node))) {
      remove.push(pod);
      continue;
    }
    const failure = podFailure(pod, pullContainerName);
    if (failure !== undefined) failures.push({ ...failure, node: failure.node ?? node });
    if (pod.status?.phase === "Failed") {
      const endMs = Date.parse(
        pullerStatus(pod)?.state?.terminated?.finishedAt ?? pod.metadata.creationTimestamp ?? "",
      );
      const dueMs = (Number.isNaN(endMs) ? nowMs : endMs) + retryMs;
      if (dueMs <= nowMs) remove.push(pod);
      else rechecks.push(dueMs - nowMs);
    }
    busy.add(node);
  }
  const missing = wanted.filter((node) => !has.has(node));
  const fetching = missing.filter((node) => busy.has(node)).length;
  const room = Math.max(0, (prefetch.parallelism ?? defaultParallelism) - fetching);
  return {
    create: missing
      .filter((node) => !busy.has(node))
      .slice(0, room)
      .map((node) =>
        prefetchPod({ model, configuration, artifact: candidate.artifact, claim, node, tolerations }),
      ),
    remove,
    nodes: wanted.length,
    done: wanted.length - missing.length,
    failure: failures.find(({ isPermanent }) => isPermanent) ?? failures[0],
    recheckAfterMs: earliest(rechecks),
  };
}

/** Those of the servers' pods, and what is stated for prefetching. */
function tolerationsFor(
  spec: Observed["model"]["spec"],
  { tolerations = [] }: PrefetchSpec,
  candidate: Candidate,
): readonly JsonObject[] {
  return [...tolerationsOf(spec, candidate), ...tolerations];
}
