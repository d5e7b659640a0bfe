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

/** Classes of refusal, in the order in which a message groups them. `missingBytes`: of RAM, where RAM is what is lacking. */
export type Obstacle =
  /** Of the memory that the model is loaded to: of a device, or RAM. */
  | { readonly kind: "memory"; readonly hasBytes: number; readonly missingBytes: number }
  | { readonly kind: "no-accelerator" }
  | { readonly kind: "unknown"; readonly what: string }
  /** Fits, but other pods hold what it needs. */
  | { readonly kind: "taken"; readonly what: string; readonly missingBytes?: number }
  /** Has all that it needs, but does not admit it: a taint, a cordon, selectors of the user. */
  | { readonly kind: "excluded"; readonly what: string }
  | { readonly kind: "other"; readonly what: string; readonly missingBytes?: number };

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
  return memoryBytes < leastMemoryBytes
    ? { kind: "memory", hasBytes: memoryBytes, missingBytes: leastMemoryBytes - memoryBytes }
    : undefined;
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

/** Places in the node's list of devices that are good for the pod, whether free or not. */
export function suitablePlaces(node: NodeHardware, demand: PodDemand): readonly number[] {
  const { device } = demand;
  if (device === undefined) return [];
  return node.accelerators.flatMap((each, place) =>
    offersWay(each, device) && classObstacle(each, demand, device.memoryBytes) === undefined ? [place] : [],
  );
}

function countAt(node: NodeHardware, places: readonly number[]): number {
  return places.reduce((sum, place) => sum + (node.accelerators[place]?.count ?? 0), 0);
}

/** Of the devices at these places, those that no pod has requested; undefined: nobody counted. */
function freeAt(node: NodeHardware, places: readonly number[]): number | undefined {
  let free: number | undefined;
  for (const place of places) {
    const count = node.accelerators[place]?.freeCount;
    if (count !== undefined) free = (free ?? 0) + count;
  }
  return free;
}

/** What keeps the pod from the node's devices, however many of them are free. */
function deviceObstacle(
  node: NodeHardware,
  demand: PodDemand,
  device: NonNullable<PodDemand["device"]>,
): Obstacle | undefined {
  const places = suitablePlaces(node, demand);
  const count = countAt(node, places);
  if (count > 0) {
    return count < device.count
      ? { kind: "other", what: `it has ${count} of ${device.count} GPUs` }
      : undefined;
  }
  const obstacles = node.accelerators.flatMap((each) =>
    offersWay(each, device) ? (classObstacle(each, demand, device.memoryBytes) ?? []) : [],
  );
  const claimable =
    obstacles.length > 0
      ? undefined
      : node.accelerators.find(
          ({ access, vendor }) => access.kind === "claim" && vendor === device.way.vendor,
        );
  return claimable?.access.kind === "claim"
    ? { kind: "other", what: `its GPUs are offered by the DRA driver ${claimable.access.driver} only` }
    : nearest(obstacles);
}

/**
 * Whether other pods leave what the pod needs on a node that fits, or nobody counted. `places`: of the devices that are good for it,
 * the same for all nodes of a group.
 */
export function hasRoomNow(node: NodeHardware, demand: PodDemand, places: readonly number[]): boolean {
  const { free } = node;
  if (demand.device !== undefined) {
    const count = freeAt(node, places);
    if (count !== undefined && count < demand.device.count) return false;
  }
  if (free === undefined) return true;
  return (
    (free.memoryBytes === undefined || free.memoryBytes >= demand.memoryBytes) &&
    (free.cpuMillis === undefined || free.cpuMillis >= (demand.cpuMillis ?? 0)) &&
    (free.pods === undefined || free.pods >= 1)
  );
}

/** What other pods hold of what the pod needs, on a node that fits; undefined: there is room, or nobody counted. */
export function takenObstacle(node: NodeHardware, demand: PodDemand): Obstacle | undefined {
  const { free, accelerators } = node;
  const { device } = demand;
  if (device !== undefined && accelerators.some(({ freeCount }) => freeCount !== undefined)) {
    const places = suitablePlaces(node, demand);
    const [count, freeCount] = [countAt(node, places), freeAt(node, places)];
    if (freeCount !== undefined && freeCount < device.count) {
      return { kind: "taken", what: `${count - freeCount} of its ${count} GPUs are taken` };
    }
  }
  if (free === undefined) return undefined;
  const { cpuMillis, memoryBytes, pods } = free;
  if (memoryBytes !== undefined && memoryBytes < demand.memoryBytes) {
    return {
      kind: "taken",
      what: `only ${formatBytes(Math.max(0, memoryBytes))} of its RAM are free`,
      missingBytes: demand.memoryBytes - Math.max(0, memoryBytes),
    };
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
    : { kind: "excluded", what: "nodeSelectorTerms exclude it" };
}

/** What no pod that ends would change, labels apart. */
export function lastingObstacle(node: NodeHardware, demand: PodDemand): Obstacle | undefined {
  return hardwareObstacle(node, demand) ?? ramObstacle(node, demand) ?? admissionObstacle(node, demand);
}

/** System, architecture, CPU features and devices: what all nodes of a group have in common. */
export function hardwareObstacle(node: NodeHardware, demand: PodDemand): Obstacle | undefined {
  const { requirements, device } = demand;
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
  return device === undefined ? undefined : deviceObstacle(node, demand, device);
}

/** RAM, of which nodes of one kind have a little more or less. */
export function ramObstacle(node: NodeHardware, demand: PodDemand): Obstacle | undefined {
  if (demand.memoryBytes === 0) return undefined;
  const hasBytes = node.allocatableMemoryBytes;
  if (hasBytes === undefined) return { kind: "unknown", what: "its allocatable memory is not stated" };
  const missingBytes = demand.memoryBytes - hasBytes;
  if (missingBytes <= 0) return undefined;
  // Devices that use the RAM load the model to it as CPUs do.
  return demand.device === undefined || demand.device.way.isUnifiedMemory
    ? { kind: "memory", hasBytes, missingBytes }
    : { kind: "other", what: `it has ${formatBytes(hasBytes)} of RAM`, missingBytes };
}

/** CPUs, taints and cordons: in common too, but told after the RAM. */
export function admissionObstacle(node: NodeHardware, demand: PodDemand): Obstacle | undefined {
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
  if (taint !== undefined) return { kind: "excluded", what: `its taint ${taint.key} is not tolerated` };
  return node.isUnschedulable ? { kind: "excluded", what: "it is cordoned" } : undefined;
}
