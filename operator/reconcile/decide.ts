// From one snapshot to what is to be done and what is to be told. Pure: no I/O, no clock, no randomness.

import { earliest } from "./earliest.ts";
import {
  isInspectFailure,
  modelDirectoryName,
  type InspectFacts,
  type InspectFailure,
} from "../../puller/contract.ts";
import type { CopyStatus, VariantSpec, VariantStatus } from "../api/model.ts";
import type { FootprintStatus, ReselectionStatus } from "../api/model.ts";
import { claimTemplate } from "../desired/claim-template.ts";
import { workloadDeployment } from "../desired/deployment.ts";
import { usesImageVolume } from "../desired/image-volume.ts";
import { withObjectNames } from "../desired/puller-container.ts";
import { podAmounts } from "../desired/requested.ts";
import { modelService } from "../desired/service.ts";
import type { KubeObject } from "../kube/types.ts";
import type { SelectionInput } from "../selection/choose-variant.ts";
import type { Candidate, Choice, Footprint, Share } from "../selection/types.ts";
import { canMount, desiredClaim, unusedClaims } from "./claims.ts";
import { planCollection, type CollectionPlan } from "./collection.ts";
import { copiesOf, preferredNodes, selectedDirectories } from "./copies.ts";
import { imageVolumeState } from "./image-volume.ts";
import { planInspection, resultKey, type InspectionPlan } from "./inspection.ts";
import type { Observed } from "./observed.ts";
import { notJudged } from "./not-judged.ts";
import { isPerHardware, runningShares, workloadParts } from "./placements.ts";
import { planPrefetch, type PrefetchPlan } from "./prefetch.ts";
import { reselect } from "./reselect.ts";
import { reselectShares } from "./reselect-shares.ts";
import { ownDeployments, placementKeyOf, planRollout, type Rollout } from "./rollout.ts";
import {
  candidateOf,
  isUndecided,
  knownArtifact,
  templateSelectors,
  tolerationsOf,
  withRequirements,
} from "./variants.ts";
import { volumeSelectors } from "./volume-nodes.ts";
import { workloadState } from "./workload-state.ts";

/** What became of one variant's reference. */
export type ResolvedVariant = {
  /** With all its requirements, once its artifact is known. */
  readonly variant: VariantSpec;
  readonly reference: string;
  /** Set for a found variant. */
  readonly describedBy?: string;
  readonly artifact: InspectFacts | undefined;
  readonly failure: InspectFailure | undefined;
};

export type Decision = {
  /** Created when absent, never changed. */
  readonly create: readonly KubeObject[];
  /** Server-side applied when they differ from what is there. */
  readonly apply: readonly KubeObject[];
  readonly remove: readonly KubeObject[];
  readonly inspection: InspectionPlan;
  readonly collection: CollectionPlan;
  readonly prefetch: PrefetchPlan;
  /** Nodes whose cache has the selected model. */
  readonly copies: readonly CopyStatus[];
  readonly variants: readonly ResolvedVariant[];
  /** Undefined while the references are still being read. */
  readonly choice: Choice | undefined;
  /** What is to be remembered of it. */
  readonly reselection: ReselectionStatus | undefined;
  /** When the choice is to be looked at again. */
  readonly recheckAfterMs: number | undefined;
};

/** Each variant with the newest that is known of its reference: an answer just read, else the status. */
function resolveVariants(observed: Observed, inspection: InspectionPlan): readonly ResolvedVariant[] {
  return inspection.variants.map((each) => {
    const { variant, reference, describedBy } = each;
    const told = inspection.results.get(resultKey(each));
    const known = knownArtifact(observed.model, each);
    const artifact = told !== undefined && !isInspectFailure(told) ? told : known;
    const failure =
      each.failure ??
      (told !== undefined && isInspectFailure(told) ? told : pastFailure(observed, reference));
    return {
      variant: artifact === undefined ? variant : withRequirements(each, artifact, observed.model.spec),
      reference,
      ...(describedBy === undefined ? {} : { describedBy }),
      artifact,
      failure:
        artifact === undefined && failure !== undefined
          ? { ...failure, message: withObjectNames(observed.model, failure.message) }
          : undefined,
    };
  });
}

/** A failure that the status tells, while its inspection is being tried again. */
function pastFailure(observed: Observed, reference: string): InspectFailure | undefined {
  const { model } = observed;
  // Another spec may have mended it: until asked again, nothing is known.
  if (model.status?.observedGeneration !== model.metadata.generation) return undefined;
  const failure = model.status?.variants?.find((each) => each.reference === reference)?.failure;
  return failure === undefined ? undefined : { reference, ...failure };
}

/** The running variant as far as the spec still lists it. */
function currentVariant(observed: Observed): SelectionInput["current"] {
  const selected = observed.model.status?.selected;
  return selected === undefined
    ? undefined
    : {
        variant: selected.variant,
        accelerator: selected.accelerator,
        ...(selected.contextLength === undefined ? {} : { contextLength: selected.contextLength }),
      };
}

