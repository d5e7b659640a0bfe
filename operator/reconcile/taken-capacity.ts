// Keeps what pods request on each node, pod by pod, so that no decision has to add up all pods of a cluster. No I/O.

import { AllocatedDevices, type ResourceClaim } from "../hardware/allocated-devices.ts";
import { nothingTaken, type Taken } from "../hardware/free-capacity.ts";
import { podRequests, type PodSpecRequests, type Requests } from "../hardware/pod-requests.ts";
import { modelNameLabel } from "../desired/names.ts";
import { reducedMetadata } from "../kube/reduced-metadata.ts";
import type { KubeObject } from "../kube/types.ts";

/** A pod as far as it takes something from a node; everything else is dropped before it is kept. */
export type ScheduledPod = KubeObject & {
  readonly spec?: PodSpecRequests & { readonly nodeName?: string };
  readonly status?: { readonly phase?: string };
  /** Computed once, when the pod is read. */
  readonly requests?: Requests;
};

const isModelLabel = (label: string): boolean => label === modelNameLabel;

/** The pod reduced to what is counted: a cluster has a hundred thousand of them. */
export function stripScheduledPod({ apiVersion, kind, metadata, spec, status }: ScheduledPod): ScheduledPod {
  return {
    apiVersion,
    kind,
    metadata: reducedMetadata(metadata, isModelLabel),
    ...(spec?.nodeName === undefined ? {} : { spec: { nodeName: spec.nodeName } }),
    ...(status?.phase === undefined ? {} : { status: { phase: status.phase } }),
    requests: podRequests(spec ?? {}),
  };
}

type Share = { readonly node: string; readonly requests: Requests };

/** The pod's node and requests; undefined once it has ended, or before it has a node. */
function shareOf(pod: ScheduledPod | undefined): Share | undefined {
  const node = pod?.spec?.nodeName;
  const phase = pod?.status?.phase;
  if (node === undefined || node === "" || phase === "Succeeded" || phase === "Failed") return undefined;
  return { node, requests: pod?.requests ?? {} };
}

/** `namespace/name` of the Model that the object's label names. */
function modelOf(object: KubeObject | undefined): string | undefined {
  const model = object?.metadata.labels?.[modelNameLabel];
  return model === undefined ? undefined : `${object?.metadata.namespace ?? ""}/${model}`;
}

/** Devices that claims have, and Models by the label that their claim templates write. */
export const allocatedByModel = (): AllocatedDevices => new AllocatedDevices((claim) => modelOf(claim) ?? "");

/** The claim reduced to what it has and for whom. */
export function stripResourceClaim({ apiVersion, kind, metadata, status }: ResourceClaim): ResourceClaim {
  const results = status?.allocation?.devices?.results;
  return {
    apiVersion,
    kind,
    metadata: reducedMetadata(metadata, isModelLabel),
    ...(results === undefined ? {} : { status: { allocation: { devices: { results } } } }),
  };
}

function sum(taken: Taken, share: Share, sign: 1 | -1): Taken {
  const requests: Record<string, number> = { ...taken.requests };
  for (const [resource, amount] of Object.entries(share.requests)) {
    requests[resource] = (requests[resource] ?? 0) + sign * amount;
  }
  return { requests, pods: taken.pods + sign };
}

export class TakenCapacity {
  /** Replaced, never changed: what was made from one holds as long as it is there. */
  readonly #nodes = new Map<string, Taken>();
  /** Shares of each Model's own pods, by pod. */
  readonly #models = new Map<string, Map<string, Share>>();

  /** Counts the change of one pod; true when some node has another amount left than before. */
  change(before: ScheduledPod | undefined, after: ScheduledPod | undefined): boolean {
    const [had, has] = [shareOf(before), shareOf(after)];
    if (had === undefined && has === undefined) return false;
    const isSame = had?.node === has?.node && JSON.stringify(had?.requests) === JSON.stringify(has?.requests);
    if (isSame) return false;
    if (had !== undefined) this.#add(had, -1);
    if (has !== undefined) this.#add(has, 1);
    const pod = after ?? before;
    const model = modelOf(pod);
    if (model !== undefined && pod !== undefined) {
      const shares = this.#models.get(model) ?? new Map<string, Share>();
      if (has === undefined) shares.delete(pod.metadata.name);
      else shares.set(pod.metadata.name, has);
      if (shares.size === 0) this.#models.delete(model);
      else this.#models.set(model, shares);
    }
    return true;
  }

  /** What pods take on a node, but for those of the Model `namespace/name`: its own pods are not in its way. */
  taken(node: string, exceptModel?: string): Taken {
    return this.takenBy(exceptModel)(node);
  }

  /** The same for many nodes. What a node has is the same object as long as nothing of it changes, but where the Model has pods. */
  takenBy(exceptModel?: string): (node: string) => Taken {
    const own = new Map<string, Share[]>();
    for (const share of this.#models.get(exceptModel ?? "")?.values() ?? []) {
      own.set(share.node, [...(own.get(share.node) ?? []), share]);
    }
    return (node) => {
      const all = this.#nodes.get(node) ?? nothingTaken;
      return (own.get(node) ?? []).reduce((left, share) => sum(left, share, -1), all);
    };
  }

  #add(share: Share, sign: 1 | -1): void {
    const added = sum(this.#nodes.get(share.node) ?? nothingTaken, share, sign);
    if (added.pods === 0) this.#nodes.delete(share.node);
    else this.#nodes.set(share.node, added);
  }
}
