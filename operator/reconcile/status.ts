// The status of a Model from what was observed and decided. Pure; the only place where conditions are made.

import { failureExitCodes, isRetryable } from "../../puller/contract.ts";
import { shownReference } from "../../puller/oci/reference.ts";
import { conditionTypes, type Condition, type ConditionType, type Reason } from "../api/conditions.ts";
import type { Model, ModelStatus, PlacementStatus, SelectedStatus } from "../api/model.ts";
import { usesClaim, wantedClaimName } from "../desired/claim.ts";
import { usesImageVolume } from "../desired/image-volume.ts";
import { modelVolumeName, podSelector } from "../desired/names.ts";
import { formatBytes } from "../kube/quantity.ts";
import type { Choice } from "../selection/types.ts";
import { claimShortage, storageState } from "./claims.ts";
import { cacheHits } from "./copies.ts";
import { variantStatuses, type Decision } from "./decide.ts";
import { imageVolumeState } from "./image-volume.ts";
import { withObjectNames } from "../desired/puller-container.ts";
import type { Observed } from "./observed.ts";
import { chosenText, placementStatuses, workloadParts } from "./placements.ts";
import { discoveryQuestion } from "./variants.ts";
import { workloadState, type WorkloadState } from "./workload-state.ts";

/** Why an object could not be written: the reason for the condition, and the API server's words. */
export type ActFailure = { readonly reason: Reason; readonly message: string; readonly kind: string };

type Draft = {
  readonly status: Condition["status"];
  readonly reason: Reason;
  readonly message: string;
  /** Nothing will change until somebody acts. */
  readonly isStalled?: boolean;
};

const maxMessageLength = 1024;

/** Reasons of which the cluster or the registry may recover alone although nothing runs now. */
function needsPerson(reason: Reason): boolean {
  if (reason === "RuntimeUnknown") return true;
  return reason in failureExitCodes && !isRetryable(reason as keyof typeof failureExitCodes);
}

function sourceResolved(decision: Decision, question: string | undefined): Draft {
  const { variants, inspection } = decision;
  const { discovery } = inspection;
  if (question !== undefined && discovery?.variants === undefined && discovery?.failure === undefined) {
    const held = inspection.podFailure;
    return held === undefined
      ? { status: "Unknown", reason: "Resolving", message: `looking for variants: ${question}` }
      : { status: "False", reason: held.reason, message: `inspect pod: ${held.message}` };
  }
  const searched =
    discovery?.failure === undefined ? [] : [{ ...discovery.failure, reference: discovery.question }];
  const failures = [...searched, ...variants.flatMap(({ failure }) => failure ?? [])];
  const read = variants.filter(({ artifact }) => artifact !== undefined).length;
  const first = failures.find(({ code }) => !isRetryable(code)) ?? failures[0];
  if (first !== undefined && read === 0) {
    const more = failures.length > 1 ? ` (and ${failures.length - 1} more references)` : "";
    return {
      status: "False",
      reason: first.code,
      message: `${shownReference(first.reference)}: ${first.message}${more}`,
      isStalled: failures.every(({ code }) => needsPerson(code)),
    };
  }
  if (variants.some(({ artifact, failure }) => artifact === undefined && failure === undefined)) {
    const failure = inspection.podFailure;
    return failure === undefined
      ? {
          status: "Unknown",
          reason: "Resolving",
          message: `reading ${variants.length - read} of ${variants.length} references`,
        }
      : { status: "False", reason: failure.reason, message: `inspect pod: ${failure.message}` };
  }
  if (first !== undefined) {
    return {
      status: "True",
      reason: "PartlyResolved",
      message: `${read} of ${variants.length} variants were read; ${shownReference(first.reference)}: ${first.code}: ${first.message}`,
    };
  }
  const message = `${read === 1 ? "the reference was" : `all ${read} references were`} read`;
  return {
    status: "True",
    reason: "Resolved",
    message: discovery?.leftOut === undefined ? message : `${message}; ${discovery.leftOut}`,
  };
}

