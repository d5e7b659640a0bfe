// Nodes as clusters have them and as they should not be: every label dialect, with values right, odd and contradictory.

import fc from "fast-check";
import type { Node } from "../../../operator/hardware/node-hardware.ts";

type Part = {
  readonly labels: Readonly<Record<string, string>>;
  readonly allocatable: Readonly<Record<string, string>>;
};

const none: Part = { labels: {}, allocatable: {} };

/** Labels of which each may be missing or one of the values. */
function labels(
  values: Readonly<Record<string, readonly (string | undefined)[]>>,
): fc.Arbitrary<Part["labels"]> {
  return fc
    .record(Object.fromEntries(Object.entries(values).map(([key, each]) => [key, fc.constantFrom(...each)])))
    .map((found) =>
      Object.fromEntries(
        Object.entries(found).flatMap(([key, value]) => (value === undefined ? [] : [[key, value]])),
      ),
    );
}

function devices(names: readonly string[], counts = [0, 1, 1, 2, 4, 8]): fc.Arbitrary<Part["allocatable"]> {
  return fc
    .tuple(fc.constantFrom(...names), fc.constantFrom(...counts))
    .map(([name, count]) => ({ [name]: String(count) }));
}

function part(
  ofLabels: fc.Arbitrary<Part["labels"]>,
  allocatable: fc.Arbitrary<Part["allocatable"]>,
): fc.Arbitrary<Part> {
  return fc.record({ labels: ofLabels, allocatable });
}

function both(...parts: readonly fc.Arbitrary<Part>[]): fc.Arbitrary<Part> {
  return fc.tuple(...parts).map((each) => ({
    labels: Object.assign({}, ...each.map((one) => one.labels)) as Part["labels"],
    allocatable: Object.assign({}, ...each.map((one) => one.allocatable)) as Part["allocatable"],
  }));
}

const replicas = [undefined, undefined, "0", "1", "1", "1", "2", "4", "many"] as const;

/** Discovery as it is on most nodes: figures of one product. */
const soundDiscovery = fc
  .constantFrom(
    ["NVIDIA-L4", "23034", "8", "9"],
    ["Tesla-T4", "15360", "7", "5"],
    ["NVIDIA-A100-SXM4-40GB", "40960", "8", "0"],
    ["NVIDIA-A100-SXM4-80GB", "81920", "8", "0"],
    ["NVIDIA-A100-SXM4-80GB-MIG-1g.10gb", "9728", "8", "0"],
    ["NVIDIA-H100-80GB-HBM3", "81559", "9", "0"],
    ["NVIDIA-B200", "183359", "10", "0"],
    ["NVIDIA-GB10", undefined, "12", "1"],
  )
  .map(([product = "", memory, major = "", minor = ""]): Part["labels"] => ({
    "nvidia.com/gpu.product": product,
    ...(memory === undefined ? {} : { "nvidia.com/gpu.memory": memory }),
    "nvidia.com/gpu.compute.major": major,
    "nvidia.com/gpu.compute.minor": minor,
    "nvidia.com/gpu.replicas": "1",
  }));

const oddDiscovery = labels({
  "nvidia.com/gpu.product": [
    "NVIDIA-L4",
    "NVIDIA-L4-SHARED",
    "NVIDIA-GB10",
    "NVIDIA-A100-SXM4-80GB",
    "",
    undefined,
  ],
  "nvidia.com/gpu.memory": [
    "23034",
    "40960",
    "81920",
    "0",
    "",
    "24GB",
    "9223372036854775808",
    "9223372036854775807",
    undefined,
  ],
  "nvidia.com/gpu.replicas": replicas,
  "nvidia.com/gpu.count": [undefined, undefined, "1", "2", "8", "x"],
  "nvidia.com/gpu.compute.major": ["7", "8", "9", "x", undefined],
  "nvidia.com/gpu.compute.minor": ["0", "6", "9", "1000", "x", undefined],
});

const nvidiaDevices = devices([
  "nvidia.com/gpu",
  "nvidia.com/gpu",
  "nvidia.com/gpu",
  "nvidia.com/gpu.shared",
]);
const discovery = part(fc.oneof({ weight: 3, arbitrary: soundDiscovery }, oddDiscovery), nvidiaDevices);
const bare = part(fc.constant({}), nvidiaDevices);

