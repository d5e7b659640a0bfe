// Which nodes take a pod, which would if others left, and why the others do not: group by group, not node by node. Pure.

import type { NodeHardware } from "../hardware/types.ts";
import { formatBytes } from "../kube/quantity.ts";
import {
  amountLacks,
  heldDistance,
  missingBytesOf,
  takenLacks,
  wantedAmounts,
  wantedNow,
  type Wanted,
} from "./amounts.ts";
import {
  admissionLacks,
  hardwareLacks,
  lacksOf,
  selectorLacks,
  suitablePlaces,
  type PodDemand,
} from "./fit.ts";
import {
  amountColumn,
  freeColumn,
  groupNodes,
  type Column,
  type GroupedNodes,
  type NodeGroup,
} from "./node-groups.ts";
import type { ExcludedNodes } from "./node-selector.ts";
import { compareLacks, countReasons, type Obstacle } from "./obstacle.ts";
import type { NearMiss } from "./types.ts";

/** Nodes that do not take the pod for the same reasons. */
type Refused = {
  /** What all of them lack; amounts are those of `sample`. */
  readonly lacks: readonly Obstacle[];
  readonly sample: NodeHardware;
  /** By name. */
  readonly nodes: readonly NodeHardware[];
};

/** Nodes of one group that the pod fits, and of which other pods hold the same. */
type Held = Pick<Refused, "nodes"> & { readonly sample: NodeHardware; readonly wanted: readonly Wanted[] };

export type Sifted = {
  /** Nodes that the pod fits, by name, and their names. */
  readonly matching: readonly NodeHardware[];
  readonly matchingNames: readonly string[];
  /** One node of each group of which some match: what lasts is the same for all of it. */
  readonly samples: readonly NodeHardware[];
  /** Of these, the names of those with room now. */
  readonly freeNames: readonly string[];
  readonly refused: readonly Refused[];
  /** Matching nodes without room now. */
  readonly held: readonly Held[];
};

const shownNodes = 3;

/** Sorts the nodes by whether they take the pod. */
export function sift(grouped: GroupedNodes, demand: PodDemand): Sifted {
  const refused: Refused[] = [];
  // 1: fits; 2: fits, but others hold what it needs. By place, so that the lists are in the order of names without sorting them.
  const marks = new Uint8Array(grouped.nodes.length);
  const samples: NodeHardware[] = [];
  const held: Held[] = [];
  for (const group of grouped.groups) {
    if (siftGroup(group, demand, { marks, refused, held })) samples.push(group.sample);
  }
  const matching: NodeHardware[] = [];
  const matchingNames: string[] = [];
  const freeNames: string[] = [];
  if (samples.length > 0) {
    for (let place = 0; place < marks.length; place += 1) {
      const mark = marks[place];
      const node = mark === 0 ? undefined : grouped.nodes[place];
      if (node === undefined) continue;
      matching.push(node);
      matchingNames.push(node.name);
      if (mark === 1) freeNames.push(node.name);
    }
  }
  return { matching, matchingNames, samples, freeNames, refused, held };
}

