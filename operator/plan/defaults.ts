// What the API server adds to pods of a namespace, which no verdict counts; so that a plan can say so. Pure.

import { mapAt } from "../api/json.ts";
import type { Model } from "../api/model.ts";
import type { KubeObject } from "../kube/types.ts";

/** The parts of a scheduling.k8s.io/v1 PriorityClass that are read. */
export type PriorityClass = KubeObject & {
  readonly globalDefault?: boolean;
  readonly preemptionPolicy?: string;
};

/** What is added without being asked for; absent: not looked at. */
export type PodDefaults = {
  readonly limitRanges: readonly KubeObject[];
  readonly priorityClasses: readonly PriorityClass[];
};

/** What pods of the Model would be given besides, in words; empty: nothing. */
export function unjudgedDefaults(
  { metadata: { namespace }, spec: { template } }: Model,
  { limitRanges, priorityClasses }: PodDefaults,
): readonly string[] {
  const { priorityClassName } = mapAt(template, "spec");
  return [
    ...limitRanges
      .filter(({ metadata }) => metadata.namespace === namespace)
      .map(
        ({ metadata: { name } }) =>
          `LimitRange ${name} of namespace ${namespace} (requests and limits that it adds or refuses)`,
      ),
    ...priorityClasses
      .filter(
        ({ globalDefault, preemptionPolicy }) =>
          globalDefault === true && preemptionPolicy !== "Never" && (priorityClassName ?? "") === "",
      )
      .map(
        ({ metadata: { name } }) => `PriorityClass ${name}, the default of the cluster (pods that it evicts)`,
      ),
  ];
}
