// Which changes of a status people are told of as Events: transitions only. Pure.

import type { ModelStatus, SelectedStatus } from "../api/model.ts";

export type Transition = {
  readonly type: "Normal" | "Warning";
  readonly reason: string;
  readonly message: string;
};

/** Conditions whose change is an event; Ready and Reconciling only repeat what these say. */
const told: ReadonlySet<string> = new Set([
  "SourceResolved",
  "VariantSelected",
  "StorageReady",
  "ArtifactPulled",
  "WorkloadAvailable",
]);
/** Reasons of mere progress, told by `kubectl get` already. */
const silent: ReadonlySet<string> = new Set([
  "Resolving",
  "Pulling",
  "Starting",
  "Progressing",
  "EphemeralVolume",
]);

/** Events between two statuses. */
export function transitions(before: ModelStatus | undefined, after: ModelStatus): readonly Transition[] {
  const events: Transition[] = [];
  for (const condition of after.conditions ?? []) {
    if (!told.has(condition.type) || silent.has(condition.reason)) continue;
    const previous = before?.conditions?.find(({ type }) => type === condition.type);
    if (previous?.reason === condition.reason && previous.status === condition.status) continue;
    events.push({
      type: condition.status === "False" ? "Warning" : "Normal",
      reason: condition.reason,
      message: condition.message,
    });
  }
  const [had, has] = [classesText(before), classesText(after)];
  if (had !== undefined && has !== undefined) {
    if (had !== has) {
      events.push({ type: "Normal", reason: "Selected", message: `changed from ${had} to ${has}` });
    }
    return events;
  }
  const from = before?.selected;
  const to = after.selected;
  if (from === undefined || to === undefined) return events;
  const [was, is] = [choiceText(from), choiceText(to)];
  if (was !== is) {
    events.push({ type: "Normal", reason: "Selected", message: `changed from ${was} to ${is}` });
  }
  return events;
}

/** The same variant on other devices is another choice. */
function choiceText({
  variant,
  accelerator,
  digest,
}: Pick<SelectedStatus, "variant" | "accelerator" | "digest">): string {
  return `${variant} on ${accelerator === "none" ? "CPUs" : accelerator} (${digest})`;
}

/** The variants of classes that have replicas, however many; undefined for a Uniform placement, or while there are none. */
function classesText(status: ModelStatus | undefined): string | undefined {
  const used = (status?.placements ?? []).filter(({ replicas }) => replicas > 0);
  return used.length === 0 ? undefined : used.map(choiceText).join(", ");
}
