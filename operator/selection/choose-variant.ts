// Chooses the variant: the user's order, first one that fits some node, with a verdict and numbers for every one. Pure.

import type { AcceleratorVendor, JsonObject, SelectionSpec } from "../api/model.ts";
import { deviceWays } from "../hardware/device-way.ts";
import type { DeviceWay, NodeHardware } from "../hardware/types.ts";
import { formatBytes, parseQuantity } from "../kube/quantity.ts";
import { obstacle, type Obstacle, type PodDemand } from "./fit.ts";
import { estimateFootprint } from "./footprint.ts";
import { nodeAffinityTerms } from "./node-affinity.ts";
import { deviceTolerations } from "./tolerations.ts";
import type { Candidate, Choice, Placement, VariantVerdict } from "./types.ts";

export type SelectionInput = {
  /** In the user's order, which is the order of preference. */
  readonly candidates: readonly Candidate[];
  readonly nodes: readonly NodeHardware[];
  readonly selection: SelectionSpec;
  /** Tolerations of the pod template, by variant name. */
  readonly tolerations: (candidate: Candidate) => readonly JsonObject[];
  /** The variant that runs now and what it runs on; kept as long as `reselect` says. */
  readonly current?: { readonly variant: string; readonly accelerator: AcceleratorVendor };
};

type Attempt = {
  readonly candidate: Candidate;
  readonly placement: Placement;
  readonly message: string;
  /** Some node has all it asks for but memory. */
  readonly isTooLarge: boolean;
};

/** Words for what the obstacles of all nodes have in common: the best of those too small, then counts of the rest. */
function describeObstacles(
  needed: string,
  obstacles: readonly { readonly node: string; readonly obstacle: Obstacle }[],
  noun: string,
): string {
  const parts: string[] = [needed];
  const tooSmall = obstacles.flatMap(({ node, obstacle: found }) =>
    found.kind === "memory" ? [{ node, hasBytes: found.hasBytes }] : [],
  );
  const best = tooSmall.reduce<(typeof tooSmall)[number] | undefined>(
    (largest, each) => (largest === undefined || each.hasBytes > largest.hasBytes ? each : largest),
    undefined,
  );
  if (best !== undefined) parts.push(`best node ${best.node} has ${formatBytes(best.hasBytes)}`);
  const lacking = obstacles.filter(({ obstacle: found }) => found.kind === "no-accelerator").length;
  if (lacking > 0) parts.push(`${lacking} ${lacking === 1 ? "node lacks" : "nodes lack"} a ${noun}`);
  const others = obstacles.flatMap(({ node, obstacle: found }) =>
    found.kind === "other" || found.kind === "unknown" || found.kind === "taken"
      ? [`${node}: ${found.what}`]
      : [],
  );
  parts.push(...others.slice(0, 3));
  if (others.length > 3) parts.push(`and ${others.length - 3} more nodes`);
  return parts.join("; ");
}

/** Tries one candidate as stated in each way that the cluster offers: the first that some node fits, else the first. */
function attemptStated(input: SelectionInput, candidate: Candidate): Attempt {
  const vendor = candidate.variant.requirements?.accelerator?.vendor ?? "none";
  if (vendor === "none") return attempt(input, candidate, undefined);
  const attempts = deviceWays(vendor, input.nodes).map((way) => attempt(input, candidate, way));
  const found =
    attempts.find(({ placement }) => placement.freeNodes.length > 0) ??
    attempts.find(({ placement }) => placement.matchingNodes.length > 0) ??
    attempts.find(({ isTooLarge }) => isTooLarge) ??
    attempts[0];
  return found ?? attempt(input, candidate, undefined);
}

/** Tries one candidate with devices asked for in one way, or on CPUs, although it may state an accelerator. */
function attempt(input: SelectionInput, candidate: Candidate, way: DeviceWay | undefined): Attempt {
  const requirements = candidate.variant.requirements ?? {};
  const footprint = estimateFootprint(candidate.artifact, input.selection);
  const accelerator = requirements.accelerator;
  const usesDevice = way !== undefined;
  const isCpuFallback = !usesDevice && accelerator !== undefined && accelerator.vendor !== "none";
  const count = accelerator?.count ?? 1;
  const deviceMemoryBytes =
    parseQuantity(accelerator?.memoryPerDevice) ?? Math.ceil(footprint.totalBytes / count);
  const statedMemoryBytes = parseQuantity(requirements.memory);
  // RAM stated beside an accelerator is for the host only: on a fallback to CPUs the whole footprint comes on top.
  const hostMemoryBytes = isCpuFallback
    ? Math.max(statedMemoryBytes ?? 0, footprint.totalBytes)
    : (statedMemoryBytes ?? (usesDevice ? 0 : footprint.totalBytes));
  const memoryBytes = hostMemoryBytes + (way?.isUnifiedMemory === true ? deviceMemoryBytes * count : 0);
  const { accelerator: _device, ...withoutAccelerator } = requirements;
  const demand: PodDemand = {
    requirements: usesDevice ? requirements : withoutAccelerator,
    tolerations:
      way === undefined
        ? input.tolerations(candidate)
        : [...deviceTolerations(way.vendor), ...input.tolerations(candidate)],
    device: way === undefined ? undefined : { way, count, memoryBytes: deviceMemoryBytes },
    memoryBytes,
  };
  const matching: NodeHardware[] = [];
  const free: string[] = [];
  const obstacles: { node: string; obstacle: Obstacle }[] = [];
  for (const node of input.nodes) {
    const found = obstacle(node, demand);
    if (found === undefined || found.kind === "taken") matching.push(node);
    if (found === undefined) free.push(node.name);
    else obstacles.push({ node: node.name, obstacle: found });
  }
  const needed = usesDevice
    ? `needs ${formatBytes(deviceMemoryBytes)} on ${count === 1 ? "one GPU" : `each of ${count} GPUs`}`
    : `needs ${formatBytes(memoryBytes)} of RAM`;
  return {
    candidate,
    placement: {
      accelerator: way?.vendor ?? "none",
      ...(way?.access.kind === "resource" ? { deviceResource: { name: way.access.name, count } } : {}),
      memoryBytes,
      footprint,
      nodeSelectorTerms: nodeAffinityTerms(demand, input.nodes),
      matchingNodes: matching.map(({ name }) => name).sort(),
      freeNodes: free.sort(),
      isCpuFallback,
    },
    isTooLarge: matching.length === 0 && obstacles.some(({ obstacle: found }) => found.kind === "memory"),
    message:
      matching.length > 0
        ? `${needed}; fits ${matching.length} of ${input.nodes.length} nodes`
        : describeObstacles(needed, obstacles, "GPU"),
  };
}

