// What the operator would choose for a Model on given nodes: the operator's own functions on files instead of a cluster. Pure.

import { isInspectFailure, type InspectFacts, type InspectResult } from "../../puller/contract.ts";
import { modelResource } from "../api/model.ts";
import type {
  DiscoveryStatus,
  FootprintStatus,
  Model,
  ModelSpec,
  ModelStatus,
  Verdict,
} from "../api/model.ts";
import type { Claim, StorageClass } from "../desired/claim.ts";
import type { RuntimeDefinition } from "../configuration.ts";
import { podAmounts } from "../desired/requested.ts";
import type { ResourceClaim } from "../hardware/allocated-devices.ts";
import type { ResourceSlice } from "../hardware/dra.ts";
import type { Node } from "../hardware/node-hardware.ts";
import type { NodeHardware } from "../hardware/types.ts";
import { ClusterHardware } from "../reconcile/cluster-hardware.ts";
import { footprintStatus } from "../reconcile/decide.ts";
import { stripScheduledPod, type ScheduledPod } from "../reconcile/taken-capacity.ts";
import {
  candidateOf,
  effectiveVariants,
  isSearching,
  templateSelectors,
  tolerationsOf,
  withRequirements,
} from "../reconcile/variants.ts";
import { notJudged } from "../reconcile/not-judged.ts";
import type { PersistentVolume } from "../reconcile/volume-nodes.ts";
import { chooseVariant, type SelectionInput } from "../selection/choose-variant.ts";
import type { Candidate, Choice, NearMiss } from "../selection/types.ts";
import { unjudgedDefaults, type PodDefaults } from "./defaults.ts";
import { inspectCommand, inspectNeeds } from "./inspect-command.ts";
import {
  asImageVolume,
  plannedImageVolume,
  plannedVolumeSelectors,
  planStorage,
  resolvedModel,
  type PlannedStorage,
} from "./storage.ts";

/** What a volume of a pod comes from. */
export type VolumeObjects = {
  readonly claims: readonly Claim[];
  readonly volumes: readonly PersistentVolume[];
  readonly classes: readonly StorageClass[];
};

/** The cluster as far as a choice depends on it. */
export type PlannedCluster = {
  readonly nodes: readonly Node[];
  /** Devices that DRA drivers publish; absent: none. */
  readonly slices?: readonly ResourceSlice[];
  /** Absent: nobody tells what is free, and all of it counts. */
  readonly pods?: readonly ScheduledPod[];
  /** Claims to such devices; they count beside pods, as for the operator. */
  readonly claims?: readonly ResourceClaim[];
  /** Claims of volumes of the Models' namespaces, and what they are bound to or will be made by; each absent: not told. */
  readonly storage?: Partial<VolumeObjects>;
  /** The same of the Models' own files, which is applied with them. */
  readonly applied?: VolumeObjects;
  /** What the API server adds to pods; absent: not looked at. */
  readonly defaults?: PodDefaults;
};

export type PlanInput = PlannedCluster & {
  readonly name: string;
  /** Where its own pods are, which are not in its way; absent: it has none. */
  readonly namespace?: string;
  readonly spec: ModelSpec;
  /** What `inspect` told, by reference; references that are missing are judged Pending. */
  readonly facts: ReadonlyMap<string, InspectResult>;
  readonly runtimes: Readonly<Record<string, RuntimeDefinition>>;
  /** What the operator has written of it; absent: it is new. */
  readonly status?: ModelStatus;
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
  /** Names of the nodes that it fits on; a status has their number. */
  readonly nodes: readonly string[];
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
  /** Of these, the ones with room for one more pod now; all where nobody counted. */
  readonly freeNodes: readonly string[];
};

/** Facts that nobody has given. */
export type MissingFacts = {
  readonly reference: string;
  readonly command: string;
  /** What has to be given to the command besides, in words; empty: nothing. */
  readonly needs: readonly string[];
};

