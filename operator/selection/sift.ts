// Which nodes take a pod, which would if others left, and why the others do not: group by group, not node by node. Pure.

import type { NodeHardware } from "../hardware/types.ts";
import { formatBytes } from "../kube/quantity.ts";
import {
  admissionObstacle,
  hardwareObstacle,
  hasRoomNow,
  ramObstacle,
  selectorObstacle,
  suitablePlaces,
  takenObstacle,
  type Obstacle,
  type PodDemand,
} from "./fit.ts";
import type { GroupedNodes, NodeGroup } from "./node-groups.ts";
import type { NearMiss } from "./types.ts";

/** Nodes that do not take the pod for one reason. */
type Refused = {
  /** What `sample` lacks, the nearest of them. */
  readonly obstacle: Obstacle;
  readonly sample: NodeHardware;
  /** By name. */
  readonly nodes: readonly NodeHardware[];
  /** Where they lack unequal amounts of it: in words and as a number to compare them by. */
  readonly each?: {
    readonly obstacle: (node: NodeHardware) => Obstacle | undefined;
    readonly shortfall: (node: NodeHardware) => number;
  };
};

export type Sifted = {
  /** Nodes that the pod fits, by name, and their names. */
  readonly matching: readonly NodeHardware[];
  readonly matchingNames: readonly string[];
  /** One node of each group of which some match: what lasts is the same for all of it. */
  readonly samples: readonly NodeHardware[];
  /** Of these, the names of those with room now. */
  readonly freeNames: readonly string[];
  readonly refused: readonly Refused[];
  /** Where none has room: what others hold of the matching ones. */
  readonly taken: readonly Refused[];
};

const shownNodes = 3;

