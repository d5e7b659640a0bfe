// Devices beside the plain NVIDIA GPU: other vendors, slices, memory shared with the host, and clusters without any yet.

import { describe, expect, test } from "vitest";
import type { Requirements, SelectionSpec, VariantSpec } from "../../../operator/api/model.ts";
import { configurationSchema, type RuntimeDefinition } from "../../../operator/configuration.ts";
import { nodeHardware, type Node } from "../../../operator/hardware/node-hardware.ts";
import { withSlices } from "../../../operator/hardware/with-slices.ts";
import { runtimeFor } from "../../../operator/reconcile/variants.ts";
import { chooseVariant } from "../../../operator/selection/choose-variant.ts";
import type { Candidate } from "../../../operator/selection/types.ts";
import { schedulable } from "./scheduler-model.ts";

const engine: RuntimeDefinition = {
  image: "registry.example/engine",
  acceleratorImage: "registry.example/engine:cuda",
  vendorImages: { amd: "registry.example/engine:rocm", intel: "registry.example/engine:sycl" },
  formats: ["gguf"],
  cpu: true,
  args: [],
  acceleratorArgs: [],
  env: [],
  port: 8080,
  resources: {},
  sharedMemory: false,
};

function candidate(weightGibibytes: number, requirements: Requirements, runtime = engine): Candidate {
  return {
    variant: { name: "v", requirements },
    artifact: {
      reference: "registry.example/llm:v",
      digest: `sha256:${"0".repeat(64)}`,
      packaging: "docker",
      format: "gguf",
      sizeBytes: weightGibibytes * 2 ** 30,
      weightBytes: weightGibibytes * 2 ** 30,
    },
    runtime: { name: "engine", definition: runtime },
  };
}

function node(name: string, labels: Record<string, string>, allocatable: Record<string, string>): Node {
  return {
    apiVersion: "v1",
    kind: "Node",
    metadata: { name, labels: { "kubernetes.io/hostname": name, ...labels } },
    spec: {},
    status: { allocatable: { cpu: "16", memory: "64Gi", pods: "110", ...allocatable } },
  };
}

function choose(one: Candidate, nodes: readonly Node[], selection: SelectionSpec = { cpuFallback: false }) {
  return chooseVariant({
    candidates: [one],
    nodes: nodes.map(nodeHardware),
    selection,
    tolerations: () => [],
    replicas: 1,
  });
}

const nvidia = { accelerator: { vendor: "nvidia" as const } };
const slices = node(
  "mig",
  {
    "nvidia.com/gpu.product": "NVIDIA-A100-SXM4-80GB",
    "nvidia.com/gpu.memory": "81920",
    "nvidia.com/mig-1g.10gb.memory": "9728",
    "nvidia.com/mig-3g.40gb.memory": "40192",
  },
  { "nvidia.com/gpu": "0", "nvidia.com/mig-1g.10gb": "4", "nvidia.com/mig-3g.40gb": "1" },
);
const spark = node(
  "spark",
  { "nvidia.com/gpu.product": "NVIDIA-GB10", "nvidia.com/gpu.replicas": "1" },
  { "nvidia.com/gpu": "1", memory: "119Gi" },
);

