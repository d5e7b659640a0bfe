// Nodes in groups that a verdict cannot tell apart but by amounts and by what is free, so that thousands of nodes cost as much as their kinds. Pure.

import type { NodeHardware } from "../hardware/types.ts";
import { amountOf, freeAmountOf, type Wanted } from "./amounts.ts";

/** An amount of each node of a group, in their order, and the least of them. */
export type Column = { readonly values: Float64Array; readonly least: number };

export type NodeGroup = {
  /** Any one of them: equal in everything but name, labels, amounts of RAM, CPU and other resources, and what is free. */
  readonly sample: NodeHardware;
  /** By name. */
  readonly nodes: readonly NodeHardware[];
  /** Their places in the list of all. */
  readonly places: readonly number[];
  /** Amounts that were asked for, which all variants compare; see `amountColumn`. */
  readonly columns: Map<string, Column>;
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
  columns: Map<string, Column>;
  isCounted: boolean;
};

/** Amounts are no part of it: kubelets of machines of one kind state some KiB more or less. Whether RAM is stated at all is. */
function isAlike(one: NodeHardware, other: NodeHardware): boolean {
  return (
    one.isUnschedulable === other.isUnschedulable &&
    (one.allocatableMemoryBytes === undefined) === (other.allocatableMemoryBytes === undefined)
  );
}

/** Of each node of the group what it has of a resource, or what pods leave of it; of what is not known, infinitely much. */
function columnOf({ nodes, columns }: NodeGroup, key: string, of: (node: NodeHardware) => number): Column {
  const before = columns.get(key);
  if (before !== undefined) return before;
  const values = new Float64Array(nodes.length);
  let least = Number.POSITIVE_INFINITY;
  for (let index = 0; index < nodes.length; index += 1) {
    const node = nodes[index];
    const value = node === undefined ? least : of(node);
    values[index] = value;
    if (value < least) least = value;
  }
  const column = { values, least };
  columns.set(key, column);
  return column;
}

/** What the nodes have of it; of RAM that is not stated nothing. */
export function amountColumn(group: NodeGroup, wanted: Wanted): Column {
  const unstated = wanted.resource === "memory" ? 0 : Number.POSITIVE_INFINITY;
  return columnOf(group, wanted.resource, (node) => amountOf(node, wanted) ?? unstated);
}

/** What pods leave of it. */
export function freeColumn(group: NodeGroup, wanted: Wanted): Column {
  const { resource, places = [] } = wanted;
  const key = `free ${resource} ${places.join()}`;
  return columnOf(group, key, (node) => freeAmountOf(node, wanted) ?? Number.POSITIVE_INFINITY);
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
      group = { sample: node, nodes: [], places: [], columns: new Map(), isCounted: false };
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
