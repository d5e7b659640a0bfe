// What becomes of the claims of one Model: which is applied, which are removed, and what StorageReady says of them. Pure.

import type { InspectFacts } from "../../puller/contract.ts";
import type { Condition, Reason } from "../api/conditions.ts";
import {
  claimBytes,
  claimMismatch,
  claimSharing,
  makesClaim,
  modelClaim,
  usesClaim,
  wantedClaimName,
  type Sharing,
} from "../desired/claim.ts";
import { digestAnnotation, nodeCacheLabel, volumeBytesAnnotation } from "../desired/names.ts";
import { volumeNeed } from "../desired/volume-need.ts";
import { formatBytes, parseQuantity } from "../kube/quantity.ts";
import type { KubeObject } from "../kube/types.ts";
import type { Observed } from "./observed.ts";

export type StorageState = {
  readonly status: Condition["status"];
  readonly reason: Reason;
  readonly message: string;
  /** Nothing will change until somebody acts. */
  readonly isStalled?: boolean;
};

/** Room that pods of other digests than these take on the claim, each digest once, bytes. */
function othersBytes(observed: Observed, digests: ReadonlySet<string>): number {
  const byDigest = new Map<string, number>();
  for (const { metadata } of observed.workloadPods) {
    const other = metadata.annotations?.[digestAnnotation];
    const bytes = Number(metadata.annotations?.[volumeBytesAnnotation]);
    if (other !== undefined && !digests.has(other) && Number.isSafeInteger(bytes)) byDigest.set(other, bytes);
  }
  return [...byDigest.values()].reduce((sum, bytes) => sum + bytes, 0);
}

/** Whether pods can be made: their claim is there, or is being made, and can be used. */
export function canMount({ model, claim }: Pick<Observed, "model" | "claim">): boolean {
  if (!usesClaim(model)) return true;
  if (claim === undefined) return makesClaim(model);
  return claim.metadata.deletionTimestamp === undefined && claimMismatch(model, claim) === undefined;
}

/**
 * The claim to be applied, with room for `artifact` and all of `artifacts`, which classes of nodes share; undefined when the Model
 * uses none, or one of somebody else.
 */
export function desiredClaim(
  observed: Observed,
  artifact: InspectFacts,
  artifacts: readonly InspectFacts[] = [],
): KubeObject | undefined {
  const { model, claim } = observed;
  if (!makesClaim(model) || !canMount(observed)) return undefined;
  return modelClaim(model, artifact, claim, besidesBytes(observed, artifact, artifacts), canGrow(observed));
}

/** Room beside `artifact`, bytes: for the other ones, and for what pods of none of them still use. */
function besidesBytes(
  observed: Observed,
  artifact: InspectFacts,
  artifacts: readonly InspectFacts[],
): number {
  const others = new Map(artifacts.map((each) => [each.digest, volumeNeed(each).limit]));
  others.delete(artifact.digest);
  const digests = new Set([artifact.digest, ...others.keys()]);
  return [...others.values()].reduce((sum, each) => sum + each, othersBytes(observed, digests));
}

/** Whether the claim may be enlarged: its class says so, or is not known and the API server will tell. */
function canGrow({ claimClass }: Pick<Observed, "claimClass">): boolean {
  return claimClass === undefined || claimClass.allowVolumeExpansion === true;
}

/** Why the claim stays smaller than it should be; undefined when it is large enough, or grows. */
export function claimShortage(
  observed: Observed,
  artifact: InspectFacts,
  artifacts: readonly InspectFacts[] = [],
): string | undefined {
  const { model, claim, claimClass } = observed;
  if (!makesClaim(model) || claim === undefined || canGrow(observed)) return undefined;
  const wanted = claimBytes(model, artifact, besidesBytes(observed, artifact, artifacts));
  const requested = claim.spec?.resources?.requests?.storage;
  // A volume may be larger than what was asked for.
  const has = Math.max(parseQuantity(requested) ?? 0, parseQuantity(claim.status?.capacity?.storage) ?? 0);
  if (has >= wanted) return undefined;
  return `claim ${JSON.stringify(claim.metadata.name)} has ${formatBytes(has)} and ${formatBytes(wanted)} are wanted, but its class ${JSON.stringify(claimClass?.metadata.name)} lets no claim grow (allowVolumeExpansion); let it, or make a larger claim and name it in spec.storage.claimName`;
}