export type Plan = {
  readonly model: string;
  readonly namespace?: string;
  readonly nodes: number;
  /** Whether it would run: a variant is chosen, its storage takes it, and nothing is missing. */
  readonly isPlaced: boolean;
  /** Whether the Model says that the operator changes nothing: what is planned comes true only when it does not any more. */
  readonly isSuspended: boolean;
  /** Why this choice, or why none; Undecided while facts are missing. */
  readonly reason: string;
  readonly message: string;
  /** What keeps it undecided; empty: nothing. */
  readonly missing: readonly MissingFacts[];
  /** Where the chosen variant is kept; absent: none is chosen. */
  readonly storage?: PlannedStorage;
  /** Provisional while undecided: what follows from the facts that are known. */
  readonly placements: readonly PlannedPlacement[];
  readonly variants: readonly PlannedVariant[];
  /** What is there that changes pods and is not judged, in words; of a pod template the verdicts' messages tell it. */
  readonly notJudged: readonly string[];
};

/** What looking for variants has brought; undefined: nobody has looked. */
function discoveryOf({ spec, facts }: PlanInput): Pick<DiscoveryStatus, "variants" | "failure"> | undefined {
  // What was found says so by its name: `puller inspect --index` or `--tags`, or a status.
  const found = [...facts.values()].flatMap((each) =>
    "digest" in each && "name" in each && typeof each.name === "string"
      ? [{ name: each.name, reference: `@${each.digest}` }]
      : [],
  );
  if (found.length > 0) return { variants: found };
  const told = facts.get(spec.source.reference);
  return told !== undefined && isInspectFailure(told) ? { failure: told } : undefined;
}

/** The variants with what is known of each. */
function resolvedVariants({ spec, facts }: PlanInput, discovery: ReturnType<typeof discoveryOf>) {
  return effectiveVariants(spec, discovery).map((each) => {
    const result = each.failure ?? facts.get(each.reference);
    const artifact = artifactOf(result);
    return {
      variant: artifact === undefined ? each.variant : withRequirements(each, artifact, spec),
      reference: each.reference,
      result,
    };
  });
}

/** The nodes with their devices, less what pods of others take: joined as for the operator. */
function hardwareOf(input: PlanInput): readonly NodeHardware[] {
  const { name, namespace = "", nodes, slices = [], pods, claims = [] } = input;
  const hardware = new ClusterHardware({ onHardware: () => {}, onCapacity: () => {} });
  hardware.attach({ hasSynced: true, get: () => undefined, list: () => nodes }, pods !== undefined, true);
  for (const after of slices) hardware.changeSlice({ after });
  for (const pod of pods ?? []) hardware.changePod({ after: stripScheduledPod(pod) });
  for (const after of claims) hardware.changeClaim({ after });
  return hardware.list(`${namespace}/${name}`);
}

/** The Model itself, as far as it is known. */
function modelOf({ name, namespace = "", spec, status }: PlanInput): Model {
  return {
    apiVersion: `${modelResource.group}/${modelResource.version}`,
    kind: modelResource.kind,
    metadata: { name, namespace, uid: "" },
    spec,
    ...(status === undefined ? {} : { status }),
  } as Model;
}

/** What the choice is given. */
export function selectionInput(
  input: PlanInput,
  resolved = resolvedVariants(input, discoveryOf(input)),
  model = resolvedModel(modelOf(input), input),
  nodes = hardwareOf(input),
): SelectionInput {
  const { spec } = model;
  return {
    candidates: resolved.flatMap(({ variant, result }): Candidate[] => {
      const artifact = artifactOf(result);
      return artifact === undefined ? [] : [candidateOf(spec, variant, artifact, input)];
    }),
    nodes,
    selection: spec.selection ?? {},
    tolerations: (candidate) => tolerationsOf(spec, candidate),
    selectors: [...templateSelectors(spec), ...plannedVolumeSelectors(model, input)],
    notJudged: notJudged(spec),
    requested: (candidate, placement) => podAmounts({ spec }, { pullerResources: {} }, candidate, placement),
    replicas: spec.replicas ?? 1,
    ...(input.current === undefined ? {} : { current: input.current }),
  };
}

