// Placement PerHardware: the classes of nodes, the variant of each, and its part of the replicas. Pure.

import { createHash } from "node:crypto";
import type { NodeSelectorRequirement } from "../api/model.ts";
import { deviceWayKey } from "../hardware/device-way.ts";
import type { DeviceWay } from "../hardware/types.ts";
import {
  attemptOnCpus,
  attemptsStated,
  capacityFor,
  withTerms,
  type Attempt,
  type AttemptInput,
} from "./attempt.ts";
import { compareQuality } from "./quality.ts";
import { divideReplicas } from "./shares.ts";
import type { Candidate, Placement, Share } from "./types.ts";

/** What runs of one class. */
export type RunningShare = {
  readonly replicas: number;
  /** Tokens it was started for; kept while some node can hold them. */
  readonly contextLength?: number;
  /** Set when its pods waited for a node for too long: it is given no more than these, which have one. */
  readonly most?: number;
};

export type PerHardwareInput = AttemptInput & {
  readonly replicas: number;
  readonly currentShares?: ReadonlyMap<string, RunningShare>;
  /** Own pods on a node, where free capacity counts them as taken. */
  readonly ownPods?: ReadonlyMap<string, number>;
};

/** A candidate and the ways in which its runtime can serve it: as stated, on CPUs although it states an accelerator. */
export type Servable = {
  readonly candidate: Candidate;
  readonly stated: boolean;
  readonly fallback: boolean;
};

type Order = (one: Attempt, other: Attempt) => number;
type Class = {
  readonly each: Attempt;
  readonly key: string;
  readonly nodes: readonly string[];
  readonly capacity: number;
};

/** Names a class of nodes: the same variant on the same kind of devices, whatever the nodes. */
export function shareKey(variant: string, way: DeviceWay | undefined): string {
  const on = way === undefined ? "cpu" : deviceWayKey(way);
  return createHash("sha256").update(`${variant} ${on}`).digest("hex").slice(0, 8);
}

const keyOf = ({ candidate, demand }: Attempt): string =>
  shareKey(candidate.variant.name, demand.device?.way);

const fits = ({ matching }: Attempt): boolean => matching.length > 0;

/** All ways of the candidates: as stated in the order of preference, then on CPUs, where anything of that can matter. */
function allAttempts(
  input: PerHardwareInput,
  servable: readonly Servable[],
  order: Order,
): {
  readonly stated: readonly Attempt[];
  readonly fallbacks: readonly Attempt[];
  /** Of each candidate with the vendor's own resource, whether there are such nodes or not, in the user's order. */
  readonly first: readonly Attempt[];
} {
  const kept = (variant: string, way: DeviceWay | undefined): number | undefined =>
    input.currentShares?.get(shareKey(variant, way))?.contextLength;
  const ofEach = servable
    .filter((each) => each.stated)
    .map(({ candidate }) => attemptsStated(input, candidate, (way) => kept(candidate.variant.name, way)));
  const stated = ofEach.flat().sort(order);
  const isAnyLeft = isSomeNodeLeft(input, stated);
  const fallbacks = servable
    .filter(({ candidate, fallback }) => {
      const key = shareKey(candidate.variant.name, undefined);
      return fallback && (isAnyLeft || input.currentShares?.has(key) === true);
    })
    .map(({ candidate }) => attemptOnCpus(input, candidate, kept(candidate.variant.name, undefined)))
    .sort(order);
  return { stated, fallbacks, first: ofEach.flatMap(([first]) => first ?? []) };
}

/** Whether no attempt fits some node. The widest go first: mostly one is enough to tell. */
function isSomeNodeLeft({ nodes }: PerHardwareInput, attempts: readonly Attempt[]): boolean {
  const served = new Set<Attempt["matching"][number]>();
  for (const { matching } of attempts.toSorted((one, other) => other.matching.length - one.matching.length)) {
    if (served.size === nodes.length) return false;
    for (const node of matching) served.add(node);
  }
  return served.size < nodes.length;
}

/** With `reselect: Never` what runs is kept; else as long as a node can hold it, a cordoned one too, since a cordon is temporary. */
function isKept(input: PerHardwareInput, { candidate, demand }: Attempt): boolean {
  if (input.selection.reselect === "Never") return true;
  if (!input.nodes.some(({ isUnschedulable }) => isUnschedulable)) return false;
  const uncordoned = { ...input, nodes: input.nodes.map((node) => ({ ...node, isUnschedulable: false })) };
  const { way } = demand.device ?? {};
  const length = input.currentShares?.get(shareKey(candidate.variant.name, way))?.contextLength;
  const attempts =
    way === undefined
      ? [attemptOnCpus(uncordoned, candidate, length)]
      : attemptsStated(uncordoned, candidate, () => length);
  return attempts.some((each) => keyOf(each) === shareKey(candidate.variant.name, way) && fits(each));
}

