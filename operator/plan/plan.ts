// What the operator would choose for a Model on given nodes: the operator's own functions on files instead of a cluster. Pure.

import { isInspectFailure, type InspectFacts, type InspectResult } from "../../puller/contract.ts";
import type { FootprintStatus, ModelSpec, Verdict } from "../api/model.ts";
import type { RuntimeDefinition } from "../configuration.ts";
import { podAmounts } from "../desired/requested.ts";
import type { ResourceSlice } from "../hardware/dra.ts";
import { withFreeCapacity } from "../hardware/free-capacity.ts";
import { nodeHardware, type Node } from "../hardware/node-hardware.ts";
import type { NodeHardware } from "../hardware/types.ts";
import { withSlices } from "../hardware/with-slices.ts";
import { footprintStatus } from "../reconcile/decide.ts";
import { stripScheduledPod, TakenCapacity, type ScheduledPod } from "../reconcile/taken-capacity.ts";
import {
  effectiveVariants,
  runtimeFor,
  templateSelectors,
  tolerationsOf,
  withRequirements,
} from "../reconcile/variants.ts";
import { chooseVariant, type SelectionInput } from "../selection/choose-variant.ts";
import type { Candidate, NearMiss } from "../selection/types.ts";

/** The cluster as far as a choice depends on it. */
export type PlannedCluster = {
  readonly nodes: readonly Node[];
  /** Devices that DRA drivers publish; absent: none. */
  readonly slices?: readonly ResourceSlice[];
  /** Absent: nobody tells what is free, and all of it counts. */
  readonly pods?: readonly ScheduledPod[];
};

export type PlanInput = PlannedCluster & {
  readonly name: string;
  /** Where its own pods are, which are not in its way; absent: it has none. */
  readonly namespace?: string;
  readonly spec: ModelSpec;
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
  /** Where no node takes a pod: the nearest ones, the nearest first. */
  readonly nearMisses: readonly NearMiss[];
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
  // Without any, nobody has looked.
  return effectiveVariants(spec, found.length === 0 ? {} : { variants: found }).map((each) => {
    const result = each.failure ?? facts.get(each.reference);
    const artifact = artifactOf(result);
    return {
      variant: artifact === undefined ? each.variant : withRequirements(each, artifact, spec),
      reference: each.reference,
      result,
    };
  });
}

/** The nodes with their devices, less what pods of others take. */
function hardwareOf({ name, namespace = "", nodes, slices = [], pods }: PlanInput): readonly NodeHardware[] {
  const taken = new TakenCapacity();
  for (const pod of pods ?? []) taken.change(undefined, stripScheduledPod(pod));
  const takenOf = taken.takenBy(`${namespace}/${name}`);
  const slicesOf = Map.groupBy(slices, ({ spec }) => spec.nodeName);
  return nodes.map((node) => {
    const hardware = withSlices(nodeHardware(node), slicesOf.get(node.metadata.name) ?? []);
    return pods === undefined ? hardware : withFreeCapacity(hardware, takenOf(hardware.name));
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
    nodes: hardwareOf(input),
    selection: spec.selection ?? {},
    tolerations: (candidate) => tolerationsOf(spec, candidate),
    selectors: templateSelectors(spec),
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
    const base = { name: variant.name, reference, matchingNodes: [], nearMisses: [] };
    if (verdict !== undefined) {
      return {
        ...base,
        verdict: verdict.verdict,
        message: verdict.message,
        requiredBytes: verdict.requiredBytes,
        ...(verdict.footprint === undefined ? {} : { footprint: footprintStatus(verdict.footprint) }),
        matchingNodes: verdict.matchingNodes,
        nearMisses: verdict.nearMisses,
      };
    }
    return result !== undefined && isInspectFailure(result)
      ? { ...base, verdict: "Unresolvable", message: `${result.code}: ${result.message}` }
      : {
          ...base,
          verdict: "Pending",
          message: `no facts of it are given; give --facts the output of: ${inspection(input.spec, reference)}`,
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
        ? variants.length === 0
          ? `no variant is known; give --facts the output of: ${inspection(input.spec, input.spec.source.reference)}`
          : "no variant could be read"
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

/** The command that tells what is missing. */
function inspection({ source, variantsFrom }: ModelSpec, reference: string): string {
  const isFound = variantsFrom !== undefined && reference === source.reference;
  const what = !isFound
    ? `--reference ${reference}`
    : variantsFrom.tags === undefined
      ? `--index ${reference}`
      : `--reference ${reference} --tags '${variantsFrom.tags.pattern}'`;
  return `puller inspect ${what} --output json`;
}

function artifactOf(result: InspectResult | undefined): InspectFacts | undefined {
  return result === undefined || isInspectFailure(result) ? undefined : result;
}
