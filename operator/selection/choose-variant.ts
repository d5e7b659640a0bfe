// Chooses the variant by the policy, with a verdict and numbers for every one. Pure.

import type { AcceleratorVendor } from "../api/model.ts";
import { attemptOnCpus, attemptStated, type Attempt, type AttemptInput } from "./attempt.ts";
import { compareQuality } from "./quality.ts";
import type { Candidate, Choice, VariantVerdict } from "./types.ts";

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
    stated: attemptStated(input, candidate, kept),
    fallback: hasFallback ? attemptOnCpus(input, candidate, kept) : undefined,
  };
}

const fits = (each: Attempt): boolean => each.placement.matchingNodes.length > 0;
const hasRoom = (each: Attempt): boolean => each.placement.freeNodes.length > 0;

/**
 * Attempts that fit, best first. As stated before on CPUs instead; with room now before all taken. Then FirstFit: the user's order;
 * BestFit: on accelerators before on CPUs, quality, memory left over, name. A total order that no order of nodes changes.
 */
function ranked(input: SelectionInput, tried: readonly Tried[]): readonly Attempt[] {
  const isBestFit = input.selection.policy === "BestFit";
  const position = new Map(tried.map(({ candidate }, index) => [candidate, index]));
  const order = (one: Attempt, other: Attempt): number => {
    const room = Number(hasRoom(other)) - Number(hasRoom(one));
    if (room !== 0) return room;
    if (!isBestFit) return (position.get(one.candidate) ?? 0) - (position.get(other.candidate) ?? 0);
    const onCpus = (each: Attempt): number => Number(each.placement.accelerator === "none");
    return (
      onCpus(one) - onCpus(other) ||
      compareQuality(one.candidate.artifact, other.candidate.artifact) ||
      other.headroomBytes - one.headroomBytes ||
      (one.candidate.variant.name < other.candidate.variant.name ? -1 : 1)
    );
  };
  const of = (kind: "stated" | "fallback"): readonly Attempt[] =>
    tried
      .flatMap((each) => each[kind] ?? [])
      .filter(fits)
      .sort(order);
  return [...of("stated"), ...of("fallback")];
}

function verdictOf(each: Attempt | undefined, candidate: Candidate, isSelected: boolean): VariantVerdict {
  const { runtime, artifact, variant } = candidate;
  if (each === undefined) {
    return {
      name: variant.name,
      verdict: "RuntimeUnsupported",
      message:
        runtime === undefined
          ? `no configured runtime loads ${artifact.format} weights; name one in runtime.name or give runtime.image`
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

/**
 * FirstFit: the first candidate that fits some node as it states its requirements. BestFit: the one of the highest quality. If none
 * fits and `cpuFallback` is not false, the first (best) whose runtime can serve it on CPUs. The current variant is kept with
 * `reselect: Never` always, otherwise while some node, cordoned ones too, could hold it: a choice that followed every
 * node event would restart pods for nothing.
 */
export function chooseVariant(input: SelectionInput): Choice {
  const tried = input.candidates.map((candidate) => tryCandidate(input, candidate));
  const kept = keptAttempt(input, tried);
  const chosen = kept ?? ranked(input, tried)[0];
  const verdicts = tried.map(({ candidate, stated }) => {
    const isSelected = chosen?.candidate === candidate;
    return verdictOf(isSelected ? chosen : stated, candidate, isSelected);
  });
  if (chosen !== undefined) {
    const { candidate, placement } = chosen;
    return {
      kind: "selected",
      candidate,
      placement,
      reason: reasonOf(input, chosen, kept !== undefined),
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
  if (own === undefined) return undefined;
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
