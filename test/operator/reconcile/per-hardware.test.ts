import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { SelectionSpec, StorageSpec } from "../../../operator/api/model.ts";
import { transitions } from "../../../operator/reconcile/events.ts";
import { parseQuantity } from "../../../operator/kube/quantity.ts";
import { decide, type Decision } from "../../../operator/reconcile/decide.ts";
import type { Observed } from "../../../operator/reconcile/observed.ts";
import { placementLabel } from "../../../operator/desired/names.ts";
import { placementKeyOf, planRollout } from "../../../operator/reconcile/rollout.ts";
import type { Pod } from "../../../operator/reconcile/workload-types.ts";
import type { Share } from "../../../operator/selection/types.ts";
import type { Case } from "../selection/golden-cases.ts";
import { SimulatedCluster } from "./simulated-cluster.ts";

const gpu = { accelerator: { vendor: "nvidia" as const } };
const f16 = { name: "f16", reference: ":8b-f16", requirements: gpu };
const q4gpu = { name: "q4-gpu", reference: ":8b-q4", requirements: gpu };
const q4 = { name: "q4", reference: ":8b-q4" };
const variants = [f16, q4gpu, q4];
const perHardware: SelectionSpec = { placement: "PerHardware", policy: "BestFit" };
const minute = 60_000;
const l4s: Case["nodes"] = [{ is: "l4-gfd", count: 2 }];
const t4s: Case["nodes"] = [{ is: "t4-gfd", count: 3 }];
const cpus: Case["nodes"] = [{ is: "cpu-32", count: 2 }];

const deployments = ({ apply }: Decision): readonly string[] =>
  apply.filter(({ kind }) => kind === "Deployment").map(({ metadata }) => metadata.name);

describe("each class of nodes", () => {
  test("has a Deployment with its best variant, one Service is over all, and the status tells each part", () => {
    const world = new SimulatedCluster(perHardware, variants, 7, [...l4s, ...t4s, ...cpus]);
    const decision = world.step();
    world.settle();
    expect(world.shares()).toBe("f16 2/2, q4-gpu 3/3, q4 2/2");
    expect(world.placed()["f16"]).toEqual(["l4-gfd-0", "l4-gfd-1"]);
    expect(world.placed()["q4-gpu"]).toEqual(["t4-gfd-0", "t4-gfd-1", "t4-gfd-2"]);
    const keys = world.status?.placements?.map(({ key }) => key) ?? [];
    expect(deployments(decision)).toEqual(keys.map((key) => `llm-${key}`));
    expect(decision.apply.filter(({ kind }) => kind === "Service")).toHaveLength(1);
    expect(world.status).toMatchObject({
      replicas: 7,
      readyReplicas: 7,
      ready: "7/7",
      chosen: "f16=2,q4-gpu=3,q4=2",
      selector: "ocimodel.dev/model=llm,app.kubernetes.io/component=server",
      selected: { variant: "f16" },
    });
    expect(world.isReady).toBe(true);
    expect(world.status?.conditions?.find(({ type }) => type === "VariantSelected")?.message).toBe(
      "7 replicas by hardware, of 3 variants: f16 on nvidia GPUs x 2, q4-gpu on nvidia GPUs x 3, q4 on CPUs x 2",
    );
    const before = world.status;
    world.step();
    expect(world.status).toEqual(before);
  });

  test("pods and Deployment carry the key of the class, and pods of lesser classes prefer other nodes", () => {
    const world = new SimulatedCluster(perHardware, variants, 7, [...l4s, ...t4s, ...cpus]);
    const { apply } = world.step();
    const rendered = apply.filter(({ kind }) => kind === "Deployment") as unknown as readonly {
      readonly metadata: { readonly labels: Record<string, string> };
      readonly spec: {
        readonly selector: { readonly matchLabels: Record<string, string> };
        readonly template: {
          readonly metadata: { readonly labels: Record<string, string> };
          readonly spec: { readonly affinity: { readonly nodeAffinity: Record<string, unknown> } };
        };
      };
    }[];
    for (const [index, { metadata, spec }] of rendered.entries()) {
      const key = world.status?.placements?.[index]?.key;
      expect(metadata.labels["ocimodel.dev/placement"]).toBe(key);
      expect(spec.selector.matchLabels["ocimodel.dev/placement"]).toBe(key);
      expect(spec.template.metadata.labels["ocimodel.dev/placement"]).toBe(key);
    }
    const preferred = rendered.map(
      ({ spec }) =>
        spec.template.spec.affinity.nodeAffinity["preferredDuringSchedulingIgnoredDuringExecution"],
    );
    const prefer = (requirement: object): object => ({
      weight: 100,
      preference: { matchExpressions: [requirement] },
    });
    expect(preferred[0]).toBeUndefined();
    expect(preferred[1]).toEqual([
      prefer({
        key: "nvidia.com/gpu.memory",
        operator: "Lt",
        values: [expect.stringMatching(/^1[67]\d{3}$/)],
      }),
    ]);
    expect(preferred[2]).toEqual([prefer({ key: "nvidia.com/gpu.memory", operator: "DoesNotExist" })]);
  });

  test("a joining node changes no pod of other classes", () => {
    const world = new SimulatedCluster(perHardware, variants, 4, [...t4s, ...cpus]);
    world.settle();
    const before = new Map([...world.live].map(([name, { deployment }]) => [name, deployment]));
    world.cluster([...t4s, ...cpus, { is: "h100-gfd" }]);
    world.settle();
    for (const [name, deployment] of before) expect(world.live.get(name)?.deployment).toEqual(deployment);
  });
});