/** Marks the nodes of a group that fit; true where some do. */
function siftGroup(
  group: NodeGroup,
  demand: PodDemand,
  { marks, refused, held }: { marks: Uint8Array; refused: Refused[]; held: Held[] },
): boolean {
  const { sample, nodes, places, isCounted } = group;
  const hasTerms = (demand.requirements.nodeSelectorTerms ?? []).length > 0;
  const hardware = hardwareLacks(sample, demand);
  // Without the device nothing else matters.
  const isWithout = hardware.some(({ kind }) => kind === "no-accelerator");
  const common = isWithout ? hardware : [...hardware, ...admissionLacks(sample, demand)];
  const scarce = isWithout ? [] : scarceOf(wantedAmounts(demand), (wanted) => amountColumn(group, wanted));
  if (common.length > 0 && !hasTerms && scarce.length === 0) {
    refused.push({ lacks: common, sample, nodes });
    return false;
  }
  const wanted = wantedNow(demand, suitablePlaces(sample, demand));
  const scarceNow = isCounted ? scarceOf(wanted, (each) => freeColumn(group, each)) : [];
  const elsewhere = new Map<number, NodeHardware[]>();
  const lacking = new Map<number, NodeHardware[]>();
  const heldBy = new Map<number, NodeHardware[]>();
  let isFitting = false;
  for (let index = 0; index < nodes.length; index += 1) {
    const node = nodes[index];
    const place = places[index];
    if (node === undefined || place === undefined) continue;
    const short = missingBits(scarce, index);
    if (hasTerms && selectorLacks(node, demand).length > 0) {
      add(elsewhere, short, node);
    } else if (short !== 0 || common.length > 0) {
      add(lacking, short, node);
    } else {
      const bits = missingBits(scarceNow, index);
      marks[place] = bits === 0 ? 1 : 2;
      if (bits !== 0) add(heldBy, bits, node);
      isFitting = true;
    }
  }
  // A node that the user's selectors exclude is refused for that, whatever else it lacks.
  for (const alike of elsewhere.values()) {
    const [first = sample] = alike;
    refused.push({ lacks: selectorLacks(first, demand), sample: first, nodes: alike });
  }
  for (const alike of lacking.values()) {
    const largest = mostRam(alike);
    refused.push({ lacks: [...amountLacks(largest, demand), ...common], sample: largest, nodes: alike });
  }
  for (const alike of heldBy.values()) {
    const [first = sample] = alike;
    held.push({ sample: first, nodes: alike, wanted });
  }
  return isFitting;
}

/** An amount of which some node of the group has too little: it is compared node by node. */
type Scarce = { readonly bit: number; readonly amount: number; readonly values: Float64Array };

/** So many amounts are told apart; a node that is short of a later one is counted under the last. */
const mostBits = 30;

function scarceOf(wanted: readonly Wanted[], columnOf: (wanted: Wanted) => Column): readonly Scarce[] {
  return wanted.flatMap((each, index) => {
    const { values, least } = columnOf(each);
    return least < each.amount
      ? [{ bit: 1 << Math.min(index, mostBits - 1), amount: each.amount, values }]
      : [];
  });
}

/** Of which of them the node at this place of its group has too little, as a number, since it is asked of every node: 0 for none. */
function missingBits(scarce: readonly Scarce[], index: number): number {
  let bits = 0;
  for (let at = 0; at < scarce.length; at += 1) {
    const each = scarce[at];
    if (each !== undefined && (each.values[index] ?? 0) < each.amount) bits |= each.bit;
  }
  return bits;
}

function add(lists: Map<number, NodeHardware[]>, key: number, node: NodeHardware): void {
  const list = lists.get(key);
  if (list === undefined) lists.set(key, [node]);
  else list.push(node);
}

function mostRam(nodes: readonly NodeHardware[]): NodeHardware {
  const has = (node: NodeHardware): number => node.allocatableMemoryBytes ?? -1;
  return nodes.reduce((found, node) => (has(node) > has(found) ? node : found));
}

/** Some node lacks nothing but size: memory, and perhaps devices. */
export function isTooLarge({ matching, refused }: Sifted): boolean {
  return (
    matching.length === 0 &&
    refused.some(
      ({ lacks }) =>
        lacks.some(({ kind }) => kind === "memory") &&
        lacks.every(({ kind, missingDevices }) => kind === "memory" || missingDevices !== undefined),
    )
  );
}

/** Where no node fits: the most memory that one of those with too little has, and the nodes counted by what they lack. */
export function describeUnfit({ refused }: Sifted, excluded: readonly ExcludedNodes[]): readonly string[] {
  const best = refused
    .flatMap(({ lacks, sample: { name } }) =>
      lacks.flatMap(({ kind, hasBytes }) =>
        kind === "memory" && hasBytes !== undefined ? [{ name, has: hasBytes }] : [],
      ),
    )
    .sort((one, other) => other.has - one.has || (one.name < other.name ? -1 : 1))[0];
  const all = [
    ...refused.map(({ lacks, nodes }) => ({ lacks, count: nodes.length })),
    ...excluded.map(({ lacks, nodes }) => ({ lacks, count: nodes.length })),
  ];
  const nodes = all.reduce((sum, { count }) => sum + count, 0);
  return [
    ...(best === undefined ? [] : [`best node ${best.name} has ${formatBytes(best.has)}`]),
    ...(nodes === 0 ? [] : [`fits 0 of ${nodes} nodes: ${countReasons(all)}`]),
  ];
}