/** Why the variant was chosen, in the words of the moment it was: that it is kept since is no news. */
function selectionReason(model: Model, choice: Extract<Choice, { kind: "selected" }>): string {
  const before = model.status?.selected;
  const isSame =
    before?.variant === choice.candidate.variant.name &&
    before.accelerator === choice.placement.accelerator &&
    // Of several classes the reason tells the part of each.
    model.spec.selection?.placement !== "PerHardware";
  return isSame ? before.reason : choice.reason;
}

function variantSelected(model: Model, decision: Decision, source: Draft): Draft {
  const { choice } = decision;
  const { selected, observedGeneration } = model.status ?? {};
  const isRefresh = observedGeneration === model.metadata.generation && decision.inspection.isPending;
  if (choice === undefined && selected !== undefined && isRefresh) {
    // What was found anew is being read; until then nothing changes.
    return { status: "True", reason: "Selected", message: selected.reason };
  }
  if (choice === undefined) {
    return source.status === "False"
      ? {
          status: "False",
          reason: source.reason,
          message: "no variant could be read",
          isStalled: source.isStalled ?? false,
        }
      : { status: "Unknown", reason: "Resolving", message: "waits for the references to be read" };
  }
  if (choice.kind === "selected") {
    return { status: "True", reason: "Selected", message: selectionReason(model, choice) };
  }
  return {
    status: "False",
    reason: choice.reason,
    message: choice.message,
    isStalled: needsPerson(choice.reason),
  };
}

/** The volume: what the API server refuses of its claim, what the claim says, and what the pullers found on it. */
function storageReady(
  observed: Observed,
  workload: WorkloadState,
  { choice, copies, prefetch }: Decision,
  failed: ActFailure | undefined,
): Draft {
  if (failed?.kind === "PersistentVolumeClaim") {
    return { status: "False", reason: failed.reason, message: failed.message };
  }
  const state = usesImageVolume(observed.model) ? imageVolumeState(observed, choice) : storageState(observed);
  const { failure } = workload;
  if (state.status === "True" && failure?.reason === "OutOfSpace") {
    return { status: "False", reason: "OutOfSpace", message: failure.message };
  }
  const shortage =
    choice?.kind === "selected"
      ? claimShortage(
          observed,
          choice.candidate.artifact,
          choice.shares.filter(({ replicas }) => replicas > 0).map(({ candidate }) => candidate.artifact),
        )
      : undefined;
  if (state.status === "True" && shortage !== undefined) {
    return { status: "False", reason: "ClaimTooSmall", message: shortage };
  }
  if (state.status !== "True" || !usesClaim(observed.model)) return state;
  if (prefetch.failure !== undefined) {
    const { reason, message, node } = prefetch.failure;
    return { status: "False", reason, message: `prefetching to node ${node ?? "?"}: ${message}` };
  }
  const { pods, warm, savedBytes } = cacheHits(observed);
  const told = [
    copies.length === 0
      ? undefined
      : `the model is on ${copies.length === 1 ? "1 node" : `${copies.length} nodes`}`,
    prefetch.nodes === 0 ? undefined : `prefetched to ${prefetch.done} of ${prefetch.nodes} nodes`,
    pods === 0
      ? undefined
      : `${warm} of ${pods} pods found it there, ${formatBytes(savedBytes)} were not fetched again`,
  ].filter((each) => each !== undefined);
  return { ...state, message: [state.message, ...told].join("; ") };
}

/** Why there is no pod that could fetch the model: its volume is wanting, or an object was refused; undefined otherwise. */
function podsWanting(
  { hasPods, admissionFailure }: WorkloadState,
  storage: Draft,
  failed: ActFailure | undefined,
): Draft | undefined {
  if (hasPods) return undefined;
  if (storage.status === "False") {
    return {
      status: "False",
      reason: storage.reason,
      message: "no pod is there to fetch the model: StorageReady says why",
      isStalled: storage.isStalled === true,
    };
  }
  const reason = failed?.reason ?? (admissionFailure === undefined ? undefined : "AdmissionDenied");
  return reason === undefined
    ? undefined
    : { status: "False", reason, message: "no pod is there to fetch the model: WorkloadAvailable says why" };
}