/** The choice with the storage that it is one for: an image volume first, where type Auto may come to that. */
function settle(
  input: PlanInput,
  resolved: ReturnType<typeof resolvedVariants>,
): { readonly choice: Choice; readonly storage: PlannedStorage } {
  const model = modelOf(input);
  const nodes = hardwareOf(input);
  const choose = (as: Model): Choice => chooseVariant(selectionInput(input, resolved, as, nodes));
  const asImage = asImageVolume(model);
  if (asImage !== undefined) {
    const choice = choose(asImage);
    const storage = plannedImageVolume(model, input, choice, nodes);
    if (storage !== undefined) return { choice, storage };
  }
  const choice = choose(resolvedModel(model, input));
  return { choice, storage: planStorage(model, input, choice, nodes) };
}

/** Plans one Model. Never throws for what a Model, an artifact or a node may be. */
export function planModel(input: PlanInput): Plan {
  const { name } = input;
  const discovery = discoveryOf(input);
  const resolved = resolvedVariants(input, discovery);
  const isAnyKnown = resolved.some(({ result }) => artifactOf(result) !== undefined);
  const settled = settle(input, resolved);
  const { choice } = settled;
  const variants = resolved.map(({ variant, reference, result }): PlannedVariant => {
    const verdict = choice.verdicts.find((each) => each.name === variant.name);
    const base = { name: variant.name, reference, nodes: [], nearMisses: [] };
    if (verdict !== undefined) {
      return {
        ...base,
        verdict: verdict.verdict,
        message: verdict.message,
        requiredBytes: verdict.requiredBytes,
        ...(verdict.footprint === undefined ? {} : { footprint: footprintStatus(verdict.footprint) }),
        nodes: verdict.matchingNodes,
        nearMisses: verdict.nearMisses,
      };
    }
    return result !== undefined && isInspectFailure(result)
      ? { ...base, verdict: "Unresolvable", message: `${result.code}: ${result.message}` }
      : {
          ...base,
          verdict: "Pending",
          message: "no facts of it are given",
        };
  });
  const missing = missingFacts(input.spec, discovery, resolved);
  const isSelected = choice.kind === "selected";
  const storage = isSelected ? settled.storage : undefined;
  const known = isSelected
    ? { reason: "Selected", message: choice.reason }
    : !isAnyKnown
      ? { reason: "Unresolvable", message: "no variant could be read" }
      : { reason: choice.reason, message: choice.message };
  return {
    model: name,
    ...(input.namespace === undefined ? {} : { namespace: input.namespace }),
    nodes: input.nodes.length,
    isSuspended: input.spec.suspend === true,
    ...(missing.length > 0
      ? {
          isPlaced: false,
          reason: "Undecided",
          message: !isAnyKnown
            ? "no facts are given"
            : `facts are missing, for which the operator would wait; from what is known: ${known.message}`,
        }
      : storage?.refusal !== undefined
        ? { isPlaced: false, reason: storage.refusal, message: storage.message }
        : { isPlaced: isSelected, ...known }),
    missing,
    ...(storage === undefined ? {} : { storage }),
    placements: isSelected
      ? choice.shares.map(({ candidate, placement, replicas, nodes }) => {
          const ofShare = new Set(nodes);
          return {
            variant: candidate.variant.name,
            accelerator: placement.accelerator,
            replicas,
            contextLength: placement.footprint.contextLength,
            isCpuFallback: placement.isCpuFallback,
            nodes,
            freeNodes: placement.freeNodes.filter((node) => ofShare.has(node)),
          };
        })
      : [],
    variants,
    notJudged: input.defaults === undefined ? [] : unjudgedDefaults(modelOf(input), input.defaults),
  };
}

/** What the operator would wait for before it chooses anything. */
function missingFacts(
  spec: ModelSpec,
  discovery: ReturnType<typeof discoveryOf>,
  resolved: ReturnType<typeof resolvedVariants>,
): readonly MissingFacts[] {
  const open = resolved.filter(({ result }) => result === undefined);
  const references = [
    ...(isSearching(spec, discovery) ? [spec.source.reference] : []),
    ...open.map(({ reference }) => reference),
  ];
  return [...new Set(references)].map((reference) => ({
    reference,
    command: inspectCommand(spec, [reference]),
    needs: inspectNeeds(spec),
  }));
}

function artifactOf(result: InspectResult | undefined): InspectFacts | undefined {
  return result === undefined || isInspectFailure(result) ? undefined : result;
}
