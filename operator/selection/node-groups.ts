// Nodes in groups that a verdict cannot tell apart but by amounts and by what is free, so that thousands of nodes cost as much as their kinds. Pure.

import type { NodeHardware } from "../hardware/types.ts";
import { amountOf, type Wanted } from "./amounts.ts";

export type NodeGroup = {
  /** Any one of them: equal in everything but name, labels, amounts of RAM, CPU and other resources, and what is free. */
  readonly sample: NodeHardware;
  /** By name. */
  readonly nodes: readonly NodeHardware[];
  /** Their places in the list of all. */
  readonly places: readonly number[];
  /** By resource, the least that one of them has; see `leastOf`. */
  readonly least: Map<string, number>;
  /** Somebody counted what pods leave of some of them. */
  readonly isCounted: boolean;
};

/** Nodes by name, and in groups. */
export type GroupedNodes = { readonly nodes: readonly NodeHardware[]; readonly groups: readonly NodeGroup[] };

/** What of a node lasts and is neither its name, its labels nor an amount of RAM or CPU, as text. */
export function hardwareKeyOf(node: NodeHardware): string {
  const { architecture, operatingSystem, platform, cpuFeatures, accelerators, taints } = node;
  return JSON.stringify([
    architecture,
    operatingSystem,
    platform,
    cpuFeatures,
    accelerators.map(({ freeCount: _free, deviceKeys: _keys, ...lasting }) => lasting),
    taints,
  ]);
}

type Growing = {
  sample: NodeHardware;
  nodes: NodeHardware[];
  places: number[];
  least: Map<string, number>;
  isCounted: boolean;
};

/** Amounts are no part of it: kubelets of machines of one kind state some KiB more or less. Whether RAM is stated at all is. */
function isAlike(one: NodeHardware, other: NodeHardware): boolean {
  return (
    one.isUnschedulable === other.isUnschedulable &&
    (one.allocatableMemoryBytes === undefined) === (other.allocatableMemoryBytes === undefined)
  );
}

/** The least that a node of the group has of a resource; of what is not compared where it is not stated, infinitely much. */
export function leastOf({ nodes, least }: NodeGroup, wanted: Wanted): number {
  const before = least.get(wanted.resource);
  if (before !== undefined) return before;
  let found = Number.POSITIVE_INFINITY;
  for (const node of nodes) {
    const has = amountOf(node, wanted) ?? (wanted.resource === "memory" ? 0 : found);
    if (has < found) found = has;
  }
  least.set(wanted.resource, found);
  return found;
}

const known = new WeakMap<readonly NodeHardware[], GroupedNodes>();

/** Groups the nodes; the same list is grouped once. Does not depend on their order. */
export function groupNodes(nodes: readonly NodeHardware[]): GroupedNodes {
  const before = known.get(nodes);
  if (before !== undefined) return before;
  const byName = [...nodes].sort((one, other) =>
    one.name < other.name ? -1 : one.name > other.name ? 1 : 0,
  );
  const groups: Growing[] = [];
  const byKey = new Map<string, Growing[]>();
  for (const [place, node] of byName.entries()) {
    const { hardwareKey = hardwareKeyOf(node) } = node;
    let alike = byKey.get(hardwareKey);
    if (alike === undefined) byKey.set(hardwareKey, (alike = []));
    let group = alike.find(({ sample }) => isAlike(sample, node));
    if (group === undefined) {
      group = { sample: node, nodes: [], places: [], least: new Map(), isCounted: false };
      alike.push(group);
      groups.push(group);
    }
    group.nodes.push(node);
    group.places.push(place);
    group.isCounted ||=
      node.free !== undefined || node.accelerators.some(({ freeCount }) => freeCount !== undefined);
  }
  const grouped: GroupedNodes = { nodes: byName, groups };
  known.set(nodes, grouped);
  return grouped;
}
