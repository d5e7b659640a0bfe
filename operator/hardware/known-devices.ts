// Devices known by name, for nodes whose labels name a product or an instance type but no memory. Data and look-ups; pure.
//
// Memory is what drivers report to discovery (MiB), the least of what is seen where it varies with drivers or error
// correction: an L4 of "24 GB" has 22888 to 23034 MiB. Sources: instance type pages of the clouds, vendors' data sheets.

import type { DeviceVendor } from "./types.ts";

export type KnownDevice = {
  readonly vendor: DeviceVendor;
  readonly product: string;
  /** Of one device, MiB. */
  readonly memoryMebibytes: number;
  /** CUDA compute capability. */
  readonly computeCapability?: readonly [number, number];
};

function nvidia(
  product: string,
  memoryMebibytes: number,
  computeCapability: readonly [number, number],
): KnownDevice {
  return { vendor: "nvidia", product, memoryMebibytes, computeCapability };
}
function gibibytes(vendor: DeviceVendor, product: string, size: number): KnownDevice {
  return { vendor, product, memoryMebibytes: size * 1024 };
}

const k80 = nvidia("Tesla-K80", 11441, [3, 7]);
const p4 = nvidia("Tesla-P4", 7611, [6, 1]);
const p100 = nvidia("Tesla-P100", 16276, [6, 0]);
const v100 = nvidia("Tesla-V100", 16160, [7, 0]);
const v100Large = nvidia("Tesla-V100-32GB", 32510, [7, 0]);
const t4 = nvidia("Tesla-T4", 15109, [7, 5]);
const t4g = nvidia("NVIDIA-T4G", 15109, [7, 5]);
const a10 = nvidia("NVIDIA-A10", 22888, [8, 6]);
const a10g = nvidia("NVIDIA-A10G", 22731, [8, 6]);
const l4 = nvidia("NVIDIA-L4", 22888, [8, 9]);
const l40s = nvidia("NVIDIA-L40S", 45776, [8, 9]);
const a100 = nvidia("NVIDIA-A100-40GB", 40326, [8, 0]);
const a100Large = nvidia("NVIDIA-A100-80GB", 81050, [8, 0]);
const h100 = nvidia("NVIDIA-H100-80GB", 81079, [9, 0]);
const h100Nvl = nvidia("NVIDIA-H100-NVL", 95320, [9, 0]);
const h200 = nvidia("NVIDIA-H200", 143156, [9, 0]);
const b200 = nvidia("NVIDIA-B200", 182642, [10, 0]);
const gb200 = nvidia("NVIDIA-GB200", 188416, [10, 0]);
const b300 = nvidia("NVIDIA-B300", 275040, [10, 3]);
const rtxPro6000 = nvidia("NVIDIA-RTX-PRO-6000", 97251, [12, 0]);
const v520 = gibibytes("amd", "AMD_Radeon_Pro_V520", 8);
const mi300x = gibibytes("amd", "AMD_Instinct_MI300X_OAM", 192);
const gaudi = gibibytes("habana", "Gaudi", 32);

/** `cloud.google.com/gke-accelerator`. */
export const gkeAccelerators: Readonly<Record<string, KnownDevice>> = {
  "nvidia-tesla-k80": k80,
  "nvidia-tesla-p4": p4,
  "nvidia-tesla-p100": p100,
  "nvidia-tesla-v100": v100,
  "nvidia-tesla-t4": t4,
  "nvidia-l4": l4,
  "nvidia-tesla-a100": a100,
  "nvidia-a100-80gb": a100Large,
  "nvidia-h100-80gb": h100,
  "nvidia-h100-mega-80gb": h100,
  "nvidia-h200-141gb": h200,
  "nvidia-b200": b200,
  "nvidia-gb200": gb200,
  "nvidia-rtx-pro-6000": rtxPro6000,
};

/** `k8s.amazonaws.com/accelerator`, which node groups carry for the Cluster Autoscaler; V100s come in two sizes, the smaller counts. */
export const awsAccelerators: Readonly<Record<string, KnownDevice>> = {
  "nvidia-tesla-k80": k80,
  "nvidia-tesla-v100": v100,
  "nvidia-tesla-t4": t4,
  "nvidia-tesla-a10g": a10g,
  "nvidia-tesla-a100": a100,
  "nvidia-l4": l4,
  "nvidia-l40s": l40s,
  "nvidia-h100": h100,
};

/** `karpenter.k8s.aws/instance-gpu-name` (also EKS Auto Mode): compute capability and product; the memory has a label. */
export const awsGpuNames: Readonly<Record<string, KnownDevice>> = {
  k80,
  v100,
  t4,
  t4g,
  a10g,
  l4,
  l40s,
  a100,
  h100,
  h200,
  b200,
  b300,
  "rtx-pro-server-6000": rtxPro6000,
  "radeon-pro-v520": v520,
};

const small = ["xlarge", "2xlarge", "4xlarge", "8xlarge", "12xlarge", "16xlarge"];
const awsFamilies: readonly (readonly [family: string, sizes: readonly string[], device: KnownDevice])[] = [
  ["p2", ["xlarge", "8xlarge", "16xlarge"], k80],
  ["p3", ["2xlarge", "8xlarge", "16xlarge"], v100],
  ["p3dn", ["24xlarge"], v100Large],
  ["p4d", ["24xlarge"], a100],
  ["p4de", ["24xlarge"], a100Large],
  ["p5", ["4xlarge", "48xlarge"], h100],
  ["p5e", ["48xlarge"], h200],
  ["p5en", ["48xlarge"], h200],
  ["p6-b200", ["48xlarge"], b200],
  ["p6-b300", ["48xlarge"], b300],
  ["g4dn", [...small, "metal"], t4],
  ["g4ad", ["xlarge", "2xlarge", "4xlarge", "8xlarge", "16xlarge"], v520],
  ["g5", [...small, "24xlarge", "48xlarge"], a10g],
  ["g5g", ["xlarge", "2xlarge", "4xlarge", "8xlarge", "16xlarge", "metal"], t4g],
  ["g6", [...small, "24xlarge", "48xlarge"], l4],
  ["gr6", ["4xlarge", "8xlarge"], l4],
  ["g6e", [...small, "24xlarge", "48xlarge"], l40s],
  ["dl1", ["24xlarge"], gaudi],
];