describe("scaling", () => {
  test("up and down moves nobody, and down to none and back", () => {
    const world = new SimulatedCluster(perHardware, variants, 3, [...l4s, ...t4s, ...cpus]);
    world.settle();
    let before = world.shares();
    const seen = [before];
    for (const replicas of [4, 5, 6, 7, 6, 5, 4, 3]) {
      world.leastReady = Number.POSITIVE_INFINITY;
      world.change({ replicas });
      world.settle();
      expect(world.ready).toBe(replicas);
      expect(world.leastReady).toBeGreaterThanOrEqual(replicas - 1);
      before = world.shares();
      seen.push(before);
    }
    // The way down is the way up.
    expect(seen.toReversed()).toEqual(seen);
    world.change({ replicas: 0 });
    world.settle();
    expect(world.live.size).toBe(0);
    expect(world.status).toMatchObject({ replicas: 0, ready: "0/0", phase: "Idle" });
    world.change({ replicas: 2 });
    world.settle();
    expect(world.isReady).toBe(true);
  });
});

describe("a class that vanishes", () => {
  test("with its nodes: its replicas go to what is left, and its Deployment is removed", () => {
    const world = new SimulatedCluster(perHardware, variants, 3, [...l4s, ...t4s]);
    world.settle();
    expect(world.shares()).toBe("f16 1/1, q4-gpu 2/2");
    const key = world.status?.placements?.[0]?.key;
    world.cluster(t4s);
    world.settle();
    expect(world.shares()).toBe("q4-gpu 3/3");
    expect(world.removed).toEqual([`llm-${key}`]);
    expect(world.status?.placements).toHaveLength(1);
  });

  test("from the spec: its pods serve until others do, one less where they wait for its devices", () => {
    const world = new SimulatedCluster({ ...perHardware, cpuFallback: false }, [f16, q4gpu], 2, l4s);
    world.settle();
    expect(world.placed()).toEqual({ f16: ["l4-gfd-0", "l4-gfd-1"] });
    world.leastReady = Number.POSITIVE_INFINITY;
    // Both devices are held by pods of what is no more wanted.
    world.change({ variants: [q4gpu] });
    world.settle();
    expect(world.leastReady).toBe(2);
    for (let pods = 0; pods < 2; pods += 1) {
      world.step(10_000);
      world.settle();
    }
    expect(world.placed()).toEqual({ "q4-gpu": ["l4-gfd-0", "l4-gfd-1"] });
    expect(world.leastReady).toBe(1);
  });

  test("with room elsewhere never one less serves", () => {
    const world = new SimulatedCluster(perHardware, [f16], 2, [{ is: "h100-gfd" }]);
    world.settle();
    world.leastReady = Number.POSITIVE_INFINITY;
    world.change({ variants: [q4gpu] });
    world.settle();
    expect(world.shares()).toBe("q4-gpu 2/2");
    expect(world.leastReady).toBe(2);
  });

  test("by a cordon only: what runs stays", () => {
    const world = new SimulatedCluster(perHardware, variants, 2, [...l4s, ...cpus]);
    world.settle();
    expect(world.shares()).toBe("f16 2/2");
    world.cluster([{ is: "l4-gfd", count: 2, unschedulable: true }, ...cpus]);
    world.settle();
    expect(world.shares()).toBe("f16 2/2");
    expect(world.removed).toEqual([]);
  });
});

