import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { SelectionSpec, VariantSpec } from "../../../operator/api/model.ts";
import type { RuntimeDefinition } from "../../../operator/configuration.ts";
import { nodeHardware, type Node } from "../../../operator/hardware/node-hardware.ts";
import type { NodeHardware } from "../../../operator/hardware/types.ts";
import { chooseVariant, type SelectionInput } from "../../../operator/selection/choose-variant.ts";
import { matchesNodeSelector } from "../../../operator/selection/node-selector.ts";
import type { Candidate } from "../../../operator/selection/types.ts";

const gibibyte = 2 ** 30;

const llamaCpp: RuntimeDefinition = {
  image: "llama",
  formats: ["gguf"],
  cpu: true,
  args: [],
  acceleratorArgs: [],
  env: [],
  port: 8080,
  healthPath: "/health",
  resources: {},
  sharedMemory: false,
};
const vllm: RuntimeDefinition = { ...llamaCpp, image: "vllm", formats: ["safetensors"], cpu: false };

function candidate(
  name: string,
  weightGibibytes: number,
  requirements?: VariantSpec["requirements"],
  runtime = llamaCpp,
): Candidate {
  return {
    variant: { name, ...(requirements === undefined ? {} : { requirements }) },
    artifact: {
      reference: `registry.example/llm:${name}`,
      digest: `sha256:${"0".repeat(64)}`,
      packaging: "docker",
      format: runtime === vllm ? "safetensors" : "gguf",
      sizeBytes: weightGibibytes * gibibyte,
      weightBytes: weightGibibytes * gibibyte,
    },
    runtime: { name: runtime.image, definition: runtime },
  };
}

const gpu = { accelerator: { vendor: "nvidia" as const } };

function gpuNode(
  name: string,
  memoryMebibytes: number | undefined,
  count = 1,
  more: Record<string, string> = {},
  spec: Node["spec"] = {},
): NodeHardware {
  return nodeHardware({
    apiVersion: "v1",
    kind: "Node",
    metadata: {
      name,
      labels: {
        "kubernetes.io/arch": "amd64",
        "nvidia.com/gpu.product": "NVIDIA-L4",
        "nvidia.com/gpu.compute.major": "8",
        "nvidia.com/gpu.compute.minor": "9",
        ...(memoryMebibytes === undefined ? {} : { "nvidia.com/gpu.memory": String(memoryMebibytes) }),
        ...more,
      },
    },
    spec,
    status: { allocatable: { cpu: "8", memory: "64Gi", "nvidia.com/gpu": String(count) } },
  });
}

function cpuNode(
  name: string,
  memory: string,
  labels: Record<string, string> = {},
  spec: Node["spec"] = {},
): NodeHardware {
  return nodeHardware({
    apiVersion: "v1",
    kind: "Node",
    metadata: { name, labels: { "kubernetes.io/arch": "amd64", ...labels } },
    spec,
    status: { allocatable: { cpu: "8", memory } },
  });
}

function choose(
  candidates: Candidate[],
  nodes: NodeHardware[],
  selection: SelectionSpec = {},
  current?: SelectionInput["current"],
) {
  return chooseVariant({
    candidates,
    nodes,
    selection,
    tolerations: () => [],
    replicas: 1,
    ...(current === undefined ? {} : { current }),
  });
}