/** `node.kubernetes.io/instance-type` on AWS. */
export const awsInstanceTypes: Readonly<Record<string, KnownDevice>> = Object.fromEntries(
  awsFamilies.flatMap(([family, sizes, device]) => sizes.map((size) => [`${family}.${size}`, device])),
);

/** `node.kubernetes.io/instance-type` on Azure, which is the size of the virtual machine. */
export const azureInstanceTypes: Readonly<Record<string, KnownDevice>> = {
  Standard_NC6s_v3: v100,
  Standard_NC12s_v3: v100,
  Standard_NC24s_v3: v100,
  Standard_NC24rs_v3: v100,
  Standard_ND40rs_v2: v100Large,
  Standard_NC4as_T4_v3: t4,
  Standard_NC8as_T4_v3: t4,
  Standard_NC16as_T4_v3: t4,
  Standard_NC64as_T4_v3: t4,
  Standard_NV36ads_A10_v5: a10,
  Standard_NV36adms_A10_v5: a10,
  Standard_NV72ads_A10_v5: a10,
  Standard_NC24ads_A100_v4: a100Large,
  Standard_NC48ads_A100_v4: a100Large,
  Standard_NC96ads_A100_v4: a100Large,
  Standard_ND96asr_v4: a100,
  Standard_ND96amsr_A100_v4: a100Large,
  Standard_NC40ads_H100_v5: h100Nvl,
  Standard_NC80adis_H100_v5: h100Nvl,
  Standard_ND96isr_H100_v5: h100,
  Standard_ND96isr_H200_v5: h200,
  Standard_ND96is_MI300X_v5: mi300x,
  Standard_ND96isr_MI300X_v5: mi300x,
};

/** `amd.com/gpu.product-name`, GiB. */
export const amdProducts: Readonly<Record<string, KnownDevice>> = Object.fromEntries(
  (
    [
      ["AMD_Instinct_MI100", 32],
      ["AMD_Instinct_MI210", 64],
      ["AMD_Instinct_MI250", 64],
      ["AMD_Instinct_MI250X", 64],
      ["AMD_Instinct_MI300A", 128],
      ["AMD_Instinct_MI300X", 192],
      ["AMD_Instinct_MI300X_OAM", 192],
      ["AMD_Instinct_MI300X_VF", 192],
      ["AMD_Instinct_MI308X", 192],
      ["AMD_Instinct_MI325X", 256],
      ["AMD_Instinct_MI325X_OAM", 256],
      ["AMD_Instinct_MI350X", 288],
      ["AMD_Instinct_MI355X", 288],
      ["AMD_Radeon_PRO_W6800", 32],
      ["AMD_Radeon_PRO_W7900", 48],
      ["AMD_Radeon_Pro_V520", 8],
      ["AMD_Radeon_Pro_V620", 32],
      ["AMD_Radeon_RX_7900_XTX", 24],
    ] as const
  ).map(([product, size]) => [product, gibibytes("amd", product, size)]),
);

/** Sizes, GiB, in which AMD's labeller has been seen to name memory (`192G`). */
export const amdMemorySizes: readonly number[] = [
  4, 8, 12, 16, 20, 24, 32, 48, 64, 96, 128, 192, 256, 288, 432,
];

/** `gpu.intel.com/product`, GiB of one device as the plugin counts them: a Flex 140 card is two of 6 GiB. */
export const intelProducts: Readonly<Record<string, KnownDevice>> = Object.fromEntries(
  (
    [
      ["Flex_140", 6],
      ["Flex_170", 16],
      ["Max_1100", 48],
      ["Max_1550", 128],
      ["Arc_B570", 10],
      ["Arc_B580", 12],
      ["Arc_Pro_B50", 16],
      ["Arc_Pro_B60", 24],
    ] as const
  ).map(([product, size]) => [product, gibibytes("intel", product, size)]),
);

/** NVIDIA products without memory of their own: discovery states none, and what they need is the host's RAM. */
export const unifiedMemoryProducts: readonly string[] = [
  "NVIDIA-GB10",
  "NVIDIA-Jetson-AGX-Orin",
  "NVIDIA-Thor",
  "Orin",
];

/** Partitions of `cloud.google.com/gke-gpu-partition-size`, where a whole device is cut by the node pool. */
export const gkePartitions: readonly string[] = [
  "1g.5gb",
  "2g.10gb",
  "3g.20gb",
  "7g.40gb",
  "1g.10gb",
  "2g.20gb",
  "3g.40gb",
  "7g.80gb",
  "1g.18gb",
  "2g.35gb",
  "3g.71gb",
  "7g.141gb",
  "1g.23gb",
  "2g.45gb",
  "3g.90gb",
  "7g.180gb",
];

/** Least memory of a MIG profile, bytes: its name counts decimal gigabytes, rounded down by no more than what it has. */
export function migProfileBytes(profile: string): number | undefined {
  const match = /^\d+g\.(\d{1,3})gb/.exec(profile);
  return match?.[1] === undefined ? undefined : Number(match[1]) * 1e9;
}
