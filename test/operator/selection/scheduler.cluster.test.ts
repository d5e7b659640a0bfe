// 200 random clusters on a real API server with the real scheduler: every pod lands where a verdict said it could.

import fc from "fast-check";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { JsonObject, Model, ModelSpec, VariantSpec } from "../../../operator/api/model.ts";
import { configurationSchema, type RuntimeDefinition } from "../../../operator/configuration.ts";
import { workloadDeployment } from "../../../operator/desired/deployment.ts";
import { podAmounts } from "../../../operator/desired/requested.ts";
import { withFreeCapacity } from "../../../operator/hardware/free-capacity.ts";
import { podRequests } from "../../../operator/hardware/pod-requests.ts";
import { templateSelectors } from "../../../operator/reconcile/variants.ts";
import { nodeHardware, type Node } from "../../../operator/hardware/node-hardware.ts";
import {
  attemptOnCpus,
  attemptStated,
  withTerms,
  type Attempt,
} from "../../../operator/selection/attempt.ts";
import { chooseVariant } from "../../../operator/selection/choose-variant.ts";
import { admittedNodes } from "../../../operator/selection/node-selector.ts";
import type { Candidate, Share } from "../../../operator/selection/types.ts";
import {
  stripScheduledPod,
  TakenCapacity,
  type ScheduledPod,
} from "../../../operator/reconcile/taken-capacity.ts";
import { startControlPlane, type ControlPlane } from "../../cluster/control-plane.ts";
import { waitFor } from "../../cluster/run-command.ts";
import { describeCluster } from "../../cluster/suites.ts";
import { apiRequests } from "../../crds/api-request.ts";
import { arbitraryNode, named } from "./arbitrary-node.ts";
import { schedulable } from "./scheduler-model.ts";

const clusters = 200;
/** Pods one after another in each cluster: the later ones find what the earlier ones left. */
const rounds = 3;
const clusterLabel = "test.ocimodel.dev/cluster";
/** The same each time: the test also counts what came of the clusters, which another draw may miss. */
const seed = Number(process.env["OCIMODEL_SEED"] ?? 5_000_011);

const engine: RuntimeDefinition = {
  image: "registry.example/engine",
  formats: ["gguf"],
  cpu: true,
  args: [],
  acceleratorArgs: [],
  env: [],
  port: 8080,
  resources: {},
  sharedMemory: false,
};
const configuration = configurationSchema.parse({
  pullerImage: "registry.example/puller",
  runtimes: { engine },
});

type Case = {
  readonly variant: VariantSpec;
  readonly weightGibibytes: number;
  readonly onCpus: boolean;
  /** Of the pod template's spec. */
  readonly selectors: JsonObject;
};

const inPools = (...values: readonly string[]): JsonObject => ({
  nodeAffinity: {
    requiredDuringSchedulingIgnoredDuringExecution: {
      nodeSelectorTerms: [{ matchExpressions: [{ key: "pool", operator: "In", values }] }, {}],
    },
  },
});
const preferring = (key: string, value: string): JsonObject => ({
  preferredDuringSchedulingIgnoredDuringExecution: [
    { weight: 100, preference: { matchExpressions: [{ key, operator: "In", values: [value] }] } },
  ],
});
/** Mostly none: each leaves a part of the few nodes. */
const templates: readonly JsonObject[] = [
  ...Array.from({ length: 9 }, () => ({})),
  { nodeSelector: { pool: "a" } },
  { affinity: inPools("a", "b") },
  { nodeSelector: { pool: "b" }, affinity: inPools("b", "c") },
  // Neither may take away what the operator requires.
  { affinity: null },
  {
    affinity: {
      nodeAffinity: { ...preferring("pool", "a"), requiredDuringSchedulingIgnoredDuringExecution: null },
    },
  },
];
type Vendor = "nvidia" | "amd" | "intel" | "habana";

const vendorPrefixes: readonly (readonly [prefix: string, vendor: Vendor])[] = [
  ["nvidia.com/", "nvidia"],
  ["amd.com/", "amd"],
  ["gpu.intel.com/", "intel"],
  ["habana.ai/", "habana"],
];

