// Where the copies of a model are, where its pods had best go, and to which nodes it is brought beforehand.

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { CopyStatus, Model, PrefetchSpec, StorageSpec } from "../../../operator/api/model.ts";
import { configurationSchema } from "../../../operator/configuration.ts";
import type { Claim } from "../../../operator/desired/claim.ts";
import type { NodeHardware } from "../../../operator/hardware/types.ts";
import {
  cacheHits,
  copiesOf,
  preferredNodes,
  selectedDirectories,
} from "../../../operator/reconcile/copies.ts";
import type { Observed } from "../../../operator/reconcile/observed.ts";
import { planPrefetch } from "../../../operator/reconcile/prefetch.ts";
import type { Deployment, Pod, TerminatedState } from "../../../operator/reconcile/workload-types.ts";
import type { Choice } from "../../../operator/selection/types.ts";
import { ownViolations, podSpecOf, restrictedViolations } from "../desired/restricted.ts";

const [here, other] = ["a".repeat(64), "b".repeat(64)];
const nowMs = Date.parse("2026-01-02T03:04:05Z");
const earlier = "2026-01-02T03:00:00Z";
const uid = "5b1f3a0e-8f0f-4e0a-9a53-1d8a5b1c2d3e";

const node = (name: string, more: Partial<NodeHardware> = {}): NodeHardware => ({
  name,
  cpuFeatures: [],
  accelerators: [],
  notes: [],
  isUnschedulable: false,
  labels: { pool: name < "c" ? "first" : "second" },
  taints: [],
  ...more,
});
const copy = (name: string, model = here): CopyStatus => ({ node: name, model, since: earlier });

function model(storage: StorageSpec, copies: readonly CopyStatus[] = []): Model {
  return {
    apiVersion: "ocimodel.dev/v1alpha1",
    kind: "Model",
    metadata: { name: "qwen", namespace: "ai", uid },
    spec: { source: { reference: "r.example.com/q" }, storage },
    status: copies.length === 0 ? {} : { storage: { copies } },
  };
}

type PodFacts = {
  readonly of?: string;
  readonly ended?: TerminatedState;
  readonly prefetches?: boolean;
  readonly phase?: string;
};
function pod(
  nodeName: string,
  { of = here, ended, prefetches = false, phase = "Running" }: PodFacts = {},
): Pod {
  const statuses = ended === undefined ? [] : [{ name: "pull", state: { terminated: ended } }];
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: {
      name: `p-${nodeName}`,
      uid: `p-${nodeName}`,
      annotations: {
        "ocimodel.dev/model-directory": of,
        ...(prefetches ? { "ocimodel.dev/node": nodeName } : {}),
      },
    },
    spec: { nodeName },
    status: {
      phase,
      ...(prefetches ? { containerStatuses: statuses } : { initContainerStatuses: statuses }),
    },
  };
}
const report = (code: string, more: object = {}): string =>
  JSON.stringify({ v: 1, command: "pull", code, retryable: false, message: "it says so", ...more });
const good: TerminatedState = { exitCode: 0, finishedAt: "2026-01-02T03:04:00Z", message: report("Ready") };
const bad: TerminatedState = { exitCode: 73, finishedAt: earlier, message: report("OutOfSpace") };

const claim: Claim = {
  apiVersion: "v1",
  kind: "PersistentVolumeClaim",
  metadata: { name: "cache", namespace: "ai" },
  spec: { accessModes: ["ReadWriteMany"] },
  status: { phase: "Bound" },
};
const cached: StorageSpec = { type: "NodeCache", claimName: "cache" };

function observed(of: Model, more: Partial<Observed> = {}): Observed {
  return {
    model: of,
    configuration: configurationSchema.parse({ pullerImage: "p", runtimes: {} }),
    nodes: ["a", "b", "c", "d"].map((name) => node(name)),
    deployments: [],
    service: undefined,
    claim,
    ownedClaims: [],
    workloadPods: [],
    inspectPods: [],
    claimPods: [],
    claimModels: [],
    collectPods: [],
    prefetchPods: [],
    progress: new Map(),
    nowMs,
    ...more,
  };
}
const names = (copies: readonly CopyStatus[]): readonly string[] => copies.map((each) => each.node);

