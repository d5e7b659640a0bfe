// Chooses the variant by the policy, with a verdict and numbers for every one. Pure.

import { createHash } from "node:crypto";
import type { AcceleratorVendor, NodeSelectorRequirement } from "../api/model.ts";
import { deviceWayKey } from "../hardware/device-way.ts";
import {
  attemptOnCpus,
  attemptsStated,
  attemptStated,
  capacityOf,
  withTerms,
  type Attempt,
  type AttemptInput,
} from "./attempt.ts";
import { compareQuality } from "./quality.ts";
import { runtimeImage } from "./runtime-image.ts";
import { divideReplicas } from "./shares.ts";
import type { Candidate, Choice, Placement, Share, VariantVerdict } from "./types.ts";

export type SelectionInput = AttemptInput & {
  /** In the user's order, which is the order of preference. */
  readonly candidates: readonly Candidate[];
  /** The variant that runs now and what it runs on; kept as long as `reselect` says. */
  readonly current?: {
    readonly variant: string;
    readonly accelerator: AcceleratorVendor;
    /** Tokens it was started for. */
    readonly contextLength?: number;
  };
  /** Pods wanted. */
  readonly replicas: number;
  /** Replicas of each class that runs now, by its key. */
  readonly currentShares?: ReadonlyMap<string, number>;
  /** Variants on kinds of devices (`passedOverKey`) that could not be scheduled: taken only when nothing else fits. */
  readonly passedOver?: ReadonlySet<string>;
  /** Own pods on a node, which free capacity counts as taken. */
  readonly ownPods?: ReadonlyMap<string, number>;
};

/** All ways of one candidate: as stated, and on CPUs although it states an accelerator. */
type Tried = {
  readonly candidate: Candidate;
  /** undefined: its runtime cannot serve it so. */
  readonly stated: Attempt | undefined;
  readonly fallback: Attempt | undefined;
};

function tryCandidate(input: SelectionInput, candidate: Candidate): Tried {
  const { runtime, variant } = candidate;
  const vendor = variant.requirements?.accelerator?.vendor ?? "none";
  const canUseCpus = runtime?.definition.cpu === true;
  if (runtime === undefined || (vendor === "none" && !canUseCpus))
    return { candidate, stated: undefined, fallback: undefined };
  const kept = input.current?.variant === variant.name ? input.current.contextLength : undefined;
  const hasFallback = (input.selection.cpuFallback ?? true) && vendor !== "none" && canUseCpus;
  return {
    candidate,
    stated:
      runtimeImage(runtime.definition, vendor) === undefined
        ? undefined
        : attemptStated(input, candidate, kept),
    fallback: hasFallback ? attemptOnCpus(input, candidate, kept) : undefined,
  };
}

const fits = (each: Attempt): boolean => each.placement.matchingNodes.length > 0;
/** Names a variant on a kind of devices. */
export function passedOverKey({
  variant,
  accelerator,
}: {
  readonly variant: string;
  readonly accelerator: string;
}): string {
  return `${variant} ${accelerator}`;
}

const keyOf = ({ candidate, placement }: Attempt): string =>
  passedOverKey({ variant: candidate.variant.name, accelerator: placement.accelerator });

const hasRoom = (each: Attempt): boolean => each.placement.freeNodes.length > 0;

/**
 * Attempts that fit, best first. As stated before on CPUs instead; with room now before all taken. Then FirstFit: the user's order;
 * BestFit: on accelerators before on CPUs, with the wanted context before with a shorter one, quality, memory left over, name. A total order that no order of nodes changes.
 */
function ranked(input: SelectionInput, tried: readonly Tried[]): readonly Attempt[] {
  const order = policyOrder(input);
  const of = (kind: "stated" | "fallback"): readonly Attempt[] =>
    tried
      .flatMap((each) => each[kind] ?? [])
      .filter(fits)
      .sort((one, other) => Number(hasRoom(other)) - Number(hasRoom(one)) || order(one, other));
  const all = [...of("stated"), ...of("fallback")];
  const isPassedOver = (each: Attempt): boolean => input.passedOver?.has(keyOf(each)) === true;
  return [...all.filter((each) => !isPassedOver(each)), ...all.filter(isPassedOver)];
}

