// The loop of the operator: observe -> decide -> act -> one status write. Knows no HTTP and no registry.

import { earliest } from "./earliest.ts";
import { isDeepStrictEqual } from "node:util";
import type { Reason } from "../api/conditions.ts";
import { modelResource, type Model, type ModelStatus } from "../api/model.ts";
import { isClaimOf } from "../desired/claim.ts";
import { managedByLabel, managedByValue } from "../desired/names.ts";
import { nodeCacheLabel } from "../desired/names.ts";
import { KubeError } from "../kube/errors.ts";
import { needsApply } from "../kube/needs-apply.ts";
import type { Kube, KubeObject, ObjectKey, Resource } from "../kube/types.ts";
import { selectedDirectories } from "./copies.ts";
import { decide, type Decision } from "./decide.ts";
import { transitions, type Transition } from "./events.ts";
import { observe, type World } from "./observe.ts";
import type { Observed } from "./observed.ts";
import type { Outcome } from "./outcome.ts";
import { configMapResource, resourceOf } from "./resources.ts";
import { settleStorage } from "./settle-storage.ts";
import { defectStatus, modelStatus, type ActFailure } from "./status.ts";

export type ReconcileDeps = {
  readonly kube: Kube;
  readonly world: World;
  /** Told of each change that people should see. */
  readonly onTransition: (model: Model, transition: Transition) => void;
  readonly onFailure: (key: ObjectKey, error: unknown) => void;
  /** Puts a model on the list of those that the node cache of a namespace keeps, before a pod mounts it. */
  readonly hold: (namespace: string, directory: string, signal: AbortSignal) => Promise<void>;
};

/** While bytes flow the pullers are asked again after this long, milliseconds. */
const progressIntervalMs = 5_000;

/**
 * Brings one Model closer to its spec and writes its status at most once. Safe to run at any time, by two operators
 * at once: names are deterministic, objects are applied whole with one field manager, deletes name a uid.
 */
export async function reconcileModel(
  key: ObjectKey,
  deps: ReconcileDeps,
  signal: AbortSignal,
): Promise<Outcome> {
  const snapshot = observe(key, deps.world);
  if (snapshot === undefined) return { kind: "done" };
  const { observed, decision } = await decideOrTell(snapshot, deps, signal);
  const failure = await act(observed, decision, deps, signal);
  const status = modelStatus(observed, decision, failure);
  await writeStatus(observed.model, status, deps, signal);
  return outcomeOf(status, decision, failure);
}

/** The decision. A defect of ours is told in the status too, once, before the queue tries again: a log is not where users look. */
async function decideOrTell(
  snapshot: Observed,
  deps: ReconcileDeps,
  signal: AbortSignal,
): Promise<{ readonly observed: Observed; readonly decision: Decision }> {
  try {
    const observed = settleStorage(snapshot);
    return { observed, decision: decide(observed) };
  } catch (error) {
    await writeStatus(snapshot.model, defectStatus(snapshot, error), deps, signal);
    throw error;
  }
}

/** Creates, applies and deletes; the first refusal becomes a reason, the rest is still tried. */
async function act(
  observed: Observed,
  decision: Decision,
  deps: ReconcileDeps,
  signal: AbortSignal,
): Promise<ActFailure | undefined> {
  let failure: ActFailure | undefined;
  const attempt = async (resource: Resource, name: string, effect: () => Promise<unknown>): Promise<void> => {
    try {
      await effect();
    } catch (error) {
      if (signal.aborted) throw error;
      const refusal = refusalOf(error, resource, name);
      // Not the API server's word on this object: let the queue retry the whole.
      if (refusal === undefined) throw error;
      deps.onFailure(
        { namespace: observed.model.metadata.namespace, name: observed.model.metadata.name },
        error,
      );
      failure ??= refusal;
    }
  };
  for (const directory of heldDirectories(observed, decision)) {
    const { namespace } = observed.model.metadata;
    await attempt(configMapResource, "of the node cache", async () =>
      deps.hold(namespace, directory, signal),
    );
    if (failure !== undefined) return failure;
  }
  for (const object of decision.apply) {
    const resource = resourceOf(object);
    const { name, namespace = "" } = object.metadata;
    await attempt(resource, name, async () => {
      // The local copies hold labelled objects only: what is missing there may be somebody else's, which force would take over.
      const live = liveOf(observed, object) ?? (await deps.kube.get(resource, { namespace, name }, signal));
      const isOurs = object.kind === "PersistentVolumeClaim" ? isClaimOf : isOwned;
      if (live !== undefined && !isOurs(live, observed.model))
        failure ??= { ...inTheWay(live, observed.model), kind: resource.kind };
      else if (needsApply(live, object)) await deps.kube.apply(resource, object, signal);
    });
  }
  for (const object of decision.create) {
    const resource = resourceOf(object);
    const { name, namespace = "" } = object.metadata;
    await attempt(resource, name, async () => {
      if ((await deps.kube.create(resource, object, signal)) !== undefined) return;
      // There is one of this name, which the local copies may never show: then nothing would wake the Model again.
      const there = await deps.kube.get(resource, { namespace, name }, signal);
      if (there !== undefined && !(isOwned(there, observed.model) && isLabelled(there)))
        failure ??= { ...inTheWay(there, observed.model), kind: resource.kind };
    });
  }
  for (const object of decision.remove) {
    const { name, namespace = "", uid = "" } = object.metadata;
    const resource = resourceOf(object);
    await attempt(resource, name, () => deps.kube.delete(resource, { namespace, name }, { uid }, signal));
  }
  return failure;
}