describe("Uniform and PerHardware", () => {
  test("change into each other, and all the time as many serve", () => {
    const nodes: Case["nodes"] = [{ is: "h100-gfd" }, { is: "t4-gfd", count: 4 }];
    const world = new SimulatedCluster({ policy: "BestFit" }, variants, 3, nodes);
    world.settle();
    expect([...world.live.keys()]).toEqual(["llm"]);
    expect(world.status?.placements).toBeUndefined();
    world.leastReady = Number.POSITIVE_INFINITY;
    world.change({ selection: perHardware });
    world.settle();
    expect(world.shares()).toBe("f16 2/2, q4-gpu 1/1");
    expect(world.removed).toEqual(["llm"]);
    expect(world.leastReady).toBeGreaterThanOrEqual(3);
    world.change({ selection: { policy: "BestFit" } });
    world.settle();
    expect([...world.live.keys()]).toEqual(["llm"]);
    expect(world.ready).toBe(3);
    expect(world.status?.placements).toBeUndefined();
    expect(world.leastReady).toBeGreaterThanOrEqual(3);
  });
});

describe("reselection", () => {
  test("where a pod of a class finds no node for too long, others get its replica, and keep it", () => {
    const selection = { ...perHardware, unschedulableAfter: "2m" };
    const world = new SimulatedCluster(selection, variants, 2, [...l4s, ...cpus]);
    world.settle();
    expect(world.shares()).toBe("f16 2/2");
    // Its device is held by something that nobody counts.
    world.hold("l4-gfd-1", "nvidia.com/gpu");
    world.step();
    world.step(minute);
    expect(world.shares()).toBe("f16 1/2");
    world.step(minute);
    world.settle();
    expect(world.shares()).toBe("f16 1/1, q4 1/1");
    expect(world.status?.reselection?.passedOver).toMatchObject([
      { variant: "f16", accelerator: "nvidia", placement: world.status?.placements?.[0]?.key },
    ]);
    world.step(90 * minute);
    world.settle();
    expect(world.shares()).toBe("f16 1/1, q4 1/1");
    expect(world.status?.reselection).toBeUndefined();
  });

  test("waits where it is when nothing else has room, and with Never", () => {
    for (const selection of [
      { ...perHardware, unschedulableAfter: "2m", cpuFallback: false },
      { ...perHardware, reselect: "Never" as const },
    ]) {
      const world = new SimulatedCluster(selection, [f16], 2, l4s);
      world.settle();
      world.hold("l4-gfd-1", "nvidia.com/gpu");
      world.step();
      world.step(60 * minute);
      world.settle();
      expect(world.shares()).toBe("f16 1/2");
      expect(world.status?.reselection).toBeUndefined();
    }
  });

  test("OnNodeChange: replicas move to better hardware after five minutes, and others serve before they go", () => {
    const world = new SimulatedCluster({ ...perHardware, reselect: "OnNodeChange" }, variants, 2, t4s);
    world.settle();
    expect(world.shares()).toBe("q4-gpu 2/2");
    world.leastReady = Number.POSITIVE_INFINITY;
    world.cluster([...t4s, { is: "h100-gfd" }]);
    world.settle();
    expect(world.shares()).toBe("q4-gpu 2/2");
    expect(world.status?.reselection?.better).toMatchObject({ variant: "f16", accelerator: "nvidia" });
    world.step(5 * minute);
    world.settle();
    expect(world.shares()).toBe("f16 2/2");
    expect(world.leastReady).toBe(2);
    expect(world.status?.reselection).toBeUndefined();
  });

  test("OnNodeChange: a node that comes and goes moves nothing, and an even spread is no gain", () => {
    const world = new SimulatedCluster({ ...perHardware, reselect: "OnNodeChange" }, variants, 2, t4s);
    world.settle();
    for (let round = 0; round < 10; round += 1) {
      world.cluster([...t4s, { is: "h100-gfd" }]);
      world.step(4 * minute);
      world.cluster(t4s);
      world.step(minute);
      expect(world.shares()).toBe("q4-gpu 2/2");
    }
    const even = new SimulatedCluster({ ...perHardware, reselect: "OnNodeChange" }, variants, 2, l4s);
    even.settle();
    expect(even.shares()).toBe("f16 2/2");
    even.cluster([...l4s, ...t4s]);
    even.settle();
    even.step(10 * minute);
    even.settle();
    expect(even.shares()).toBe("f16 2/2");
  });

  test("Never: what runs is kept whatever becomes of the nodes", () => {
    const world = new SimulatedCluster({ ...perHardware, reselect: "Never" }, variants, 2, [...l4s, ...cpus]);
    world.settle();
    world.cluster(cpus);
    world.step(60 * minute);
    expect(world.status?.placements?.map(({ variant, replicas }) => `${variant} ${replicas}`)).toContain(
      "f16 2",
    );
  });
});

