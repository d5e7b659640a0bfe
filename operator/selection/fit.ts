// Whether a variant, placed on an accelerator or on CPUs, fits a node, and what is missing where it does not. Pure.

import type { JsonObject, Requirements } from "../api/model.ts";
import { isSameAccess } from "../hardware/device-way.ts";
import { isCapable } from "../hardware/dialect.ts";
import type { Requests } from "../hardware/pod-requests.ts";
import type { DeviceWay, NodeAccelerators, NodeHardware } from "../hardware/types.ts";
import { formatBytes } from "../kube/quantity.ts";
import { productFilter } from "./glob.ts";
import { amountLacks, takenLacks, wantedNow } from "./amounts.ts";
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
  /** What they request of other resources, by name: disk, huge pages, extended resources beside the devices; absent: nothing. */
  readonly others?: Requests;
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
  const places = suitablePlaces(node, demand);
  const count = places.reduce((sum, place) => sum + (node.accelerators[place]?.count ?? 0), 0);
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

/** Everything that keeps the pod off the node; empty when it fits. What is taken is told only when nothing else is lacking. */
export function lacksOf(node: NodeHardware, demand: PodDemand): readonly Obstacle[] {
  const lasting = [
    ...selectorLacks(node, demand),
    ...hardwareLacks(node, demand),
    ...amountLacks(node, demand),
    ...admissionLacks(node, demand),
  ];
  return lasting.length > 0 ? lasting : takenLacks(node, wantedNow(demand, suitablePlaces(node, demand)));
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

/** Taints and cordons: in common too, but told after the amounts. */
export function admissionLacks(node: NodeHardware, demand: PodDemand): readonly Obstacle[] {
  const lacks: Obstacle[] = [];
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
