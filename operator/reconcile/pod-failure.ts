// Reads what went wrong in a pod from its status: the puller's own report where there is one, else the kubelet's words. Pure.

import {
  contractVersion,
  failureExitCodes,
  type FailureCode,
  type TerminationMessage,
} from "../../puller/contract.ts";
import type { Reason } from "../api/conditions.ts";
import type { ContainerStatus, Pod, TerminatedState } from "./workload-types.ts";

export type PodFailure = {
  readonly reason: Reason;
  readonly message: string;
  readonly node?: string;
  readonly exitCode?: number;
  readonly at?: string;
  /** Set when the puller itself said so. */
  readonly isPermanent: boolean;
};

/** The puller's report in a termination message; undefined when the text is none of this contract's version. */
export function parseTerminationMessage(text: string | undefined): TerminationMessage | undefined {
  if (text === undefined || !text.startsWith("{")) return undefined;
  try {
    const parsed = JSON.parse(text.trim()) as Partial<TerminationMessage>;
    const isKnown =
      parsed.code === "Ready" || (typeof parsed.code === "string" && parsed.code in failureExitCodes);
    return parsed.v === contractVersion && isKnown && typeof parsed.message === "string"
      ? (parsed as TerminationMessage)
      : undefined;
  } catch {
    return undefined;
  }
}

/** How a finished puller container failed; undefined when it did not. */
export function pullerFailure(terminated: TerminatedState | undefined): Omit<PodFailure, "node"> | undefined {
  if (terminated === undefined || terminated.exitCode === 0) return undefined;
  const { exitCode, finishedAt } = terminated;
  const at = finishedAt === undefined ? {} : { at: finishedAt };
  if (terminated.reason === "OOMKilled") {
    return {
      reason: "PullOOMKilled",
      message: "the puller was killed for lack of memory; raise spec.puller.resources.limits.memory",
      exitCode,
      isPermanent: false,
      ...at,
    };
  }
  const report = parseTerminationMessage(terminated.message);
  if (report === undefined || report.code === "Ready") {
    return {
      reason: "InternalError",
      message: `the puller ended with exit code ${exitCode} and no report; see its log`,
      exitCode,
      isPermanent: false,
      ...at,
    };
  }
  return { reason: report.code, message: report.message, exitCode, isPermanent: !report.retryable, ...at };
}

const imageReasons: ReadonlySet<string> = new Set([
  "ErrImagePull",
  "ImagePullBackOff",
  "InvalidImageName",
  "ErrImageNeverPull",
  "ImageInspectError",
]);
const configurationReasons: ReadonlySet<string> = new Set([
  "CreateContainerConfigError",
  "CreateContainerError",
  "RunContainerError",
]);

function containerFailure(status: ContainerStatus, isPuller: boolean): Omit<PodFailure, "node"> | undefined {
  const waiting = status.state?.waiting;
  if (waiting?.reason !== undefined && imageReasons.has(waiting.reason)) {
    return {
      reason: "ImagePullFailed",
      message: `container ${status.name}: ${waiting.reason}: ${waiting.message ?? ""}`.slice(0, 500),
      isPermanent: false,
    };
  }
  const ended = status.state?.terminated ?? status.lastState?.terminated;
  if (isPuller) {
    // A puller that is running again is making good what failed before.
    return status.state?.running === undefined ? pullerFailure(ended) : undefined;
  }
  if (waiting?.reason !== undefined && configurationReasons.has(waiting.reason)) {
    return {
      reason: "RuntimeCrashLooping",
      message: `container ${status.name}: ${waiting.reason}: ${waiting.message ?? ""}`.slice(0, 500),
      isPermanent: false,
    };
  }
  const isFailing = status.ready !== true && (status.restartCount ?? 0) >= 1 && ended !== undefined;
  if (!isFailing && waiting?.reason !== "CrashLoopBackOff") return undefined;
  return {
    reason: "RuntimeCrashLooping",
    message: `container ${status.name} ended ${status.restartCount ?? 1} times, last with exit code ${ended?.exitCode ?? "unknown"}; see its log`,
    ...(ended === undefined ? {} : { exitCode: ended.exitCode }),
    ...(ended?.finishedAt === undefined ? {} : { at: ended.finishedAt }),
    isPermanent: false,
  };
}

/** The first thing that keeps a pod from its work; undefined when nothing does, or only time is missing. */
export function podFailure(pod: Pod, pullerContainer: string): PodFailure | undefined {
  const status = pod.status ?? {};
  const node = pod.spec?.nodeName === undefined ? {} : { node: pod.spec.nodeName };
  const scheduled = status.conditions?.find(({ type }) => type === "PodScheduled");
  if (scheduled?.status === "False" && scheduled.reason === "Unschedulable") {
    return {
      reason: "Unschedulable",
      message: scheduled.message ?? "no node takes the pod",
      isPermanent: false,
    };
  }
  if (status.reason === "Evicted") {
    return {
      reason: "PullEvicted",
      message: status.message ?? "the pod was evicted",
      isPermanent: false,
      ...node,
    };
  }
  const all = [...(status.initContainerStatuses ?? []), ...(status.containerStatuses ?? [])];
  for (const container of all) {
    const failure = containerFailure(container, container.name === pullerContainer);
    if (failure !== undefined) return { ...failure, ...node };
  }
  return undefined;
}

/** Whether a reason is one that the puller reports, and its exit code says that only a person can help. */
export function isPullerCode(reason: Reason): reason is FailureCode {
  return reason in failureExitCodes;
}