describe("copies", () => {
  test("are where pods have the whole model, and stay when the pods go", () => {
    const workloadPods = [pod("b", { ended: good }), pod("c"), pod("a", { ended: good })];
    const first = copiesOf(observed(model(cached), { workloadPods }), [here]);
    expect(first).toEqual([
      { node: "a", model: here, since: good.finishedAt },
      { node: "b", model: here, since: good.finishedAt },
    ]);
    expect(copiesOf(observed(model(cached, first)), [here])).toEqual(first);
  });
  test.each<[what: string, copies: readonly CopyStatus[], more: Partial<Observed>]>([
    ["a node that is gone", [copy("z")], {}],
    ["another model", [copy("a", other)], { workloadPods: [pod("b", { of: other, ended: good })] }],
    ["a pull that failed", [], { workloadPods: [pod("a", { ended: bad })] }],
    ["a pod on a node that is gone", [], { workloadPods: [pod("z", { ended: good })] }],
  ])("are not known from %s", (_what, copies, more) => {
    expect(copiesOf(observed(model(cached, copies), more), [here])).toEqual([]);
  });
  test("are of all classes of nodes, of each model apart", () => {
    const workloadPods = [pod("a", { ended: good }), pod("a", { of: other, ended: good })];
    const copies = copiesOf(observed(model(cached), { workloadPods }), [here, other]);
    expect(copies.map((each) => [each.node, each.model])).toEqual([
      ["a", here],
      ["a", other],
    ]);
    const candidate = (hex: string): object => ({ artifact: { digest: `sha256:${hex}` } });
    const choice = {
      kind: "selected",
      candidate: candidate(other),
      shares: [{ candidate: candidate(here) }, { candidate: candidate(other) }],
    } as unknown as Choice;
    expect(selectedDirectories({ model: model(cached) }, choice)).toEqual([other, here]);
    expect(selectedDirectories({ model: model(cached) }, undefined)).toEqual([]);
  });
  test("are of a node cache alone", () => {
    const workloadPods = [pod("a", { ended: good })];
    const shared: StorageSpec = { type: "PersistentVolumeClaim", claimName: "cache" };
    expect(copiesOf(observed(model(shared), { workloadPods }), [here])).toEqual([]);
    expect(copiesOf(observed(model(cached), { workloadPods }), [])).toEqual([]);
  });
  test("are at most 64, the newest of them, whatever the number of nodes", () => {
    const many = Array.from({ length: 100 }, (_, index) => `n${String(index).padStart(3, "0")}`);
    const nodes = many.map((name) => node(name));
    const old = many.slice(0, 90).map((name) => copy(name));
    const workloadPods = many.slice(90).map((name) => pod(name, { ended: good }));
    const copies = copiesOf(observed(model(cached, old), { nodes, workloadPods }), [here]);
    expect(copies).toHaveLength(64);
    expect(names(copies)).toEqual(names(copies).toSorted());
    expect(names(copies)).toEqual(expect.arrayContaining(many.slice(90)));
  });
});

describe("nodes that pods prefer", () => {
  const deployment = (directory: string, nodes: readonly string[], replicas = 1): Deployment => ({
    apiVersion: "apps/v1",
    kind: "Deployment",
    metadata: { name: "qwen" },
    spec: {
      template: {
        metadata: { annotations: { "ocimodel.dev/model-directory": directory } },
        spec: {
          affinity: {
            nodeAffinity: {
              preferredDuringSchedulingIgnoredDuringExecution: nodes.map((name) => ({
                preference: {
                  matchFields: [{ key: "metadata.name", operator: "In" as const, values: [name] }],
                },
              })),
            },
          },
        },
      },
    },
    status: { replicas },
  });
  test.each<[what: string, live: Deployment | undefined, replicas: number, preferred: readonly string[]]>([
    ["those with a copy, with the first pods", undefined, 1, ["a", "b"]],
    ["those with a copy, with the first pods of another model", deployment(other, ["d"]), 1, ["a", "b"]],
    ["those with a copy, while there are no pods", deployment(here, ["d"], 0), 0, ["a", "b"]],
    ["what they preferred before, while pods run", deployment(here, ["d"]), 1, ["d"]],
    ["none, while pods run that preferred none", deployment(here, []), 1, []],
    ["what they preferred before, while they come from zero", deployment(here, ["d"], 0), 1, ["d"]],
    ["what they preferred before, while the last pods go", deployment(here, ["d"], 1), 0, ["d"]],
  ])("are %s", (_what, live, replicas, preferred) => {
    expect(preferredNodes(live, replicas, here, [copy("a"), copy("b"), copy("c", other)])).toEqual(preferred);
  });
});

