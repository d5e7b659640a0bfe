// Mistakes of other operators that choose by hardware, each as a test that ours does not make it.

import { describe, expect, test } from "vitest";
import { nodeHardware } from "../../../operator/hardware/node-hardware.ts";
import { planModel } from "../../../operator/plan/plan.ts";
import { inputOf, nodesOf, planOf, type Case } from "./golden-cases.ts";

const gpu = { accelerator: { vendor: "nvidia" as const } };
const f16 = { name: "f16", reference: ":8b-f16", requirements: gpu };
const q8 = { name: "q8", reference: ":8b-q8", requirements: gpu };
const q4 = { name: "q4", reference: ":8b-q4" };

describe("a choice is not", () => {
  test("made by the first node of the list (KAITO)", () => {
    const plan = planOf({
      nodes: [
        { is: "t4-gfd", name: "a" },
        { is: "h100-gfd", name: "z" },
      ],
      variants: [f16, q8],
    });
    expect(plan.placements).toMatchObject([{ variant: "f16", nodes: ["z"] }]);
  });

  test("made from label names that GPU Feature Discovery does not emit (KAITO: cuda.compute.major)", () => {
    const capabilities = nodesOf({ nodes: [{ is: "l4-gfd" }, { is: "l4-driver-labels-only" }] }).map(
      (node) => nodeHardware(node).accelerators[0]?.computeCapability,
    );
    // Unknown is not zero: a variant that states no capability fits there all the same.
    expect(capabilities).toEqual([[8, 9], undefined]);
    expect(planOf({ nodes: [{ is: "l4-driver-labels-only" }], variants: [q8] }).isPlaced).toBe(true);
  });

  test("made for the union of what nodes have (NIM): memory of one and product of another is no match", () => {
    const variant = {
      ...q8,
      requirements: { accelerator: { ...gpu.accelerator, products: ["*T4*"], memoryPerDevice: "20Gi" } },
    };
    const plan = planOf({
      nodes: [{ is: "t4-gfd" }, { is: "h100-gfd" }],
      selection: { cpuFallback: false },
      variants: [variant],
    });
    expect(plan.isPlaced).toBe(false);
    expect(plan.variants[0]).toMatchObject({ verdict: "TooLarge", nodes: [] });
  });

  test("every profile at once while there is no node (NIM)", () => {
    const plan = planOf({ nodes: [], variants: [f16, q8, q4] });
    expect(plan).toMatchObject({ isPlaced: false, reason: "NoNodesYet", placements: [] });
  });

  test("frozen when it is first made (NIM): when nothing holds it any more, another is chosen", () => {
    const given: Case = {
      nodes: [{ is: "cpu-32" }],
      current: { variant: "q8", accelerator: "nvidia", contextLength: 8192 },
      selection: { cpuFallback: false },
      variants: [q8, q4],
    };
    expect(planOf(given).placements).toMatchObject([{ variant: "q4", accelerator: "none" }]);
  });

  test("made by RAM where the memory of the device counts, or the reverse (OME)", () => {
    // 1900 GiB of RAM are of no use to a device of 80 GiB, and 80 GiB of a device are none to a pod on CPUs.
    const large = { name: "big", reference: ":70b-bf16-st", requirements: gpu };
    const onGpu = planOf({ nodes: [{ is: "h100-gfd" }], variants: [large] });
    expect(onGpu.variants[0]?.verdict).toBe("TooLarge");
    expect(onGpu.variants[0]?.message).toContain("best node h100-gfd has 79.6 GiB");
    const little = planOf({
      nodes: [{ is: "h100-gfd", allocatable: { memory: "4Gi" } }],
      variants: [q4],
    });
    expect(little.variants[0]).toMatchObject({ verdict: "TooLarge" });
    expect(little.variants[0]?.message).toContain("best node h100-gfd has 4.0 GiB");
  });

  test("made in whole GiB (OME): 100 MiB too few are too few, 100 MiB more are enough", () => {
    const needed = planOf({ nodes: [{ is: "cpu-32" }], variants: [q4] }).variants[0]?.requiredBytes ?? 0;
    const on = (bytes: number) =>
      planOf({
        nodes: [{ is: "cpu-32", allocatable: { memory: String(bytes) } }],
        selection: { contextLength: 8192 },
        variants: [q4],
      });
    expect(on(needed - 100 * 2 ** 20).isPlaced).toBe(false);
    // Requests are in whole MiB.
    expect(on(needed + 2 ** 20).isPlaced).toBe(true);
  });

  test("given the resources of another alternative (llmaz: flavor 0)", () => {
    const two = {
      name: "two",
      reference: ":70b-q4",
      requirements: { accelerator: { vendor: "nvidia" as const, count: 8 } },
    };
    const plan = planOf({ nodes: [{ is: "a100-40-gfd" }], variants: [two, q8] });
    expect(plan.placements).toMatchObject([{ variant: "q8" }]);
    expect(plan.variants[1]?.footprint).toMatchObject({ devices: 1 });
  });

  test("keyed by the name of a GPU family (KubeAI: RTX 40 as ampere)", () => {
    const { nodes, ...input } = inputOf({ nodes: [{ is: "l4-gfd" }], variants: [q8] });
    const relabelled = nodes.map((node) => ({
      ...node,
      metadata: { ...node.metadata, labels: { ...node.metadata.labels, "nvidia.com/gpu.family": "ampere" } },
    }));
    expect(planModel({ ...input, nodes: relabelled }).placements).toEqual(
      planModel({ ...input, nodes }).placements,
    );
  });

  test("bound to one exact value of a label: the same L4 says 23034 and 22888", () => {
    const plan = planOf({ nodes: [{ is: "l4-gfd" }, { is: "l4-karpenter" }], variants: [f16] });
    expect(plan.placements[0]?.nodes).toEqual(["l4-gfd", "l4-karpenter"]);
  });

  test("taken in by a memory label that time-slicing did not divide", () => {
    const plan = planOf({
      nodes: [{ is: "t4-time-sliced" }],
      selection: { cpuFallback: false },
      variants: [q8],
    });
    expect(plan.variants[0]).toMatchObject({ verdict: "NoMatchingNode" });
    expect(plan.variants[0]?.nearMisses[0]?.lacks).toContain("shared by 4 pods");
  });

  test("lost on a GPU without a memory label that uses the RAM (GB10)", () => {
    const plan = planOf({ nodes: [{ is: "gb10" }], variants: [f16] });
    expect(plan.placements).toMatchObject([{ variant: "f16", accelerator: "nvidia", nodes: ["gb10"] }]);
  });

  test("sure of a node whose labels describe one of its GPUs only", () => {
    const plan = planOf({ nodes: [{ is: "mixed-gpus" }], selection: { cpuFallback: false }, variants: [q8] });
    expect(plan.isPlaced).toBe(false);
    expect(plan.variants[0]?.nearMisses[0]?.lacks).toContain("1 of its 2 GPUs");
  });

  test("final when the cluster has no node: the first that joins decides", () => {
    const given: Case = { nodes: [], variants: [f16, q8] };
    expect(planOf(given)).toMatchObject({ isPlaced: false, reason: "NoNodesYet" });
    expect(planOf({ ...given, nodes: [{ is: "t4-gfd" }] }).placements).toMatchObject([{ variant: "q8" }]);
  });
});
