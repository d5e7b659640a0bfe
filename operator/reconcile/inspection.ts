// Decides which inspect pods to create and delete, and reads the results of finished ones. Pure.

import { earliest } from "./earliest.ts";
import {
  failureExitCodes,
  isInspectFailure,
  maxDescribedReferences,
  maxInspectReferences,
  retryableExitCodes,
  type Discovery,
  type InspectFailure,
  type InspectResult,
} from "../../puller/contract.ts";
import { resolveRelativeReference } from "../../puller/oci/reference.ts";
import { createHash } from "node:crypto";
import { isDeepStrictEqual } from "node:util";
import type { DiscoveryStatus, Model } from "../api/model.ts";
import { inspectPod } from "../desired/inspect-pod.ts";
import { inspectContainerName } from "../desired/names.ts";
import type { InspectQuestion } from "../desired/types.ts";
import type { KubeObject } from "../kube/types.ts";
import { parseDuration } from "./duration.ts";
import { withObjectNames } from "../desired/puller-container.ts";
import type { Observed } from "./observed.ts";
import { parseTerminationMessage, podFailure, pullerFailure, type PodFailure } from "./pod-failure.ts";
import { discoveryQuestion, effectiveVariants, knownArtifact, type EffectiveVariant } from "./variants.ts";
import type { Pod, TerminatedState } from "./workload-types.ts";

/** Wait before a failed inspection is tried again: doubles from the first to the last, milliseconds. */
const retryDelaysMs = {
  transient: { first: 5_000, last: 300_000 },
  permanent: { first: 30_000, last: 300_000 },
};

export type InspectionPlan = {
  readonly create: readonly KubeObject[];
  readonly remove: readonly Pod[];
  /** The variants there are, listed and found. */
  readonly variants: readonly EffectiveVariant[];
  /** The newest that is known of `spec.variantsFrom`; undefined where it is not there, or not answered yet. */
  readonly discovery: DiscoveryStatus | undefined;
  /** Results of finished pods, by `resultKey`. A failure of a reference that is known already is not among them. */
  readonly results: ReadonlyMap<string, InspectResult>;
  /** When the newest result was told, RFC 3339; undefined when there is none. */
  readonly resolvedAt: string | undefined;
  /** Whether references are still being read for the first time. */
  readonly isPending: boolean;
  /** What keeps an inspect pod from running or reporting at all. */
  readonly podFailure: PodFailure | undefined;
  readonly recheckAfterMs: number | undefined;
};

/** The same reference may be read with different descriptions. */
export function resultKey({
  reference,
  describedBy,
}: Pick<EffectiveVariant, "reference" | "describedBy">): string {
  return `${describedBy ?? ""} ${reference}`;
}

/** Time of the next refresh, milliseconds since 1970; undefined when tags are not followed. */
function refreshDueMs(
  { spec }: Model,
  references: readonly string[],
  resolvedAt: string | undefined,
): number | undefined {
  const { refresh } = spec.source;
  if (refresh?.policy !== "OnChange" || resolvedAt === undefined) return undefined;
  if (references.every((reference) => reference.includes("@"))) return undefined;
  return Date.parse(resolvedAt) + parseDuration(refresh.interval ?? "1h");
}

function terminated(pod: Pod): TerminatedState | undefined {
  return pod.status?.containerStatuses?.find(({ name }) => name === inspectContainerName)?.state?.terminated;
}

/** Clocks of nodes are this exact, milliseconds. */
const clockToleranceMs = 60_000;

/**
 * When a pod ended, RFC 3339, by its node's clock. Where that cannot be, or the pod ended without a container (evicted, turned away by
 * the kubelet), when the API server made it: a time that moves on with the present would never be long enough ago for a retry,
 * one in the future neither, and one in the past would have a tag read again without end.
 */
function endOf(pod: Pod, nowMs: number): string {
  const made = pod.metadata.creationTimestamp;
  const finished = terminated(pod)?.finishedAt;
  if (finished === undefined || made === undefined) return finished ?? made ?? new Date(nowMs).toISOString();
  const finishedMs = Date.parse(finished);
  return finishedMs >= Date.parse(made) && finishedMs <= nowMs + clockToleranceMs ? finished : made;
}

