// A Model over a small cluster whose Deployments, pods and scheduler are played over plain objects: what a decision does to pods that serve.
//
// Pods hold devices of nodes and match node affinity and taints by test/operator/selection/scheduler-model.ts. A pod is ready as soon as it
// is on a node. Deployments remove pods that are not ready first, as ReplicaSets do; a change of template replaces all pods at once.

import type {
  Model,
  ModelSpec,
  ModelStatus,
  SelectionSpec,
  VariantSpec,
} from "../../../operator/api/model.ts";
import { configurationSchema } from "../../../operator/configuration.ts";
import { nodeHardware, type Node } from "../../../operator/hardware/node-hardware.ts";
import { needsApply } from "../../../operator/kube/needs-apply.ts";
import { decide, type Decision } from "../../../operator/reconcile/decide.ts";
import type { Observed } from "../../../operator/reconcile/observed.ts";
import { modelStatus } from "../../../operator/reconcile/status.ts";
import type { Deployment, Pod } from "../../../operator/reconcile/workload-types.ts";
import { inputOf, nodesOf, type Case } from "../selection/golden-cases.ts";
import { schedulable, type PodShape } from "../selection/scheduler-model.ts";

const configuration = configurationSchema.parse({
  pullerImage: "puller:1",
  runtimes: { "llama.cpp": { image: "llama", formats: ["gguf"], cpu: true, port: 8080 } },
});
const startMs = Date.parse("2026-01-01T00:00:00Z");

type Template = {
  readonly metadata: {
    readonly labels: Record<string, string>;
    readonly annotations: Record<string, string>;
  };
  readonly spec: {
    readonly affinity?: {
      readonly nodeAffinity?: {
        readonly requiredDuringSchedulingIgnoredDuringExecution?: {
          readonly nodeSelectorTerms: PodShape["terms"];
        };
        readonly preferredDuringSchedulingIgnoredDuringExecution?: readonly {
          readonly preference: PodShape["terms"][number];
        }[];
      };
    };
    readonly tolerations?: PodShape["tolerations"];
    readonly containers: readonly { readonly resources?: { readonly limits?: Record<string, string> } }[];
  };
};
type Live = {
  readonly deployment: Deployment & { readonly spec: { replicas: number; template: Template } };
  pods: { readonly name: string; node: string | undefined; sinceMs: number }[];
};

export class SimulatedCluster {
  status: ModelStatus | undefined;
  nowMs = startMs;
  spec: ModelSpec;
  readonly live = new Map<string, Live>();
  /** Names of Deployments that were removed, in order. */
  readonly removed: string[] = [];
  /** The least number of ready pods between two steps since it was last set. */
  leastReady = Number.POSITIVE_INFINITY;
  #nodes: readonly Node[] = [];
  readonly #held = new Map<string, Record<string, number>>();
  #generation = 1;
  #pods = 0;
  #last: string | undefined;

  constructor(
    selection: SelectionSpec,
    variants: readonly VariantSpec[],
    replicas: number,
    nodes: Case["nodes"],
    more: Partial<ModelSpec> = {},
  ) {
    this.spec = { source: { reference: "registry.example/llm" }, variants, selection, replicas, ...more };
    this.cluster(nodes);
    this.status = { observedGeneration: 1, variants: [] };
  }