describe("the classes keep their models", () => {
  type Volume = { readonly name: string; readonly persistentVolumeClaim?: object; readonly image?: object };
  type Rendered = {
    readonly kind: string;
    readonly spec: {
      readonly accessModes?: readonly string[];
      readonly resources?: { readonly requests: { readonly storage: string } };
      readonly template?: {
        readonly spec: {
          readonly volumes: readonly Volume[];
          readonly affinity: { readonly podAffinity?: object };
        };
      };
    };
  };
  /** What is made of two classes, whose artifacts have digests of their own. */
  const rendered = (
    storage: StorageSpec,
    more: Partial<Observed> = {},
  ): { readonly volumes: readonly (Volume | undefined)[]; readonly claims: readonly Rendered[] } => {
    const world = new SimulatedCluster(perHardware, [f16, q4gpu], 5, [...l4s, ...t4s], { storage });
    const observed = world.observed();
    const { model } = observed;
    const packaging = storage.type === "ImageVolume" ? ("image" as const) : ("docker" as const);
    const known = (model.status?.variants ?? []).map((each) => ({
      ...each,
      digest: `sha256:${(each.name === "f16" ? "f" : "4").repeat(64)}`,
      packaging,
    }));
    const decision = decide({
      ...observed,
      ...more,
      model: { ...model, status: { ...model.status, variants: known } },
      nodes: observed.nodes.map((each) => ({
        ...each,
        kubeletVersion: "v1.36.3",
        containerRuntime: "containerd://2.2.0",
      })),
    });
    const objects = decision.apply as unknown as readonly Rendered[];
    const templates = objects.flatMap(({ spec }) => spec.template ?? []);
    expect(templates).toHaveLength(2);
    for (const { spec } of templates) expect(spec.affinity.podAffinity).toBeUndefined();
    return {
      volumes: templates.map(({ spec }) => spec.volumes.find(({ name }) => name === "model")),
      claims: objects.filter(({ kind }) => kind === "PersistentVolumeClaim"),
    };
  };

  test("on one ReadWriteMany claim, which has room for both", () => {
    const { volumes, claims } = rendered({ type: "PersistentVolumeClaim", accessModes: ["ReadWriteMany"] });
    expect(claims).toHaveLength(1);
    expect(claims[0]?.spec.accessModes).toEqual(["ReadWriteMany"]);
    // 15.3 and 4.7 GiB of weights.
    expect(parseQuantity(claims[0]?.spec.resources?.requests.storage)).toBeGreaterThan(20 * 2 ** 30);
    expect(volumes[0]).toHaveProperty("persistentVolumeClaim");
    expect(volumes[1]).toEqual(volumes[0]);
  });

  test("in the cache of each node", () => {
    const claim = {
      apiVersion: "v1",
      kind: "PersistentVolumeClaim",
      metadata: { name: "cache", namespace: "ai" },
      spec: { accessModes: ["ReadWriteMany"] },
      status: { phase: "Bound" },
    };
    const { volumes, claims } = rendered({ type: "NodeCache", claimName: "cache" }, { claim });
    expect(claims).toEqual([]);
    const mounted = { name: "model", persistentVolumeClaim: { claimName: "cache" } };
    expect(volumes).toEqual([mounted, mounted]);
  });

  test("as images that the nodes mount, each class its own", () => {
    const { volumes } = rendered({ type: "ImageVolume" });
    expect(volumes.map((each) => each?.image)).toEqual(
      ["f", "4"].map((digit) => ({
        reference: `registry.example/llm@sha256:${digit.repeat(64)}`,
        pullPolicy: "IfNotPresent",
      })),
    );
  });
});

