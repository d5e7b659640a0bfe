// What a pod requests of a node by amount (devices, RAM, CPU, disk, huge pages, extended resources) and what is missing of it, for good or
// because other pods hold it. Pure.

import { diskResource, isInBytes } from "../hardware/pod-requests.ts";
import type { NodeHardware } from "../hardware/types.ts";
import { formatBytes } from "../kube/quantity.ts";
import type { PodDemand } from "./fit.ts";
import type { Obstacle } from "./obstacle.ts";

/** One amount that a pod requests. */
export type Wanted = {
  readonly resource: string;
  readonly amount: number;
  /** Of devices: the places in the node's list that are good for the pod. */
  readonly places?: readonly number[];
};

const devices = "devices";
const pods = "pods";

/** Other pods come and go all the time: what they hold is told in steps of these, or each of them would change the status of all who wait. */
const takenStepBytes = 64 * 1024 * 1024;
const takenStepMillis = 100;

/** What is compared with what a node has. */
export function wantedAmounts({ memoryBytes, cpuMillis = 0, others = {} }: PodDemand): readonly Wanted[] {
  return [
    { resource: "memory", amount: memoryBytes },
    { resource: "cpu", amount: cpuMillis },
    ...Object.entries(others).map(([resource, amount]) => ({ resource, amount })),
  ].filter(({ amount }) => amount > 0);
}

/** What is compared with what pods leave of it. `places`: of the devices that are good for the pod, the same for all nodes of a group. */
export function wantedNow(demand: PodDemand, places: readonly number[]): readonly Wanted[] {
  const { device } = demand;
  return [
    ...(device === undefined ? [] : [{ resource: devices, amount: device.count, places }]),
    ...wantedAmounts(demand),
    { resource: pods, amount: 1 },
  ];
}

function countAt({ accelerators }: NodeHardware, places: readonly number[]): number {
  return places.reduce((sum, place) => sum + (accelerators[place]?.count ?? 0), 0);
}

/** Of the devices at these places, those that no pod has requested; undefined: nobody counted. */
function freeAt({ accelerators }: NodeHardware, places: readonly number[]): number | undefined {
  let free: number | undefined;
  for (const place of places) {
    const count = accelerators[place]?.freeCount;
    if (count !== undefined) free = (free ?? 0) + count;
  }
  return free;
}

/** What the node has of it, whoever holds it; undefined: it does not say. */
export function amountOf(node: NodeHardware, { resource, places }: Wanted): number | undefined {
  switch (resource) {
    case devices:
      return countAt(node, places ?? []);
    case "memory":
      return node.allocatableMemoryBytes;
    case "cpu":
      return node.allocatableCpuMillis;
    case pods:
      return node.allocatablePods;
    default:
      return node.allocatableAmounts?.[resource] ?? 0;
  }
}

/** What pods leave of it, at least 0; undefined: nobody counted. */
export function freeAmountOf(node: NodeHardware, { resource, places }: Wanted): number | undefined {
  const { free } = node;
  switch (resource) {
    case devices:
      return freeAt(node, places ?? []);
    case "memory":
      return free?.memoryBytes;
    case "cpu":
      return free?.cpuMillis;
    case pods:
      return free?.pods;
    default:
      if (free === undefined) return undefined;
      return Math.max(0, (node.allocatableAmounts?.[resource] ?? 0) - (free.requested[resource] ?? 0));
  }
}

/** How much of it the node is short of for good. Of RAM that is not stated all is missing; of CPUs nothing. */
export function missingOf(node: NodeHardware, wanted: Wanted): number {
  const has = amountOf(node, wanted) ?? (wanted.resource === "memory" ? 0 : wanted.amount);
  return wanted.amount > has ? wanted.amount - has : 0;
}

/** How much of it other pods hold that the pod needs. */
function heldOf(node: NodeHardware, wanted: Wanted): number {
  const free = freeAmountOf(node, wanted) ?? wanted.amount;
  return wanted.amount > free ? wanted.amount - free : 0;
}

const stepped = (bytes: number): number => Math.ceil(bytes / takenStepBytes) * takenStepBytes;