/** The models that pods are about to have mounted from the cache of their nodes; none where there is no cache. */
function heldDirectories({ model, claim }: Observed, { apply, choice }: Decision): readonly string[] {
  if (claim?.metadata.labels?.[nodeCacheLabel] !== "true") return [];
  return apply.length === 0 || choice?.kind !== "selected" ? [] : selectedDirectories({ model }, choice);
}

function liveOf(observed: Observed, object: KubeObject): KubeObject | undefined {
  switch (object.kind) {
    case "Deployment":
      return observed.deployments.find(({ metadata }) => metadata.name === object.metadata.name);
    case "PersistentVolumeClaim":
      return observed.claim;
    case "ResourceClaimTemplate":
      return observed.claimTemplates?.find(({ metadata }) => metadata.name === object.metadata.name);
    default:
      return observed.service;
  }
}

/** What keeps an object from being ours. One of a former Model of this name goes by itself. */
function inTheWay(live: KubeObject, model: Model): Pick<ActFailure, "reason" | "message"> {
  const { name, ownerReferences = [], deletionTimestamp } = live.metadata;
  const isFormer = ownerReferences.some(
    (owner) => owner.kind === model.kind && owner.name === model.metadata.name,
  );
  return isFormer || deletionTimestamp !== undefined
    ? { reason: "Progressing", message: `${live.kind} ${name} of a former Model is still being deleted` }
    : {
        reason: "AdmissionDenied",
        message: `${live.kind} ${name} exists and belongs to something else; rename the Model or delete it`,
      };
}

function isOwned(object: KubeObject, model: Model): boolean {
  return (object.metadata.ownerReferences ?? []).some(({ uid }) => uid === model.metadata.uid);
}

/** Whether it is among the objects that are watched. */
function isLabelled({ metadata }: KubeObject): boolean {
  return metadata.labels?.[managedByLabel] === managedByValue;
}

/** What the API server refuses for good with this object; undefined for failures that say nothing of the object. */
function refusalOf(error: unknown, resource: Resource, name: string): ActFailure | undefined {
  if (!(error instanceof KubeError)) return undefined;
  const isOfObject = error.kind === "forbidden" || error.kind === "invalid";
  return isOfObject
    ? {
        reason: "AdmissionDenied",
        message: `${resource.kind} ${name}: ${error.message}`,
        kind: resource.kind,
      }
    : undefined;
}

/** Writes the status if it differs, on the state that was read: a stale one is refused and tried again. */
async function writeStatus(
  model: Model,
  status: ModelStatus,
  deps: ReconcileDeps,
  signal: AbortSignal,
): Promise<void> {
  if (isDeepStrictEqual(model.status, status)) return;
  const { name, namespace, resourceVersion = "" } = model.metadata;
  await deps.kube.applyStatus(
    modelResource,
    {
      apiVersion: model.apiVersion,
      kind: model.kind,
      metadata: { name, namespace, resourceVersion },
      status,
    } as KubeObject,
    signal,
  );
  for (const transition of transitions(model.status, status)) deps.onTransition(model, transition);
}

function outcomeOf(status: ModelStatus, decision: Decision, failure: ActFailure | undefined): Outcome {
  if (failure !== undefined) return { kind: "retry", reason: failure.reason };
  const ready = status.conditions?.find(({ type }) => type === "Ready");
  const isPulling = (status.pull?.pods.pulling ?? 0) > 0;
  const recheckAfterMs = earliest([
    decision.inspection.recheckAfterMs,
    decision.recheckAfterMs,
    decision.collection.recheckAfterMs,
    decision.prefetch.recheckAfterMs,
    isPulling ? progressIntervalMs : undefined,
  ]);
  const recheck = recheckAfterMs === undefined ? {} : { recheckAfterMs };
  if (ready?.status === "True") return { kind: "done", ...recheck };
  const reason: Reason = ready?.reason ?? "Progressing";
  const isStalled = status.conditions?.some(({ type }) => type === "Stalled") === true;
  return { kind: isStalled ? "stalled" : "wait", reason, ...recheck };
}
