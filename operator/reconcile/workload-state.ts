// What the workload's Deployment and pods say: how far the pull is, how many replicas serve, what fails. Pure.

import type { PullStatus } from "../api/model.ts";
import { digestAnnotation, pullContainerName, runtimeContainerName } from "../desired/names.ts";
import { withObjectNames } from "../desired/puller-container.ts";
import type { Observed } from "./observed.ts";
import { parseTerminationMessage, podFailure, type PodFailure } from "./pod-failure.ts";
import { placementKeyOf } from "./rollout.ts";
import type { ContainerStatus, Deployment, Pod } from "./workload-types.ts";

export type WorkloadState = {
  readonly wantedReplicas: number;
  readonly replicas: number;
  readonly readyReplicas: number;
  /** All wanted replicas are of the current template and available. */
  readonly isAvailable: boolean;
  /** The Deployment gave up waiting (progressDeadlineSeconds). */
  readonly isDeadlineExceeded: boolean;
  /** The Deployment cannot create pods: quota, Pod Security, a policy. */
  readonly admissionFailure: string | undefined;
  readonly pull: PullStatus;
  /** Whether there are pods of a selected digest, whatever they do. */
  readonly hasPods: boolean;
  /** Of each part some pod holds the whole model. */
  readonly isPulled: boolean;
  /** The first failure of a pod of a selected digest. */
  readonly failure: PodFailure | undefined;
};

/** One Deployment of the workload as it is to be: that of a class of nodes, or with an empty key the only one. */
export type WorkloadPart = {
  readonly key: string;
  readonly digest: string;
  readonly sizeBytes: number;
  readonly replicas: number;
};

type PullState = "pending" | "pulling" | "done" | "failed";

/**
 * Pods without those that have ended for good (evicted, their node lost) and were replaced: their objects stay for days. Until one
 * that took their place fetches, or has the model, they tell why it is not there.
 */
function withoutReplaced(pods: readonly Pod[]): readonly Pod[] {
  const isOver = ({ status }: Pod): boolean => status?.phase === "Failed" || status?.phase === "Succeeded";
  const others = pods.filter((pod) => !isOver(pod));
  const hasSuccessor = others.some((pod) => ["pulling", "done"].includes(pullState(pod)));
  return hasSuccessor ? others : pods;
}

function hasStarted({ name, state, lastState }: ContainerStatus): boolean {
  const isRuntime = name === runtimeContainerName;
  return (
    isRuntime && [state?.running, state?.terminated, lastState?.terminated].some((each) => each !== undefined)
  );
}

function pullState(pod: Pod): PullState {
  const status = pod.status?.initContainerStatuses?.find(({ name }) => name === pullContainerName);
  if (status?.state?.terminated?.exitCode === 0) return "done";
  // Without a puller the node brings the model, before the runtime is started.
  if (status === undefined && pod.status?.containerStatuses?.some(hasStarted) === true) return "done";
  if (pod.status?.phase === "Failed" || status?.state?.terminated !== undefined) return "failed";
  if (status?.state?.running !== undefined) return "pulling";
  return status?.lastState?.terminated === undefined ? "pending" : "failed";
}

/** Bytes of the model that one pod holds, as its puller told last. */
function completedBytes(observed: Observed, pod: Pod, totalBytes: number): number {
  if (pullState(pod) === "done") return totalBytes;
  const status = pod.status?.initContainerStatuses?.find(({ name }) => name === pullContainerName);
  const report = parseTerminationMessage(
    status?.state?.terminated?.message ?? status?.lastState?.terminated?.message,
  );
  const progress = observed.progress.get(pod.metadata.uid ?? "");
  return Math.min(totalBytes, progress?.completedBytes ?? report?.bytesDone ?? 0);
}

/** Whether all pods of the part are of the current template and available. */
function isPartAvailable(deployment: Deployment | undefined, { replicas }: WorkloadPart): boolean {
  if (deployment === undefined || !isUpToDate(deployment)) return false;
  const { status = {}, spec } = deployment;
  return (
    // More only while others are not ready yet.
    (spec?.replicas ?? 1) >= replicas &&
    (status.updatedReplicas ?? 0) >= replicas &&
    // While pods of an earlier template are left, some of the available ones may be theirs.
    (status.replicas ?? 0) <= (status.updatedReplicas ?? 0) &&
    (status.availableReplicas ?? 0) >= replicas
  );
}

function isUpToDate({ metadata, status }: Deployment): boolean {
  return (status?.observedGeneration ?? 0) >= (metadata.generation ?? 0);
}

