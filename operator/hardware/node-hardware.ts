// Turns a Node into NodeHardware: architecture, allocatable CPU and RAM, CPU flags, accelerators. Pure.

import type { KubeObject } from "../kube/types.ts";
import { parseQuantity } from "../kube/quantity.ts";
import { nvidiaAccelerators } from "./nvidia.ts";
import type { NodeHardware } from "./types.ts";

/** The parts of a core/v1 Node that are read. */
export type Node = KubeObject & {
  readonly spec?: {
    readonly unschedulable?: boolean;
    readonly taints?: readonly { readonly key: string; readonly value?: string; readonly effect: string }[];
  };
  readonly status?: {
    readonly allocatable?: Readonly<Record<string, string>>;
    readonly capacity?: Readonly<Record<string, string>>;
  };
};

/** Prefix of the CPU flags that Node Feature Discovery publishes as `<prefix><FLAG>=true`. */
export const cpuFeaturePrefix = "feature.node.kubernetes.io/cpu-cpuid.";

/** Reads what a node says of itself; a label that is absent or malformed is unknown, never zero. */
export function nodeHardware(node: Node): NodeHardware {
  const labels = node.metadata.labels ?? {};
  const allocatable = node.status?.allocatable ?? {};
  const cpuCores = parseQuantity(allocatable["cpu"]);
  const memoryBytes = parseQuantity(allocatable["memory"]);
  const ephemeralBytes = parseQuantity(allocatable["ephemeral-storage"]);
  const architecture = labels["kubernetes.io/arch"];
  const operatingSystem = labels["kubernetes.io/os"];
  return {
    name: node.metadata.name,
    ...(architecture === undefined ? {} : { architecture }),
    ...(operatingSystem === undefined ? {} : { operatingSystem }),
    ...(cpuCores === undefined ? {} : { allocatableCpuMillis: Math.round(cpuCores * 1000) }),
    ...(memoryBytes === undefined ? {} : { allocatableMemoryBytes: memoryBytes }),
    ...(ephemeralBytes === undefined ? {} : { allocatableEphemeralBytes: ephemeralBytes }),
    cpuFeatures: Object.keys(labels)
      .filter((key) => key.startsWith(cpuFeaturePrefix) && labels[key] === "true")
      .map((key) => key.slice(cpuFeaturePrefix.length))
      .sort(),
    accelerators: nvidiaAccelerators(labels, allocatable),
    notes: [],
    isUnschedulable: node.spec?.unschedulable === true || node.metadata.deletionTimestamp !== undefined,
    labels,
    taints: node.spec?.taints ?? [],
  };
}