/** What a finished inspect pod told. */
type Report = {
  readonly results: readonly InspectResult[];
  /** Of the index that was read. */
  readonly digest?: string;
  readonly discovered?: Discovery;
};

/** The report of a finished inspect pod, with a result for each reference asked; undefined while it runs. */
function reportOf(pod: Pod, references: readonly string[]): Report | undefined {
  const end = terminated(pod);
  const isOver = pod.status?.phase === "Failed" || pod.status?.phase === "Succeeded";
  if (end === undefined && !isOver) return undefined;
  const report = parseTerminationMessage(end?.message);
  if (report?.inspected !== undefined) {
    const { inspected, digest, discovered } = report;
    return {
      // They come in the order of the references, of which a malformed one is not repeated as it is: it may hold a password.
      results:
        discovered === undefined
          ? inspected.map((each, index) => ({ ...each, reference: references[index] ?? each.reference }))
          : inspected,
      ...(digest === undefined ? {} : { digest }),
      ...(discovered === undefined ? {} : { discovered }),
    };
  }
  const failure = pullerFailure(end);
  const code =
    report !== undefined && report.code !== "Ready"
      ? report.code
      : failure?.reason !== undefined && failure.reason in failureExitCodes
        ? (failure.reason as InspectFailure["code"])
        : "InternalError";
  const message =
    failure?.message ?? pod.status?.message ?? "the inspect pod ended without a report; see its log";
  return { results: references.map((reference) => ({ reference, code, message })) };
}

function retryDelayMs(results: readonly InspectResult[], attempt: number): number {
  const isTransient = results.some(
    (result) => isInspectFailure(result) && retryableExitCodes.has(failureExitCodes[result.code]),
  );
  const { first, last } = isTransient ? retryDelaysMs.transient : retryDelaysMs.permanent;
  return Math.min(first * 2 ** attempt, last);
}

/** Something that one pod is asked. */
type Errand = {
  readonly references: readonly string[];
  readonly question?: InspectQuestion;
  /** Whether the status has an answer already. */
  readonly isKnown: boolean;
  /** When it is to be asked again although it is known, milliseconds since 1970. */
  readonly dueMs: number | undefined;
  /** Whether the status, as read back, holds this answer, which came at `endedAt`. */
  readonly isStored: (report: Report, endedAt: string) => boolean;
};

/** What became of an errand's newest pod. */
type Answer = { readonly report: Report; readonly endedAt: string };

/** Pods for errands: what to create and keep, and what is known to hold things up. */
class PodPlan {
  readonly create: KubeObject[] = [];
  readonly kept = new Set<string>();
  readonly rechecks: number[] = [];
  isPending = false;
  podFailure: PodFailure | undefined;
  readonly #observed: Observed;
  readonly #round: string;

  constructor(observed: Observed) {
    this.#observed = observed;
    this.#round = createHash("sha256")
      .update(JSON.stringify(observed.model.spec.source))
      .digest("hex")
      .slice(0, 16);
  }