/**
 * What is better than the kept attempt by more than chance (memory left over, names), and has room: a gain that is worth moving
 * pods for.
 */
function betterThan(
  input: SelectionInput,
  tried: readonly Tried[],
  kept: Attempt,
): { variant: string; accelerator: AcceleratorVendor; freeNodes: readonly string[] } | undefined {
  const order = policyOrder(input, true);
  const found = ranked(input, tried).find(
    (each) =>
      hasRoom(each) &&
      input.passedOver?.has(keyOf(each)) !== true &&
      (each.placement.isCpuFallback === kept.placement.isCpuFallback
        ? order(each, kept) < 0
        : kept.placement.isCpuFallback),
  );
  return found === undefined
    ? undefined
    : {
        variant: found.candidate.variant.name,
        accelerator: found.placement.accelerator,
        freeNodes: found.placement.freeNodes,
      };
}

/** Orders attempts of different candidates by the policy, best first. */
function policyOrder(input: SelectionInput, isStrict = false): (one: Attempt, other: Attempt) => number {
  const isBestFit = input.selection.policy === "BestFit";
  const position = new Map(input.candidates.map((candidate, index) => [candidate, index]));
  return (one, other) => {
    if (!isBestFit) return (position.get(one.candidate) ?? 0) - (position.get(other.candidate) ?? 0);
    const onCpus = (each: Attempt): number => Number(each.placement.accelerator === "none");
    return (
      onCpus(one) - onCpus(other) ||
      Number(one.isShort) - Number(other.isShort) ||
      compareQuality(one.candidate.artifact, other.candidate.artifact) ||
      (isStrict ? 0 : tieOrder(one, other))
    );
  };
}

function tieOrder(one: Attempt, other: Attempt): number {
  return (
    other.headroomBytes() - one.headroomBytes() ||
    (one.candidate.variant.name < other.candidate.variant.name
      ? -1
      : one.candidate.variant.name > other.candidate.variant.name
        ? 1
        : 0)
  );
}

/** Names a class of nodes: the same variant on the same kind of devices, whatever the nodes. */
function shareKey({ candidate, demand }: Attempt): string {
  const way = demand.device === undefined ? "cpu" : deviceWayKey(demand.device.way);
  return createHash("sha256").update(`${candidate.variant.name} ${way}`).digest("hex").slice(0, 8);
}

/**
 * PerHardware: each node belongs to the first attempt in the policy's order that it fits; classes share the replicas by what
 * they can hold. With `reselect: OnNodeChange` they are divided anew, else what a class has it keeps.
 */
function sharesOf(input: SelectionInput, tried: readonly Tried[]): readonly Share[] {
  const order = policyOrder(input);
  const stated = tried.filter((each) => each.stated !== undefined);
  const attempts = [
    ...stated.flatMap(({ candidate }) => attemptsStated(input, candidate)).sort(order),
    ...tried
      .flatMap(({ fallback }) => fallback ?? [])
      .filter(fits)
      .sort(order),
  ];
  const taken = new Set<string>();
  const classes = attempts.flatMap((each) => {
    const nodes = each.matching.filter(({ name }) => !taken.has(name));
    for (const { name } of nodes) taken.add(name);
    return nodes.length === 0 ? [] : [{ each, nodes, key: shareKey(each) }];
  });
  const counts = divideReplicas(
    input.replicas,
    classes.map(({ each, nodes, key }) => ({
      key,
      tier: each.demand.device === undefined ? 1 : 0,
      capacity: nodes.reduce(
        (sum, node) => sum + capacityOf(node, each.demand, input.ownPods?.get(node.name) ?? 0),
        0,
      ),
      current: input.selection.reselect === "OnNodeChange" ? 0 : (input.currentShares?.get(key) ?? 0),
    })),
  );
  const placements = classes.map(({ each }) => withTerms(input, each));
  return classes.flatMap(({ each: { candidate }, nodes, key }, index) => {
    const placement = placements[index];
    if (placement === undefined) return [];
    return [
      {
        key,
        candidate,
        placement,
        replicas: counts[index] ?? 0,
        nodes: nodes.map(({ name }) => name).sort(),
        avoid: placements
          .slice(0, index)
          .flatMap((better) => marksOf(better, placement.accelerator !== "none")),
      },
    ];
  });
}

