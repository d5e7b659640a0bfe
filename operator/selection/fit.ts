// Whether a variant, placed on an accelerator or on CPUs, fits a node, and what is missing where it does not. Pure.

import type { JsonObject, Requirements } from "../api/model.ts";
import { deviceWayKey } from "../hardware/device-way.ts";
import type { DeviceWay, NodeAccelerators, NodeHardware } from "../hardware/types.ts";
import { formatBytes } from "../kube/quantity.ts";
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
};

/** Classes of refusal, in the order in which a message groups them. */
export type Obstacle =
  | { readonly kind: "memory"; readonly hasBytes: number }
  | { readonly kind: "no-accelerator" }
  | { readonly kind: "unknown"; readonly what: string }
  /** Fits, but other pods hold what it needs. */
  | { readonly kind: "taken"; readonly what: string }
  | { readonly kind: "other"; readonly what: string };

/** True where `name` matches the glob `pattern`: `*` any run, `?` any one character; case does not matter. */
export function matchesGlob(pattern: string, name: string): boolean {
  const expression = pattern
    .replace(/[.+^${}()|[\]\\]/g, "\\$&")
    .replace(/\*/g, ".*")
    .replace(/\?/g, ".");
  return new RegExp(`^${expression}$`, "i").test(name);
}

function isCapable(accelerators: NodeAccelerators, minimum: string): boolean {
  const has = accelerators.computeCapability;
  if (has === undefined) return false;
  const [major = 0, minor = 0] = minimum.split(".").map(Number);
  return has[0] > major || (has[0] === major && has[1] >= minor);
}

function deviceObstacle(node: NodeHardware, demand: PodDemand): Obstacle | undefined {
  const device = demand.device;
  if (device === undefined) return undefined;
  const wanted = deviceWayKey(device.way);
  const accelerators = node.accelerators.find((each) => deviceWayKey(each) === wanted);
  if (accelerators === undefined) return { kind: "no-accelerator" };
  const { products, minComputeCapability } = demand.requirements.accelerator ?? {};
  if (products !== undefined && products.length > 0) {
    const { product } = accelerators;
    if (product === undefined) return { kind: "unknown", what: "its GPU product is not stated" };
    if (!products.some((pattern) => matchesGlob(pattern, product))) {
      return { kind: "other", what: `its GPU is ${product}` };
    }
  }
  if (minComputeCapability !== undefined && !isCapable(accelerators, minComputeCapability)) {
    return accelerators.computeCapability === undefined
      ? { kind: "unknown", what: "its compute capability is not stated" }
      : { kind: "other", what: `its compute capability is ${accelerators.computeCapability.join(".")}` };
  }
  if (device.memoryBytes > 0) {
    if (accelerators.memoryBytes === undefined) {
      return { kind: "unknown", what: accelerators.uncertainty ?? "its GPU memory is not stated" };
    }
    if (accelerators.memoryBytes < device.memoryBytes) {
      return { kind: "memory", hasBytes: accelerators.memoryBytes };
    }
  }
  if (accelerators.count < device.count) {
    return { kind: "other", what: `it has ${accelerators.count} of ${device.count} GPUs` };
  }
  return undefined;
}

/** What other pods hold of what the pod needs, on a node that fits; undefined: there is room, or nobody counted. */
function takenObstacle(node: NodeHardware, demand: PodDemand): Obstacle | undefined {
  const { device } = demand;
  if (device !== undefined) {
    const wanted = deviceWayKey(device.way);
    const found = node.accelerators.find((each) => deviceWayKey(each) === wanted);
    if (found?.freeCount !== undefined && found.freeCount < device.count) {
      return { kind: "taken", what: `${found.count - found.freeCount} of its ${found.count} GPUs are taken` };
    }
  }
  const freeBytes = node.free?.memoryBytes;
  if (freeBytes !== undefined && freeBytes < demand.memoryBytes) {
    return { kind: "taken", what: `${formatBytes(Math.max(0, freeBytes))} of its RAM are free` };
  }
  return undefined;
}

/** The first thing that keeps the pod off the node; undefined when it fits. `taken` only when nothing else does. */
export function obstacle(node: NodeHardware, demand: PodDemand): Obstacle | undefined {
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
  if (!matchesNodeSelector(node, requirements.nodeSelectorTerms ?? [])) {
    return { kind: "other", what: "nodeSelectorTerms exclude it" };
  }
  const ofDevice = deviceObstacle(node, demand);
  if (ofDevice !== undefined) return ofDevice;
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
  const taint = untoleratedTaint(node, demand.tolerations);
  if (taint !== undefined) return { kind: "other", what: `its taint ${taint.key} is not tolerated` };
  if (node.isUnschedulable) return { kind: "other", what: "it is cordoned" };
  return takenObstacle(node, demand);
}
