// What the operator would choose for a Model on given nodes: the operator's own functions on files instead of a cluster. Pure.

import { isInspectFailure, type InspectFacts, type InspectResult } from "../../puller/contract.ts";
import type { FootprintStatus, ModelSpec, Verdict } from "../api/model.ts";
import type { RuntimeDefinition } from "../configuration.ts";
import { podAmounts } from "../desired/requested.ts";
import { nodeHardware, type Node } from "../hardware/node-hardware.ts";
import { footprintStatus } from "../reconcile/decide.ts";
import { effectiveVariants, runtimeFor, tolerationsOf, withRequirements } from "../reconcile/variants.ts";
import { chooseVariant, type SelectionInput } from "../selection/choose-variant.ts";
import type { Candidate } from "../selection/types.ts";

export type PlanInput = {
  readonly name: string;
  readonly spec: ModelSpec;
  readonly nodes: readonly Node[];
  /** What `inspect` told, by reference; references that are missing are judged Pending. */
  readonly facts: ReadonlyMap<string, InspectResult>;
  readonly runtimes: Readonly<Record<string, RuntimeDefinition>>;
  /** What runs already; absent: nothing. */
  readonly current?: SelectionInput["current"];
};

export type PlannedVariant = {
  readonly name: string;
  readonly reference: string;
  readonly verdict: Verdict;
  readonly message: string;
  readonly requiredBytes?: number;
  readonly footprint?: FootprintStatus;
  readonly matchingNodes: readonly string[];
};

export type PlannedPlacement = {
  readonly variant: string;
  readonly accelerator: string;
  readonly replicas: number;
  readonly contextLength: number;
  readonly isCpuFallback: boolean;
  readonly nodes: readonly string[];
};

export type Plan = {
  readonly model: string;
  readonly nodes: number;
  readonly isPlaced: boolean;
  /** Why this choice, or why none. */
  readonly reason: string;
  readonly message: string;
  readonly placements: readonly PlannedPlacement[];
  readonly variants: readonly PlannedVariant[];
};

/** The variants with what is known of each. */
function resolvedVariants({ spec, facts }: PlanInput) {
  // What was found says so by its name: `puller inspect --index` or `--tags`, or a status.
  const found = [...facts.values()].flatMap((each) =>
    "digest" in each && "name" in each && typeof each.name === "string"
      ? [{ name: each.name, reference: `@${each.digest}` }]
      : [],
  );
  return effectiveVariants(spec, { variants: found }).map((each) => {
    const result = each.failure ?? facts.get(each.reference);
    const artifact = artifactOf(result);
    return {
      variant: artifact === undefined ? each.variant : withRequirements(each, artifact, spec),
      reference: each.reference,
      result,
    };
  });
}

/** What the choice is given. */
export function selectionInput(input: PlanInput): SelectionInput {
  const { spec } = input;
  return {
    candidates: resolvedVariants(input).flatMap(({ variant, result }): Candidate[] => {
      const artifact = artifactOf(result);
      return artifact === undefined
        ? []
        : [{ variant, artifact, runtime: runtimeFor(spec, variant, artifact.format, input) }];
    }),
    nodes: input.nodes.map(nodeHardware),
    selection: spec.selection ?? {},
    tolerations: (candidate) => tolerationsOf(spec, candidate),
    requested: (candidate, memoryBytes) =>
      podAmounts({ spec }, { pullerResources: {} }, candidate, memoryBytes),
    replicas: spec.replicas ?? 1,
    ...(input.current === undefined ? {} : { current: input.current }),
  };
}

/** Plans one Model. Never throws for what a Model, an artifact or a node may be. */
export function planModel(input: PlanInput): Plan {
  const { name } = input;
  const selection = selectionInput(input);
  const { candidates } = selection;
  const choice = chooseVariant(selection);
  const variants = resolvedVariants(input).map(({ variant, reference, result }): PlannedVariant => {
    const verdict = choice.verdicts.find((each) => each.name === variant.name);
    const base = { name: variant.name, reference };
    if (verdict !== undefined) {
      return {
        ...base,
        verdict: verdict.verdict,
        message: verdict.message,
        requiredBytes: verdict.requiredBytes,
        ...(verdict.footprint === undefined ? {} : { footprint: footprintStatus(verdict.footprint) }),
        matchingNodes: verdict.matchingNodes,
      };
    }
    return result !== undefined && isInspectFailure(result)
      ? { ...base, verdict: "Unresolvable", message: `${result.code}: ${result.message}`, matchingNodes: [] }
      : {
          ...base,
          verdict: "Pending",
          message: `no facts of it are given; add the output of: puller inspect --reference ${reference} --output json`,
          matchingNodes: [],
        };
  });
  const isSelected = choice.kind === "selected";
  return {
    model: name,
    nodes: input.nodes.length,
    isPlaced: isSelected,
    reason: isSelected ? "Selected" : candidates.length === 0 ? "Unresolvable" : choice.reason,
    message: isSelected
      ? choice.reason
      : candidates.length === 0
        ? "no variant could be read"
        : choice.message,
    placements: isSelected
      ? choice.shares.map(({ candidate, placement, replicas, nodes }) => ({
          variant: candidate.variant.name,
          accelerator: placement.accelerator,
          replicas,
          contextLength: placement.footprint.contextLength,
          isCpuFallback: placement.isCpuFallback,
          nodes,
        }))
      : [],
    variants,
  };
}

function artifactOf(result: InspectResult | undefined): InspectFacts | undefined {
  return result === undefined || isInspectFailure(result) ? undefined : result;
}