describe("devices", () => {
  test("cut into slices are asked for by the resource of the slice that is large enough", () => {
    expect(choose(candidate(4, nvidia), [slices])).toMatchObject({
      placement: { deviceResource: { name: "nvidia.com/mig-1g.10gb", count: 1 } },
    });
    expect(choose(candidate(20, nvidia), [slices])).toMatchObject({
      placement: { deviceResource: { name: "nvidia.com/mig-3g.40gb", count: 1 } },
    });
    expect(choose(candidate(60, nvidia), [slices])).toMatchObject({ kind: "none" });
  });

  test("without memory of their own make the pod request RAM", () => {
    const choice = choose(candidate(60, nvidia), [spark]);
    expect(choice).toMatchObject({ kind: "selected", placement: { matchingNodes: ["spark"] } });
    if (choice.kind === "selected") expect(choice.placement.memoryBytes).toBeGreaterThan(60 * 2 ** 30);
    expect(choose(candidate(140, nvidia), [spark])).toMatchObject({ kind: "none" });
  });

  test.each<[string, Requirements, Record<string, string>, string]>([
    ["amd", { accelerator: { vendor: "amd" } }, { "amd.com/gpu.vram": "64G" }, "amd.com/gpu"],
    [
      "intel",
      { accelerator: { vendor: "intel" } },
      { "gpu.intel.com/product": "Max_1100" },
      "gpu.intel.com/xe",
    ],
  ])(
    "of %s are asked for by their own resource, with their own taint tolerated",
    (vendor, requirements, labels, resource) => {
      const tainted = {
        ...node("n", labels, { [resource]: "2" }),
        spec: { taints: [{ key: resource, effect: "NoSchedule" }] },
      };
      expect(choose(candidate(20, requirements), [tainted])).toMatchObject({
        placement: { accelerator: vendor, deviceResource: { name: resource }, matchingNodes: ["n"] },
      });
      expect(choose(candidate(130, requirements), [tainted])).toMatchObject({ kind: "none" });
    },
  );

  test("of a vendor that the runtime has no image for are refused with the remedy, unless the user gives an image", () => {
    const gaudi = { accelerator: { vendor: "habana" as const, memoryPerDevice: "0" } };
    const host = node("gaudi", {}, { "habana.ai/gaudi": "8" });
    const refused = choose(candidate(8, gaudi), [host]);
    expect(refused).toMatchObject({ kind: "none", reason: "RuntimeUnknown" });
    expect(refused.verdicts[0]?.message).toContain(
      "no image for habana devices; set its vendorImages.habana",
    );
    const spec = {
      source: { reference: "registry.example/llm:v" },
      runtime: { name: "engine", image: "registry.example/gaudi" },
    };
    const variant: VariantSpec = { name: "v", requirements: gaudi };
    const configuration = configurationSchema.parse({ pullerImage: "p", runtimes: { engine } });
    const runtime = runtimeFor(spec, variant, "gguf", configuration);
    expect(choose(candidate(8, gaudi, runtime?.definition), [host])).toMatchObject({ kind: "selected" });
  });

  test("that only a DRA driver offers are claimed, with conditions that say what the verdict says", () => {
    const host = withSlices(nodeHardware(node("dra", {}, {})), [
      {
        apiVersion: "resource.k8s.io/v1",
        kind: "ResourceSlice",
        metadata: { name: "s" },
        spec: {
          driver: "gpu.nvidia.com",
          nodeName: "dra",
          pool: { name: "dra", generation: 1, resourceSliceCount: 1 },
          devices: [
            {
              name: "gpu-0",
              attributes: {
                type: { string: "gpu" },
                productName: { string: "NVIDIA H100 80GB HBM3" },
                cudaComputeCapability: { version: "9.0.0" },
              },
              capacity: { memory: { value: "81559Mi" } },
            },
          ],
        },
      },
    ]);
    const judge = (accelerator: object) =>
      chooseVariant({
        candidates: [candidate(4, { accelerator: { vendor: "nvidia", ...accelerator } })],
        nodes: [host],
        selection: { cpuFallback: false },
        tolerations: () => [],
        replicas: 1,
      });
    const domain = '"gpu.nvidia.com"';
    expect(
      judge({ products: ["*H100*", "*h200*"], minComputeCapability: "8.9", memoryPerDevice: "40Gi" }),
    ).toMatchObject({
      kind: "selected",
      placement: {
        accelerator: "nvidia",
        deviceClaim: {
          deviceClassName: "gpu.nvidia.com",
          count: 1,
          expressions: [
            `device.driver == ${domain}`,
            `"type" in device.attributes[${domain}] && device.attributes[${domain}].type in ["gpu"]`,
            `"memory" in device.capacity[${domain}] && device.capacity[${domain}].memory.compareTo(quantity("39513699123")) >= 0`,
            `("productName" in device.attributes[${domain}] ? device.attributes[${domain}].productName : "").matches("(?i)^.*H100.*$|^.*h200.*$")`,
            `"cudaComputeCapability" in device.attributes[${domain}] && device.attributes[${domain}].cudaComputeCapability.compareTo(semver("8.9.0")) >= 0`,
          ],
        },
        nodeSelectorTerms: [],
      },
    });
    expect(judge({ memoryPerDevice: "200Gi" }).verdicts[0]?.message).toContain("best node dra has 79.6 GiB");
    expect(judge({ count: 2 }).verdicts[0]?.nearMisses[0]?.lacks).toBe("it has 1 of 2 GPUs");
    expect(judge({ products: ["*L4*"] }).verdicts[0]?.message).toContain(
      "1 with the GPU NVIDIA H100 80GB HBM3",
    );
  });

  test("are compared by nominal size where the user states one: a 16Gi T4 has 15109 MiB", () => {
    const t4 = node("t4", { "nvidia.com/gpu.memory": "15109" }, { "nvidia.com/gpu": "1" });
    const stating = (memoryPerDevice: string): Requirements => ({
      accelerator: { vendor: "nvidia", memoryPerDevice },
    });
    expect(choose(candidate(1, stating("16Gi")), [t4])).toMatchObject({ kind: "selected" });
    expect(choose(candidate(1, stating("17Gi")), [t4])).toMatchObject({ kind: "none" });
  });
});