  /** Sets the nodes; pods of those that are gone are gone. */
  cluster(nodes: Case["nodes"]): void {
    this.#nodes = nodesOf({ nodes });
    const names = new Set(this.#nodes.map(({ metadata }) => metadata.name));
    for (const each of this.live.values()) {
      each.pods = each.pods.filter(({ node }) => node === undefined || names.has(node));
    }
  }

  /** Lets the scheduler, but no label or count, know that one unit of a resource is gone; its pod waits from now on. */
  hold(node: string, resource: string): void {
    this.#held.set(node, { [resource]: 1 });
    for (const { pods } of this.live.values()) {
      for (const pod of pods) {
        if (pod.node !== node) continue;
        pod.node = undefined;
        pod.sinceMs = this.nowMs;
      }
    }
  }

  change(spec: Partial<ModelSpec>): void {
    this.spec = { ...this.spec, ...spec };
    this.#generation += 1;
  }

  get model(): Model {
    return {
      apiVersion: "ocimodel.dev/v1alpha1",
      kind: "Model",
      metadata: { name: "llm", namespace: "ai", uid: "u", generation: this.#generation },
      spec: this.spec,
      status: { ...this.status, variants: this.#known() },
    };
  }

  /** Every reference of the spec is read already. */
  #known(): NonNullable<ModelStatus["variants"]> {
    const variants = this.spec.variants ?? [];
    const { facts } = inputOf({ nodes: [], variants });
    return variants.map(({ name, reference }) => {
      const full = `registry.example/llm${reference}`;
      const told = this.status?.variants?.find((each) => each.name === name);
      const read = facts.get(full) as never as NonNullable<typeof told>;
      return told ?? { ...read, name, reference: full, verdict: "Pending", message: "" };
    });
  }

  observed(): Observed {
    return {
      model: this.model,
      configuration,
      nodes: this.#nodes.map(nodeHardware),
      deployments: [...this.live.values()].map(({ deployment, pods }) => {
        const ready = pods.filter(({ node }) => node !== undefined).length;
        const counts = { replicas: pods.length, updatedReplicas: pods.length, readyReplicas: ready };
        return { ...deployment, status: { observedGeneration: 1, ...counts, availableReplicas: ready } };
      }),
      service: undefined,
      claim: undefined,
      ownedClaims: [],
      claimPods: [],
      claimModels: [],
      collectPods: [],
      prefetchPods: [],
      workloadPods: [...this.live.values()].flatMap(({ deployment, pods }) =>
        pods.map(({ name, node, sinceMs }): Pod => ({
          apiVersion: "v1",
          kind: "Pod",
          metadata: { name, ...deployment.spec.template.metadata },
          ...(node === undefined ? {} : { spec: { nodeName: node } }),
          status: {
            conditions: [
              {
                type: "PodScheduled",
                status: node === undefined ? "False" : "True",
                reason: node === undefined ? "Unschedulable" : "",
                lastTransitionTime: new Date(sinceMs).toISOString(),
              },
            ],
          },
        })),
      ),
      inspectPods: [],
      progress: new Map(),
      nowMs: this.nowMs,
    };
  }

  /** One reconcile, then what Deployments and the scheduler make of it. */
  step(afterMs = 0): Decision {
    this.nowMs += afterMs;
    const observed = this.observed();
    const decision = decide(observed);
    for (const object of decision.apply) {
      if (object.kind !== "Deployment") continue;
      const { name } = object.metadata;
      const wanted = object as Live["deployment"];
      const before = this.live.get(name);
      if (before !== undefined && !needsApply(before.deployment, object)) continue;
      this.live.set(name, { deployment: wanted, pods: before?.pods ?? [] });
    }
    for (const { kind, metadata } of decision.remove) {
      if (kind === "Deployment" && this.live.delete(metadata.name)) this.removed.push(metadata.name);
    }
    for (const each of this.live.values()) this.#scale(each);
    this.leastReady = Math.min(this.leastReady, this.ready);
    this.#schedule();
    this.status = modelStatus(observed, decision, undefined);
    return decision;
  }

  /** Steps until nothing changes any more; throws when that takes too long. */
  settle(): void {
    for (let round = 0; round < 60; round += 1) {
      this.step(1000);
      const now = JSON.stringify([this.status, this.placed(), [...this.live.keys()]]);
      if (now === this.#last) return;
      this.#last = now;
    }
    throw new Error(`does not settle: ${this.#last}`);
  }

  /** Settles, also after each wait of a roll-out for a device, which nothing shows while it lasts. */
  finish(): void {
    do this.settle();
    while ((this.step(10_000).recheckAfterMs ?? Number.POSITIVE_INFINITY) <= 10_000);
    this.settle();
  }

  get ready(): number {
    return [...this.live.values()].flatMap(({ pods }) => pods.filter(({ node }) => node !== undefined))
      .length;
  }

  /** Nodes of each variant's pods, sorted; `-`: waits. */
  placed(): Readonly<Record<string, readonly string[]>> {
    const found: Record<string, string[]> = {};
    for (const { deployment, pods } of this.live.values()) {
      const variant = deployment.spec.template.metadata.annotations["ocimodel.dev/variant"] ?? "";
      found[variant] = [...(found[variant] ?? []), ...pods.map(({ node }) => node ?? "-")].sort();
    }
    return found;
  }

  /** Replicas of the status's placements, those with none left out. */
  shares(): string {
    return (this.status?.placements ?? [])
      .filter(({ replicas }) => replicas > 0)
      .map(({ variant, replicas, readyReplicas }) => `${variant} ${readyReplicas}/${replicas}`)
      .join(", ");
  }

  get isReady(): boolean {
    return (
      this.status?.conditions?.some(({ type, status }) => type === "Ready" && status === "True") === true
    );
  }

  #scale(each: Live): void {
    const { replicas } = each.deployment.spec;
    // Those that wait go first.
    const ordered = each.pods.toSorted(
      (one, other) => Number(one.node === undefined) - Number(other.node === undefined),
    );
    each.pods = ordered.slice(0, replicas);
    while (each.pods.length < replicas) {
      this.#pods += 1;
      each.pods.push({ name: `p${this.#pods}`, node: undefined, sinceMs: this.nowMs });
    }
  }

  #schedule(): void {
    const taken = new Map<string, Record<string, number>>();
    const take = (node: string, requests: PodShape["requests"]): void => {
      const sum = taken.get(node) ?? {};
      for (const [name, count] of Object.entries(requests)) sum[name] = (sum[name] ?? 0) + count;
      taken.set(node, sum);
    };
    for (const [node, requests] of this.#held) take(node, requests);
    const all = [...this.live.values()].map((each) => {
      const { spec } = each.deployment.spec.template;
      // Devices alone: RAM is plenty in these cases.
      const limits = Object.entries(spec.containers[0]?.resources?.limits ?? {});
      const shape: PodShape = {
        terms:
          spec.affinity?.nodeAffinity?.requiredDuringSchedulingIgnoredDuringExecution?.nodeSelectorTerms ??
          [],
        tolerations: spec.tolerations ?? [],
        requests: Object.fromEntries(limits.map(([name, count]) => [name, Number(count)])),
      };
      for (const { node } of each.pods) if (node !== undefined) take(node, shape.requests);
      const preferred = spec.affinity?.nodeAffinity?.preferredDuringSchedulingIgnoredDuringExecution ?? [];
      return { each, shape, preferred };
    });
    for (const { each, shape, preferred } of all) {
      const score = (node: Node): number =>
        preferred.filter(({ preference }) =>
          schedulable({ terms: [preference], tolerations: [{ operator: "Exists" }], requests: {} }, node),
        ).length;
      const ordered = this.#nodes.toSorted((one, other) => score(other) - score(one));
      for (const pod of each.pods) {
        if (pod.node !== undefined) continue;
        const node = ordered.find((candidate) =>
          schedulable(shape, candidate, taken.get(candidate.metadata.name)),
        )?.metadata.name;
        if (node === undefined) continue;
        pod.node = node;
        take(node, shape.requests);
      }
    }
  }
}
