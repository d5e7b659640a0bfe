// When a choice that was made is made again: pods that cannot be scheduled, or a better variant that has fitted for a while. Pure.

import { earliest } from "./earliest.ts";
import type { ReselectionStatus } from "../api/model.ts";
import { digestAnnotation, variantAnnotation } from "../desired/names.ts";
import { chooseVariant, passedOverKey, type SelectionInput } from "../selection/choose-variant.ts";
import type { Choice } from "../selection/types.ts";
import { parseDuration } from "./duration.ts";
import type { Observed } from "./observed.ts";

/** How long pods may be unschedulable when the spec does not say, milliseconds. */
export const defaultUnschedulableAfterMs = 600_000;
/** How long a better variant must have fitted before it is taken: nodes that come and go do not move pods, milliseconds. */
export const betterForMs = 300_000;
/** How long what could not be scheduled is not tried again while something else fits, milliseconds. */
export const passedOverForMs = 3_600_000;

export type Reselected = {
  readonly choice: Choice;
  /** For the status; undefined: nothing to be remembered. */
  readonly reselection: ReselectionStatus | undefined;
  /** A switch for a gain: new pods must serve before old ones go. */
  readonly isGain: boolean;
  readonly recheckAfterMs: number | undefined;
};

/** Since when pods of the selected variant wait for a node while none of it serves, milliseconds since 1970. */
function stuckSinceMs(observed: Observed): number | undefined {
  const selected = observed.model.status?.selected;
  if (selected === undefined) return undefined;
  const pods = observed.workloadPods.filter(
    ({ metadata: { annotations = {} } }) =>
      annotations[variantAnnotation] === selected.variant &&
      annotations[digestAnnotation] === selected.digest,
  );
  if (pods.some(({ spec }) => spec?.nodeName !== undefined)) return undefined;
  const since = pods.flatMap(({ status }) =>
    (status?.conditions ?? []).flatMap(({ type, status: value, reason, lastTransitionTime }) =>
      type === "PodScheduled" &&
      value === "False" &&
      reason === "Unschedulable" &&
      lastTransitionTime !== undefined
        ? [Date.parse(lastTransitionTime)]
        : [],
    ),
  );
  return earliest(since);
}

/** Entries that still hold. Another spec may have mended what kept pods from being scheduled. */
export function heldPassedOver({ model, nowMs }: Observed): NonNullable<ReselectionStatus["passedOver"]> {
  if (model.status?.observedGeneration !== model.metadata.generation) return [];
  return (model.status?.reselection?.passedOver ?? []).filter(
    ({ at }) => Date.parse(at) + passedOverForMs > nowMs,
  );
}

export const timeOf = (ms: number): string => `${new Date(ms).toISOString().slice(0, 19)}Z`;

/** The choice, with what runs and what was learned about it in mind. */
export function reselect(observed: Observed, base: SelectionInput): Reselected {
  const { model, nowMs } = observed;
  const { current } = base;
  const policy = base.selection.reselect ?? "WhenUnschedulable";
  const passedOver = heldPassedOver(observed);
  const input = { ...base, passedOver: new Set(passedOver.map(passedOverKey)) };
  const remembered = (more: Partial<ReselectionStatus>): ReselectionStatus | undefined => {
    const status = { ...(passedOver.length === 0 ? {} : { passedOver }), ...more };
    return Object.keys(status).length === 0 ? undefined : status;
  };
  const rechecks = passedOver.map(({ at }) => Date.parse(at) + passedOverForMs - nowMs);
  const recheck = (): number | undefined => earliest(rechecks);

  const sinceMs = current === undefined || policy === "Never" ? undefined : stuckSinceMs(observed);
  if (current !== undefined && sinceMs !== undefined) {
    const stated = base.selection.unschedulableAfter;
    const dueMs = sinceMs + (stated === undefined ? defaultUnschedulableAfterMs : parseDuration(stated));
    if (dueMs > nowMs) {
      rechecks.push(dueMs - nowMs);
    } else {
      const entry = { variant: current.variant, accelerator: current.accelerator, at: timeOf(nowMs) };
      const { current: _current, ...afresh } = input;
      const choice = chooseVariant({
        ...afresh,
        passedOver: new Set([...input.passedOver, passedOverKey(entry)]),
      });
      // What has no room either would be no better.
      if (
        choice.kind === "selected" &&
        choice.placement.freeNodes.length > 0 &&
        !isCurrent(choice, current)
      ) {
        return {
          choice,
          reselection: { passedOver: [...passedOver, entry] },
          isGain: false,
          recheckAfterMs: passedOverForMs,
        };
      }
    }
  }

  const choice = chooseVariant(input);
  const better = choice.kind === "selected" ? choice.better : undefined;
  if (policy !== "OnNodeChange" || better === undefined || !hasRoomElsewhere(observed, better.freeNodes)) {
    return { choice, reselection: remembered({}), isGain: false, recheckAfterMs: recheck() };
  }
  const before = model.status?.reselection?.better;
  const { variant, accelerator } = better;
  const since =
    before?.variant === variant && before.accelerator === accelerator ? before.since : timeOf(nowMs);
  const dueMs = Date.parse(since) + betterForMs;
  if (dueMs <= nowMs) {
    const { current: _current, ...afresh } = input;
    return {
      choice: chooseVariant(afresh),
      reselection: remembered({ isSurging: true }),
      isGain: true,
      recheckAfterMs: recheck(),
    };
  }
  rechecks.push(dueMs - nowMs);
  return {
    choice,
    reselection: remembered({ better: { variant, accelerator, since } }),
    isGain: false,
    recheckAfterMs: recheck(),
  };
}

function isCurrent(
  { candidate, placement }: Extract<Choice, { kind: "selected" }>,
  current: NonNullable<SelectionInput["current"]>,
): boolean {
  return candidate.variant.name === current.variant && placement.accelerator === current.accelerator;
}

/** Whether a new pod has room while all own pods stay where they are, so that none must go first. */
export function hasRoomElsewhere({ workloadPods }: Observed, freeNodes: readonly string[]): boolean {
  const own = new Set(workloadPods.flatMap(({ spec }) => spec?.nodeName ?? []));
  return freeNodes.some((node) => !own.has(node));
}