function artifactPulled(
  observed: Observed,
  workload: WorkloadState,
  selected: SelectedStatus,
  storage: Draft,
  failed: ActFailure | undefined,
): Draft {
  const { pull, failure, wantedReplicas } = workload;
  if (workload.isPulled) {
    return { status: "True", reason: "Pulled", message: `${formatBytes(pull.totalBytes)}, verified` };
  }
  const before = observed.model.status;
  const condition = before?.conditions?.find(({ type }) => type === "ArtifactPulled");
  if (wantedReplicas === 0) {
    return condition?.status === "True" && before?.selected?.digest === selected.digest
      ? { status: "True", reason: "Pulled", message: condition.message }
      : { status: "Unknown", reason: "ScaledToZero", message: "no replica is wanted, so nothing is pulled" };
  }
  const waiting = podsWanting(workload, storage, failed);
  if (waiting !== undefined) return waiting;
  if (failure !== undefined && failure.reason !== "RuntimeCrashLooping") {
    return {
      status: "False",
      reason: failure.reason,
      message: failure.node === undefined ? failure.message : `on node ${failure.node}: ${failure.message}`,
      isStalled: failure.isPermanent && needsPerson(failure.reason),
    };
  }
  if (workload.isDeadlineExceeded) {
    return {
      status: "False",
      reason: "PullDeadlineExceeded",
      message: `${pull.percent} of ${formatBytes(pull.totalBytes)} when the Deployment's progress deadline was over; the pull goes on`,
    };
  }
  return {
    status: "False",
    reason: "Pulling",
    message: `${pull.percent} of ${formatBytes(pull.totalBytes)} on the furthest of ${pull.pods.pending + pull.pods.pulling + pull.pods.failed} pods`,
  };
}

function workloadAvailable(
  workload: WorkloadState,
  pulled: Draft,
  storage: Draft,
  failed: ActFailure | undefined,
): Draft {
  if (failed !== undefined) return { status: "False", reason: failed.reason, message: failed.message };
  if (workload.wantedReplicas === 0) {
    return { status: "True", reason: "ScaledToZero", message: "no replica is wanted" };
  }
  const counts = `${workload.readyReplicas} of ${workload.wantedReplicas} replicas are ready`;
  if (workload.isAvailable) return { status: "True", reason: "Available", message: counts };
  if (workload.admissionFailure !== undefined) {
    return { status: "False", reason: "AdmissionDenied", message: workload.admissionFailure };
  }
  const { failure } = workload;
  if (failure !== undefined) {
    return {
      status: "False",
      reason: failure.reason,
      message: failure.message,
      isStalled: (failure.isPermanent && needsPerson(failure.reason)) || workload.isDeadlineExceeded,
    };
  }
  const waiting = podsWanting(workload, storage, failed);
  if (waiting !== undefined) return { ...waiting, message: counts };
  return {
    status: "False",
    reason: pulled.status === "True" ? "Starting" : "Pulling",
    message: counts,
  };
}

/**
 * Whether pods have another volume than the one that the spec asks for, which is wanting: what serves is of an earlier spec then, and
 * goes on only since nothing better can be made.
 */
function servesFromFormerVolume({ model, deployments }: Observed, storage: Draft | undefined): boolean {
  if (storage?.status !== "False") return false;
  const isImage = usesImageVolume(model);
  const claimName = wantedClaimName(model);
  return deployments.some(({ spec }) => {
    const volume = spec?.template?.spec?.volumes?.find(({ name }) => name === modelVolumeName);
    return (
      volume !== undefined &&
      ((volume.image !== undefined) !== isImage || volume.persistentVolumeClaim?.claimName !== claimName)
    );
  });
}

/** What wants of the volume, and that pods do not have to go for it. */
function sayingWhatServes(observed: Observed, storage: Draft): Draft {
  return servesFromFormerVolume(observed, storage)
    ? { ...storage, message: `${storage.message}; pods with the former volume go on` }
    : storage;
}

