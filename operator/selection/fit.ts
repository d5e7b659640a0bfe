// Whether a variant, placed on an accelerator or on CPUs, fits a node, and what is missing where it does not. Pure.

import type { JsonObject, Requirements } from "../api/model.ts";
import { isSameAccess } from "../hardware/device-way.ts";
import { isCapable } from "../hardware/dialect.ts";
import type { DeviceWay, NodeAccelerators, NodeHardware } from "../hardware/types.ts";
import { formatBytes } from "../kube/quantity.ts";
import { productFilter } from "./glob.ts";
import { matchesNodeSelector } from "./node-selector.ts";
import { compareLacks, type Obstacle } from "./obstacle.ts";
import { toleratesCordon, untoleratedTaints } from "./tolerations.ts";

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

/** Other pods come and go all the time: what they hold is told in steps of this, bytes, or each of them would change the status of all who wait. */
const takenStepBytes = 64 * 1024 * 1024;

/** Globs compiled once, not once a node. */
const filters = new WeakMap<readonly string[], ReturnType<typeof productFilter>>();

function filterOf(globs: readonly string[]): ReturnType<typeof productFilter> {
  if (!filters.has(globs)) filters.set(globs, productFilter(globs));
  return filters.get(globs);
}

/** What keeps the pod from devices of one class; empty: they are good for it, however many there are. */
function classLacks(
  accelerators: NodeAccelerators,
  demand: PodDemand,
  leastMemoryBytes: number,
): readonly Obstacle[] {
  const { products, minComputeCapability } = demand.requirements.accelerator ?? {};
  const lacks: Obstacle[] = [];
  const unknown = (fact: string, what = `its ${fact} is not stated`): void => {
    lacks.push({ kind: "unknown", reason: `of unknown ${fact}`, what });
  };
  const isWanted = products === undefined ? undefined : filterOf(products);
  if (isWanted !== undefined) {
    const { product } = accelerators;
    if (product === undefined) unknown("GPU product");
    else if (!isWanted(product))
      lacks.push({ kind: "other", reason: `with the GPU ${product}`, what: `its GPU is ${product}` });
  }
  if (minComputeCapability !== undefined) {
    const has = accelerators.computeCapability;
    if (has === undefined) unknown("compute capability");
    else if (!isCapable(has, parseCapability(minComputeCapability))) {
      const what = `its compute capability is ${has.join(".")}`;
      lacks.push({ kind: "other", reason: `of compute capability ${has.join(".")}`, what });
    }
  }
  // What unified memory must hold is compared, and requested, as RAM.
  if (leastMemoryBytes === 0 || (accelerators.isUnifiedMemory && accelerators.uncertainty === undefined)) {
    return lacks;
  }
  const { memoryBytes } = accelerators;
  if (memoryBytes === undefined) unknown("GPU memory", accelerators.uncertainty);
  else if (memoryBytes < leastMemoryBytes) {
    const missingBytes = leastMemoryBytes - memoryBytes;
    lacks.push({
      kind: "memory",
      reason: "with too little GPU memory",
      what: `${formatBytes(missingBytes)} of GPU memory short`,
      hasBytes: memoryBytes,
      missingBytes,
    });
  }
  return lacks;
}