/** Reads the workload. Parts without replicas are not waited for. */
export function workloadState(observed: Observed, parts: readonly WorkloadPart[]): WorkloadState {
  const { deployments, model } = observed;
  const wanted = parts.length === 1 ? parts : parts.filter(({ replicas }) => replicas > 0);
  const pulls = wanted.map((part) => {
    const all = observed.workloadPods.filter(
      (pod) =>
        pod.metadata.annotations?.[digestAnnotation] === part.digest && placementKeyOf(pod) === part.key,
    );
    const pods = withoutReplaced(all);
    return {
      pods,
      all,
      isDone: pods.some((pod) => pullState(pod) === "done"),
      // The pod that is furthest speaks for the pull; a second replica starting later does not set it back.
      furthest: Math.max(0, ...pods.map((pod) => completedBytes(observed, pod, part.sizeBytes))),
    };
  });
  const pods = pulls.flatMap((each) => each.pods);
  const states = pods.map(pullState);
  const count = (state: PullState): number => states.filter((each) => each === state).length;
  const totalBytes = wanted.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  const completed = pulls.reduce((sum, { furthest }) => sum + furthest, 0);
  const speeds = pods.flatMap((pod) => observed.progress.get(pod.metadata.uid ?? "") ?? []);
  const isPulling = count("pulling") > 0;
  const failure = firstFailure(pods);
  const isPulled = pulls.length > 0 && pulls.every(({ isDone }) => isDone);
  const previous = model.status?.pull;
  const isKept =
    pods.length === 0 &&
    previous !== undefined &&
    (wanted.length === 0 || model.status?.selected?.digest === wanted[0]?.digest);
  const bytesPerSecond = speeds.reduce((sum, each) => sum + each.bytesPerSecond, 0);
  const remaining = speeds.flatMap(({ remainingSeconds }) => remainingSeconds ?? []);
  const of = (part: WorkloadPart): Deployment | undefined =>
    deployments.find((each) => placementKeyOf(each) === part.key);
  const statuses = wanted.flatMap((part) => {
    const found = of(part);
    return found === undefined ? [] : [{ ...found.status, isUpToDate: isUpToDate(found) }];
  });
  const sum = (read: (status: NonNullable<Deployment["status"]>) => number | undefined): number =>
    deployments.reduce((total, { status = {} }) => total + (read(status) ?? 0), 0);
  return {
    wantedReplicas: model.spec.replicas ?? 1,
    replicas: sum((status) => status.replicas),
    readyReplicas: sum((status) => status.readyReplicas),
    isAvailable: wanted.length > 0 && wanted.every((part) => isPartAvailable(of(part), part)),
    isDeadlineExceeded: statuses.some(
      ({ conditions = [], isUpToDate: isNews }) =>
        isNews &&
        conditions.some(
          ({ type, reason }) => type === "Progressing" && reason === "ProgressDeadlineExceeded",
        ),
    ),
    admissionFailure: statuses
      .flatMap(({ conditions = [] }) => conditions)
      .find(({ type, status }) => type === "ReplicaFailure" && status === "True")?.message,
    isPulled,
    hasPods: pods.length > 0,
    pull: isKept
      ? previous
      : {
          totalBytes,
          completedBytes: completed,
          percent: isPulled
            ? "100%"
            : `${totalBytes === 0 ? 0 : Math.floor((completed * 100) / totalBytes)}%`,
          ...(isPulling && speeds.length > 0 ? { bytesPerSecond: Math.round(bytesPerSecond) } : {}),
          ...(isPulling && remaining.length > 0
            ? { remainingSeconds: Math.round(Math.max(...remaining)) }
            : {}),
          pods: {
            pending: count("pending"),
            pulling: count("pulling"),
            done: count("done"),
            failed: count("failed"),
          },
          ...lastFailure(failure ?? firstFailure(pulls.flatMap(({ all }) => all)), observed),
        },
    failure,
  };
}

/** Of what fails, one that only a person can mend goes first. */
function firstFailure(pods: readonly Pod[]): PodFailure | undefined {
  const failures = pods.flatMap((pod) => podFailure(pod, pullContainerName) ?? []);
  return failures.find(({ isPermanent }) => isPermanent) ?? failures[0];
}

function lastFailure(failure: PodFailure | undefined, observed: Observed): Pick<PullStatus, "lastFailure"> {
  const previous = observed.model.status?.pull?.lastFailure;
  if (failure === undefined) return previous === undefined ? {} : { lastFailure: previous };
  const { reason, node, exitCode, at } = failure;
  const message = withObjectNames(observed.model, failure.message);
  const isSame = previous?.reason === reason && previous.message === message && previous.node === node;
  return {
    lastFailure: {
      reason,
      message,
      ...(node === undefined ? {} : { node }),
      ...(exitCode === undefined ? {} : { exitCode }),
      at: at ?? (isSame ? previous.at : new Date(observed.nowMs).toISOString()),
    },
  };
}