/** Each node belongs to the first attempt that fits it. What runs is a class of its own even where better ones have its nodes. */
function classesOf(input: PerHardwareInput, attempts: readonly Attempt[]): readonly Class[] {
  const taken = new Set<string>();
  const room = (each: Attempt, nodes: Attempt["matching"]): number => {
    const capacityOf = capacityFor(each.demand);
    return nodes.reduce((sum, node) => sum + capacityOf(node, input.ownPods?.get(node.name) ?? 0), 0);
  };
  return attempts.flatMap((each): Class[] => {
    const key = keyOf(each);
    const running = input.currentShares?.get(key);
    const has = running?.replicas ?? 0;
    // Mostly the first few attempts have all nodes between them.
    const nodes =
      taken.size === input.nodes.length ? [] : each.matching.filter(({ name }) => !taken.has(name));
    for (const { name } of nodes) taken.add(name);
    if (nodes.length === 0 && has === 0) return [];
    let capacity = room(each, nodes);
    if (capacity < has) {
      // Better classes may have its nodes now: what it runs there stays.
      capacity = fits(each)
        ? Math.max(capacity, Math.min(has, room(each, each.matching)))
        : isKept(input, each)
          ? has
          : 0;
    }
    capacity = Math.min(capacity, running?.most ?? capacity);
    if (nodes.length === 0 && capacity === 0) return [];
    return [{ each, key, nodes: nodes.map(({ name }) => name).sort(), capacity }];
  });
}

/** The classes with their parts, best first, and all attempts that were made for them. */
export function sharesOf(
  input: PerHardwareInput,
  servable: readonly Servable[],
  order: Order,
): { readonly shares: readonly Share[]; readonly attempts: readonly Attempt[] } {
  const { stated, fallbacks, first } = allAttempts(input, servable, order);
  const attempts = [...stated, ...fallbacks];
  const classes = classesOf(input, attempts);
  const counts = divideReplicas(
    input.replicas,
    classes.map(({ each, key, capacity }) => ({
      key,
      tier: each.demand.device === undefined ? 1 : 0,
      capacity,
      current: input.currentShares?.get(key)?.replicas ?? 0,
    })),
  );
  const better = betterMarks(input, first);
  const shares = classes.map(({ each, key, nodes, capacity }, index): Share => {
    const replicas = counts[index] ?? 0;
    const { candidate } = each;
    // Terms and marks cost more than the rest, and nobody reads those of a class without pods.
    const placement = replicas > 0 ? withTerms(input, each) : each.placement;
    return {
      key,
      candidate,
      placement,
      replicas,
      capacity,
      nodes,
      avoid: replicas > 0 ? better(each) : [],
    };
  });
  return { shares, attempts };
}

/**
 * What labels say of nodes that are not good for a better variant. Made from the variants alone as far as labels allow, not from
 * the nodes there are: a joining node must not change the pods of other classes.
 */
function betterMarks(
  input: PerHardwareInput,
  first: readonly Attempt[],
): (of: Attempt) => readonly NodeSelectorRequirement[] {
  const isBestFit = input.selection.policy === "BestFit";
  const known = new Map<Attempt, readonly NodeSelectorRequirement[]>();
  const thresholds = (each: Attempt): readonly NodeSelectorRequirement[] => {
    const found = known.get(each) ?? comparedLabels(withTerms(input, each));
    known.set(each, found);
    return found;
  };
  return ({ candidate, demand: { device } }) => {
    const place = first.findIndex((each) => each.candidate === candidate);
    const least = new Map<string, number>();
    for (const [index, each] of first.entries()) {
      if (each.demand.device === undefined) continue;
      const isBetter =
        device === undefined ||
        (isBestFit ? compareQuality(each.candidate.artifact, candidate.artifact) < 0 : index < place);
      if (!isBetter) continue;
      for (const { key, values = [] } of thresholds(each)) {
        least.set(key, Math.min(Number(values[0] ?? 0), least.get(key) ?? Number.POSITIVE_INFINITY));
      }
    }
    return [...least]
      .sort(([one], [other]) => (one < other ? -1 : 1))
      .map(([key, value]) =>
        device === undefined
          ? { key, operator: "DoesNotExist" }
          : { key, operator: "Lt", values: [String(value + 1)] },
      );
  };
}

/** Labels that are compared with numbers: by these a pod of another class can tell the nodes of this one. */
function comparedLabels({ nodeSelectorTerms }: Placement): readonly NodeSelectorRequirement[] {
  return nodeSelectorTerms
    .flatMap((term) => term.matchExpressions ?? [])
    .filter(({ operator }) => operator === "Gt");
}