const slices = part(
  labels({
    "nvidia.com/gpu.product": ["NVIDIA-A100-SXM4-80GB"],
    "nvidia.com/gpu.memory": ["81920"],
    "nvidia.com/gpu.compute.major": ["8"],
    "nvidia.com/gpu.compute.minor": ["0"],
    "nvidia.com/mig-1g.10gb.memory": ["9728", "9728", "0", undefined],
    "nvidia.com/mig-1g.10gb.replicas": replicas,
    "nvidia.com/mig-1g.10gb.product": ["NVIDIA-A100-SXM4-80GB-MIG-1g.10gb", undefined],
    "nvidia.com/mig-1g.10gb.count": ["7", "2", undefined],
    "nvidia.com/mig-3g.40gb.memory": ["40192", undefined],
    "nvidia.com/mig-3g.40gb.product": ["NVIDIA-A100-SXM4-80GB-MIG-3g.40gb", undefined],
  }),
  fc.record({
    "nvidia.com/gpu": fc.constantFrom("0", "1"),
    "nvidia.com/mig-1g.10gb": fc.constantFrom("0", "2", "7"),
    "nvidia.com/mig-3g.40gb": fc.constantFrom("0", "1", "2"),
  }),
);

const aws = both(
  part(
    fc.oneof(
      labels({
        "karpenter.k8s.aws/instance-gpu-name": [
          "t4",
          "a10g",
          "l4",
          "l40s",
          "a100",
          "h100",
          "radeon-pro-v520",
          "t9",
          undefined,
        ],
        "karpenter.k8s.aws/instance-gpu-manufacturer": ["nvidia", "nvidia", "amd", undefined],
        "karpenter.k8s.aws/instance-gpu-memory": [
          "16384",
          "22888",
          "45776",
          "81920",
          "2861",
          "0",
          "x",
          undefined,
        ],
        "node.kubernetes.io/instance-type": ["g5.xlarge", "g6.xlarge", "g4ad.xlarge", "m5.large", undefined],
      }),
      labels({
        "eks.amazonaws.com/compute-type": ["auto"],
        "eks.amazonaws.com/instance-gpu-name": ["l4", "l40s", "h100", undefined],
        "eks.amazonaws.com/instance-gpu-manufacturer": ["nvidia", undefined],
        "eks.amazonaws.com/instance-gpu-memory": ["22888", "45776", "81920", undefined],
        "node.kubernetes.io/instance-type": ["g6.xlarge", "p5.48xlarge", undefined],
      }),
      labels({
        "k8s.amazonaws.com/accelerator": ["nvidia-tesla-t4", "nvidia-l4", "nvidia-unheard-of", undefined],
        "node.kubernetes.io/instance-type": [
          "p4d.24xlarge",
          "g4dn.xlarge",
          "g4ad.xlarge",
          "dl1.24xlarge",
          "c7i.large",
        ],
      }),
    ),
    fc.constant({}),
  ),
  fc.oneof(
    { weight: 3, arbitrary: bare },
    discovery,
    part(fc.constant({}), devices(["amd.com/gpu", "habana.ai/gaudi"])),
  ),
);

const gke = both(
  part(
    labels({
      "cloud.google.com/gke-nodepool": ["pool"],
      "cloud.google.com/gke-accelerator": [
        "nvidia-l4",
        "nvidia-tesla-t4",
        "nvidia-tesla-a100",
        "nvidia-h100-80gb",
        "tpu",
        undefined,
      ],
      "cloud.google.com/gke-gpu-sharing-strategy": [undefined, undefined, undefined, "time-sharing", "mps"],
      "cloud.google.com/gke-max-shared-clients-per-gpu": [undefined, "4"],
      "cloud.google.com/gke-gpu-partition-size": [undefined, undefined, "1g.5gb", "3g.40gb", "9g.9gb", "odd"],
    }),
    fc.constant({}),
  ),
  fc.oneof({ weight: 3, arbitrary: bare }, discovery),
);

const azure = both(
  part(
    labels({
      "kubernetes.azure.com/cluster": ["mine"],
      "karpenter.azure.com/sku-gpu-name": [undefined, "A100", "T4"],
      "node.kubernetes.io/instance-type": [
        "Standard_NC4as_T4_v3",
        "Standard_NC24ads_A100_v4",
        "Standard_ND96isr_MI300X_v5",
        "Standard_D8s_v5",
        undefined,
      ],
    }),
    fc.constant({}),
  ),
  fc.oneof({ weight: 3, arbitrary: bare }, discovery, part(fc.constant({}), devices(["amd.com/gpu"]))),
);

