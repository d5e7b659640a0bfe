import { describe, expect, test } from "vitest";
import type { Model, ModelStatus, SelectionSpec } from "../../../operator/api/model.ts";
import { configurationSchema } from "../../../operator/configuration.ts";
import { digestAnnotation, variantAnnotation } from "../../../operator/desired/names.ts";
import { nodeHardware } from "../../../operator/hardware/node-hardware.ts";
import type { NodeHardware } from "../../../operator/hardware/types.ts";
import { decide, type Decision } from "../../../operator/reconcile/decide.ts";
import { transitions } from "../../../operator/reconcile/events.ts";
import type { Observed } from "../../../operator/reconcile/observed.ts";
import { modelStatus } from "../../../operator/reconcile/status.ts";
import type { Deployment, Pod } from "../../../operator/reconcile/workload-types.ts";
import { inputOf, nodesOf, type Case } from "../selection/golden-cases.ts";

const configuration = configurationSchema.parse({
  pullerImage: "puller:1",
  runtimes: { "llama.cpp": { image: "llama", formats: ["gguf"], cpu: true, port: 8080 } },
});
const gpu = { accelerator: { vendor: "nvidia" as const } };
const variants = [
  { name: "f16", reference: ":8b-f16", requirements: gpu },
  { name: "q8", reference: ":8b-q8", requirements: gpu },
  { name: "q4", reference: ":8b-q4" },
];
const digest = `sha256:${"0".repeat(64)}`;
const startMs = Date.parse("2026-01-01T00:00:00Z");
const minute = 60_000;

/** A Model whose references are all read, over a cluster that changes; each `step` feeds the last status back. */
class World {
  status: ModelStatus | undefined;
  nowMs = startMs;
  nodes: readonly NodeHardware[] = [];
  pods: readonly Pod[] = [];
  isAvailable = true;
  readonly #selection: SelectionSpec;

  constructor(selection: SelectionSpec, nodes: Case["nodes"]) {
    this.#selection = selection;
    this.cluster(nodes);
    const { facts } = inputOf({ nodes: [], variants });
    this.status = {
      observedGeneration: 1,
      variants: variants.map(({ name, reference }) => ({
        ...(facts.get(`registry.example/llm${reference}`) as never as Record<string, never>),
        name,
        reference: `registry.example/llm${reference}`,
        verdict: "Pending",
        message: "",
      })) as unknown as NonNullable<ModelStatus["variants"]>,
    };
  }

  cluster(nodes: Case["nodes"]): void {
    this.nodes = nodesOf({ nodes }).map(nodeHardware);
  }

  /** One pod of the selected variant: on a node, or waiting for one since `waitsSinceMs`. */
  pod(node: string | undefined, waitsSinceMs = this.nowMs): void {
    const variant = this.status?.selected?.variant ?? "";
    this.pods = [
      {
        apiVersion: "v1",
        kind: "Pod",
        metadata: { name: "p", annotations: { [variantAnnotation]: variant, [digestAnnotation]: digest } },
        ...(node === undefined ? {} : { spec: { nodeName: node } }),
        status: {
          conditions:
            node === undefined
              ? [
                  {
                    type: "PodScheduled",
                    status: "False",
                    reason: "Unschedulable",
                    lastTransitionTime: new Date(waitsSinceMs).toISOString(),
                  },
                ]
              : [],
        },
      },
    ];
  }