/** Mostly vendors that the cluster has devices of: to ask for others is refused too easily to tell anything. */
function vendorsOf(nodes: readonly Node[]): readonly Vendor[] {
  const resources = nodes.flatMap(({ status }) =>
    Object.entries(status?.allocatable ?? {}).flatMap(([name, count]) => (count === "0" ? [] : [name])),
  );
  const found = vendorPrefixes.filter(([prefix]) => resources.some((name) => name.startsWith(prefix)));
  return found.length === 0 ? ["nvidia"] : found.map(([, vendor]) => vendor);
}

function arbitraryCase(vendors: readonly Vendor[]): fc.Arbitrary<Case> {
  const seldom = <T>(...values: readonly T[]): fc.Arbitrary<T | undefined> =>
    fc.oneof({ weight: 5, arbitrary: fc.constant(undefined) }, fc.constantFrom(...values));
  const accelerator = fc
    .record({
      vendor: fc.oneof(
        { weight: 9, arbitrary: fc.constantFrom(...vendors) },
        fc.constantFrom("amd" as const, "nvidia" as const),
      ),
      count: fc.constantFrom(1, 1, 2),
      memoryPerDevice: fc.constantFrom(undefined, undefined, "0", "20Gi"),
      products: seldom(["*L4*", "*H100*"], ["*A100*"]),
      minComputeCapability: seldom("8.0", "8.9"),
    })
    .map(({ memoryPerDevice, products, minComputeCapability, ...rest }) => ({
      ...rest,
      ...(memoryPerDevice === undefined ? {} : { memoryPerDevice }),
      ...(products === undefined ? {} : { products }),
      ...(minComputeCapability === undefined ? {} : { minComputeCapability }),
    }));
  return fc.record({
    variant: fc
      .record({
        requirements: fc.oneof(fc.constant({}), {
          weight: 4,
          arbitrary: accelerator.map((found) => ({ accelerator: found })),
        }),
        // What is stated for the container counts beside the estimate.
        cpu: fc.constantFrom(undefined, undefined, "1500m", "7", "40"),
        limits: seldom<JsonObject>(
          { "example.com/fpga": "1" },
          { "example.com/fpga": "3" },
          { "hugepages-2Mi": "1Gi" },
        ),
      })
      .map(({ cpu: drawn, ...rest }) => ({
        ...rest,
        // The API server takes huge pages only beside CPU or RAM.
        cpu: drawn ?? (rest.limits?.["hugepages-2Mi"] === undefined ? undefined : "1500m"),
      }))
      .map(({ requirements, cpu, limits }) => ({
        name: "v",
        requirements,
        ...(cpu === undefined && limits === undefined
          ? {}
          : {
              runtime: {
                resources: {
                  ...(cpu === undefined ? {} : { requests: { cpu } }),
                  ...(limits === undefined ? {} : { limits }),
                },
              },
            }),
      })),
    weightGibibytes: fc.constantFrom(1, 1, 3, 8, 16, 35),
    onCpus: fc.integer({ min: 0, max: 5 }).map((each) => each === 0),
    selectors: fc.constantFrom(...templates),
  });
}

const arbitraryCluster = fc.array(arbitraryNode, { minLength: 1, maxLength: 5 }).chain((nodes) =>
  fc.record({
    nodes: fc.constant(nodes),
    cases: fc.array(arbitraryCase(vendorsOf(nodes)), { minLength: rounds, maxLength: rounds }),
  }),
);

function candidateOf({ variant, weightGibibytes }: Case): Candidate {
  const bytes = weightGibibytes * 2 ** 30;
  return {
    variant,
    artifact: {
      reference: "registry.example/llm:v",
      digest: `sha256:${"0".repeat(64)}`,
      packaging: "docker",
      format: "gguf",
      sizeBytes: bytes,
      weightBytes: bytes,
    },
    runtime: { name: "engine", definition: engine },
  };
}

