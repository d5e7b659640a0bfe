// Nodes in groups that a verdict cannot tell apart but by RAM and by what is free, so that thousands of nodes cost as much as their kinds. Pure.

import type { NodeHardware } from "../hardware/types.ts";

export type NodeGroup = {
  /** Any one of them: equal in everything but name, labels, RAM and what is free. */
  readonly sample: NodeHardware;
  /** By name. */
  readonly nodes: readonly NodeHardware[];
  /** Their places in the list of all. */
  readonly places: readonly number[];
  /** Least and most allocatable RAM of one of them, bytes; undefined: none of them states it. */
  readonly leastMemoryBytes: number | undefined;
  readonly mostMemoryBytes: number | undefined;
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
  leastMemoryBytes: number | undefined;
  mostMemoryBytes: number | undefined;
  isCounted: boolean;
};

/** RAM is no part of it: kubelets of machines of one kind state some KiB more or less. Whether it is stated at all is. */
function isAlike(one: NodeHardware, other: NodeHardware): boolean {
  return (
    one.allocatableCpuMillis === other.allocatableCpuMillis &&
    one.isUnschedulable === other.isUnschedulable &&
    (one.allocatableMemoryBytes === undefined) === (other.allocatableMemoryBytes === undefined)
  );
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
    const { hardwareKey = hardwareKeyOf(node), allocatableMemoryBytes: memoryBytes } = node;
    let alike = byKey.get(hardwareKey);
    if (alike === undefined) byKey.set(hardwareKey, (alike = []));
    let group = alike.find(({ sample }) => isAlike(sample, node));
    if (group === undefined) {
      group = {
        sample: node,
        nodes: [],
        places: [],
        leastMemoryBytes: memoryBytes,
        mostMemoryBytes: memoryBytes,
        isCounted: false,
      };
      alike.push(group);
      groups.push(group);
    }
    group.nodes.push(node);
    group.places.push(place);
    if (memoryBytes !== undefined) {
      group.leastMemoryBytes = Math.min(group.leastMemoryBytes ?? memoryBytes, memoryBytes);
      group.mostMemoryBytes = Math.max(group.mostMemoryBytes ?? memoryBytes, memoryBytes);
    }
    group.isCounted ||=
      node.free !== undefined || node.accelerators.some(({ freeCount }) => freeCount !== undefined);
  }
  const grouped: GroupedNodes = { nodes: byName, groups };
  known.set(nodes, grouped);
  return grouped;
}
