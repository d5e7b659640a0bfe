// Whether a variant, placed on an accelerator or on CPUs, fits a node, and what is missing where it does not. Pure.

import type { JsonObject, Requirements } from "../api/model.ts";
import { isSameAccess } from "../hardware/device-way.ts";
import { isCapable } from "../hardware/dialect.ts";
import type { DeviceWay, NodeAccelerators, NodeHardware } from "../hardware/types.ts";
import { formatBytes } from "../kube/quantity.ts";
import { productFilter } from "./glob.ts";
import { matchesNodeSelector } from "./node-selector.ts";
import { untoleratedTaint } from "./tolerations.ts";

/** What one pod asks of one node. */
export type PodDemand = {
  readonly requirements: Requirements;
  readonly tolerations: readonly JsonObject[];
  /** Devices, how they are asked for, and memory each must have; undefined: CPU only. `memoryBytes` 0: not compared. */
  readonly device:
    { readonly way: DeviceWay; readonly count: number; readonly memoryBytes: number } | undefined;
  /** RAM, bytes; 0: not compared. */
  readonly memoryBytes: number;
  /** CPU that the pod's containers request; absent: not compared. */
  readonly cpuMillis?: number;
};

/** Classes of refusal, in the order in which a message groups them. */
export type Obstacle =
  | { readonly kind: "memory"; readonly hasBytes: number }
  | { readonly kind: "no-accelerator" }
  | { readonly kind: "unknown"; readonly what: string }
  /** Fits, but other pods hold what it needs. */
  | { readonly kind: "taken"; readonly what: string }
  | { readonly kind: "other"; readonly what: string };

/**
 * Least memory that drivers report for a device of a nominal size, bytes: a "16 GB" T4 has 15109 MiB, since error
 * correction takes a sixteenth and the driver its part. What a user states is the size by which devices are sold.
 */
export function leastOfNominal(statedBytes: number): number {
  return Math.floor(statedBytes * 0.92);
}

/** `8.9` as numbers. */
export function parseCapability(text: string): readonly [number, number] {
  const [major = 0, minor = 0] = text.split(".").map(Number);
  return [major, minor];
}

/**
 * Whether the devices are asked for in the demand's way. Memory that is shared with the host is another way only
 * where memory is compared at all.
 */
export function offersWay(
  accelerators: NodeAccelerators,
  { way, memoryBytes }: NonNullable<PodDemand["device"]>,
): boolean {
  return (
    accelerators.vendor === way.vendor &&
    isSameAccess(accelerators.access, way.access) &&
    (memoryBytes === 0 || accelerators.isUnifiedMemory === way.isUnifiedMemory)
  );
}

/** Globs compiled once, not once a node. */
const filters = new WeakMap<readonly string[], ReturnType<typeof productFilter>>();

function filterOf(globs: readonly string[]): ReturnType<typeof productFilter> {
  if (!filters.has(globs)) filters.set(globs, productFilter(globs));
  return filters.get(globs);
}

/** What keeps the pod from devices of one class; undefined: they are good for it, however many there are. */
function classObstacle(
  accelerators: NodeAccelerators,
  demand: PodDemand,
  leastMemoryBytes: number,
): Obstacle | undefined {
  const { products, minComputeCapability } = demand.requirements.accelerator ?? {};
  const isWanted = products === undefined ? undefined : filterOf(products);
  if (isWanted !== undefined) {
    const { product } = accelerators;
    if (product === undefined) return { kind: "unknown", what: "its GPU product is not stated" };
    if (!isWanted(product)) return { kind: "other", what: `its GPU is ${product}` };
  }
  if (minComputeCapability !== undefined) {
    const has = accelerators.computeCapability;
    if (has === undefined) return { kind: "unknown", what: "its compute capability is not stated" };
    if (!isCapable(has, parseCapability(minComputeCapability))) {
      return { kind: "other", what: `its compute capability is ${has.join(".")}` };
    }
  }
  // What unified memory must hold is compared, and requested, as RAM.
  if (leastMemoryBytes === 0 || (accelerators.isUnifiedMemory && accelerators.uncertainty === undefined)) {
    return undefined;
  }
  const { memoryBytes } = accelerators;
  if (memoryBytes === undefined) {
    return { kind: "unknown", what: accelerators.uncertainty ?? "its GPU memory is not stated" };
  }
  return memoryBytes < leastMemoryBytes ? { kind: "memory", hasBytes: memoryBytes } : undefined;
}

/** The obstacle that says most about how near the node is. */
function nearest(obstacles: readonly Obstacle[]): Obstacle {
  const tooSmall = obstacles.flatMap((each) => (each.kind === "memory" ? [each] : []));
  const largest = tooSmall.reduce<(typeof tooSmall)[number] | undefined>(
    (best, each) => (best === undefined || each.hasBytes > best.hasBytes ? each : best),
    undefined,
  );
  return largest ?? obstacles[0] ?? { kind: "no-accelerator" };
}