describe("a cluster that has no fitting node yet", () => {
  const provision: SelectionSpec = { emptyCluster: "Provision", cpuFallback: false };
  const terms = (nodes: readonly Node[]) => {
    const choice = choose(candidate(20, nvidia), nodes, provision);
    return choice.kind === "selected" ? choice.placement.nodeSelectorTerms : [];
  };

  test("waits, or is asked for what an autoscaler can bring", () => {
    expect(choose(candidate(20, nvidia), [])).toMatchObject({ kind: "none", reason: "NoNodesYet" });
    const choice = choose(candidate(20, nvidia), [], provision);
    expect(choice).toMatchObject({ kind: "selected", placement: { matchingNodes: [] } });
    if (choice.kind === "selected") expect(choice.reason).toContain("an autoscaler is to bring one");
  });

  test("names an autoscaler's own labels before those that only discovery brings, since Karpenter tries terms in order", () => {
    const firstKeys = terms([]).map(({ matchExpressions = [] }) => matchExpressions.map(({ key }) => key));
    const karpenter = firstKeys.findIndex((keys) => keys.includes("karpenter.k8s.aws/instance-gpu-memory"));
    const discovery = firstKeys.findIndex((keys) => keys[0] === "nvidia.com/gpu.memory");
    expect(karpenter).toBe(0);
    expect(discovery).toBeGreaterThan(karpenter);
  });

  test.each<[string, Record<string, string>]>([
    [
      "Karpenter",
      {
        "karpenter.k8s.aws/instance-gpu-manufacturer": "nvidia",
        "karpenter.k8s.aws/instance-gpu-memory": "45776",
      },
    ],
    [
      "EKS Auto Mode",
      {
        "eks.amazonaws.com/instance-gpu-manufacturer": "nvidia",
        "eks.amazonaws.com/instance-gpu-memory": "45776",
      },
    ],
    ["the Cluster Autoscaler on AWS", { "node.kubernetes.io/instance-type": "g6e.xlarge" }],
    ["GKE", { "cloud.google.com/gke-accelerator": "nvidia-a100-80gb" }],
    ["AKS", { "node.kubernetes.io/instance-type": "Standard_NC24ads_A100_v4" }],
  ])(
    "and the node that %s would bring is one the scheduler takes, before discovery has labelled it and after",
    (_who, labels) => {
      const pod = { terms: terms([]), tolerations: [], requests: { "nvidia.com/gpu": 1 } };
      const fresh = node("new", labels, { "nvidia.com/gpu": "1" });
      expect(schedulable(pod, fresh)).toBe(true);
      const discovered = node(
        "new",
        {
          ...labels,
          "nvidia.com/gpu.product": "NVIDIA-L40S",
          "nvidia.com/gpu.memory": "46068",
          "nvidia.com/gpu.replicas": "1",
        },
        { "nvidia.com/gpu": "1" },
      );
      expect(schedulable(pod, discovered)).toBe(true);
      expect(schedulable(pod, node("cpu", {}, {}))).toBe(false);
    },
  );
});