/** Labels by which a pod of another class can tell the nodes of this one: those that are compared with numbers. */
function marksOf(placement: Placement, usesDevice: boolean): readonly NodeSelectorRequirement[] {
  const marks = new Map<string, NodeSelectorRequirement>();
  for (const { key, operator, values = [] } of placement.nodeSelectorTerms.flatMap(
    (term) => term.matchExpressions ?? [],
  )) {
    if (operator !== "Gt") continue;
    marks.set(
      key,
      usesDevice
        ? { key, operator: "Lt", values: [String(Number(values[0] ?? 0) + 1)] }
        : { key, operator: "DoesNotExist" },
    );
  }
  return [...marks.values()];
}

function verdictOf(each: Attempt | undefined, candidate: Candidate, isSelected: boolean): VariantVerdict {
  const { runtime, artifact, variant } = candidate;
  const vendor = variant.requirements?.accelerator?.vendor ?? "none";
  if (each === undefined) {
    return {
      name: variant.name,
      verdict: "RuntimeUnsupported",
      message:
        runtime === undefined
          ? `no configured runtime loads ${artifact.format} weights; name one in runtime.name or give runtime.image`
          : vendor !== "none"
            ? `runtime ${runtime.name} has no image for ${vendor} devices; set its vendorImages.${vendor} in the operator's configuration, or give runtime.image`
            : `runtime ${runtime.name} does not serve without an accelerator; state requirements.accelerator`,
      requiredBytes: 0,
      matchingNodes: [],
    };
  }
  const { placement, message } = each;
  return {
    name: variant.name,
    verdict: isSelected
      ? "Selected"
      : !fits(each)
        ? each.isTooLarge
          ? "TooLarge"
          : "NoMatchingNode"
        : hasRoom(each)
          ? "Fits"
          : "NoFreeCapacity",
    message: placement.isCpuFallback ? `${message} (CPU fallback)` : message,
    requiredBytes: placement.footprint.totalBytes,
    footprint: placement.footprint,
    matchingNodes: placement.matchingNodes,
  };
}

/** With `emptyCluster: Provision`, what an autoscaler is to bring a node for: the policy's first, as it is stated. */
function unseen(input: SelectionInput, tried: readonly Tried[]): Attempt | undefined {
  if (input.selection.emptyCluster !== "Provision") return undefined;
  return tried.flatMap(({ stated }) => stated ?? []).sort(policyOrder(input))[0];
}

/**
 * FirstFit: the first candidate that fits some node as it states its requirements. BestFit: the one of the highest quality. If none
 * fits and `cpuFallback` is not false, the first (best) whose runtime can serve it on CPUs. The current variant is kept with
 * `reselect: Never` always, otherwise while some node, cordoned ones too, could hold it: a choice that followed every
 * node event would restart pods for nothing.
 */