/** The decision for one Model. While it is undecided (see isUndecided), what runs already is not touched. */
export function decide(observed: Observed): Decision {
  const inspection = planInspection(observed);
  const variants = resolveVariants(observed, inspection);
  const candidates = variants.flatMap(({ variant, artifact }): Candidate[] =>
    artifact === undefined
      ? []
      : [candidateOf(observed.model.spec, variant, artifact, observed.configuration)],
  );
  const current = currentVariant(observed);
  const reselected =
    isUndecided(observed.model.spec, inspection.discovery, variants) || candidates.length === 0
      ? undefined
      : (isPerHardware(observed.model) ? reselectShares : reselect)(observed, {
          candidates,
          nodes: observed.nodes,
          selection: observed.model.spec.selection ?? {},
          tolerations: (candidate) => tolerationsOf(observed.model.spec, candidate),
          notJudged: notJudged(observed.model.spec),
          selectors: [...templateSelectors(observed.model.spec), ...volumeSelectors(observed)],
          requested: (candidate, placement) =>
            podAmounts(observed.model, observed.configuration, candidate, placement),
          replicas: observed.model.spec.replicas ?? 1,
          currentShares: runningShares(observed.model),
          ...(current === undefined ? {} : { current }),
        });
  const choice = reselected?.choice;
  const isSurging = reselected?.isGain === true || isStillSurging(observed, choice);
  const collection = planCollection(observed);
  const copies = copiesOf(observed, selectedDirectories(observed, choice));
  const prefetch = planPrefetch(observed, choice, copies);
  const isSuspended = observed.model.spec.suspend === true;
  const workload =
    choice?.kind === "selected" ? desiredWorkload(observed, choice, isSurging, copies) : nothing;
  return {
    create: isSuspended ? [] : [...inspection.create, ...collection.create, ...prefetch.create],
    remove: isSuspended
      ? []
      : [
          ...inspection.remove,
          ...unusedClaims(observed),
          ...collection.remove,
          ...prefetch.remove,
          ...workload.remove,
        ],
    collection,
    prefetch,
    copies,
    apply: isSuspended ? [] : workload.apply,
    inspection,
    variants,
    choice,
    reselection: isSurging
      ? { ...reselected?.reselection, isSurging: true }
      : reselected === undefined
        ? observed.model.status?.reselection
        : reselected.reselection,
    recheckAfterMs: earliest([reselected?.recheckAfterMs, workload.recheckAfterMs]),
  };
}

type Workload = {
  readonly apply: readonly KubeObject[];
  readonly remove: readonly KubeObject[];
  readonly recheckAfterMs: number | undefined;
};

const nothing: Workload = { apply: [], remove: [], recheckAfterMs: undefined };

/** Whether the roll-out of a better variant goes on: until its pods are available, or it is given up for another. */
function isStillSurging({ model, ...observed }: Observed, choice: Choice | undefined): boolean {
  const selected = model.status?.selected;
  if (model.status?.reselection?.isSurging !== true || selected === undefined) return false;
  const isSame =
    isPerHardware(model) || choice?.kind !== "selected" || choice.candidate.variant.name === selected.variant;
  const parts = workloadParts(model, selected, model.status.placements);
  return isSame && !workloadState({ model, ...observed }, parts).isAvailable;
}

/** The workload: claim, a Deployment for each class of nodes, Service; and Deployments of classes that are over. */
function desiredWorkload(
  observed: Observed,
  choice: Extract<Choice, { kind: "selected" }>,
  isSurging: boolean,
  copies: readonly CopyStatus[],
): Workload {
  // Pods without their claim would only wait, and what runs stays.
  if (!canMount(observed)) return nothing;
  const { model } = observed;
  const { candidate, shares } = choice;
  // Nor would pods with an empty directory be of use.
  if (usesImageVolume(model) && imageVolumeState(observed, choice).status !== "True") return nothing;
  const artifacts = shares.filter(({ replicas }) => replicas > 0).map((share) => share.candidate.artifact);
  const claim = desiredClaim(observed, candidate.artifact, artifacts);
  const rollout = planRollout(observed, shares, isSurging);
  const templates = shares.flatMap(({ replicas, key, placement: { deviceClaim } }) =>
    deviceClaim === undefined || (replicas === 0 && key !== "") ? [] : [claimTemplate(model, deviceClaim)],
  );
  return {
    apply: [
      ...(claim === undefined ? [] : [claim]),
      // Before the pods that name them.
      ...templates,
      ...shares.flatMap((share) => deploymentOf(observed, share, rollout, isSurging, copies)),
      ...rollout.shrunk,
      modelService(model),
    ],
    remove: [...rollout.remove, ...unusedTemplates(observed, templates)],
    recheckAfterMs: rollout.recheckAfterMs,
  };
}