/** Where none of those that fit has room: the nodes counted by what others hold. */
export function describeTaken({ freeNames, held }: Sifted): readonly string[] {
  if (held.length === 0 || freeNames.length > 0) return [];
  const taken = held.map(({ sample, nodes, wanted }) => ({
    lacks: takenLacks(sample, wanted),
    count: nodes.length,
  }));
  return [`none has room now: ${countReasons(taken)}`];
}

type Lacking = { readonly node: NodeHardware; readonly lacks: readonly Obstacle[] };

const byNearness = (one: Lacking, other: Lacking): number =>
  compareLacks(one.lacks, other.lacks) || (one.node.name < other.node.name ? -1 : 1);

/** The first of the nodes by what the function says of each; by name among equals, since they come by name. */
function least(nodes: readonly NodeHardware[], of: (node: NodeHardware) => number): readonly NodeHardware[] {
  const found: { readonly node: NodeHardware; readonly by: number }[] = [];
  for (const node of nodes) {
    const by = of(node);
    const last = found.at(-1);
    if (found.length === shownNodes && last !== undefined && by >= last.by) continue;
    const place = found.findIndex((other) => by < other.by);
    found.splice(place === -1 ? found.length : place, 0, { node, by });
    if (found.length > shownNodes) found.pop();
  }
  return found.map(({ node }) => node);
}

/** The nearest of nodes that lack the same but for amounts. */
function nearestOf(
  { nodes }: Pick<Refused, "nodes">,
  wanted: readonly Wanted[],
  demand: PodDemand,
): readonly Lacking[] {
  return least(nodes, (node) => missingBytesOf(node, wanted)).map((node) => ({
    node,
    lacks: lacksOf(node, demand),
  }));
}

/**
 * Where no node takes the pod now: the nodes that are nearest to it, at most three, and all that each lacks. In a total order that does
 * not depend on the order of the nodes.
 */
export function nearMisses(
  { freeNames, refused, held }: Sifted,
  excluded: readonly ExcludedNodes[],
  demand: PodDemand,
): readonly NearMiss[] {
  if (freeNames.length > 0) return [];
  const amounts = wantedAmounts(demand);
  const found =
    held.length > 0
      ? held.flatMap(({ nodes, wanted }) =>
          least(nodes, (node) => heldDistance(node, wanted)).map((node): Lacking => ({
            node,
            lacks: takenLacks(node, wanted),
          })),
        )
      : [
          ...refused.flatMap((each): readonly Lacking[] =>
            each.lacks.some(({ kind }) => kind === "no-accelerator") ? [] : nearestOf(each, amounts, demand),
          ),
          ...excluded.flatMap(({ lacks: more, nodes }) => nearestExcluded(nodes, amounts, demand, more)),
        ];
  return found
    .filter(({ lacks }) => lacks.every(({ kind }) => kind !== "no-accelerator"))
    .sort(byNearness)
    .slice(0, shownNodes)
    .map(({ node, lacks }): NearMiss => {
      const [missingBytes = 0, ...others] = lacks.flatMap((each) => each.missingBytes ?? []);
      return {
        node: node.name,
        lacks: lacks.map(({ what }) => what).join(", and "),
        ...(missingBytes > 0 && others.length === 0 ? { missingBytes: Math.ceil(missingBytes) } : {}),
      };
    });
}

/** Of nodes that something else keeps the pod off, too, which may differ in hardware. */
function nearestExcluded(
  nodes: readonly NodeHardware[],
  amounts: readonly Wanted[],
  demand: PodDemand,
  more: readonly Obstacle[],
): readonly Lacking[] {
  const { matching, refused } = sift(groupNodes(nodes), demand);
  // What others hold of a node that does not admit the pod anyway comes and goes.
  return [
    ...matching.slice(0, shownNodes).map((node) => ({ node, lacks: more })),
    ...refused
      .flatMap((each) => nearestOf(each, amounts, demand))
      .map(({ node, lacks }) => ({ node, lacks: [...more, ...lacks] })),
  ];
}
