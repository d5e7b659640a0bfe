// How many pods each Deployment of a Model has for now, while replicas move between classes of nodes: new ones serve before old ones go. Pure.

import type { KubeObject } from "../kube/types.ts";
import { placementLabel } from "../desired/names.ts";
import type { Share } from "../selection/types.ts";
import type { Observed } from "./observed.ts";
import type { Deployment, Pod } from "./workload-types.ts";

export type Rollout = {
  /** Pods for now of each class that has replicas, by its key; at least those of the choice. */
  readonly replicas: ReadonlyMap<string, number>;
  /** Deployments of classes without replicas, cut down to what still has to serve, and else as they are. */
  readonly shrunk: readonly KubeObject[];
  /** Deployments that nothing depends on any more. */
  readonly remove: readonly KubeObject[];
  /** When a pod that waits for a node will have waited long enough for an old one to go first, milliseconds from now. */
  readonly recheckAfterMs: number | undefined;
};

/** How long the scheduler must have found no node before an old pod goes first: a device that is being given back takes less. */
const blockedAfterMs = 10_000;

/** The class whose Deployment or pod this is; empty for the one of a Uniform placement. */
export function placementKeyOf({ metadata }: KubeObject): string {
  return metadata.labels?.[placementLabel] ?? "";
}

/** Since when the scheduler finds no node for the pod, milliseconds since 1970; undefined: it does. */
export function unschedulableSinceMs({ spec, status }: Pod): number | undefined {
  if (spec?.nodeName !== undefined) return undefined;
  const found = status?.conditions?.find(
    ({ type, status: value, reason, lastTransitionTime }) =>
      type === "PodScheduled" &&
      value === "False" &&
      reason === "Unschedulable" &&
      lastTransitionTime !== undefined,
  );
  return found?.lastTransitionTime === undefined ? undefined : Date.parse(found.lastTransitionTime);
}

/** Deployments that this very Model owns and that are not going already. */
export function ownDeployments({ model, deployments }: Pick<Observed, "model" | "deployments">) {
  return deployments.filter(
    ({ metadata }) =>
      metadata.deletionTimestamp === undefined &&
      metadata.ownerReferences?.some(({ uid }) => uid === model.metadata.uid) === true,
  );
}

/**
 * Classes that grow do so at once. What a class has beyond its part stays as far as it is ready and others are not yet, so that
 * never fewer serve than before. Where a new pod waits for a node on which an old one runs, one old pod goes first, as in a
 * rolling update that cannot surge: `isGain` (nobody asked for the change) keeps the last one that is ready even then.
 */
export function planRollout(
  observed: Pick<Observed, "model" | "deployments" | "workloadPods" | "leavingNodes" | "nowMs">,
  shares: readonly Share[],
  isGain: boolean,
): Rollout {
  const own = ownDeployments(observed);
  const wanted = shares.reduce((sum, share) => sum + share.replicas, 0);
  // The Deployment of a Uniform placement is there also without pods.
  const isOnly = (key: string): boolean => key === "" && shares.some((share) => share.key === "");
  const partOf = (key: string): number => shares.find((share) => share.key === key)?.replicas ?? 0;
  const readyOf = (key: string): number =>
    own
      .filter((each) => placementKeyOf(each) === key)
      .reduce((sum, { spec, status }) => sum + Math.min(status?.readyReplicas ?? 0, spec?.replicas ?? 1), 0);
  const serving = shares.reduce((sum, { key, replicas }) => sum + Math.min(readyOf(key), replicas), 0);
  let missing = Math.max(0, wanted - serving);
  const blockedMs = blockedForMs(observed, shares);
  const mayGoFirst = missing > 0 && blockedMs !== undefined && !(isGain && missing >= wanted);
  const isBlocked = mayGoFirst && blockedMs >= blockedAfterMs;
  if (isBlocked) missing -= 1;
  const replicas = new Map<string, number>();
  const shrunk: KubeObject[] = [];
  const remove: KubeObject[] = [];
  for (const deployment of own) {
    const key = placementKeyOf(deployment);
    const part = partOf(key);
    const kept = Math.min(missing, Math.max(0, readyOf(key) - part));
    missing -= kept;
    if (part > 0 || isOnly(key)) {
      replicas.set(key, part + kept);
    } else if (kept > 0) {
      shrunk.push(withReplicas(deployment, kept));
    } else {
      remove.push({ apiVersion: "apps/v1", kind: "Deployment", metadata: deployment.metadata });
    }
  }
  for (const { key, replicas: part } of shares) {
    if ((part > 0 || isOnly(key)) && !replicas.has(key)) replicas.set(key, part);
  }
  const recheckAfterMs = mayGoFirst && !isBlocked ? blockedAfterMs - blockedMs : undefined;
  return { replicas, shrunk, remove, recheckAfterMs };
}

/** The Deployment as it is, with another number of pods: what it was made from may be gone. */
function withReplicas({ apiVersion, kind, metadata, spec }: Deployment, replicas: number): KubeObject {
  const { name, namespace, labels, annotations, ownerReferences } = metadata;
  return {
    apiVersion: apiVersion ?? "apps/v1",
    kind: kind ?? "Deployment",
    metadata: {
      name,
      ...(namespace === undefined ? {} : { namespace }),
      ...(labels === undefined ? {} : { labels }),
      ...(annotations === undefined ? {} : { annotations }),
      ...(ownerReferences === undefined ? {} : { ownerReferences }),
    },
    spec: { ...spec, replicas },
  } as KubeObject;
}

/** For how long a pod of the choice has found no node while a pod that is to go runs on one that would do; undefined: none does. */
function blockedForMs(
  { workloadPods, leavingNodes = [], nowMs }: Pick<Observed, "workloadPods" | "leavingNodes" | "nowMs">,
  shares: readonly Share[],
): number | undefined {
  const count = (key: string): number => shares.find((share) => share.key === key)?.replicas ?? 0;
  const nodes = new Set<string>();
  const placed = new Map<string, number>();
  for (const pod of workloadPods) {
    const key = placementKeyOf(pod);
    if (pod.spec?.nodeName === undefined) continue;
    placed.set(key, (placed.get(key) ?? 0) + 1);
  }
  for (const pod of workloadPods) {
    const key = placementKeyOf(pod);
    if (pod.spec?.nodeName !== undefined && (placed.get(key) ?? 0) > count(key)) nodes.add(pod.spec.nodeName);
  }
  const waited = workloadPods.flatMap((pod) => {
    const sinceMs = unschedulableSinceMs(pod);
    if (sinceMs === undefined) return [];
    const share = shares.find(({ key, replicas }) => key === placementKeyOf(pod) && replicas > 0);
    const fitting = share?.placement.matchingNodes ?? [];
    // A pod that is going gives back what it holds without any other having to go.
    const isBlocked =
      fitting.some((node) => nodes.has(node)) && !fitting.some((node) => leavingNodes.includes(node));
    return isBlocked ? [nowMs - sinceMs] : [];
  });
  return waited.length === 0 ? undefined : Math.max(...waited);
}
