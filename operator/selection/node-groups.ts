// Nodes in groups that a verdict cannot tell apart but by what is free, so that thousands of nodes cost as much as their kinds. Pure.

import type { NodeHardware } from "../hardware/types.ts";

export type NodeGroup = {
  /** Any one of them: equal in everything but name, labels and what is free. */
  readonly sample: NodeHardware;
  /** By name. */
  readonly nodes: readonly NodeHardware[];
  /** Their places in the list of all. */
  readonly places: readonly number[];
};

/** Nodes by name, and in groups. */
export type GroupedNodes = { readonly nodes: readonly NodeHardware[]; readonly groups: readonly NodeGroup[] };

/** Equal for nodes that a verdict cannot tell apart by anything that lasts. */
function groupKey(node: NodeHardware): string {
  const { hardwareKey = hardwareKeyOf(node), allocatableMemoryBytes, allocatableCpuMillis } = node;
  return `${hardwareKey} ${allocatableMemoryBytes} ${allocatableCpuMillis} ${node.isUnschedulable}`;
}

/** What of a node lasts and is neither its name nor its labels, as text. */
export function hardwareKeyOf(node: NodeHardware): string {
  const { architecture, operatingSystem, cpuFeatures, accelerators, taints } = node;
  return JSON.stringify([
    architecture,
    operatingSystem,
    cpuFeatures,
    accelerators.map(({ freeCount: _free, ...lasting }) => lasting),
    taints,
  ]);
}

const known = new WeakMap<readonly NodeHardware[], GroupedNodes>();

/** Groups the nodes; the same list is grouped once. Does not depend on their order. */
export function groupNodes(nodes: readonly NodeHardware[]): GroupedNodes {
  const before = known.get(nodes);
  if (before !== undefined) return before;
  const byName = [...nodes].sort((one, other) =>
    one.name < other.name ? -1 : one.name > other.name ? 1 : 0,
  );
  const groups = new Map<string, { readonly nodes: NodeHardware[]; readonly places: number[] }>();
  for (const [place, node] of byName.entries()) {
    const key = groupKey(node);
    const group = groups.get(key) ?? { nodes: [], places: [] };
    groups.set(key, group);
    group.nodes.push(node);
    group.places.push(place);
  }
  const grouped: GroupedNodes = {
    nodes: byName,
    groups: [...groups.values()].flatMap((group) => {
      const [sample] = group.nodes;
      return sample === undefined ? [] : [{ sample, ...group }];
    }),
  };
  known.set(nodes, grouped);
  return grouped;
}