/** Sorts the nodes by whether they take the pod. */
export function sift(grouped: GroupedNodes, demand: PodDemand): Sifted {
  const refused: Refused[] = [];
  // 1: fits; 2: fits, but others hold what it needs. By place, so that the lists are in the order of names without sorting them.
  const marks = new Uint8Array(grouped.nodes.length);
  const samples: NodeHardware[] = [];
  for (const group of grouped.groups) {
    const found = hardwareObstacle(group.sample, demand);
    if (found !== undefined) refused.push({ obstacle: found, sample: group.sample, nodes: group.nodes });
    else if (siftGroup(group, demand, marks, refused)) samples.push(group.sample);
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
  const [first] = matching;
  const held = first === undefined || freeNames.length > 0 ? undefined : takenObstacle(first, demand);
  return {
    matching,
    matchingNames,
    samples,
    freeNames,
    refused,
    taken:
      first === undefined || held === undefined
        ? []
        : [
            {
              obstacle: held,
              sample: first,
              nodes: matching,
              each: {
                obstacle: (node) => takenObstacle(node, demand),
                shortfall: (node) => Math.max(0, demand.memoryBytes - (node.free?.memoryBytes ?? 0)),
              },
            },
          ],
  };
}

/** Marks the nodes of a group whose hardware is good for the pod; true where it fits some. */
function siftGroup(
  { sample, nodes, places, leastMemoryBytes, isCounted }: NodeGroup,
  demand: PodDemand,
  marks: Uint8Array,
  refused: Refused[],
): boolean {
  const needBytes = demand.memoryBytes;
  const isSomeShort = needBytes > 0 && (leastMemoryBytes === undefined || leastMemoryBytes < needBytes);
  const barred = admissionObstacle(sample, demand);
  if (barred !== undefined && !isSomeShort) {
    refused.push({ obstacle: barred, sample, nodes });
    return false;
  }
  const hasTerms = (demand.requirements.nodeSelectorTerms ?? []).length > 0;
  const devices = suitablePlaces(sample, demand);
  const short: NodeHardware[] = [];
  const others: NodeHardware[] = [];
  let isFitting = false;
  for (let index = 0; index < nodes.length; index += 1) {
    const node = nodes[index];
    const place = places[index];
    if (node === undefined || place === undefined) continue;
    if (isSomeShort && (node.allocatableMemoryBytes ?? -1) < needBytes) {
      short.push(node);
    } else if (barred !== undefined || (hasTerms && selectorObstacle(node, demand) !== undefined)) {
      others.push(node);
    } else {
      marks[place] = !isCounted || hasRoomNow(node, demand, devices) ? 1 : 2;
      isFitting = true;
    }
  }
  refused.push(...shortOfRam(short, demand));
  const [excluded] = others;
  const why = excluded === undefined ? undefined : (barred ?? selectorObstacle(excluded, demand));
  if (excluded !== undefined && why !== undefined) {
    refused.push({ obstacle: why, sample: excluded, nodes: others });
  }
  return isFitting;
}

/** Nodes with too little RAM, of which the one that has most says how much. */
function shortOfRam(nodes: readonly NodeHardware[], demand: PodDemand): readonly Refused[] {
  const has = (node: NodeHardware): number => node.allocatableMemoryBytes ?? -1;
  let sample: NodeHardware | undefined;
  for (const node of nodes) if (sample === undefined || has(node) > has(sample)) sample = node;
  const found = sample === undefined ? undefined : ramObstacle(sample, demand);
  if (sample === undefined || found === undefined) return [];
  const each = {
    obstacle: (node: NodeHardware) => ramObstacle(node, demand),
    shortfall: (node: NodeHardware) => -has(node),
  };
  return [{ obstacle: found, sample, nodes, each }];
}

const obstacleOf = ({ obstacle, each }: Refused, node: NodeHardware): Obstacle =>
  each?.obstacle(node) ?? obstacle;

/** Words for what the obstacles of all nodes have in common: the best of those too small, then counts of the rest. */
export function describeObstacles(refused: readonly Refused[]): readonly string[] {
  const parts: string[] = [];
  const best = refused
    .flatMap(({ obstacle, sample: { name } }) =>
      obstacle.kind === "memory" ? [{ name, has: obstacle.hasBytes }] : [],
    )
    .sort((one, other) => other.has - one.has || (one.name < other.name ? -1 : 1))[0];
  if (best !== undefined) parts.push(`best node ${best.name} has ${formatBytes(best.has)}`);
  const count = (of: readonly Refused[]): number => of.reduce((sum, { nodes }) => sum + nodes.length, 0);
  const lacking = count(refused.filter(({ obstacle }) => obstacle.kind === "no-accelerator"));
  if (lacking > 0) parts.push(`${lacking} ${lacking === 1 ? "node lacks" : "nodes lack"} a GPU`);
  const others = refused.filter(({ obstacle }) => "what" in obstacle);
  const shown = others
    .flatMap((each) => each.nodes.slice(0, shownNodes).map((node) => ({ name: node.name, each, node })))
    .sort((one, other) => (one.name < other.name ? -1 : 1))
    .slice(0, shownNodes);
  for (const { name, each, node } of shown) {
    const found = obstacleOf(each, node);
    if ("what" in found) parts.push(`${name}: ${found.what}`);
  }
  const more = count(others) - shown.length;
  if (more > 0) parts.push(`and ${more} more ${more === 1 ? "node" : "nodes"}`);
  return parts;
}

/** How near a node is that lacks this: what others may leave, then what users may allow, then memory by amount, then other hardware. */
const distances: Readonly<Record<Obstacle["kind"], number>> = {
  taken: 0,
  excluded: 1,
  memory: 2,
  other: 3,
  unknown: 4,
  // Not near at all; the message counts them.
  "no-accelerator": 5,
};

/** The first of the nodes with the least shortfall; by name among equals, since they come by name. */
function leastShort({ nodes, each }: Refused): readonly NodeHardware[] {
  if (each === undefined) return nodes.slice(0, shownNodes);
  const found: { readonly node: NodeHardware; readonly by: number }[] = [];
  for (const node of nodes) {
    const by = each.shortfall(node);
    const place = found.findIndex((other) => by < other.by);
    if (place === -1) {
      if (found.length < shownNodes) found.push({ node, by });
    } else {
      found.splice(place, 0, { node, by });
      if (found.length > shownNodes) found.pop();
    }
  }
  return found.map(({ node }) => node);
}

/**
 * Where no node takes the pod now: the nodes that are nearest to it, at most three, and what each lacks. In a total order that does not
 * depend on the order of the nodes.
 */
export function nearMisses({ freeNames, refused, taken }: Sifted, demand: PodDemand): readonly NearMiss[] {
  if (freeNames.length > 0) return [];
  return (taken.length > 0 ? taken : refused)
    .filter(({ obstacle }) => obstacle.kind !== "no-accelerator")
    .flatMap((each) => leastShort(each).map((node) => ({ name: node.name, found: obstacleOf(each, node) })))
    .sort(
      (one, other) =>
        distances[one.found.kind] - distances[other.found.kind] ||
        missing(one.found) - missing(other.found) ||
        (one.name < other.name ? -1 : 1),
    )
    .slice(0, shownNodes)
    .map(({ name, found }): NearMiss => {
      const missingBytes = missing(found);
      return {
        node: name,
        lacks: lackOf(found, demand),
        ...(missingBytes > 0 ? { missingBytes: Math.ceil(missingBytes) } : {}),
      };
    });
}

/** Other pods come and go all the time: what they hold is told in steps of this, bytes, or each of them would change the status of all who wait. */
const takenStepBytes = 64 * 1024 * 1024;

function missing(found: Obstacle): number {
  const bytes = "missingBytes" in found ? (found.missingBytes ?? 0) : 0;
  return found.kind === "taken" ? Math.ceil(bytes / takenStepBytes) * takenStepBytes : bytes;
}

/** In words, with numbers: "3.1 GiB of GPU memory short". */
function lackOf(found: Obstacle, { device }: PodDemand): string {
  if (found.kind === "no-accelerator") return "it has no such GPU";
  if (found.kind === "memory") {
    const isOfDevice = device !== undefined && !device.way.isUnifiedMemory;
    return `${formatBytes(found.missingBytes)} of ${isOfDevice ? "GPU memory" : "RAM"} short`;
  }
  const missingBytes = missing(found);
  return missingBytes > 0 ? `${found.what}, ${formatBytes(missingBytes)} short` : found.what;
}