/** Claims that the Model owns and uses no more. Those kept by retention Retain have no owner, so they are not among them. */
export function unusedClaims({ model, ownedClaims }: Observed): readonly KubeObject[] {
  const wanted = makesClaim(model) ? wantedClaimName(model) : undefined;
  return ownedClaims
    .filter(({ metadata }) => metadata.name !== wanted && metadata.deletionTimestamp === undefined)
    .map(({ metadata }) => ({ apiVersion: "v1", kind: "PersistentVolumeClaim", metadata }));
}

const sharingWords: Readonly<Record<Sharing, string>> = {
  ManyNodes: "for pods on any node",
  PerNode: "one copy on each node",
  OneNode: "for pods on one node",
  OnePod: "for one pod",
  ReadOnly: "read-only",
};

/** What the claim of the volume says. */
export function storageState({
  model,
  claim,
  nodeCache,
}: Pick<Observed, "model" | "claim" | "nodeCache">): StorageState {
  if (!usesClaim(model)) {
    return { status: "True", reason: "EphemeralVolume", message: "the pod brings its own volume" };
  }
  const name = wantedClaimName(model);
  if (name === undefined) {
    return {
      status: "False",
      reason: "PVCPending",
      message: `no claim in namespace ${model.metadata.namespace} has the label ${nodeCacheLabel}=true; whoever runs the cluster makes one (nodeCache.namespaces of the chart), or name one in spec.storage.claimName`,
    };
  }
  if (claim === undefined) {
    return {
      status: "False",
      reason: "PVCPending",
      message: makesClaim(model)
        ? `claim ${JSON.stringify(name)} is being made`
        : `there is no claim ${JSON.stringify(name)} in namespace ${model.metadata.namespace}; create it, or leave spec.storage.claimName out and ${model.spec.storage?.type === "NodeCache" ? "the one labelled for it is used" : "the operator makes one"}`,
    };
  }
  if (claim.metadata.deletionTimestamp !== undefined) {
    return {
      status: "False",
      reason: "PVCPending",
      message: `claim ${JSON.stringify(name)} is being deleted, which ends when its last pod is gone${makesClaim(model) ? "; a new one is made then" : ""}`,
    };
  }
  const mismatch = claimMismatch(model, claim);
  if (mismatch !== undefined) {
    return { status: "False", reason: "ClaimMismatch", message: mismatch, isStalled: true };
  }
  const { phase, capacity, conditions = [] } = claim.status ?? {};
  if (phase === "Lost") {
    return {
      status: "False",
      reason: "PVCPending",
      message: `claim ${JSON.stringify(name)} has lost its volume; delete the claim`,
      isStalled: true,
    };
  }
  if (phase !== "Bound") {
    return {
      status: "False",
      reason: "PVCPending",
      message: `claim ${JSON.stringify(name)} is ${phase ?? "Pending"}: it is bound when its first pod is scheduled, or its storage class provides nothing; kubectl describe pvc ${name} -n ${model.metadata.namespace} tells`,
    };
  }
  if (nodeCache?.ready === 0) {
    return {
      status: "False",
      reason: "NodeCacheNotReady",
      message:
        nodeCache.nodes === 0
          ? `DaemonSet ${nodeCache.daemonSet}, which prepares the cache, is on no node; nodeCache.nodeSelector of the chart says on which it should be`
          : `DaemonSet ${nodeCache.daemonSet}, which prepares the cache, is ready on none of ${nodeCache.nodes} nodes; kubectl describe tells why`,
    };
  }
  const prepared =
    nodeCache === undefined || nodeCache.ready === nodeCache.nodes
      ? ""
      : `; it is prepared on ${nodeCache.ready} of ${nodeCache.nodes} nodes`;
  const resizing = conditions.find(({ type, status }) => status === "True" && /Resiz/.test(type));
  const size = capacity?.storage ?? "unknown size";
  const asked = claim.spec?.resources?.requests?.storage;
  return {
    status: "True",
    reason: "ClaimBound",
    message: `claim ${JSON.stringify(name)}, ${size}, ${sharingWords[claimSharing(model, claim)]}${
      resizing === undefined ? "" : `; it is being enlarged to ${asked ?? "more"}`
    }${prepared}`,
  };
}
