// What the workload's Deployment and pods say: how far the pull is, how many replicas serve, what fails. Pure.

import type { PullStatus } from "../api/model.ts";
import { digestAnnotation, pullContainerName } from "../desired/names.ts";
import type { Observed } from "./observed.ts";
import { parseTerminationMessage, podFailure, type PodFailure } from "./pod-failure.ts";
import type { Pod } from "./workload-types.ts";

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
  /** The first failure of a pod of the selected digest. */
  readonly failure: PodFailure | undefined;
};

type PullState = "pending" | "pulling" | "done" | "failed";

function pullState(pod: Pod): PullState {
  const status = pod.status?.initContainerStatuses?.find(({ name }) => name === pullContainerName);
  if (status?.state?.terminated?.exitCode === 0) return "done";
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

/** Reads the workload for the artifact of `digest` with `totalBytes`. */
export function workloadState(observed: Observed, digest: string, totalBytes: number): WorkloadState {
  const { deployment, model } = observed;
  const pods = observed.workloadPods.filter(
    ({ metadata }) => metadata.annotations?.[digestAnnotation] === digest,
  );
  const states = pods.map(pullState);
  const count = (state: PullState): number => states.filter((each) => each === state).length;
  // The pod that is furthest speaks for the pull; a second replica starting later does not set it back.
  const furthest = Math.max(0, ...pods.map((pod) => completedBytes(observed, pod, totalBytes)));
  const speeds = pods.flatMap((pod) => observed.progress.get(pod.metadata.uid ?? "") ?? []);
  const isPulling = count("pulling") > 0;
  const failures = pods.flatMap((pod) => podFailure(pod, pullContainerName) ?? []);
  const failure = failures.find(({ isPermanent }) => isPermanent) ?? failures[0];
  const isDone = count("done") > 0;
  const previous = model.status?.pull;
  const isKept = pods.length === 0 && previous !== undefined && model.status?.selected?.digest === digest;
  const bytesPerSecond = speeds.reduce((sum, each) => sum + each.bytesPerSecond, 0);
  const remaining = speeds.flatMap(({ remainingSeconds }) => remainingSeconds ?? []);
  const status = deployment?.status ?? {};
  const wantedReplicas = model.spec.replicas ?? 1;
  const isObserved = (status.observedGeneration ?? 0) >= (deployment?.metadata.generation ?? 0);
  const available = status.availableReplicas ?? 0;
  return {
    wantedReplicas,
    replicas: status.replicas ?? 0,
    readyReplicas: status.readyReplicas ?? 0,
    isAvailable:
      deployment !== undefined &&
      isObserved &&
      (deployment.spec?.replicas ?? 1) === wantedReplicas &&
      (status.updatedReplicas ?? 0) >= wantedReplicas &&
      // While pods of an earlier template are left, some of the available ones may be theirs.
      (status.replicas ?? 0) <= (status.updatedReplicas ?? 0) &&
      available >= wantedReplicas,
    isDeadlineExceeded:
      isObserved &&
      (status.conditions ?? []).some(
        ({ type, reason }) => type === "Progressing" && reason === "ProgressDeadlineExceeded",
      ),
    admissionFailure: status.conditions?.find(
      (condition) => condition.type === "ReplicaFailure" && condition.status === "True",
    )?.message,
    pull: isKept
      ? previous
      : {
          totalBytes,
          completedBytes: furthest,
          percent: isDone ? "100%" : `${totalBytes === 0 ? 0 : Math.floor((furthest * 100) / totalBytes)}%`,
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
          ...lastFailure(failure, observed),
        },
    failure,
  };
}

function lastFailure(failure: PodFailure | undefined, observed: Observed): Pick<PullStatus, "lastFailure"> {
  const previous = observed.model.status?.pull?.lastFailure;
  if (failure === undefined) return previous === undefined ? {} : { lastFailure: previous };
  const { reason, message, node, exitCode, at } = failure;
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