/** `obstacle`, or how many devices of the node are good for the pod and how many of them are free. */
function suitableDevices(
  node: NodeHardware,
  demand: PodDemand,
  device: NonNullable<PodDemand["device"]>,
): { readonly obstacle: Obstacle } | { readonly count: number; readonly freeCount: number | undefined } {
  const obstacles: Obstacle[] = [];
  let count = 0;
  let freeCount: number | undefined;
  for (const accelerators of node.accelerators) {
    if (!offersWay(accelerators, device)) continue;
    const found = classObstacle(accelerators, demand, device.memoryBytes);
    if (found !== undefined) {
      obstacles.push(found);
      continue;
    }
    count += accelerators.count;
    if (accelerators.freeCount !== undefined) freeCount = (freeCount ?? 0) + accelerators.freeCount;
  }
  if (count === 0 && obstacles.length === 0) {
    const claimable = node.accelerators.find(
      ({ access, vendor }) => access.kind === "claim" && vendor === device.way.vendor,
    );
    if (claimable?.access.kind === "claim") {
      const what = `its GPUs are offered by the DRA driver ${claimable.access.driver} only`;
      return { obstacle: { kind: "other", what } };
    }
  }
  if (count === 0) return { obstacle: nearest(obstacles) };
  return count < device.count
    ? { obstacle: { kind: "other", what: `it has ${count} of ${device.count} GPUs` } }
    : { count, freeCount };
}

/** What other pods hold of what the pod needs, on a node that fits; undefined: there is room, or nobody counted. */
export function takenObstacle(node: NodeHardware, demand: PodDemand): Obstacle | undefined {
  const { free } = node;
  const { device } = demand;
  if (device !== undefined && node.accelerators.some(({ freeCount }) => freeCount !== undefined)) {
    const devices = suitableDevices(node, demand, device);
    if ("count" in devices && devices.freeCount !== undefined && devices.freeCount < device.count) {
      return {
        kind: "taken",
        what: `${devices.count - devices.freeCount} of its ${devices.count} GPUs are taken`,
      };
    }
  }
  if (free === undefined) return undefined;
  const { cpuMillis, memoryBytes, pods } = free;
  if (memoryBytes !== undefined && memoryBytes < demand.memoryBytes) {
    return { kind: "taken", what: `only ${formatBytes(Math.max(0, memoryBytes))} of its RAM are free` };
  }
  if (cpuMillis !== undefined && cpuMillis < (demand.cpuMillis ?? 0)) {
    return {
      kind: "taken",
      what: `only ${Math.max(0, cpuMillis) / 1000} of its CPUs are free, and a pod requests ${(demand.cpuMillis ?? 0) / 1000}`,
    };
  }
  return pods !== undefined && pods < 1 ? { kind: "taken", what: "it takes no more pods" } : undefined;
}

/** The first thing that keeps the pod off the node; undefined when it fits. `taken` only when nothing else does. */
export function obstacle(node: NodeHardware, demand: PodDemand): Obstacle | undefined {
  return lastingObstacle(node, demand) ?? selectorObstacle(node, demand) ?? takenObstacle(node, demand);
}

/** The user's own terms, which may read any label. */
export function selectorObstacle(node: NodeHardware, { requirements }: PodDemand): Obstacle | undefined {
  const { nodeSelectorTerms = [] } = requirements;
  return nodeSelectorTerms.length === 0 || matchesNodeSelector(node, nodeSelectorTerms)
    ? undefined
    : { kind: "other", what: "nodeSelectorTerms exclude it" };
}

/** What no pod that ends would change, labels apart. */
export function lastingObstacle(node: NodeHardware, demand: PodDemand): Obstacle | undefined {
  const { requirements } = demand;
  if (node.operatingSystem !== undefined && node.operatingSystem !== "linux") {
    return { kind: "other", what: `it runs ${node.operatingSystem}` };
  }
  if (
    requirements.architectures !== undefined &&
    requirements.architectures.length > 0 &&
    (node.architecture === undefined || !requirements.architectures.includes(node.architecture))
  ) {
    return { kind: "other", what: `its architecture is ${node.architecture ?? "not stated"}` };
  }
  const missing = (requirements.cpuFeatures ?? []).filter((feature) => !node.cpuFeatures.includes(feature));
  if (missing.length > 0) return { kind: "other", what: `its CPU does not state ${missing.join(", ")}` };
  const { device } = demand;
  const devices = device === undefined ? undefined : suitableDevices(node, demand, device);
  if (devices !== undefined && "obstacle" in devices) return devices.obstacle;
  if (demand.memoryBytes > 0) {
    if (node.allocatableMemoryBytes === undefined) {
      return { kind: "unknown", what: "its allocatable memory is not stated" };
    }
    if (node.allocatableMemoryBytes < demand.memoryBytes) {
      return demand.device === undefined
        ? { kind: "memory", hasBytes: node.allocatableMemoryBytes }
        : { kind: "other", what: `it has ${formatBytes(node.allocatableMemoryBytes)} of RAM` };
    }
  }
  if (
    demand.cpuMillis !== undefined &&
    node.allocatableCpuMillis !== undefined &&
    node.allocatableCpuMillis < demand.cpuMillis
  ) {
    return {
      kind: "other",
      what: `it has ${node.allocatableCpuMillis / 1000} CPUs, and a pod requests ${demand.cpuMillis / 1000}`,
    };
  }
  const taint = untoleratedTaint(node, demand.tolerations);
  if (taint !== undefined) return { kind: "other", what: `its taint ${taint.key} is not tolerated` };
  return node.isUnschedulable ? { kind: "other", what: "it is cordoned" } : undefined;
}