  /**
   * A pod is due when its errand is not known yet, or its refresh is due. It is deleted once the status (as read back) holds what
   * it told; a failed one is kept until its successor is created, since its name and its end say when that is.
   */
  send(errand: Errand): Answer | undefined {
    const { model, configuration, nowMs, inspectPods } = this.#observed;
    const { references, question, isKnown, dueMs } = errand;
    const render = (attempt: number): KubeObject =>
      inspectPod({
        model,
        configuration,
        references,
        attempt,
        round: this.#round,
        ...(question === undefined ? {} : { question }),
      });
    const prefix = render(0).metadata.name.replace(/0$/, "");
    const latest = inspectPods
      .filter(({ metadata }) => metadata.name.startsWith(prefix))
      .map((pod) => ({ pod, attempt: Number(pod.metadata.name.slice(prefix.length)) }))
      .sort((one, other) => other.attempt - one.attempt)[0];
    // A name that is not free yet is not waited for.
    const left = (this.#observed.leavingPods ?? [])
      .filter((name) => name.startsWith(prefix))
      .map((name) => Number(name.slice(prefix.length)));
    const free = Math.max(-1, ...left) + 1;
    if (latest === undefined) {
      if (!isKnown || (dueMs !== undefined && dueMs <= nowMs)) this.create.push(render(free));
      else if (dueMs !== undefined) this.rechecks.push(dueMs - nowMs);
      this.isPending ||= !isKnown;
      return undefined;
    }
    const report = reportOf(latest.pod, references);
    if (report === undefined) {
      this.kept.add(latest.pod.metadata.name);
      this.isPending ||= !isKnown;
      this.podFailure ??= podFailure(latest.pod, inspectContainerName);
      return undefined;
    }
    const endedAt = endOf(latest.pod, nowMs);
    // What was found but could not be read is asked for by an errand of its own.
    const isFailed = report.discovered === undefined && report.results.some(isInspectFailure);
    if (!isFailed) {
      if (!errand.isStored(report, endedAt)) this.kept.add(latest.pod.metadata.name);
      return { report, endedAt };
    }
    const retryAtMs = Date.parse(endedAt) + retryDelayMs(report.results, latest.attempt);
    if (retryAtMs <= nowMs) {
      this.create.push(render(Math.max(latest.attempt + 1, free)));
    } else {
      this.kept.add(latest.pod.metadata.name);
      this.rechecks.push(retryAtMs - nowMs);
    }
    return { report, endedAt };
  }
}

/** The errand that finds variants; undefined where they are listed. */
function discoveryErrand({ model }: Observed): (Errand & { readonly asked: string }) | undefined {
  const { source, variantsFrom } = model.spec;
  const asked = discoveryQuestion(model.spec);
  if (asked === undefined) return undefined;
  const known = model.status?.discovery;
  const isKnown = known?.question === asked && known.variants !== undefined;
  const pattern = variantsFrom?.tags?.pattern;
  // Of an index that is pinned nothing can change, of the tags of its repository all.
  const followed = pattern === undefined ? source.reference : ":";
  return {
    asked,
    references: [source.reference],
    question: pattern === undefined ? { kind: "index" } : { kind: "tags", pattern },
    isKnown,
    dueMs: isKnown ? refreshDueMs(model, [followed], known.resolvedAt) : undefined,
    isStored: ({ digest, discovered }, endedAt) =>
      isKnown &&
      (known.resolvedAt ?? "") >= endedAt &&
      known.digest === digest &&
      isDeepStrictEqual(known.variants, discovered?.variants),
  };
}

/** What is known of found variants: an answer just told, else that of the status, else why there is none. */
function discoveryStatus(
  model: Model,
  asked: string,
  answer: Answer | undefined,
): DiscoveryStatus | undefined {
  const { discovered, digest, results = [] } = answer?.report ?? {};
  if (discovered !== undefined && answer !== undefined)
    return {
      question: asked,
      ...(digest === undefined ? {} : { digest }),
      resolvedAt: answer.endedAt,
      variants: discovered.variants,
      ...(discovered.leftOut === undefined ? {} : { leftOut: discovered.leftOut }),
    };
  const known = model.status?.discovery;
  if (known?.question === asked && known.variants !== undefined) return known;
  const failed = results.find(isInspectFailure);
  if (failed !== undefined)
    return {
      question: asked,
      failure: { code: failed.code, message: withObjectNames(model, failed.message) },
    };
  // While it is tried again; another spec may have mended it.
  const isSameSpec = model.status?.observedGeneration === model.metadata.generation;
  return isSameSpec && known?.question === asked ? known : undefined;
}

/** Groups of references that one pod is asked for. */
function groupsOf(variants: readonly EffectiveVariant[]): readonly (readonly EffectiveVariant[])[] {
  const unique = [...new Map(variants.map((each) => [resultKey(each), each])).values()];
  const readable = unique.filter(({ failure }) => failure === undefined);
  const chunks = (all: readonly EffectiveVariant[], size: number): readonly (readonly EffectiveVariant[])[] =>
    Array.from({ length: Math.ceil(all.length / size) }, (_, index) =>
      all.slice(index * size, (index + 1) * size),
    );
  return [
    ...chunks(
      readable.filter(({ describedBy }) => describedBy === undefined),
      maxInspectReferences,
    ),
    ...chunks(
      readable.filter(({ describedBy }) => describedBy !== undefined),
      maxDescribedReferences,
    ),
  ];
}

/** How the references of a group are asked for. */
function groupQuestion({ spec }: Model, [first]: readonly EffectiveVariant[]): InspectQuestion | undefined {
  if (first?.describedBy === undefined) return undefined;
  return spec.variantsFrom?.tags === undefined
    ? { kind: "described", index: resolveRelativeReference(spec.source.reference, `@${first.describedBy}`) }
    : { kind: "described" };
}

/** One pod that finds variants, where they are not listed; then one pod for each group of references that are not known yet. */
export function planInspection(observed: Observed): InspectionPlan {
  const { model } = observed;
  const plan = new PodPlan(observed);
  const results = new Map<string, InspectResult>();
  let resolvedAt: string | undefined;
  const note = (answer: Answer, describedBy: string | undefined): void => {
    const { report, endedAt } = answer;
    for (const result of report.results)
      results.set(
        resultKey({ reference: result.reference, ...(describedBy === undefined ? {} : { describedBy }) }),
        result,
      );
    const isRead = report.discovered !== undefined || report.results.some((each) => !isInspectFailure(each));
    if (isRead && (resolvedAt === undefined || endedAt > resolvedAt)) resolvedAt = endedAt;
  };

  const errand = discoveryErrand(observed);
  const answer = errand === undefined ? undefined : plan.send(errand);
  const discovery = errand === undefined ? undefined : discoveryStatus(model, errand.asked, answer);
  const isAwaited = errand !== undefined && discovery?.variants === undefined;
  const variants = effectiveVariants(model.spec, discovery).map((each) =>
    isAwaited && discovery?.failure !== undefined && each.variant.reference === undefined
      ? { ...each, failure: { reference: each.reference, ...discovery.failure } }
      : each,
  );
  if (answer?.report.discovered !== undefined)
    note(answer, variants.find(({ describedBy }) => describedBy !== undefined)?.describedBy);
  // While variants are being found, a listed one without a reference may turn out to be one of them.
  const readable = isAwaited ? variants.filter(({ variant }) => variant.reference !== undefined) : variants;
  // Found ones are pinned by digest: what is known of them stays true, and only the rest is asked for.
  const isTold = (each: EffectiveVariant): boolean => {
    const result = results.get(resultKey(each));
    return result !== undefined && !isInspectFailure(result);
  };
  const needed = readable.filter(
    (each) => each.describedBy === undefined || (!isTold(each) && knownArtifact(model, each) === undefined),
  );
  for (const group of groupsOf(needed)) {
    const question = groupQuestion(model, group);
    const references = group.map(({ reference }) => reference);
    const describedBy = group[0]?.describedBy;
    const answered = plan.send({
      references,
      ...(question === undefined ? {} : { question }),
      isKnown: group.every((each) => knownArtifact(model, each) !== undefined),
      dueMs: refreshDueMs(model, references, model.status?.source?.resolvedAt),
      isStored: (report, endedAt) =>
        (model.status?.source?.resolvedAt ?? "") >= endedAt &&
        report.results.every(
          (result) =>
            !isInspectFailure(result) &&
            knownArtifact(model, {
              reference: result.reference,
              ...(describedBy === undefined ? {} : { describedBy }),
            })?.digest === result.digest,
        ),
    });
    if (answered !== undefined) note(answered, describedBy);
  }
  return {
    create: plan.create,
    remove: observed.inspectPods.filter(({ metadata }) => !plan.kept.has(metadata.name)),
    variants,
    discovery,
    results,
    resolvedAt,
    isPending: plan.isPending,
    podFailure: plan.podFailure,
    recheckAfterMs: earliest(plan.rechecks),
  };
}
