// Decides when the claim that the operator made for a Model is cleared of what nobody uses any more. Pure.
//
// Models on a volume cannot tell who has them mounted; the operator can. It hands the whole list to a pod that removes the rest, an
// hour after the list last changed, and whatever a puller has used within an hour stays too: a pod that started after the list
// was made loses nothing. Claims of somebody else are never cleared: what is on them may be there for another reason.

import { modelDirectoryName } from "../../puller/contract.ts";
import type { CollectionStatus, StorageStatus } from "../api/model.ts";
import { collectPod } from "../desired/collect-pod.ts";
import { claimMismatch, makesClaim } from "../desired/claim.ts";
import { collectContainerName, modelDirectoryAnnotation } from "../desired/names.ts";
import type { KubeObject } from "../kube/types.ts";
import type { Observed } from "./observed.ts";

/** A pod that has not started by then has a list that is too old, milliseconds. */
const maxPendingMs = 600_000;

export type CollectionPlan = {
  readonly create: readonly KubeObject[];
  readonly remove: readonly KubeObject[];
  readonly storage: CollectionStatus | undefined;
  readonly recheckAfterMs: number | undefined;
};

/** Directories that pods have mounted, and those of the selected variants of all Models of the claim, sorted. */
export function modelsInUse({
  claimPods,
  claimModels,
}: Pick<Observed, "claimPods" | "claimModels">): readonly string[] {
  const names = new Set<string>();
  for (const { metadata } of claimPods) {
    const name = metadata.annotations?.[modelDirectoryAnnotation];
    if (name !== undefined) names.add(name);
  }
  for (const { spec, status } of claimModels) {
    const { include = [], exclude = [] } = spec.puller ?? {};
    const digests = [status?.selected, ...(status?.placements ?? [])].flatMap((each) => each?.digest ?? []);
    for (const digest of digests) names.add(modelDirectoryName(digest, include, exclude));
  }
  return [...names].sort();
}

/** What was remembered of the claim, if anything. */
function collectionStatus(storage: StorageStatus | undefined): CollectionStatus | undefined {
  const { inUse, since, isPending } = storage ?? {};
  return inUse === undefined || since === undefined || isPending === undefined
    ? undefined
    : { inUse, since, isPending };
}

/** What is to be done about the claim of this Model now, and what is remembered of it. */
export function planCollection(observed: Observed): CollectionPlan {
  const { model, claim, configuration, nowMs, collectPods } = observed;
  const nothing = { create: [], remove: collectPods, storage: undefined, recheckAfterMs: undefined };
  const isUsable =
    makesClaim(model) &&
    claim?.status?.phase === "Bound" &&
    claim.metadata.deletionTimestamp === undefined &&
    claimMismatch(model, claim) === undefined;
  if (!isUsable) return nothing;
  const inUse = modelsInUse(observed);
  if (inUse.length === 0) return nothing;
  const before = collectionStatus(model.status?.storage);
  const now = `${new Date(nowMs).toISOString().slice(0, 19)}Z`;
  const isSame = before !== undefined && before.inUse.join() === inUse.join();
  const hasLost = before?.inUse.some((name) => !inUse.includes(name)) === true;
  const since = isSame ? before.since : now;
  // What only grew leaves nothing behind.
  const isPending = isSame ? before.isPending : hasLost || before?.isPending === true;
  const remembered = { inUse, since, isPending };

  const [pod] = collectPods;
  if (pod !== undefined) {
    const end = pod.status?.containerStatuses?.find(({ name }) => name === collectContainerName)?.state
      ?.terminated;
    const isOver = pod.status?.phase === "Succeeded" || pod.status?.phase === "Failed";
    // What changed while it ran is left to another one.
    if (isOver && !isSame) return { create: [], remove: collectPods, storage: remembered, recheckAfterMs: 0 };
    if (pod.status?.phase === "Succeeded") {
      const done = { ...remembered, isPending: false };
      // The pod goes when the status holds that it is done, so that it is not made again.
      return {
        create: [],
        remove: before?.isPending === false ? collectPods : [],
        storage: done,
        recheckAfterMs: undefined,
      };
    }
    const madeMs = Date.parse(pod.metadata.creationTimestamp ?? now);
    const isLate = end === undefined && pod.status?.phase !== "Running" && nowMs - madeMs > maxPendingMs;
    if (!isOver && !isLate) {
      return { create: [], remove: [], storage: remembered, recheckAfterMs: maxPendingMs };
    }
    // Tried again after the same wait, with a fresh list.
    return {
      create: [],
      remove: collectPods,
      storage: { ...remembered, since: now },
      recheckAfterMs: undefined,
    };
  }
  if (!isPending) return { create: [], remove: [], storage: remembered, recheckAfterMs: undefined };
  const dueMs = Date.parse(since) + configuration.collectAfterSeconds * 1000;
  if (dueMs > nowMs) return { create: [], remove: [], storage: remembered, recheckAfterMs: dueMs - nowMs };
  return {
    create: [collectPod({ model, configuration, claim, keep: inUse, since })],
    remove: [],
    storage: remembered,
    recheckAfterMs: undefined,
  };
}