/** Ready, Reconciling and Stalled from the domain conditions, in the order of the data flow. */
function summarise(
  observed: Observed,
  drafts: Readonly<Partial<Record<ConditionType, Draft>>>,
): Partial<Record<ConditionType, Draft>> {
  if (observed.model.spec.suspend === true) {
    const message = "spec.suspend is true; what runs goes on";
    const isServing = drafts.WorkloadAvailable?.status === "True";
    return { Ready: { status: isServing ? "True" : "False", reason: "Suspended", message } };
  }
  const order = [
    "SourceResolved",
    "VariantSelected",
    "StorageReady",
    "ArtifactPulled",
    "WorkloadAvailable",
  ] as const;
  const available = drafts.WorkloadAvailable;
  const isFormer = servesFromFormerVolume(observed, drafts.StorageReady);
  const blocking = order
    .map((type) => drafts[type])
    .find((draft) => draft !== undefined && draft.status !== "True");
  const isServing = available?.status === "True" && drafts.VariantSelected?.status === "True" && !isFormer;
  if (blocking === undefined || isServing) {
    return {
      Ready: {
        status: "True",
        reason: available?.reason ?? "Available",
        message: available?.message ?? "",
      },
    };
  }
  if (blocking.isStalled === true) {
    return {
      Ready: { status: "False", reason: blocking.reason, message: blocking.message },
      Stalled: { status: "True", reason: blocking.reason, message: blocking.message },
    };
  }
  // Waiting for nodes is no progress, but it may end without anybody's help: neither Reconciling nor Stalled.
  const isWaiting = blocking.reason === "NoVariantFits" || blocking.reason === "NoNodesYet";
  const isWorking =
    blocking.status === "Unknown" || blocking.reason === "Pulling" || blocking.reason === "Starting";
  return {
    Ready: {
      status: isWorking && available?.status !== "False" ? "Unknown" : "False",
      reason: isWorking && blocking.status === "Unknown" ? "Progressing" : blocking.reason,
      message: blocking.message,
    },
    ...(isWaiting
      ? {}
      : { Reconciling: { status: "True", reason: blocking.reason, message: blocking.message } as const }),
  };
}

/** Conditions in a fixed order; the transition time is kept while the status is. */
function conditions(
  model: Model,
  drafts: Readonly<Partial<Record<ConditionType, Draft>>>,
  nowMs: number,
): readonly Condition[] {
  const observedGeneration = model.metadata.generation ?? 0;
  return (Object.keys(conditionTypes) as ConditionType[]).flatMap((type): Condition[] => {
    const draft = drafts[type];
    if (draft === undefined) return [];
    const before = model.status?.conditions?.find((condition) => condition.type === type);
    const lastTransitionTime =
      before?.status === draft.status
        ? before.lastTransitionTime
        : `${new Date(nowMs).toISOString().slice(0, 19)}Z`;
    // The API server replaces half a character, and what is read back would be another message each time.
    const full = withObjectNames(model, draft.message);
    const message =
      full.length > maxMessageLength
        ? `${full.slice(0, maxMessageLength - 1).toWellFormed()}…`
        : full.toWellFormed();
    return [
      { type, status: draft.status, reason: draft.reason, message, lastTransitionTime, observedGeneration },
    ];
  });
}

/** What was known, and that nothing can be decided for a defect of the operator. */
export function defectStatus(
  { model, nowMs }: Pick<Observed, "model" | "nowMs">,
  error: unknown,
): ModelStatus {
  const name = error instanceof Error ? error.name : typeof error;
  const message = `a defect of the operator (${name}) keeps this Model from being worked on; what runs goes on, and the operator's log has the details`;
  const drafts = {
    Ready: { status: "Unknown", reason: "InternalError", message },
    Reconciling: { status: "True", reason: "InternalError", message },
  } as const;
  const told = conditions(model, drafts, nowMs);
  const others = (model.status?.conditions ?? []).filter(
    ({ type }) => type !== "Stalled" && !told.some((each) => each.type === type),
  );
  return {
    ...model.status,
    observedGeneration: model.metadata.generation ?? 0,
    conditions: [...told, ...others],
  };
}

function phaseOf(drafts: Readonly<Partial<Record<ConditionType, Draft>>>, isSuspended: boolean): string {
  if (isSuspended) return "Suspended";
  if (drafts.Ready?.status === "True") return drafts.Ready.reason === "ScaledToZero" ? "Idle" : "Ready";
  if (drafts.Stalled !== undefined) return "Failed";
  if (drafts.SourceResolved?.status !== "True") return "Resolving";
  if (drafts.VariantSelected?.status !== "True") return "Waiting";
  if (drafts.StorageReady?.reason === "PVCPending") return "Waiting";
  if (drafts.ArtifactPulled?.status !== "True") return "Pulling";
  return "Starting";
}

