// Chooses the variant by the policy, with a verdict and numbers for every one. Pure.

import type { AcceleratorVendor } from "../api/model.ts";
import {
  attemptOnCpus,
  attemptStated,
  clearest,
  withTerms,
  type Attempt,
  type AttemptInput,
} from "./attempt.ts";
import { shareKey, sharesOf, type RunningShare } from "./per-hardware.ts";
import { admittedNodes, type NodeSelector } from "./node-selector.ts";
import { compareQuality } from "./quality.ts";
import { runtimeImage } from "./runtime-image.ts";
import type { Candidate, Choice, VariantVerdict } from "./types.ts";

export type SelectionInput = Omit<AttemptInput, "excluded"> & {
  /** What else keeps pods off nodes: selectors of the pod template, the volume. All must hold. */
  readonly selectors?: readonly NodeSelector[];
  /** What else the scheduler goes by, in words: no verdict says that a pod fits without it. */
  readonly notJudged?: readonly string[];
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
  /** PerHardware: what each class has now, by its key; kept while its nodes can hold it. */
  readonly currentShares?: ReadonlyMap<string, RunningShare>;
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

/** In which ways the candidate's runtime can serve it at all. */
function waysOf({ selection }: SelectionInput, candidate: Candidate): { stated: boolean; fallback: boolean } {
  const { runtime, variant } = candidate;
  const vendor = variant.requirements?.accelerator?.vendor ?? "none";
  const canUseCpus = runtime?.definition.cpu === true;
  if (runtime === undefined || (vendor === "none" && !canUseCpus)) return { stated: false, fallback: false };
  return {
    stated: runtimeImage(runtime.definition, vendor) !== undefined,
    fallback: (selection.cpuFallback ?? true) && vendor !== "none" && canUseCpus,
  };
}

function tryCandidate(input: SelectionInput, candidate: Candidate): Tried {
  const { stated, fallback } = waysOf(input, candidate);
  const kept = input.current?.variant === candidate.variant.name ? input.current.contextLength : undefined;
  return {
    candidate,
    stated: stated ? attemptStated(input, candidate, kept) : undefined,
    fallback: fallback ? attemptOnCpus(input, candidate, kept) : undefined,
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

const noteOf = (notJudged: readonly string[]): readonly string[] =>
  notJudged.length === 0 ? [] : [`not judged: of spec.template ${notJudged.join(", ")}`];

function verdictOf(
  { notJudged = [] }: SelectionInput,
  each: Attempt | undefined,
  candidate: Candidate,
  isSelected: boolean,
): VariantVerdict {
  const { runtime, runtimeProblem, artifact, variant } = candidate;
  const vendor = variant.requirements?.accelerator?.vendor ?? "none";
  if (each === undefined) {
    return {
      name: variant.name,
      verdict: "RuntimeUnsupported",
      message:
        runtime === undefined
          ? (runtimeProblem ??
            `no configured runtime loads ${artifact.format} weights; configure one that does, or give runtime.image`)
          : vendor !== "none"
            ? `runtime ${runtime.name} has no image for ${vendor} devices; set its vendorImages.${vendor} in the operator's configuration, or give runtime.image`
            : `runtime ${runtime.name} does not serve without an accelerator; state requirements.accelerator`,
      requiredBytes: 0,
      matchingNodes: [],
      nearMisses: [],
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
    message: [placement.isCpuFallback ? `${message} (CPU fallback)` : message, ...noteOf(notJudged)].join(
      "; ",
    ),
    requiredBytes: placement.footprint.totalBytes,
    footprint: placement.footprint,
    matchingNodes: placement.matchingNodes,
    nearMisses: each.nearMisses(),
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
export function chooseVariant(whole: SelectionInput): Choice {
  // Nodes that the pod template excludes are none of this Model's cluster.
  const input = { ...whole, ...admittedNodes(whole.nodes, whole.selectors) };
  const isPerHardware = input.selection.placement === "PerHardware";
  if (isPerHardware) {
    const found = choosePerHardware(input);
    if (found !== undefined) return found;
  }
  const tried = input.candidates.map((candidate) => tryCandidate(input, candidate));
  const kept = keptAttempt(input, tried);
  const chosen = kept ?? ranked(input, tried)[0] ?? unseen(input, tried);
  const verdicts = tried.map(({ candidate, stated }) => {
    const isSelected = chosen?.candidate === candidate;
    return verdictOf(input, isSelected ? chosen : stated, candidate, isSelected);
  });
  if (chosen !== undefined) {
    const { candidate } = chosen;
    const placement = withTerms(input, chosen);
    const better =
      kept !== undefined && input.selection.reselect === "OnNodeChange"
        ? betterThan(input, tried, kept)
        : undefined;
    // A class that no node is of yet has its own name already: when the first node comes, nothing moves.
    const key = isPerHardware ? shareKey(candidate.variant.name, chosen.demand.device?.way) : "";
    const share = { key, candidate, placement, replicas: input.replicas, avoid: [] };
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
  if (whole.nodes.length === 0) {
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

/** PerHardware as far as some class of nodes can hold something; undefined where none can. */
function choosePerHardware(input: SelectionInput): Choice | undefined {
  const { replicas, candidates } = input;
  const { shares, attempts } = sharesOf(
    input,
    candidates.map((candidate) => ({ candidate, ...waysOf(input, candidate) })),
    policyOrder(input),
  );
  const first = shares.find((share) => share.replicas > 0) ?? shares[0];
  if (first === undefined) return undefined;
  const verdicts = candidates.map((candidate) => {
    const share = shares.find(
      (each) => each.candidate === candidate && (each.replicas > 0 || each === first),
    );
    const own = attempts.filter((each) => each.candidate === candidate);
    const shown = own.find(({ placement }) => placement.matchingNodes === share?.placement.matchingNodes);
    const stated = own.filter(({ placement }) => !placement.isCpuFallback);
    return verdictOf(input, shown ?? clearest(stated), candidate, share !== undefined);
  });
  const parts = shares
    .filter((share) => share.replicas > 0)
    .map(
      (share) =>
        `${share.candidate.variant.name} ${share.placement.accelerator === "none" ? "on CPUs" : `on ${share.placement.accelerator} GPUs`} x ${share.replicas}`,
    );
  return {
    kind: "selected",
    candidate: first.candidate,
    placement: first.placement,
    shares,
    reason:
      parts.length === 0
        ? `${first.candidate.variant.name}: ${shares.length} classes of nodes, no replica wanted`
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