/** How far the node is from having room, to compare nodes of which other pods hold the same by: `compareLacks` in one number. */
export function heldDistance(node: NodeHardware, wanted: readonly Wanted[]): number {
  let distance = 0;
  for (const each of wanted) {
    // Bytes come in steps that leave room for a number of devices below.
    if (each.resource === devices) distance += heldOf(node, each);
    else if (isInBytes(each.resource)) distance += stepped(heldOf(node, each));
  }
  return distance;
}

/** The same for what it is short of for good. */
export function missingBytesOf(node: NodeHardware, wanted: readonly Wanted[]): number {
  return wanted.reduce((sum, each) => sum + (isInBytes(each.resource) ? missingOf(node, each) : 0), 0);
}

/** What people call it. */
const nameOf = (resource: string): string =>
  resource === "memory" ? "RAM" : resource === diskResource ? "disk" : resource;

/** What the node is short of for good. */
export function amountLacks(node: NodeHardware, demand: PodDemand): readonly Obstacle[] {
  return wantedAmounts(demand).flatMap((wanted) => {
    const missing = missingOf(node, wanted);
    return missing > 0 ? [amountLack(node, demand, wanted, missing)] : [];
  });
}

function amountLack(node: NodeHardware, demand: PodDemand, wanted: Wanted, missing: number): Obstacle {
  const { resource, amount } = wanted;
  const has = amountOf(node, wanted);
  const name = nameOf(resource);
  if (resource === "cpu") {
    const what = `it has ${(has ?? 0) / 1000} CPUs, and a pod requests ${amount / 1000}`;
    return { kind: "other", reason: "with too few CPUs", what };
  }
  if (!isInBytes(resource)) {
    return { kind: "other", reason: `with too few ${name}`, what: `it has ${has ?? 0} of ${amount} ${name}` };
  }
  const reason = `with too little ${name}`;
  const short = formatBytes(missing);
  if (resource === "memory") {
    if (has === undefined)
      return { kind: "unknown", reason: "of unknown RAM", what: "its allocatable memory is not stated" };
    // Devices that use the RAM load the model to it as CPUs do.
    if (demand.device === undefined || demand.device.way.isUnifiedMemory)
      return {
        kind: "memory",
        reason,
        what: `${short} of RAM short`,
        hasBytes: has,
        missingBytes: missing,
      };
  }
  const what = `it has ${formatBytes(has ?? 0)} of ${name}, ${short} short`;
  return { kind: "other", reason, what, missingBytes: missing };
}

/** What other pods hold of what the pod needs, on a node that fits; empty: there is room, or nobody counted. */
export function takenLacks(node: NodeHardware, wanted: readonly Wanted[]): readonly Obstacle[] {
  return wanted.flatMap((each) => {
    const missing = heldOf(node, each);
    return missing > 0 ? [takenLack(node, each, missing)] : [];
  });
}

function takenLack(node: NodeHardware, wanted: Wanted, missing: number): Obstacle {
  const { resource, amount } = wanted;
  const free = freeAmountOf(node, wanted) ?? 0;
  const name = nameOf(resource);
  if (resource === pods)
    return { kind: "taken", reason: "that take no more pods", what: "it takes no more pods" };
  if (resource === "cpu") {
    const cpus = (Math.floor(free / takenStepMillis) * takenStepMillis) / 1000;
    const what = `only ${cpus} of its CPUs are free, and a pod requests ${amount / 1000}`;
    return { kind: "taken", reason: "whose CPUs are taken", what };
  }
  if (isInBytes(resource)) {
    const missingBytes = stepped(missing);
    const left = formatBytes(Math.floor(free / takenStepBytes) * takenStepBytes);
    const what = `only ${left} of its ${name} are free, ${formatBytes(missingBytes)} short`;
    return { kind: "taken", reason: `whose ${name} is taken`, what, missingBytes };
  }
  const count = amountOf(node, wanted) ?? 0;
  const isDevice = resource === devices;
  const things = isDevice ? "GPUs" : name;
  return {
    kind: "taken",
    reason: `whose ${things} are taken`,
    what: `${count - free} of its ${count} ${things} are taken`,
    ...(isDevice ? { missingDevices: missing } : {}),
  };
}