const amd = part(
  fc.oneof(
    labels({
      "amd.com/gpu.vram": ["16G", "64G", "192G", "47G", "0G", "big", undefined],
      "amd.com/gpu.product-name": ["AMD_Instinct_MI300X_OAM", "AMD_Instinct_MI210", "Unheard_Of", undefined],
      "amd.com/gpu.compute-memory-partition": [undefined, undefined, "SPX_NPS1", "CPX_NPS4", "cpx_nps4"],
      "beta.amd.com/gpu.vram": [undefined, "64G"],
    }),
    labels({ "amd.com/gpu.vram.64G": ["2"], "amd.com/gpu.vram.32G": ["2", undefined] }),
    labels({ "beta.amd.com/gpu.vram": ["16G", "32G", undefined], "beta.amd.com/gpu.vram.16G": ["1", "2"] }),
  ),
  devices(["amd.com/gpu"]),
);

const intel = part(
  labels({
    "gpu.intel.com/product": [
      "Flex_140",
      "Flex_170",
      "Max_1100",
      "Max_1550",
      "Arc_Pro_B60",
      "Arc_Z1",
      undefined,
    ],
    "gpu.intel.com/device.count": ["1", "2", "8", "x", undefined],
    "gpu.intel.com/device-id.0380-56c0.present": ["true", undefined],
  }),
  devices(["gpu.intel.com/i915", "gpu.intel.com/xe"]),
);

const common = labels({
  "kubernetes.io/arch": ["amd64", "amd64", "arm64", undefined],
  "kubernetes.io/os": ["linux", "linux", "linux", "linux", "windows", undefined],
  "feature.node.kubernetes.io/cpu-cpuid.AVX2": ["true", "true", "false", undefined],
  "feature.node.kubernetes.io/cpu-cpuid.AVX512F": ["true", undefined],
  pool: ["a", "b", undefined],
});

const taints = fc.subarray(
  [
    { key: "nvidia.com/gpu", value: "present", effect: "NoSchedule" },
    { key: "amd.com/gpu", value: "true", effect: "NoSchedule" },
    { key: "gpu.intel.com/i915", effect: "NoSchedule" },
    { key: "habana.ai/gaudi", effect: "NoSchedule" },
    { key: "dedicated", value: "llm", effect: "NoSchedule" },
    { key: "spot", effect: "PreferNoSchedule" },
    { key: "leaving", effect: "NoExecute" },
  ],
  { maxLength: 1 },
);

export const gibibyte = 2 ** 30;

/** A node of no name yet. RAM and CPUs are stated, as every kubelet does. */
export const arbitraryNode: fc.Arbitrary<Node> = fc
  .record({
    part: fc.oneof(
      fc.constant(none),
      discovery,
      discovery,
      slices,
      aws,
      gke,
      azure,
      amd,
      intel,
      both(amd, discovery),
    ),
    common,
    hasHostname: fc.boolean(),
    memoryGibibytes: fc.constantFrom(4, 16, 64, 256),
    cpus: fc.constantFrom(2, 8, 64),
    diskGibibytes: fc.constantFrom(10, 100, 500, 500),
    others: labels({
      "hugepages-2Mi": [undefined, undefined, "0", "1Gi", "4Gi"],
      "example.com/fpga": [undefined, undefined, "1", "4"],
    }),
    taints: fc.oneof({ weight: 3, arbitrary: fc.constant([]) }, taints),
    isCordoned: fc.integer({ min: 0, max: 9 }).map((each) => each === 0),
  })
  .map(
    ({
      part: found,
      common: shared,
      hasHostname,
      memoryGibibytes,
      cpus,
      diskGibibytes,
      others,
      taints: marks,
      isCordoned,
    }) => ({
      apiVersion: "v1",
      kind: "Node",
      metadata: {
        name: "",
        labels: { ...shared, ...found.labels, ...(hasHostname ? { "kubernetes.io/hostname": "" } : {}) },
      },
      spec: {
        ...(isCordoned ? { unschedulable: true } : {}),
        ...(marks.length === 0 ? {} : { taints: marks }),
      },
      status: {
        allocatable: {
          cpu: String(cpus),
          memory: `${memoryGibibytes * 2 ** 20}Ki`,
          "ephemeral-storage": `${diskGibibytes}Gi`,
          pods: "110",
          ...others,
          ...found.allocatable,
        },
      },
    }),
  );

/** The nodes with names, which their host names repeat where they have that label. */
export function named(nodes: readonly Node[], prefix = "n"): Node[] {
  return nodes.map((node, index) => {
    const name = `${prefix}${index}`;
    const has = node.metadata.labels?.["kubernetes.io/hostname"] !== undefined;
    return {
      ...node,
      metadata: {
        ...node.metadata,
        name,
        labels: { ...node.metadata.labels, ...(has ? { "kubernetes.io/hostname": name } : {}) },
      },
    };
  });
}