/** Claim templates that no pod will be made from any more. */
function unusedTemplates(observed: Observed, wanted: readonly KubeObject[]): readonly KubeObject[] {
  const isRolling = ownDeployments(observed).some(
    ({ metadata, status = {} }) =>
      (status.observedGeneration ?? 0) < (metadata.generation ?? 0) ||
      (status.replicas ?? 0) > (status.updatedReplicas ?? 0),
  );
  if (isRolling) return [];
  const names = new Set(wanted.map(({ metadata }) => metadata.name));
  const live = ownDeployments(observed).flatMap(
    ({ spec }) =>
      spec?.template?.spec?.resourceClaims?.flatMap((each) => each.resourceClaimTemplateName ?? []) ?? [],
  );
  for (const name of live) names.add(name);
  return (observed.claimTemplates ?? [])
    .filter(
      ({ metadata }) =>
        !names.has(metadata.name) &&
        metadata.ownerReferences?.some(({ uid }) => uid === observed.model.metadata.uid) === true,
    )
    .map(({ metadata }) => ({ apiVersion: "resource.k8s.io/v1", kind: "ResourceClaimTemplate", metadata }));
}

/** The Deployment of a class, if it is to have pods; that of a Uniform placement is there without any, too. */
function deploymentOf(
  observed: Observed,
  { key, candidate: { variant, artifact, runtime }, placement, avoid }: Share,
  { replicas }: Rollout,
  isSurging: boolean,
  copies: readonly CopyStatus[],
): readonly KubeObject[] {
  const { model, configuration, claim } = observed;
  const count = replicas.get(key);
  // chooseVariant never selects a candidate without a runtime.
  if (runtime === undefined || count === undefined) return [];
  const { include = [], exclude = [] } = model.spec.puller ?? {};
  const directory = modelDirectoryName(artifact.digest, include, exclude);
  const live = ownDeployments(observed).find((each) => placementKeyOf(each) === key);
  const preferred =
    model.spec.storage?.type === "NodeCache" ? preferredNodes(live, count, directory, copies) : [];
  const deployment = workloadDeployment({
    model,
    configuration,
    variantName: variant.name,
    artifact,
    runtime,
    placement,
    replicas: count,
    ...(key === "" ? {} : { share: { key, avoid } }),
    ...(isSurging ? { isSurging } : {}),
    ...(preferred.length === 0 ? {} : { preferredNodes: preferred }),
    ...(claim === undefined ? {} : { claim }),
  });
  return [deployment];
}

/** The verdicts of the choice and the failures of the references, in the user's order, for the status. */
export function variantStatuses(decision: Decision): readonly VariantStatus[] {
  return decision.variants.map(({ variant, reference, artifact, failure, describedBy }) => {
    const verdict = decision.choice?.verdicts.find(({ name }) => name === variant.name);
    return {
      name: variant.name,
      reference,
      ...(artifact === undefined
        ? {}
        : {
            digest: artifact.digest,
            packaging: artifact.packaging,
            format: artifact.format,
            sizeBytes: artifact.sizeBytes,
            weightBytes: artifact.weightBytes,
            ...(artifact.quantization === undefined ? {} : { quantization: artifact.quantization }),
            ...(artifact.parameters === undefined ? {} : { parameters: artifact.parameters }),
            ...(artifact.projectorBytes === undefined ? {} : { projectorBytes: artifact.projectorBytes }),
            ...(artifact.adapterBytes === undefined ? {} : { adapterBytes: artifact.adapterBytes }),
            ...(artifact.entry === undefined ? {} : { entry: artifact.entry }),
            ...(artifact.facts === undefined ? {} : { facts: artifact.facts }),
            ...(describedBy === undefined ? {} : { describedBy }),
            ...(describedBy === undefined || artifact.requirements === undefined
              ? {}
              : { requirements: artifact.requirements }),
          }),
      ...(failure !== undefined
        ? {
            verdict: "Unresolvable" as const,
            message: failure.message,
            failure: { code: failure.code, message: failure.message },
          }
        : verdict === undefined
          ? { verdict: "Pending" as const, message: "waits until all references were read" }
          : {
              verdict: verdict.verdict,
              message: verdict.message,
              requiredBytes: verdict.requiredBytes,
              ...(verdict.footprint === undefined ? {} : { footprint: footprintStatus(verdict.footprint) }),
              matchingNodes: verdict.matchingNodes.length,
              ...(verdict.nearMisses.length === 0 ? {} : { nearMisses: verdict.nearMisses }),
            }),
    };
  });
}

/** The terms for the status; those that are nothing are left out. */
export function footprintStatus(footprint: Footprint): FootprintStatus {
  const { projectorBytes, adapterBytes, stateBytes, assumed } = footprint;
  return {
    devices: footprint.devices,
    perDeviceBytes: footprint.perDeviceBytes,
    weightBytes: footprint.weightBytes,
    ...(projectorBytes === 0 ? {} : { projectorBytes }),
    ...(adapterBytes === 0 ? {} : { adapterBytes }),
    cacheBytes: footprint.cacheBytes,
    ...(stateBytes === 0 ? {} : { stateBytes }),
    computeBytes: footprint.computeBytes,
    overheadBytes: footprint.overheadBytes,
    utilizationPercent: Math.round(footprint.utilization * 100),
    contextLength: footprint.contextLength,
    parallel: footprint.parallel,
    ...(assumed.length === 0 ? {} : { assumed }),
  };
}
