// What a pod template says to the scheduler that no verdict compares, so that a verdict can say so. Pure.

import { isMap, listAt, mapAt, type Json, type JsonObject } from "../api/json.ts";
import type { ModelSpec } from "../api/model.ts";

const required = "requiredDuringSchedulingIgnoredDuringExecution";

/** By what a verdict calls it: whether the spec of a pod template has it. */
const parts: Readonly<Record<string, (spec: JsonObject) => boolean>> = {
  "runtimeClassName (its overhead and node selector)": ({ runtimeClassName }) =>
    (runtimeClassName ?? "") !== "",
  "required pod affinity": (spec) => listAt(spec, "affinity", "podAffinity", required).length > 0,
  "required pod anti-affinity": (spec) => listAt(spec, "affinity", "podAntiAffinity", required).length > 0,
  topologySpreadConstraints: (spec) =>
    listAt(spec, "topologySpreadConstraints").some(
      (each) => isMap(each) && each["whenUnsatisfiable"] !== "ScheduleAnyway",
    ),
  "ports of the host": (spec) =>
    spec["hostNetwork"] === true ||
    containersOf(spec).some((each) =>
      listAt(each, "ports").some((port) => Number(mapAt(port)["hostPort"] ?? 0) !== 0),
    ),
  "resourceClaims of its own": (spec) => listAt(spec, "resourceClaims").length > 0,
  "volumes with claims of their own": (spec) =>
    listAt(spec, "volumes").some((each) =>
      ["persistentVolumeClaim", "ephemeral"].some((key) => isAt(each, key)),
    ),
  schedulerName: ({ schedulerName }) => (schedulerName ?? "") !== "" && schedulerName !== "default-scheduler",
  // Pods of a lower priority would make room: no room now is too strict then.
  "priorityClassName (pods that it evicts)": ({ priorityClassName, preemptionPolicy }) =>
    (priorityClassName ?? "") !== "" && preemptionPolicy !== "Never",
  schedulingGates: (spec) => listAt(spec, "schedulingGates").length > 0,
};

const containersOf = (spec: JsonObject): readonly Json[] => [
  ...listAt(spec, "containers"),
  ...listAt(spec, "initContainers"),
];

const isAt = (value: Json, key: string): boolean => isMap(value) && isMap(value[key]);

/** What no verdict compares, in words; empty: nothing. */
export function notJudged({ template }: Pick<ModelSpec, "template">): readonly string[] {
  const spec = mapAt(template, "spec");
  return Object.entries(parts).flatMap(([name, has]) => (has(spec) ? [name] : []));
}
