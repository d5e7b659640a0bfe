// Keeps what pods request on each node, pod by pod, so that no decision has to add up all pods of a cluster. No I/O.

import { nothingTaken, type Taken } from "../hardware/free-capacity.ts";
import { podRequests, type PodSpecRequests, type Requests } from "../hardware/pod-requests.ts";
import { modelNameLabel } from "../desired/names.ts";
import type { KubeObject } from "../kube/types.ts";

/** A pod as far as it takes something from a node; everything else is dropped before it is kept. */
export type ScheduledPod = KubeObject & {
  readonly spec?: PodSpecRequests & { readonly nodeName?: string };
  readonly status?: { readonly phase?: string };
  /** Computed once, when the pod is read. */
  readonly requests?: Requests;
};

/** The pod reduced to what is counted: a cluster has a hundred thousand of them. */
export function stripScheduledPod({ apiVersion, kind, metadata, spec, status }: ScheduledPod): ScheduledPod {
  const model = metadata.labels?.[modelNameLabel];
  return {
    apiVersion,
    kind,
    metadata: {
      name: metadata.name,
      ...(metadata.namespace === undefined ? {} : { namespace: metadata.namespace }),
      ...(metadata.uid === undefined ? {} : { uid: metadata.uid }),
      ...(metadata.resourceVersion === undefined ? {} : { resourceVersion: metadata.resourceVersion }),
      ...(model === undefined ? {} : { labels: { [modelNameLabel]: model } }),
    },
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

function modelOf(pod: ScheduledPod | undefined): string | undefined {
  const model = pod?.metadata.labels?.[modelNameLabel];
  return model === undefined ? undefined : `${pod?.metadata.namespace ?? ""}/${model}`;
}

export class TakenCapacity {
  readonly #nodes = new Map<string, { requests: Record<string, number>; pods: number }>();
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
    const all = this.#nodes.get(node);
    if (all === undefined) return nothingTaken;
    const own = [...(this.#models.get(exceptModel ?? "")?.values() ?? [])].filter(
      (share) => share.node === node,
    );
    if (own.length === 0) return all;
    const requests: Record<string, number> = { ...all.requests };
    for (const share of own) {
      for (const [resource, amount] of Object.entries(share.requests)) {
        requests[resource] = (requests[resource] ?? 0) - amount;
      }
    }
    return { requests, pods: all.pods - own.length };
  }

  #add({ node, requests }: Share, sign: 1 | -1): void {
    const sum = this.#nodes.get(node) ?? { requests: {}, pods: 0 };
    for (const [resource, amount] of Object.entries(requests)) {
      sum.requests[resource] = (sum.requests[resource] ?? 0) + sign * amount;
    }
    sum.pods += sign;
    if (sum.pods === 0) this.#nodes.delete(node);
    else this.#nodes.set(node, sum);
  }
}