export function chooseVariant(input: SelectionInput): Choice {
  const tried = input.candidates.map((candidate) => tryCandidate(input, candidate));
  if (input.selection.placement === "PerHardware") {
    const shares = sharesOf(input, tried);
    const first = shares.find(({ replicas }) => replicas > 0) ?? shares[0];
    if (first !== undefined) return choiceOfShares(input, tried, shares, first);
  }
  const kept = keptAttempt(input, tried);
  const chosen = kept ?? ranked(input, tried)[0] ?? unseen(input, tried);
  const verdicts = tried.map(({ candidate, stated }) => {
    const isSelected = chosen?.candidate === candidate;
    return verdictOf(isSelected ? chosen : stated, candidate, isSelected);
  });
  if (chosen !== undefined) {
    const { candidate } = chosen;
    const placement = withTerms(input, chosen);
    const better =
      kept !== undefined && input.selection.reselect === "OnNodeChange"
        ? betterThan(input, tried, kept)
        : undefined;
    const share = { key: "", candidate, placement, replicas: input.replicas, avoid: [] };
    return {
      kind: "selected",
      candidate,
      placement,
      shares: [{ ...share, nodes: placement.matchingNodes }],
      ...(better === undefined ? {} : { better }),
      reason:
        fits(chosen) || kept !== undefined
          ? reasonOf(input, chosen, kept !== undefined)
          : `${candidate.variant.name}: no node fits yet, and an autoscaler is to bring one`,
      verdicts,
    };
  }
  if (verdicts.length > 0 && verdicts.every(({ verdict }) => verdict === "RuntimeUnsupported")) {
    return { kind: "none", reason: "RuntimeUnknown", message: verdicts[0]?.message ?? "", verdicts };
  }
  if (input.nodes.length === 0) {
    return {
      kind: "none",
      reason: "NoNodesYet",
      message: "the cluster has no node yet; the choice is made as soon as one joins",
      verdicts,
    };
  }
  const details = verdicts.map(({ name, message }) => `${name} ${message}`).join(". ");
  return { kind: "none", reason: "NoVariantFits", message: details, verdicts };
}

function choiceOfShares(
  { replicas, candidates }: SelectionInput,
  tried: readonly Tried[],
  shares: readonly Share[],
  { candidate, placement }: Share,
): Choice {
  const verdicts = tried.map(({ candidate: own, stated, fallback }) => {
    const share = shares.find((each) => each.candidate === own && (each.replicas > 0 || own === candidate));
    const attempt = share?.placement.isCpuFallback === true ? fallback : stated;
    return verdictOf(attempt, own, share !== undefined);
  });
  const parts = shares
    .filter((share) => share.replicas > 0)
    .map(
      (share) =>
        `${share.candidate.variant.name} ${share.placement.accelerator === "none" ? "on CPUs" : `on ${share.placement.accelerator} GPUs`} x ${share.replicas}`,
    );
  return {
    kind: "selected",
    candidate,
    placement,
    shares,
    reason:
      parts.length === 0
        ? `${candidate.variant.name}: ${shares.length} classes of nodes, no replica wanted`
        : `${replicas} replicas by hardware, of ${candidates.length} variants: ${parts.join(", ")}`,
    verdicts,
  };
}

function reasonOf(input: SelectionInput, { candidate, placement }: Attempt, isKept: boolean): string {
  const where = placement.accelerator === "none" ? "on CPUs" : `on ${placement.accelerator} GPUs`;
  const count = input.candidates.length;
  const why = isKept
    ? "kept: it still fits"
    : count === 1
      ? "it fits"
      : input.selection.policy === "BestFit"
        ? `the best of ${count} that fits`
        : input.candidates[0] === candidate
          ? "the first choice fits"
          : `the first of ${count} that fits`;
  return [
    `${candidate.variant.name} ${where}: ${why}`,
    ...(placement.isCpuFallback ? ["CPU fallback, since no node has the accelerator it asks for"] : []),
  ].join("; ");
}

/** The current variant's attempt where it is to be kept. */
function keptAttempt(input: SelectionInput, tried: readonly Tried[]): Attempt | undefined {
  const { current } = input;
  const own = tried.find(({ candidate }) => candidate.variant.name === current?.variant);
  if (own === undefined || current === undefined) return undefined;
  const ways = [own.stated, own.fallback].filter(
    (way): way is Attempt => way !== undefined && way.placement.accelerator === current?.accelerator,
  );
  const fitting = ways.find(fits);
  if (fitting !== undefined) return fitting;
  if (input.selection.reselect === "Never") return ways[0];
  // A cordon is temporary: judge again as if there were none.
  const uncordoned = { ...input, nodes: input.nodes.map((node) => ({ ...node, isUnschedulable: false })) };
  return ways
    .map(({ placement: { isCpuFallback } }) =>
      isCpuFallback
        ? attemptOnCpus(uncordoned, own.candidate, current?.contextLength)
        : attemptStated(uncordoned, own.candidate, current?.contextLength),
    )
    .find(fits);
}