  step(afterMs = 0): Decision {
    this.nowMs += afterMs;
    const model: Model = {
      apiVersion: "ocimodel.dev/v1alpha1",
      kind: "Model",
      metadata: { name: "llm", namespace: "ai", uid: "u", generation: 1 },
      spec: { source: { reference: "registry.example/llm" }, variants, selection: this.#selection },
      ...(this.status === undefined ? {} : { status: this.status }),
    };
    const deployment: Deployment = {
      apiVersion: "apps/v1",
      kind: "Deployment",
      metadata: { name: "llm", generation: 1 },
      spec: { replicas: 1 },
      status: {
        observedGeneration: 1,
        replicas: 1,
        updatedReplicas: this.isAvailable ? 1 : 0,
        readyReplicas: 1,
        availableReplicas: 1,
      },
    };
    const observed: Observed = {
      model,
      configuration,
      nodes: this.nodes,
      deployments: [deployment],
      service: undefined,
      claim: undefined,
      ownedClaims: [],
      claimPods: [],
      claimModels: [],
      collectPods: [],
      prefetchPods: [],
      workloadPods: this.pods,
      inspectPods: [],
      progress: new Map(),
      nowMs: this.nowMs,
    };
    const decision = decide(observed);
    this.status = modelStatus(observed, decision, undefined);
    return decision;
  }

  get selected(): string {
    return `${this.status?.selected?.variant} ${this.status?.selected?.accelerator}`;
  }
}

const rolling = (decision: Decision): unknown =>
  (
    decision.apply.find(({ kind }) => kind === "Deployment") as unknown as {
      spec: { strategy: { rollingUpdate: unknown } };
    }
  ).spec.strategy.rollingUpdate;

describe("OnNodeChange", () => {
  const selection: SelectionSpec = { reselect: "OnNodeChange" };

  test("takes a better variant after it has fitted for five minutes, new pods first", () => {
    const world = new World(selection, [{ is: "t4-gfd" }]);
    world.step();
    expect(world.selected).toBe("q8 nvidia");
    world.pod("t4-gfd");
    world.cluster([{ is: "t4-gfd" }, { is: "h100-gfd" }]);
    const seen = world.step(minute);
    expect(world.selected).toBe("q8 nvidia");
    expect(world.status?.reselection?.better).toMatchObject({
      variant: "f16",
      since: "2026-01-01T00:01:00Z",
    });
    expect(seen.recheckAfterMs).toBe(5 * minute);
    world.step(4 * minute);
    expect(world.selected).toBe("q8 nvidia");
    const switched = world.step(minute);
    expect(world.selected).toBe("f16 nvidia");
    // The device of the old pod is not given back before the new pod serves.
    expect(rolling(switched)).toEqual({ maxSurge: 1, maxUnavailable: 0 });
    world.isAvailable = false;
    expect(rolling(world.step(minute))).toEqual({ maxSurge: 1, maxUnavailable: 0 });
    world.isAvailable = true;
    expect(rolling(world.step(minute))).toEqual({ maxSurge: 0, maxUnavailable: 1 });
    expect(world.status?.reselection).toBeUndefined();
  });

  test("never flaps with a node that comes and goes", () => {
    const world = new World(selection, [{ is: "t4-gfd" }]);
    world.step();
    world.pod("t4-gfd");
    for (let round = 0; round < 20; round += 1) {
      world.cluster([{ is: "t4-gfd" }, { is: "h100-gfd" }]);
      world.step(3 * minute);
      world.step(minute);
      expect(world.selected).toBe("q8 nvidia");
      world.cluster([{ is: "t4-gfd" }]);
      world.step(minute);
      expect(world.selected).toBe("q8 nvidia");
    }
  });

  test("moves nothing where the only room is what the own pod would have to leave", () => {
    const world = new World(selection, [{ is: "t4-gfd" }]);
    world.step();
    world.pod("t4-gfd");
    // The node has grown, so to say: the better variant fits there and nowhere else.
    world.cluster([{ is: "h100-gfd", name: "t4-gfd", allocatable: { "nvidia.com/gpu": "1" } }]);
    world.step(minute);
    world.step(10 * minute);
    expect(world.selected).toBe("q8 nvidia");
    expect(world.status?.reselection).toBeUndefined();
  });

  test("leaves a CPU fallback for the accelerator", () => {
    const world = new World({ ...selection, policy: "BestFit" }, [{ is: "cpu-32" }]);
    world.step();
    expect(world.selected).toBe("q4 none");
    world.pod("cpu-32");
    world.cluster([{ is: "cpu-32" }, { is: "l4-gfd" }]);
    world.step();
    world.step(5 * minute);
    expect(world.selected).toBe("f16 nvidia");
  });

  test("without it, a better variant changes nothing", () => {
    const world = new World({}, [{ is: "t4-gfd" }]);
    world.step();
    world.pod("t4-gfd");
    world.cluster([{ is: "t4-gfd" }, { is: "h100-gfd" }]);
    world.step(minute);
    world.step(60 * minute);
    expect(world.selected).toBe("q8 nvidia");
  });
});

describe("WhenUnschedulable", () => {
  const nodes: Case["nodes"] = [{ is: "l4-gfd" }, { is: "cpu-32" }];

  test("takes the next variant when pods have waited for a node for too long, and does not come back for an hour", () => {
    const world = new World({ unschedulableAfter: "2m" }, nodes);
    world.step();
    expect(world.selected).toBe("f16 nvidia");
    world.pod(undefined);
    expect(world.step(minute).recheckAfterMs).toBe(minute);
    expect(world.selected).toBe("f16 nvidia");
    world.step(minute);
    expect(world.selected).toBe("q8 nvidia");
    expect(world.status?.reselection?.passedOver).toMatchObject([{ variant: "f16", accelerator: "nvidia" }]);
    world.pod("l4-gfd");
    world.step(minute);
    world.step(30 * minute);
    expect(world.selected).toBe("q8 nvidia");
    // What is remembered ends; what runs is kept all the same.
    world.step(60 * minute);
    expect(world.selected).toBe("q8 nvidia");
    expect(world.status?.reselection).toBeUndefined();
  });

  test("goes through all that fit and ends on what has room, without going round", () => {
    const world = new World({ unschedulableAfter: "1m" }, nodes);
    world.step();
    const seen = [world.selected];
    for (let round = 0; round < 12; round += 1) {
      if (world.selected === "q4 none") world.pod("cpu-32");
      else world.pod(undefined);
      world.step(2 * minute);
      if (seen.at(-1) !== world.selected) seen.push(world.selected);
    }
    expect(seen).toEqual(["f16 nvidia", "q8 nvidia", "q4 none"]);
  });

  test("stays when nothing else fits, and with Never", () => {
    for (const selection of [
      { unschedulableAfter: "1m", cpuFallback: false },
      { reselect: "Never" as const },
    ]) {
      const world = new World(selection, nodes);
      world.step();
      world.pod(undefined);
      world.cluster([{ is: "l4-gfd", allocatable: { memory: "1Gi" } }]);
      world.step(30 * minute);
      if ("reselect" in selection) expect(world.selected).toBe("f16 nvidia");
    }
  });

  test("a pod that waits while another serves is no reason", () => {
    const world = new World({ unschedulableAfter: "1m" }, nodes);
    world.step();
    world.pod(undefined);
    const waiting = world.pods;
    world.pod("l4-gfd");
    world.pods = [...world.pods, ...waiting];
    world.step(60 * minute);
    expect(world.selected).toBe("f16 nvidia");
  });
});

test("each change of choice is an event that names both, also where the same variant moves to other devices", () => {
  const chosen = (variant: string, accelerator: "nvidia" | "none"): ModelStatus =>
    ({ selected: { variant, accelerator, digest } }) as unknown as ModelStatus;
  const told = (before: ModelStatus, after: ModelStatus): readonly string[] =>
    transitions(before, after).map(({ reason, message }) => `${reason} ${message.replaceAll(digest, "…")}`);
  expect(told(chosen("f16", "nvidia"), chosen("q4", "nvidia"))).toEqual([
    "Selected changed from f16 on nvidia (…) to q4 on nvidia (…)",
  ]);
  expect(told(chosen("q4", "nvidia"), chosen("q4", "none"))).toEqual([
    "Selected changed from q4 on nvidia (…) to q4 on CPUs (…)",
  ]);
  expect(told(chosen("q4", "none"), chosen("q4", "none"))).toEqual([]);
});

test("a status fed back changes nothing", () => {
  const world = new World({ reselect: "OnNodeChange" }, [{ is: "t4-gfd" }, { is: "h100-gfd" }]);
  world.step();
  const before = world.status;
  world.step();
  expect(world.status).toEqual(before);
});
