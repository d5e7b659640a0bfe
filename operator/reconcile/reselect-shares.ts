// When replicas move between classes of nodes: away from where pods find no node, and to better hardware that has been there for a while. Pure.

import { earliest } from "./earliest.ts";
import type { ReselectionStatus } from "../api/model.ts";
import { chooseVariant, type SelectionInput } from "../selection/choose-variant.ts";
import type { Choice, Share } from "../selection/types.ts";
import { parseDuration } from "./duration.ts";
import type { Observed } from "./observed.ts";
import { placementKeyOf, unschedulableSinceMs } from "./rollout.ts";
import {
  betterForMs,
  defaultUnschedulableAfterMs,
  hasRoomElsewhere,
  heldPassedOver,
  passedOverForMs,
  timeOf,
  type Reselected,
} from "./reselect.ts";

type PassedOver = NonNullable<ReselectionStatus["passedOver"]>;
type Selected = Extract<Choice, { kind: "selected" }>;

/** The choice by classes of nodes, with what runs and what was learned about it in mind. */
export function reselectShares(observed: Observed, base: SelectionInput): Reselected {
  const { nowMs } = observed;
  const { current: _current, ...input } = base;
  const policy = base.selection.reselect ?? "WhenUnschedulable";
  const running = base.currentShares ?? new Map();
  const rechecks: number[] = [];
  let passedOver = heldPassedOver(observed);
  let choice = chooseVariant(limited(observed, input, passedOver));
  for (const { key, variant, accelerator } of observed.model.status?.placements ?? []) {
    const sinceMs = policy === "Never" || !running.has(key) ? undefined : stuckSinceMs(observed, key);
    if (sinceMs === undefined) continue;
    const stated = base.selection.unschedulableAfter;
    const dueMs = sinceMs + (stated === undefined ? defaultUnschedulableAfterMs : parseDuration(stated));
    if (dueMs > nowMs) {
      rechecks.push(dueMs - nowMs);
      continue;
    }
    if (passedOver.some(({ placement }) => placement === key)) continue;
    const more = [...passedOver, { variant, accelerator, placement: key, at: timeOf(nowMs) }];
    const without = chooseVariant(limited(observed, input, more));
    // Where others have no room either, waiting there is no better.
    if (without.kind !== "selected" || choice.kind !== "selected" || !hasRoomForMoves(choice, without))
      continue;
    choice = without;
    passedOver = more;
  }
  rechecks.push(...passedOver.map(({ at }) => Date.parse(at) + passedOverForMs - nowMs));
  const better = policy === "OnNodeChange" ? gain(observed, input, passedOver, choice) : undefined;
  const since = better === undefined ? undefined : sinceOf(observed, better.to);
  const dueMs = since === undefined ? undefined : Date.parse(since) + betterForMs;
  const isGain = dueMs !== undefined && dueMs <= nowMs;
  if (dueMs !== undefined && !isGain) rechecks.push(dueMs - nowMs);
  const status: ReselectionStatus = {
    ...(better === undefined || since === undefined || isGain
      ? {}
      : {
          better: {
            variant: better.to.candidate.variant.name,
            accelerator: better.to.placement.accelerator,
            since,
          },
        }),
    ...(passedOver.length === 0 ? {} : { passedOver }),
    ...(isGain ? { isSurging: true } : {}),
  };
  return {
    choice: isGain && better !== undefined ? better.choice : choice,
    reselection: Object.keys(status).length === 0 ? undefined : status,
    isGain,
    recheckAfterMs: earliest(rechecks),
  };
}

/** The input with classes whose pods found no node held at the pods that have one. */
function limited({ workloadPods }: Observed, input: SelectionInput, passedOver: PassedOver): SelectionInput {
  const shares = new Map(input.currentShares);
  for (const { placement: key } of passedOver) {
    if (key === undefined) continue;
    const most = workloadPods.filter(
      (pod) => placementKeyOf(pod) === key && pod.spec?.nodeName !== undefined,
    ).length;
    shares.set(key, { replicas: 0, ...shares.get(key), most });
  }
  return { ...input, currentShares: shares };
}

/** Since when a pod of the class finds no node, milliseconds since 1970. */
function stuckSinceMs({ workloadPods }: Observed, key: string): number | undefined {
  const since = workloadPods.flatMap((pod) =>
    placementKeyOf(pod) === key ? (unschedulableSinceMs(pod) ?? []) : [],
  );
  return earliest(since);
}

const replicasOf = ({ shares }: Selected, key: string): number =>
  shares.find((share) => share.key === key)?.replicas ?? 0;

/** Whether some replicas go elsewhere, and all of them have room there. */
function hasRoomForMoves(before: Selected, after: Selected): boolean {
  const grown = after.shares.filter(({ key, replicas }) => replicas > replicasOf(before, key));
  return grown.length > 0 && grown.every(({ replicas, capacity = 0 }) => replicas <= capacity);
}

/** A division made afresh, where it gives better classes more and has room now; undefined: what runs is as good. */
function gain(
  observed: Observed,
  { currentShares: _running, ...input }: SelectionInput,
  passedOver: PassedOver,
  kept: Choice,
): { readonly choice: Selected; readonly to: Share } | undefined {
  const choice = chooseVariant(limited(observed, input, passedOver));
  if (choice.kind !== "selected" || kept.kind !== "selected") return undefined;
  let ahead = 0;
  let to: Share | undefined;
  // Classes are in the order of preference: of the best ones together none may lose.
  for (const share of choice.shares) {
    const more = share.replicas - replicasOf(kept, share.key);
    ahead += more;
    if (ahead < 0) return undefined;
    if (more > 0) to ??= share;
  }
  // What merely spreads evenly over the same classes is no gain, nor what has no room before others go.
  return to !== undefined && isAhead(choice, kept) && hasRoomElsewhere(observed, to.placement.freeNodes)
    ? { choice, to }
    : undefined;
}

/** Whether some class of a lower place, or none at all any more, has fewer. */
function isAhead(choice: Selected, kept: Selected): boolean {
  const place = (key: string): number => {
    const found = choice.shares.findIndex((share) => share.key === key);
    return found === -1 ? choice.shares.length : found;
  };
  const grown = choice.shares.filter(({ key, replicas }) => replicas > replicasOf(kept, key));
  const best = Math.min(...grown.map(({ key }) => place(key)));
  return kept.shares.some(({ key, replicas }) => replicas > replicasOf(choice, key) && place(key) > best);
}

/** Since when the same gain is to be had. */
function sinceOf({ model, nowMs }: Observed, { candidate, placement }: Share): string {
  const before = model.status?.reselection?.better;
  return before?.variant === candidate.variant.name && before.accelerator === placement.accelerator
    ? before.since
    : timeOf(nowMs);
}
