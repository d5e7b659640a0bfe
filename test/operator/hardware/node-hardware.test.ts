import { describe, expect, test } from "vitest";
import { nodeHardware, type Node } from "../../../operator/hardware/node-hardware.ts";

function node(labels: Record<string, string>, allocatable: Record<string, string>, rest: object = {}): Node {
  return {
    apiVersion: "v1",
    kind: "Node",
    metadata: { name: "n", labels, ...rest },
    status: { allocatable },
  };
}

const l4 = {
  "nvidia.com/gpu.product": "NVIDIA-L4",
  "nvidia.com/gpu.memory": "23034",
  "nvidia.com/gpu.replicas": "1",
  "nvidia.com/gpu.compute.major": "8",
  "nvidia.com/gpu.compute.minor": "9",
};

describe("nodeHardware", () => {
  test("reads architecture, allocatable CPU and RAM and CPU flags", () => {
    const hardware = nodeHardware(
      node(
        {
          "kubernetes.io/arch": "amd64",
          "kubernetes.io/os": "linux",
          "feature.node.kubernetes.io/cpu-cpuid.AVX2": "true",
          "feature.node.kubernetes.io/cpu-cpuid.AMXTILE": "false",
        },
        { cpu: "3920m", memory: "16Gi", "ephemeral-storage": "47093746742" },
      ),
    );
    expect(hardware).toMatchObject({
      architecture: "amd64",
      allocatableCpuMillis: 3920,
      allocatableMemoryBytes: 16 * 2 ** 30,
      allocatableAmounts: { "ephemeral-storage": 47093746742 },
      cpuFeatures: ["AVX2"],
      accelerators: [],
      isUnschedulable: false,
    });
  });

  test.each([
    ["an L4", l4, "1", { memoryBytes: 23034 * 2 ** 20, product: "NVIDIA-L4", computeCapability: [8, 9] }],
    [
      "no memory label (unified memory)",
      { ...l4, "nvidia.com/gpu.memory": "" },
      "1",
      { uncertainty: expect.stringContaining("not stated") },
    ],
    [
      "memory label 0",
      { ...l4, "nvidia.com/gpu.memory": "0" },
      "1",
      { uncertainty: expect.stringContaining("not stated") },
    ],
    [
      "garbage in the memory label",
      { ...l4, "nvidia.com/gpu.memory": "23 GiB" },
      "1",
      { uncertainty: expect.stringContaining("not stated") },
    ],
    [
      "a GPU shared by four pods",
      { ...l4, "nvidia.com/gpu.replicas": "4" },
      "4",
      { count: 4, uncertainty: expect.stringContaining("shared by 4") },
    ],
    [
      "a bare device plugin without labels",
      {},
      "2",
      { count: 2, uncertainty: expect.stringContaining("not stated") },
    ],
  ])("NVIDIA: %s", (_name, labels, count, expected) => {
    const [accelerators, ...more] = nodeHardware(node(labels, { "nvidia.com/gpu": count })).accelerators;
    expect(more).toEqual([]);
    expect(accelerators).toMatchObject(expected);
    if ("uncertainty" in expected) expect(accelerators).not.toHaveProperty("memoryBytes");
  });

  test("labels without an allocatable device are no accelerator", () => {
    expect(nodeHardware(node(l4, {})).accelerators).toEqual([]);
    expect(nodeHardware(node(l4, { "nvidia.com/gpu": "0" })).accelerators).toEqual([]);
  });

  test("a node being deleted takes no pod; unknown facts are absent, not zero", () => {
    const hardware = nodeHardware(node({}, {}, { deletionTimestamp: "2026-01-01T00:00:00Z" }));
    expect(hardware.isUnschedulable).toBe(true);
    expect(hardware).not.toHaveProperty("allocatableMemoryBytes");
    expect(hardware).not.toHaveProperty("architecture");
  });
});