function verdictOf(
  each: Attempt | undefined,
  candidate: Candidate,
  selected: string | undefined,
): VariantVerdict {
  if (each === undefined) {
    const { runtime, artifact, variant } = candidate;
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
  const isSelected = candidate.variant.name === selected;
  return {
    name: candidate.variant.name,
    verdict: isSelected
      ? "Selected"
      : placement.matchingNodes.length > 0
        ? "Fits"
        : each.isTooLarge
          ? "TooLarge"
          : "NoMatchingNode",
    message: placement.isCpuFallback ? `${message} (CPU fallback)` : message,
    requiredBytes: placement.footprint.totalBytes,
    matchingNodes: placement.matchingNodes,
  };
}

/**
 * FirstFit: the first candidate that fits some node as it states its requirements; if none does and `cpuFallback`
 * is not false, the first whose runtime can serve it on CPUs. The current variant is kept with `reselect: Never`
 * always, otherwise while some node, cordoned ones too, could hold it: a choice that followed every node event would
 * restart pods for nothing.
 */
export function chooseVariant(input: SelectionInput): Choice {
  const cpuFallback = input.selection.cpuFallback ?? true;
  const stated = input.candidates.map((candidate) => {
    const requirements = candidate.variant.requirements ?? {};
    const wantsDevice = requirements.accelerator !== undefined && requirements.accelerator.vendor !== "none";
    if (candidate.runtime === undefined) return undefined;
    if (!wantsDevice && !candidate.runtime.definition.cpu) return undefined;
    return attemptStated(input, candidate);
  });
  const fallback = input.candidates.map((candidate, index) => {
    const first = stated[index];
    const isPossible =
      cpuFallback &&
      first !== undefined &&
      first.placement.accelerator !== "none" &&
      candidate.runtime?.definition.cpu === true;
    return isPossible ? attempt(input, candidate, undefined) : undefined;
  });
  const fits = (each: Attempt | undefined): each is Attempt =>
    each !== undefined && each.placement.matchingNodes.length > 0;
  const chosen = kept(input, stated, fallback) ?? stated.find(fits) ?? fallback.find(fits);
  const selected = chosen?.candidate.variant.name;
  const verdicts = input.candidates.map((candidate, index) => {
    const shown = chosen?.candidate === candidate ? chosen : stated[index];
    return verdictOf(shown, candidate, selected);
  });
  if (chosen !== undefined) {
    const { candidate, placement } = chosen;
    const skipped = input.candidates.indexOf(candidate);
    const where = placement.accelerator === "none" ? "on CPUs" : `on ${placement.accelerator} GPUs`;
    const why =
      selected === input.current?.variant
        ? "kept: it still fits"
        : skipped === 0
          ? "the first choice fits"
          : `the first of ${input.candidates.length} that fits`;
    return {
      kind: "selected",
      candidate,
      placement,
      reason: `${candidate.variant.name} ${where}: ${why}${placement.isCpuFallback ? "; CPU fallback, since no node has the accelerator it asks for" : ""}`,
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

/** The current variant's attempt where it is to be kept. */
function kept(
  input: SelectionInput,
  stated: readonly (Attempt | undefined)[],
  fallback: readonly (Attempt | undefined)[],
): Attempt | undefined {
  const index = input.candidates.findIndex(({ variant }) => variant.name === input.current?.variant);
  const candidate = input.candidates[index];
  if (candidate === undefined) return undefined;
  const ways = [stated[index], fallback[index]].filter(
    (way): way is Attempt => way !== undefined && way.placement.accelerator === input.current?.accelerator,
  );
  const fitting = ways.find(({ placement }) => placement.matchingNodes.length > 0);
  if (fitting !== undefined) return fitting;
  if (input.selection.reselect === "Never") return ways[0];
  // A cordon is temporary: judge again as if there were none.
  const uncordoned = { ...input, nodes: input.nodes.map((node) => ({ ...node, isUnschedulable: false })) };
  return ways
    .map(({ placement }) =>
      placement.isCpuFallback
        ? attempt(uncordoned, candidate, undefined)
        : attemptStated(uncordoned, candidate),
    )
    .find(({ placement }) => placement.matchingNodes.length > 0);
}