describe("chooseVariant", () => {
  test("takes the first variant that fits, and says of each other one what it lacks, with numbers", () => {
    const choice = choose(
      [candidate("f16", 30, gpu), candidate("q8", 16, gpu), candidate("q4", 8)],
      [gpuNode("gpu-a", 15000), gpuNode("gpu-b", 15360), cpuNode("cpu-a", "32Gi"), cpuNode("cpu-b", "32Gi")],
    );
    expect(choice.kind).toBe("selected");
    expect(choice.verdicts).toMatchObject([
      {
        name: "f16",
        verdict: "TooLarge",
        message:
          "needs 36.7 GiB on one GPU; best node gpu-b has 15.0 GiB; fits 0 of 4 nodes: 2 with too little GPU memory, 2 without such a GPU",
      },
      {
        name: "q8",
        verdict: "TooLarge",
        message:
          "needs 19.9 GiB on one GPU; best node gpu-b has 15.0 GiB; fits 0 of 4 nodes: 2 with too little GPU memory, 2 without such a GPU",
      },
      { name: "q4", verdict: "Selected", message: "needs 10.2 GiB of RAM; fits 4 of 4 nodes" },
    ]);
    if (choice.kind === "selected") expect(choice.reason).toBe("q4 on CPUs: the first of 3 that fits");
  });

  test("falls back to CPUs only when nothing fits as stated, and only with a runtime that can", () => {
    const nodes = [cpuNode("cpu-a", "64Gi")];
    const choice = choose([candidate("st", 8, gpu, vllm), candidate("q4", 8, gpu)], nodes);
    expect(choice).toMatchObject({
      kind: "selected",
      candidate: { variant: { name: "q4" } },
      placement: { accelerator: "none", isCpuFallback: true, nodeSelectorTerms: [] },
    });
    expect(choice.verdicts[1]?.message).toContain("CPU fallback");
    expect(choose([candidate("q4", 8, gpu)], nodes, { cpuFallback: false })).toMatchObject({
      kind: "none",
      reason: "NoVariantFits",
      message: "q4 needs 10.3 GiB on one GPU; fits 0 of 1 nodes: 1 without such a GPU",
    });
  });

  test("memory stated for the host does not shrink what a CPU fallback needs", () => {
    const choice = choose([candidate("q4", 8, { ...gpu, memory: "1Gi" })], [cpuNode("cpu-a", "4Gi")]);
    expect(choice).toMatchObject({ kind: "none", reason: "NoVariantFits" });
  });

  test.each<[string, Candidate, NodeHardware[], string]>([
    [
      "unknown GPU memory is not zero, nor enough",
      candidate("a", 1, gpu),
      [gpuNode("g", undefined)],
      "its GPU memory is not stated",
    ],
    [
      "shared GPUs guarantee nothing",
      candidate("a", 1, gpu),
      [gpuNode("g", 23034, 4, { "nvidia.com/gpu.replicas": "4" })],
      "shared by 4 pods",
    ],
    [
      "too few devices",
      candidate("a", 1, { accelerator: { vendor: "nvidia", count: 4 } }),
      [gpuNode("g", 23034, 2)],
      "it has 2 of 4 GPUs",
    ],
    [
      "product globs",
      candidate("a", 1, { accelerator: { vendor: "nvidia", products: ["*H100*"] } }),
      [gpuNode("g", 23034)],
      "its GPU is NVIDIA-L4",
    ],
    [
      "compute capability as numbers",
      candidate("a", 1, { accelerator: { vendor: "nvidia", minComputeCapability: "8.10" } }),
      [gpuNode("g", 23034)],
      "its compute capability is 8.9",
    ],
    [
      "architecture",
      candidate("a", 1, { architectures: ["arm64"] }),
      [cpuNode("c", "64Gi")],
      "its architecture is amd64",
    ],
    [
      "CPU flags",
      candidate("a", 1, { cpuFeatures: ["AVX512F"] }),
      [cpuNode("c", "64Gi")],
      "its CPU does not state AVX512F",
    ],
    [
      "the user's own terms",
      candidate("a", 1, {
        nodeSelectorTerms: [{ matchExpressions: [{ key: "pool", operator: "In", values: ["x"] }] }],
      }),
      [cpuNode("c", "64Gi")],
      "its labels do not match nodeSelectorTerms",
    ],
    [
      "taints",
      candidate("a", 1),
      [cpuNode("c", "64Gi", {}, { taints: [{ key: "dedicated", value: "x", effect: "NoSchedule" }] })],
      "its taint dedicated is not tolerated",
    ],
    ["cordons", candidate("a", 1), [cpuNode("c", "64Gi", {}, { unschedulable: true })], "it is cordoned"],
    [
      "windows",
      candidate("a", 1),
      [cpuNode("c", "64Gi", { "kubernetes.io/os": "windows" })],
      "it runs windows",
    ],
  ])("refuses with the reason: %s", (_name, variant, nodes, words) => {
    const choice = choose([variant], nodes, { cpuFallback: false });
    expect(choice).toMatchObject({ kind: "none", reason: "NoVariantFits" });
    expect(choice.verdicts[0]?.nearMisses[0]?.lacks).toContain(words);
  });

  test("a GPU taint is tolerated by a pod that uses a GPU, transient taints by all", () => {
    const taints = [
      { key: "nvidia.com/gpu", value: "present", effect: "NoSchedule" },
      { key: "node.kubernetes.io/not-ready", effect: "NoSchedule" },
    ];
    expect(choose([candidate("a", 1, gpu)], [gpuNode("g", 23034, 1, {}, { taints })]).kind).toBe("selected");
  });

  test("an empty cluster and an unknown runtime have reasons of their own", () => {
    expect(choose([candidate("a", 1)], [])).toMatchObject({ kind: "none", reason: "NoNodesYet" });
    const unknown: Candidate = { ...candidate("a", 1), runtime: undefined };
    expect(choose([unknown], [cpuNode("c", "64Gi")])).toMatchObject({
      kind: "none",
      reason: "RuntimeUnknown",
    });
    expect(choose([candidate("st", 1, undefined, vllm)], [cpuNode("c", "64Gi")])).toMatchObject({
      reason: "RuntimeUnknown",
    });
  });

  describe("keeps the current variant", () => {
    const candidates = [candidate("big", 16, gpu), candidate("small", 4)];
    const current = { variant: "small", accelerator: "none" as const };
    test("when a better one begins to fit", () => {
      const nodes = [cpuNode("c", "64Gi"), gpuNode("g", 46068)];
      expect(choose(candidates, nodes)).toMatchObject({ candidate: { variant: { name: "big" } } });
      expect(choose(candidates, nodes, {}, current)).toMatchObject({
        candidate: { variant: { name: "small" } },
      });
    });
    test("while its only node is cordoned", () => {
      const nodes = [cpuNode("c", "64Gi", {}, { unschedulable: true })];
      expect(choose(candidates, nodes, {}, current)).toMatchObject({
        candidate: { variant: { name: "small" } },
      });
    });
    test("on the device it runs on: a CPU fallback stays one", () => {
      const only = [candidate("q4", 4, gpu)];
      const nodes = [cpuNode("c", "64Gi"), gpuNode("g", 23034)];
      const kept = choose(only, nodes, {}, { variant: "q4", accelerator: "none" });
      expect(kept).toMatchObject({ placement: { accelerator: "none" } });
    });
    test("but not when no node can hold it any more, unless reselect is Never", () => {
      const nodes = [gpuNode("g", 46068, 1, {}, {})].map((node) => ({
        ...node,
        allocatableMemoryBytes: gibibyte,
      }));
      expect(choose(candidates, nodes, {}, current)).toMatchObject({
        candidate: { variant: { name: "big" } },
      });
      expect(choose(candidates, nodes, { reselect: "Never" }, current)).toMatchObject({
        candidate: { variant: { name: "small" } },
      });
    });
  });

  test("the key/value cache grows with context and sequences, and the default context is bounded", () => {
    const facts = { contextLength: 131072, layers: 32, heads: 32, keyValueHeads: 8, embeddingLength: 4096 };
    const llama = { ...candidate("l", 8), artifact: { ...candidate("l", 8).artifact, facts } };
    const cache = (selection: SelectionSpec) => {
      const choice = choose([llama], [cpuNode("c", "640Gi")], selection);
      return choice.kind === "selected" ? choice.placement.footprint : undefined;
    };
    // 2 x 32 layers x 8 heads x 128 x 2 bytes = 131072 bytes a token.
    expect(cache({})).toMatchObject({ contextLength: 8192, cacheBytes: 131072 * 8192 });
    expect(cache({ contextLength: 100_000, parallel: 2 })).toMatchObject({
      cacheBytes: 131072 * 2 * 100_096,
    });
  });
});