/** The selected variant for the status: the new choice, else what was selected before and still runs. */
function selectedStatus(observed: Observed, decision: Decision): SelectedStatus | undefined {
  const { choice } = decision;
  if (choice?.kind !== "selected") return observed.model.status?.selected;
  const { candidate, placement } = choice;
  return {
    variant: candidate.variant.name,
    digest: candidate.artifact.digest,
    sizeBytes: candidate.artifact.sizeBytes,
    requiredBytes: placement.footprint.totalBytes,
    reason: selectionReason(observed.model, choice),
    accelerator: placement.accelerator,
    nodes: placement.matchingNodes.length,
    contextLength: placement.footprint.contextLength,
  };
}

/** What is remembered of where the model is kept. */
function storageStatus(observed: Observed, { collection, copies }: Decision): Pick<ModelStatus, "storage"> {
  const { pods, warm, savedBytes } = cacheHits(observed);
  const storage = {
    ...observed.autoStorage?.chosen,
    ...collection.storage,
    ...(copies.length === 0 ? {} : { copies }),
    ...(pods === 0 || !usesClaim(observed.model) ? {} : { pods, warmPods: warm, savedBytes }),
  };
  return Object.keys(storage).length === 0 ? {} : { storage };
}

/** The whole status to be written. Feeding it back changes nothing but what the world changed. */
export function modelStatus(
  observed: Observed,
  decision: Decision,
  failed: ActFailure | undefined,
): ModelStatus {
  const { model, nowMs } = observed;
  const isSuspended = model.spec.suspend === true;
  const selected = selectedStatus(observed, decision);
  const source = sourceResolved(decision, discoveryQuestion(model.spec));
  const drafts: Partial<Record<ConditionType, Draft>> = {
    SourceResolved: source,
    VariantSelected: variantSelected(model, decision, source),
  };
  let workload: WorkloadState | undefined;
  let placements: readonly PlacementStatus[] | undefined;
  if (selected !== undefined) {
    placements = placementStatuses(observed, decision.choice);
    workload = workloadState(observed, workloadParts(model, selected, placements));
    drafts.StorageReady = sayingWhatServes(observed, storageReady(observed, workload, decision, failed));
    drafts.ArtifactPulled = artifactPulled(observed, workload, selected, drafts.StorageReady, failed);
    const isOfClaim = failed?.kind === "PersistentVolumeClaim";
    drafts.WorkloadAvailable = workloadAvailable(
      workload,
      drafts.ArtifactPulled,
      drafts.StorageReady,
      isOfClaim ? undefined : failed,
    );
  } else if (failed !== undefined) {
    drafts.WorkloadAvailable = { status: "False", reason: failed.reason, message: failed.message };
    drafts.SourceResolved =
      source.status === "Unknown"
        ? { status: "False", reason: failed.reason, message: failed.message }
        : source;
  }
  Object.assign(drafts, summarise(observed, drafts));
  const resolvedAt = decision.inspection.resolvedAt ?? model.status?.source?.resolvedAt;
  const digest =
    selected?.digest ?? decision.variants.find(({ artifact }) => artifact !== undefined)?.artifact?.digest;
  return {
    observedGeneration: model.metadata.generation ?? 0,
    phase: phaseOf(drafts, isSuspended),
    ...(digest === undefined || resolvedAt === undefined ? {} : { source: { digest, resolvedAt } }),
    ...(decision.inspection.discovery === undefined ? {} : { discovery: decision.inspection.discovery }),
    ...(selected === undefined ? {} : { selected }),
    ...(placements === undefined ? {} : { placements }),
    ...(decision.reselection === undefined ? {} : { reselection: decision.reselection }),
    ...storageStatus(observed, decision),
    variants: variantStatuses(decision),
    ...(workload === undefined
      ? {}
      : {
          pull: workload.pull,
          replicas: workload.replicas,
          readyReplicas: workload.readyReplicas,
          ready: `${workload.readyReplicas}/${workload.wantedReplicas}`,
          ...(selected === undefined ? {} : { chosen: chosenText(selected, placements) }),
        }),
    selector: podSelector(model),
    conditions: conditions(model, drafts, nowMs),
  };
}