test("an event tells when classes change, and none when replicas do", () => {
  const world = new SimulatedCluster(perHardware, variants, 3, [...l4s, ...t4s]);
  world.settle();
  const before = world.status;
  world.change({ replicas: 4 });
  world.settle();
  const scaled = world.status;
  expect(before === undefined || scaled === undefined ? [] : transitions(before, scaled)).toEqual([]);
  world.cluster(t4s);
  world.settle();
  const told = scaled === undefined || world.status === undefined ? [] : transitions(scaled, world.status);
  expect(told.filter(({ reason }) => reason === "Selected").map(({ message }) => message)).toEqual([
    expect.stringMatching(
      /^changed from f16 on nvidia \(sha256:.*\), q4-gpu on nvidia \(.*\) to q4-gpu on nvidia \(/,
    ),
  ]);
});

test("whatever happens to nodes, replicas and spec, no step removes the last pod that serves while one is wanted", () => {
  const pools = { l4: l4s, t4: t4s, cpu: cpus, h100: [{ is: "h100-gfd" }] } as const;
  const change = fc.oneof(
    fc.record({ nodes: fc.subarray(Object.keys(pools) as (keyof typeof pools)[], { minLength: 1 }) }),
    fc.record({ replicas: fc.integer({ min: 1, max: 8 }) }),
    fc.record({ variants: fc.subarray(variants, { minLength: 1 }) }),
    fc.record({ placement: fc.constantFrom("Uniform" as const, "PerHardware" as const) }),
  );
  fc.assert(
    fc.property(fc.array(change, { maxLength: 6 }), (changes) => {
      const world = new SimulatedCluster(perHardware, variants, 3, [...l4s, ...t4s, ...cpus]);
      world.finish();
      for (const each of changes) {
        if ("nodes" in each) world.cluster(each.nodes.flatMap((pool) => pools[pool]));
        else if ("placement" in each)
          world.change({ selection: { ...perHardware, placement: each.placement } });
        else world.change(each);
        const serving = world.ready;
        const wanted = world.spec.replicas ?? 1;
        world.leastReady = Number.POSITIVE_INFINITY;
        // What was asked for before is over by now, or its last step would look like one of this change.
        world.finish();
        // A rolling update that cannot surge takes one, as a person asked for it.
        const isAsked = !("nodes" in each);
        const least = Math.min(serving, wanted) - (isAsked ? 1 : 0);
        if (!("placement" in each)) expect(world.leastReady).toBeGreaterThanOrEqual(least);
      }
    }),
    { numRuns: 200 },
  );
});

describe("planRollout", () => {
  test("cuts down, and does not touch, what is owned by something else", () => {
    const world = new SimulatedCluster(perHardware, variants, 2, l4s);
    world.settle();
    const observed = world.observed();
    const foreign = observed.deployments.map((each) => ({
      ...each,
      metadata: { ...each.metadata, ownerReferences: [] },
    }));
    expect(planRollout(observed, [], false).remove).toHaveLength(1);
    expect(planRollout({ ...observed, deployments: foreign }, [], false).remove).toEqual([]);
  });

  test("one old pod goes first where it holds what a new one waits for, but not while another one is going there", () => {
    const world = new SimulatedCluster(perHardware, variants, 1, l4s);
    world.settle();
    const observed = world.observed();
    const [old] = observed.deployments;
    if (old === undefined) throw new Error("no Deployment");
    const pod = (key: string, more: object): Pod =>
      ({ metadata: { name: `pod-${key}`, labels: { [placementLabel]: key } }, ...more }) as unknown as Pod;
    const unschedulable = {
      type: "PodScheduled",
      status: "False",
      reason: "Unschedulable",
      lastTransitionTime: "2026-01-01T00:00:00Z",
    };
    const workloadPods = [
      pod(placementKeyOf(old), { spec: { nodeName: "l4" } }),
      pod("new", { spec: {}, status: { conditions: [unschedulable] } }),
    ];
    const share = { key: "new", replicas: 1, placement: { matchingNodes: ["l4"] } } as unknown as Share;
    const sinceMs = Date.parse(unschedulable.lastTransitionTime);
    const plan = (leavingNodes: readonly string[], waitedMs = 10_000) =>
      planRollout({ ...observed, workloadPods, leavingNodes, nowMs: sinceMs + waitedMs }, [share], false);
    expect(plan([], 4_000)).toMatchObject({ remove: [], recheckAfterMs: 6_000 });
    expect(plan([]).recheckAfterMs).toBeUndefined();
    expect(plan([]).remove.map(({ metadata }) => metadata.name)).toEqual([old.metadata.name]);
    expect(plan(["another"]).remove).toHaveLength(1);
    expect(plan(["l4"])).toMatchObject({ remove: [], shrunk: [{ spec: { replicas: 1 } }] });
  });
});