describe("properties", () => {
  const nodeArbitrary = fc
    .record({
      memory: fc.option(fc.integer({ min: 1000, max: 90_000 }), { nil: undefined }),
      count: fc.integer({ min: 0, max: 8 }),
      replicas: fc.option(fc.constantFrom("0", "1", "2", "4"), { nil: undefined }),
      major: fc.integer({ min: 7, max: 10 }),
      minor: fc.integer({ min: 0, max: 9 }),
      product: fc.constantFrom("NVIDIA-L4", "NVIDIA-H100-80GB-HBM3", "Tesla-T4"),
    })
    .map(({ memory, count, replicas, major, minor, product }) =>
      gpuNode("", memory, count, {
        "nvidia.com/gpu.product": product,
        "nvidia.com/gpu.compute.major": String(major),
        "nvidia.com/gpu.compute.minor": String(minor),
        ...(replicas === undefined ? {} : { "nvidia.com/gpu.replicas": replicas }),
      }),
    );
  const nodesArbitrary = fc
    .array(nodeArbitrary, { maxLength: 6 })
    .map((nodes) => nodes.map((node, index) => ({ ...node, name: `n${index}` })));
  const candidatesArbitrary = fc
    .array(
      fc.record({
        size: fc.integer({ min: 1, max: 80 }),
        accelerator: fc.option(
          fc.record(
            {
              vendor: fc.constant("nvidia" as const),
              count: fc.integer({ min: 1, max: 4 }),
              minComputeCapability: fc.constantFrom("7.5", "8.0", "8.9", "9.0"),
              products: fc.constantFrom(["*L4*"], ["*H100*", "Tesla*"]),
            },
            { requiredKeys: ["vendor"] },
          ),
          { nil: undefined },
        ),
      }),
      { minLength: 1, maxLength: 4 },
    )
    .map((all) =>
      all.map(({ size, accelerator }, index) =>
        candidate(`v${index}`, size, accelerator === undefined ? undefined : { accelerator }),
      ),
    );

  test("a node that a verdict names satisfies the affinity, and the affinity admits no node refused for its labels", () => {
    fc.assert(
      fc.property(candidatesArbitrary, nodesArbitrary, (candidates, nodes) => {
        const choice = choose(candidates, nodes);
        if (choice.kind !== "selected") return;
        for (const node of nodes) {
          const isNamed = choice.placement.matchingNodes.includes(node.name);
          const hasDevices =
            choice.placement.deviceResource === undefined ||
            (node.accelerators[0]?.count ?? 0) >= choice.placement.deviceResource.count;
          const hasMemory = (node.allocatableMemoryBytes ?? 0) >= choice.placement.memoryBytes;
          const isAdmitted = matchesNodeSelector(node, choice.placement.nodeSelectorTerms);
          expect(isAdmitted && hasDevices && hasMemory).toBe(isNamed);
        }
      }),
    );
  });

  test("the order of nodes changes nothing but words, and the result fed back changes nothing", () => {
    fc.assert(
      fc.property(candidatesArbitrary, nodesArbitrary, (candidates, nodes) => {
        const choice = choose(candidates, nodes);
        const reversed = choose(candidates, [...nodes].reverse());
        expect(reversed.kind).toBe(choice.kind);
        if (choice.kind !== "selected" || reversed.kind !== "selected") return;
        expect(reversed.placement).toEqual(choice.placement);
        const current = { variant: choice.candidate.variant.name, accelerator: choice.placement.accelerator };
        const again = choose(candidates, nodes, {}, current);
        expect(again.kind === "selected" && again.placement).toEqual(choice.placement);
      }),
    );
  });

  test("more memory never makes a fitting choice impossible", () => {
    fc.assert(
      fc.property(candidatesArbitrary, nodesArbitrary, (candidates, nodes) => {
        if (choose(candidates, nodes).kind !== "selected") return;
        const larger = nodes.map((node) => ({
          ...node,
          allocatableMemoryBytes: (node.allocatableMemoryBytes ?? 0) * 2,
          accelerators: node.accelerators.map((each) => ({
            ...each,
            ...(each.memoryBytes === undefined ? {} : { memoryBytes: each.memoryBytes * 2 }),
          })),
        }));
        expect(choose(candidates, larger).kind).toBe("selected");
      }),
    );
  });
});