/** Places in the node's list of devices that are good for the pod, whether free or not. */
export function suitablePlaces(node: NodeHardware, demand: PodDemand): readonly number[] {
  const { device } = demand;
  if (device === undefined) return [];
  return node.accelerators.flatMap((each, place) =>
    offersWay(each, device) && classLacks(each, demand, device.memoryBytes).length === 0 ? [place] : [],
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

function tooFew(has: number, wanted: number): readonly Obstacle[] {
  if (has >= wanted) return [];
  const what = `it has ${has} of ${wanted} GPUs`;
  return [{ kind: "other", reason: "with too few GPUs", what, missingDevices: wanted - has }];
}

/** What keeps the pod from the node's devices, however many of them are free: of those that come nearest to it. */
function deviceLacks(
  node: NodeHardware,
  demand: PodDemand,
  device: NonNullable<PodDemand["device"]>,
): readonly Obstacle[] {
  const count = countAt(node, suitablePlaces(node, demand));
  if (count > 0) return tooFew(count, device.count);
  let nearest: readonly Obstacle[] | undefined;
  for (const each of node.accelerators) {
    if (!offersWay(each, device)) continue;
    const lacks = [...classLacks(each, demand, device.memoryBytes), ...tooFew(each.count, device.count)];
    if (nearest === undefined || compareLacks(lacks, nearest) < 0) nearest = lacks;
  }
  if (nearest !== undefined) return nearest;
  const claimable = node.accelerators.find(
    ({ access, vendor }) => access.kind === "claim" && vendor === device.way.vendor,
  );
  if (claimable?.access.kind === "claim") {
    const what = `its GPUs are offered by the DRA driver ${claimable.access.driver} only`;
    return [{ kind: "other", reason: "with GPUs of a DRA driver only", what }];
  }
  return [{ kind: "no-accelerator", reason: "without such a GPU", what: "it has no such GPU" }];
}

/** What other pods may hold, as bits of one number. */
const held = { devices: 1, memory: 2, cpu: 4, pods: 8 };

/**
 * What other pods hold of what the pod needs on a node that fits, as a number, since it is asked of every node: 0 when there is room, or
 * nobody counted; equal for nodes that lack the same. `places`: of the devices that are good for it, the same for all nodes of a group.
 */
export function heldNow(node: NodeHardware, demand: PodDemand, places: readonly number[]): number {
  const { free } = node;
  const { device, memoryBytes, cpuMillis = 0 } = demand;
  let bits = 0;
  if (device !== undefined && (freeAt(node, places) ?? device.count) < device.count) bits |= held.devices;
  if (free === undefined) return bits;
  if ((free.memoryBytes ?? memoryBytes) < memoryBytes) bits |= held.memory;
  if ((free.cpuMillis ?? cpuMillis) < cpuMillis) bits |= held.cpu;
  if ((free.pods ?? 1) < 1) bits |= held.pods;
  return bits;
}

/** How much of it is missing, to compare nodes of which other pods hold the same by. */
export function heldAmounts(
  node: NodeHardware,
  { device, memoryBytes }: PodDemand,
  places: readonly number[],
): { readonly missingBytes: number; readonly missingDevices: number } {
  const short = memoryBytes - Math.max(0, node.free?.memoryBytes ?? memoryBytes);
  const count = device?.count ?? 0;
  return {
    missingBytes: Math.ceil(Math.max(0, short) / takenStepBytes) * takenStepBytes,
    missingDevices: Math.max(0, count - (freeAt(node, places) ?? count)),
  };
}

/** What other pods hold of what the pod needs, on a node that fits; empty: there is room, or nobody counted. */
export function takenLacks(node: NodeHardware, demand: PodDemand): readonly Obstacle[] {
  const places = suitablePlaces(node, demand);
  const bits = heldNow(node, demand, places);
  const { missingBytes, missingDevices } = heldAmounts(node, demand, places);
  const { cpuMillis = 0, memoryBytes = 0 } = node.free ?? {};
  const lacks: Obstacle[] = [];
  const taken = (bit: number, what: string, of: Pick<Obstacle, "reason"> & Partial<Obstacle>): void => {
    if ((bits & bit) !== 0) lacks.push({ kind: "taken", what, ...of });
  };
  const count = countAt(node, places);
  taken(held.devices, `${count - (freeAt(node, places) ?? 0)} of its ${count} GPUs are taken`, {
    reason: "whose GPUs are taken",
    missingDevices,
  });
  const free = formatBytes(Math.max(0, memoryBytes));
  taken(held.memory, `only ${free} of its RAM are free, ${formatBytes(missingBytes)} short`, {
    reason: "whose RAM is taken",
    missingBytes,
  });
  const cpus = `only ${Math.max(0, cpuMillis) / 1000} of its CPUs are free`;
  taken(held.cpu, `${cpus}, and a pod requests ${(demand.cpuMillis ?? 0) / 1000}`, {
    reason: "whose CPUs are taken",
  });
  taken(held.pods, "it takes no more pods", { reason: "that take no more pods" });
  return lacks;
}

/** Everything that keeps the pod off the node; empty when it fits. What is taken is told only when nothing else is lacking. */
export function lacksOf(node: NodeHardware, demand: PodDemand): readonly Obstacle[] {
  const lasting = [
    ...selectorLacks(node, demand),
    ...hardwareLacks(node, demand),
    ...ramLacks(node, demand),
    ...admissionLacks(node, demand),
  ];
  return lasting.length > 0 ? lasting : takenLacks(node, demand);
}

/** The user's own selectors, of the variant. */
export function selectorLacks(node: NodeHardware, { requirements }: PodDemand): readonly Obstacle[] {
  return matchesNodeSelector(node, requirements.nodeSelectorTerms ?? [])
    ? []
    : [
        {
          kind: "excluded",
          reason: "outside nodeSelectorTerms",
          what: "its labels do not match nodeSelectorTerms",
        },
      ];
}

/** System, architecture, CPU features and devices: what all nodes of a group have in common. */
export function hardwareLacks(node: NodeHardware, demand: PodDemand): readonly Obstacle[] {
  const { requirements, device } = demand;
  const lacks: Obstacle[] = [];
  const other = (reason: string, what: string): void => {
    lacks.push({ kind: "other", reason, what });
  };
  const { operatingSystem, architecture } = node;
  if (operatingSystem !== undefined && operatingSystem !== "linux")
    other(`running ${operatingSystem}`, `it runs ${operatingSystem}`);
  const { architectures = [], cpuFeatures = [] } = requirements;
  if (architectures.length > 0 && (architecture === undefined || !architectures.includes(architecture)))
    other(
      `of architecture ${architecture ?? "unknown"}`,
      `its architecture is ${architecture ?? "not stated"}`,
    );
  const missing = cpuFeatures.filter((feature) => !node.cpuFeatures.includes(feature));
  if (missing.length > 0)
    other(`whose CPU does not state ${missing.join(", ")}`, `its CPU does not state ${missing.join(", ")}`);
  return device === undefined ? lacks : [...lacks, ...deviceLacks(node, demand, device)];
}

/** RAM, of which nodes of one kind have a little more or less. */
export function ramLacks(node: NodeHardware, demand: PodDemand): readonly Obstacle[] {
  if (demand.memoryBytes === 0) return [];
  const reason = "with too little RAM";
  const hasBytes = node.allocatableMemoryBytes;
  if (hasBytes === undefined) {
    return [{ kind: "unknown", reason: "of unknown RAM", what: "its allocatable memory is not stated" }];
  }
  const missingBytes = demand.memoryBytes - hasBytes;
  if (missingBytes <= 0) return [];
  const short = formatBytes(missingBytes);
  // Devices that use the RAM load the model to it as CPUs do.
  return demand.device === undefined || demand.device.way.isUnifiedMemory
    ? [{ kind: "memory", reason, what: `${short} of RAM short`, hasBytes, missingBytes }]
    : [
        {
          kind: "other",
          reason,
          what: `it has ${formatBytes(hasBytes)} of RAM, ${short} short`,
          missingBytes,
        },
      ];
}

/** CPUs, taints and cordons: in common too, but told after the RAM. */
export function admissionLacks(node: NodeHardware, demand: PodDemand): readonly Obstacle[] {
  const lacks: Obstacle[] = [];
  const { allocatableCpuMillis: has } = node;
  if (demand.cpuMillis !== undefined && has !== undefined && has < demand.cpuMillis) {
    const what = `it has ${has / 1000} CPUs, and a pod requests ${demand.cpuMillis / 1000}`;
    lacks.push({ kind: "other", reason: "with too few CPUs", what });
  }
  for (const { key } of untoleratedTaints(node, demand.tolerations)) {
    lacks.push({
      kind: "excluded",
      reason: `with the taint ${key}`,
      what: `its taint ${key} is not tolerated`,
    });
  }
  if (node.isUnschedulable && !toleratesCordon(demand.tolerations))
    lacks.push({ kind: "excluded", reason: "cordoned", what: "it is cordoned" });
  return lacks;
}