const specOf = ({ artifact, variant }: Candidate, selectors: JsonObject, cluster: string): ModelSpec => ({
  source: { reference: artifact.reference },
  variants: [variant],
  template: {
    spec: {
      ...selectors,
      nodeSelector: { ...(selectors["nodeSelector"] as JsonObject | undefined), [clusterLabel]: cluster },
    },
  },
});

type Drawn = {
  readonly cluster: string;
  readonly nodes: readonly Node[];
  readonly cases: readonly Case[];
  readonly taken: TakenCapacity;
};
/** A pod to be made. */
type Wanted = Pick<Attempt, "candidate" | "placement"> & {
  readonly spec: ModelSpec;
  readonly share?: Pick<Share, "key" | "avoid">;
};
type TriedPod = ScheduledPod & {
  readonly status?: {
    readonly conditions?: readonly {
      readonly type: string;
      readonly status: string;
      readonly message?: string;
    }[];
  };
};

describeCluster(`200 random clusters under the real scheduler (OCIMODEL_SEED=${seed})`, () => {
  let plane: ControlPlane;
  let ask: ReturnType<typeof apiRequests>["ask"];
  let close: () => Promise<void>;
  const pods = "/api/v1/namespaces/default/pods";

  beforeAll(async () => {
    // Without the controller manager nobody finds that these nodes have no kubelet.
    plane = await startControlPlane({ controllers: false });
    ({ ask, close } = apiRequests(plane));
    const account = { apiVersion: "v1", kind: "ServiceAccount", metadata: { name: "default" } };
    expect((await ask("POST", "/api/v1/namespaces/default/serviceaccounts", account)).status).toBe(201);
  });
  afterAll(async () => {
    await close?.();
    await plane?.stop();
  });

  /** Admission taints every new node as not ready; the test's own taints replace that. */
  async function addNode(node: Node): Promise<void> {
    const answer = await ask("POST", "/api/v1/nodes", {
      ...node,
      status: { ...node.status, capacity: node.status?.allocatable },
    });
    expect(answer.body.message ?? "created").toBe("created");
    const path = `/api/v1/nodes/${node.metadata.name}`;
    const patch = { spec: { taints: node.spec?.taints ?? [] } };
    expect((await ask("PATCH", path, patch, "application/merge-patch+json")).status).toBe(200);
  }

  async function inBatches<T>(items: readonly T[], work: (item: T) => Promise<void>): Promise<void> {
    const queue = [...items];
    const workers = Array.from({ length: 16 }, async () => {
      for (let item = queue.shift(); item !== undefined; item = queue.shift()) await work(item);
    });
    await Promise.all(workers);
  }

  /** The pod that the Deployment of this placement would have, kept to its cluster. */
  function podOf(name: string, { candidate, placement, share, spec: of }: Wanted): object {
    const model = {
      apiVersion: "ocimodel.dev/v1alpha1",
      kind: "Model",
      metadata: { name, namespace: "default", uid: "u", generation: 1 },
      spec: of,
    } as Model;
    const deployment = workloadDeployment({
      model,
      configuration,
      variantName: candidate.variant.name,
      artifact: candidate.artifact,
      runtime: { name: "engine", definition: engine },
      placement,
      ...(share === undefined ? {} : { share }),
    }) as unknown as { spec: { template: { metadata: object; spec: object } } };
    const { metadata, spec } = deployment.spec.template;
    return { apiVersion: "v1", kind: "Pod", metadata: { ...metadata, name }, spec };
  }

  /** What the scheduler did with each of the pods, once it has tried all of them. */
  async function scheduled(names: ReadonlySet<string>): Promise<ReadonlyMap<string, TriedPod>> {
    return waitFor(
      `the scheduler's word on ${names.size} pods`,
      async () => {
        const { body } = await ask("GET", `${pods}?resourceVersion=0`);
        const items = (body["items"] as readonly TriedPod[]).filter(({ metadata }) =>
          names.has(metadata.name),
        );
        const decided = items.filter(
          ({ spec, status }) =>
            spec?.nodeName !== undefined ||
            status?.conditions?.some(({ type }) => type === "PodScheduled") === true,
        );
        return decided.length === names.size && new Map(items.map((pod) => [pod.metadata.name, pod]));
      },
      { timeoutMs: 120_000, intervalMs: 250 },
    );
  }

  /** Then all of its variants at once in each cluster, by classes of nodes, on what the pods before have left. */
  async function placeByHardware(drawn: readonly Drawn[]): Promise<void> {
    const wanted = drawn.flatMap(({ cluster, nodes, cases, taken }) => {
      const candidates = cases.map((each, index) => {
        const candidate = candidateOf(each);
        return { ...candidate, variant: { ...candidate.variant, name: `v${index}` } };
      });
      const selectors = cases[0]?.selectors ?? {};
      const specs = new Map(candidates.map((each) => [each, specOf(each, selectors, cluster)]));
      const [spec] = specs.values();
      const hardware = nodes.map((node) =>
        withFreeCapacity(nodeHardware(node), taken.taken(node.metadata.name)),
      );
      const choice = chooseVariant({
        candidates,
        nodes: hardware,
        selection: { placement: "PerHardware", policy: "BestFit" },
        selectors: spec === undefined ? [] : templateSelectors(spec),
        tolerations: () => [],
        requested: (candidate, placement) =>
          podAmounts(
            {
              spec:
                specs.get(candidate as (typeof candidates)[number]) ?? specOf(candidate, selectors, cluster),
            },
            configuration,
            candidate,
            placement,
          ),
        replicas: 4,
      });
      if (choice.kind !== "selected") return [];
      return choice.shares.flatMap(({ candidate, placement, replicas, key, avoid }) =>
        Array.from({ length: replicas }, (_, index) => ({
          name: `${cluster}-${key}-${index}`,
          cluster,
          nodes,
          taken,
          pod: {
            candidate,
            placement,
            share: { key, avoid },
            spec: specOf(candidate, selectors, cluster),
          },
        })),
      );
    });
    await inBatches(wanted, async ({ name, pod }) => {
      const answer = await ask("POST", pods, podOf(name, pod));
      expect(answer.body.message ?? "created").toBe("created");
    });
    const found = await scheduled(new Set(wanted.map(({ name }) => name)));
    for (const { name, taken } of wanted) {
      const pod = found.get(name);
      if (pod !== undefined) taken.change(undefined, stripScheduledPod(pod));
    }
    const seen = { landed: 0, pending: 0 };
    const wrong = wanted.flatMap(({ name, nodes, taken, pod: { placement } }) => {
      const pod = found.get(name);
      const node = pod?.spec?.nodeName;
      seen[node === undefined ? "pending" : "landed"] += 1;
      const named = new Set(placement.matchingNodes);
      if (node !== undefined) return named.has(node) ? [] : [{ name, node, placement }];
      // One that waits has room on none of the nodes that its verdict named, as the scheduler's rules have it.
      const requests = podRequests(pod?.spec ?? {});
      const open = nodes.filter(
        (each) =>
          named.has(each.metadata.name) &&
          schedulable(
            { terms: [], tolerations: [{ operator: "Exists" }], requests },
            each,
            taken.taken(each.metadata.name).requests,
          ),
      );
      return open.map(({ metadata }) => ({ name, node: metadata.name, placement }));
    });
    expect({ seed, wrong }).toEqual({ seed, wrong: [] });
    const classes = new Map<string, Set<string>>();
    for (const { cluster, pod } of wanted)
      classes.set(cluster, (classes.get(cluster) ?? new Set()).add(pod.share.key));
    const several = [...classes.values()].filter(({ size }) => size > 1).length;
    console.info(`by hardware: ${JSON.stringify({ ...seen, several })}`);
    expect(seen.landed).toBeGreaterThan(100);
    expect(seen.pending).toBeGreaterThan(2);
    expect(several).toBeGreaterThan(10);
  }

  test(
    "each pod lands on a node that its verdict named, or stays pending if and only if it named none",
    { timeout: 240_000 },
    async () => {
      const drawn = fc.sample(arbitraryCluster, { numRuns: clusters, seed }).map((found, index) => {
        const cluster = `c${index}`;
        const nodes = named(found.nodes, `${cluster}-n`).map((node) => ({
          ...node,
          metadata: { ...node.metadata, labels: { ...node.metadata.labels, [clusterLabel]: cluster } },
        }));
        return { cluster, nodes, cases: found.cases, taken: new TakenCapacity() };
      });
      await inBatches(
        drawn.flatMap(({ nodes }) => nodes),
        addNode,
      );

      const landed = {
        onDevices: 0,
        onCpus: 0,
        pendingTaken: 0,
        pendingUnfit: 0,
        diskShort: 0,
        otherShort: 0,
      };
      for (let round = 0; round < rounds; round += 1) {
        const expected = drawn.flatMap(({ cluster, nodes, cases, taken }) => {
          const drawnCase = cases[round];
          if (drawnCase === undefined) return [];
          const candidate = candidateOf(drawnCase);
          const spec = specOf(candidate, drawnCase.selectors, cluster);
          const hardware = nodes.map((node) =>
            withFreeCapacity(nodeHardware(node), taken.taken(node.metadata.name)),
          );
          const input = {
            ...admittedNodes(hardware, templateSelectors(spec)),
            selection: {},
            tolerations: () => [],
            requested: (_candidate: Candidate, placement: Parameters<typeof podAmounts>[3]) =>
              podAmounts({ spec }, configuration, candidate, placement),
          };
          const found = drawnCase.onCpus ? attemptOnCpus(input, candidate) : attemptStated(input, candidate);
          // As for a chosen one: terms are made only for what is placed.
          const each = { ...found, placement: withTerms(input, found) };
          return [{ name: `${cluster}-p${round}`, spec, taken, each }];
        });
        await inBatches(expected, async ({ name, spec, each }) => {
          const answer = await ask("POST", pods, podOf(name, { ...each, spec }));
          expect(answer.body.message ?? "created").toBe("created");
        });
        const found = await scheduled(new Set(expected.map(({ name }) => name)));
        const wrong = expected.flatMap(({ name, taken, each }) => {
          const pod = found.get(name);
          const node = pod?.spec?.nodeName;
          const { freeNodes, matchingNodes, accelerator } = each.placement;
          if (pod !== undefined) taken.change(undefined, stripScheduledPod(pod));
          if (node === undefined) landed[matchingNodes.length > 0 ? "pendingTaken" : "pendingUnfit"] += 1;
          else landed[accelerator === "none" ? "onCpus" : "onDevices"] += 1;
          if (each.message.includes("too little disk")) landed.diskShort += 1;
          if (/example.com.fpga|hugepages/.test(each.message)) landed.otherShort += 1;
          const isRight = node === undefined ? freeNodes.length === 0 : freeNodes.includes(node);
          const reason = pod?.status?.conditions?.find(({ type }) => type === "PodScheduled")?.message;
          return isRight
            ? []
            : [
                {
                  name,
                  node,
                  freeNodes,
                  verdict: each.message,
                  scheduler: reason,
                  placement: each.placement,
                },
              ];
        });
        expect({ seed, wrong }).toEqual({ seed, wrong: [] });
        // What waits must not be bound later, when the books of the next round are made.
        await inBatches(
          expected.filter(({ name }) => found.get(name)?.spec?.nodeName === undefined),
          async ({ name }) => {
            await ask("DELETE", `${pods}/${name}`, { gracePeriodSeconds: 0 });
          },
        );
      }
      console.info(`seed ${seed}: ${JSON.stringify(landed)}`);
      await placeByHardware(drawn);
      // Otherwise the clusters would prove nothing: each way out was taken often.
      expect(landed.onDevices).toBeGreaterThan(20);
      expect(landed.onCpus).toBeGreaterThan(20);
      expect(landed.pendingTaken).toBeGreaterThan(2);
      expect(landed.pendingUnfit).toBeGreaterThan(20);
      expect(landed.diskShort).toBeGreaterThan(10);
      expect(landed.otherShort).toBeGreaterThan(10);
    },
  );
});