test("hits are counted from the pods that are there", () => {
  const ended = (bytesTotal: number, bytesFetched: number): TerminatedState => ({
    exitCode: 0,
    message: report("Ready", { bytesTotal, bytesFetched }),
  });
  const workloadPods = [
    pod("a", { ended: ended(100, 100) }),
    pod("a", { ended: ended(100, 0) }),
    pod("b", { ended: ended(100, 40) }),
    pod("c"),
    pod("d", { ended: bad }),
  ];
  expect(cacheHits({ workloadPods })).toEqual({ pods: 3, warm: 1, savedBytes: 160 });
});

describe("prefetching", () => {
  const artifact = {
    reference: "r.example.com/q",
    digest: `sha256:${here}`,
    packaging: "docker",
    format: "gguf",
    sizeBytes: 1,
    weightBytes: 1,
  } as const;
  const choice = {
    kind: "selected",
    candidate: { variant: { name: "v" }, artifact },
    shares: [],
  } as unknown as Choice;
  const plan = (
    prefetch: PrefetchSpec | undefined,
    copies: readonly CopyStatus[] = [],
    more: Partial<Observed> & { readonly recorded?: readonly CopyStatus[] } = {},
  ) => {
    const { recorded = copies, ...rest } = more;
    const storage = { ...cached, ...(prefetch === undefined ? {} : { prefetch }) };
    return planPrefetch(observed(model(storage, recorded), rest), choice, copies);
  };
  const nodesOf = (objects: readonly { readonly metadata: Pod["metadata"] }[]): readonly string[] =>
    objects.map(({ metadata }) => metadata.annotations?.["ocimodel.dev/node"] ?? "");

  test("brings the model to a few nodes at once, until all that are chosen have it", () => {
    expect(nodesOf(plan({}).create)).toEqual(["a", "b"]);
    expect(nodesOf(plan({ parallelism: 3 }).create)).toEqual(["a", "b", "c"]);
    expect(nodesOf(plan({}, [copy("a")]).create)).toEqual(["b", "c"]);
    const running = [pod("b", { prefetches: true })];
    expect(nodesOf(plan({}, [copy("a")], { prefetchPods: running }).create)).toEqual(["c"]);
    expect(
      plan(
        {},
        ["a", "b", "c", "d"].map((each) => copy(each)),
      ),
    ).toMatchObject({
      create: [],
      nodes: 4,
      done: 4,
    });
  });

  test.each<
    [what: string, prefetch: PrefetchSpec, nodes: readonly NodeHardware[], chosen: readonly string[]]
  >([
    [
      "by labels",
      { nodeSelector: { pool: "second" } },
      ["a", "b", "c", "d"].map((each) => node(each)),
      ["c", "d"],
    ],
    ["no cordoned one", {}, [node("a", { isUnschedulable: true }), node("b")], ["b"]],
    ["no tainted one", {}, [node("a", { taints: [{ key: "t", effect: "NoSchedule" }] }), node("b")], ["b"]],
    [
      "a tainted one that is tolerated",
      { tolerations: [{ key: "t", operator: "Exists" }] },
      [node("a", { taints: [{ key: "t", effect: "NoSchedule" }] })],
      ["a"],
    ],
    ["none of no such label", { nodeSelector: { pool: "third" } }, [node("a")], []],
  ])("chooses nodes: %s", (_what, prefetch, nodes, chosen) => {
    expect(nodesOf(plan(prefetch, [], { nodes }).create)).toEqual(chosen);
  });

  test("a pod that has ended well goes when the status knows of its copy, and not before", () => {
    const prefetchPods = [pod("a", { prefetches: true, ended: good, phase: "Succeeded" })];
    const copies = copiesOf(observed(model(cached), { prefetchPods }), [here]);
    expect(names(copies)).toEqual(["a"]);
    expect(plan({}, copies, { prefetchPods, recorded: [] }).remove).toEqual([]);
    expect(nodesOf(plan({}, copies, { prefetchPods }).remove)).toEqual(["a"]);
  });

  test("pods for another model, for nodes that are not chosen, and for nobody go", () => {
    const prefetchPods = [pod("a", { prefetches: true, of: other }), pod("d", { prefetches: true })];
    expect(nodesOf(plan({ nodeSelector: { pool: "first" } }, [], { prefetchPods }).remove)).toEqual([
      "a",
      "d",
    ]);
    expect(nodesOf(plan(undefined, [], { prefetchPods }).remove)).toEqual(["a", "d"]);
    expect(plan(undefined)).toMatchObject({ create: [], nodes: 0, failure: undefined });
  });

  test("a failure is told with its node, and its place is not given to another", () => {
    const prefetchPods = [pod("a", { prefetches: true, ended: bad })];
    const { failure, create } = plan({ parallelism: 1 }, [], { prefetchPods });
    expect(failure).toMatchObject({ reason: "OutOfSpace", message: "it says so", node: "a" });
    expect(create).toEqual([]);
  });

  test("a pod that failed for good is made anew after five minutes", () => {
    const failed = (finishedAt: string): readonly Pod[] => [
      pod("a", { prefetches: true, phase: "Failed", ended: { ...bad, finishedAt } }),
    ];
    expect(plan({}, [], { prefetchPods: failed("2026-01-02T03:00:05Z") })).toMatchObject({
      remove: [],
      recheckAfterMs: 60_000,
    });
    expect(plan({}, [], { prefetchPods: failed("2026-01-02T02:59:05Z") }).remove).toHaveLength(1);
  });

  test("while nothing is decided, or the claim is not there, what goes on goes on", () => {
    const prefetchPods = [pod("a", { prefetches: true })];
    const undecided = observed(model({ ...cached, prefetch: {} }), { prefetchPods });
    expect(planPrefetch(undecided, undefined, [])).toMatchObject({ create: [], remove: [] });
    expect(planPrefetch({ ...undecided, claim: undefined }, choice, [])).toMatchObject({
      create: [],
      remove: [],
    });
  });

  test("its pods pass restricted, mount the claim and no path of the host, and go to their node alone", () => {
    const [made] = plan({ parallelism: 1 }).create;
    const spec = podSpecOf(made ?? {}) ?? {};
    expect(restrictedViolations(spec)).toEqual([]);
    expect(ownViolations(spec, ["pull"])).toEqual([]);
    expect(spec).toMatchObject({
      restartPolicy: "OnFailure",
      volumes: [{ persistentVolumeClaim: { claimName: "cache" } }],
      affinity: {
        nodeAffinity: {
          requiredDuringSchedulingIgnoredDuringExecution: {
            nodeSelectorTerms: [{ matchFields: [{ key: "metadata.name", operator: "In", values: ["a"] }] }],
          },
        },
      },
    });
    expect(made?.metadata.name).toMatch(/^qwen-prefetch-[0-9a-f]{8}$/);
  });

  test("never more at once than it is told, never twice to one node, for any state", () => {
    const state = fc.constantFrom("none", "running", "failing", "copy");
    fc.assert(
      fc.property(
        fc.array(state, { maxLength: 12 }),
        fc.integer({ min: 1, max: 5 }),
        (states, parallelism) => {
          const all = states.map((each, index) => ({ name: `n${index}`, state: each }));
          const prefetchPods = all.flatMap(({ name, state: is }) =>
            is === "running" || is === "failing"
              ? [pod(name, { prefetches: true, ...(is === "failing" ? { ended: bad } : {}) })]
              : [],
          );
          const copies = all.filter(({ state: is }) => is === "copy").map(({ name }) => copy(name));
          const made = plan({ parallelism }, copies, {
            nodes: all.map(({ name }) => node(name)),
            prefetchPods,
          }).create;
          expect(made.length).toBe(
            Math.max(
              0,
              Math.min(parallelism - prefetchPods.length, states.filter((each) => each === "none").length),
            ),
          );
          expect(new Set(made.map(({ metadata }) => metadata.name)).size).toBe(made.length);
        },
      ),
    );
  });
});
