// Plans all Models of a run, and what a run of several says as a whole. Pure.

import type { Model } from "../api/model.ts";
import { PlanInputError } from "./documents.ts";
import { planModel, type Plan, type PlanInput } from "./plan.ts";

/** The program's own failure on a Model: neither its input nor the cluster is to blame. */
export class PlanDefect extends Error {
  override name = "PlanDefect";
}

type GivenModel = { readonly model: Model; readonly file: string };

/** Refuses a Model that is given twice: which of the two is applied last nobody knows. All of them at once. */
export function refuseDoubles(models: readonly GivenModel[]): void {
  const byKey = Map.groupBy(models, ({ model: { metadata } }) =>
    JSON.stringify([metadata.namespace, metadata.name]),
  );
  const problems = [...byKey.values()].flatMap(([first, ...others]) => {
    if (first === undefined || others.length === 0) return [];
    const { name, namespace } = first.model.metadata;
    const files = [...new Set([first, ...others].map(({ file }) => file))].join(", ");
    return `Model ${JSON.stringify(name)} of namespace ${namespace} is given ${others.length + 1} times, by ${files}; leave all but one out`;
  });
  if (problems.length > 0) throw new PlanInputError(problems.join("\n"));
}

/** The plan of each Model; a failure names the one that it is of, with its file. */
export function planAll(
  models: readonly GivenModel[],
  common: Omit<PlanInput, "name" | "namespace" | "spec" | "status" | "current">,
  plan: (input: PlanInput) => Plan = planModel,
): readonly Plan[] {
  return models.map(({ model: { metadata, spec, status }, file }) => {
    const { name, namespace } = metadata;
    try {
      return plan({
        ...common,
        name,
        ...(namespace === undefined ? {} : { namespace }),
        ...(status === undefined ? {} : { status }),
        spec,
      });
    } catch (error) {
      const why = error instanceof Error ? error.message : "unknown failure";
      throw new PlanDefect(
        `Model ${JSON.stringify(name)} of ${file} cannot be planned, which is a defect of ocimodel: ${why}; please report it with the Model`,
        { cause: error },
      );
    }
  });
}

/** Whether each class of nodes that is given replicas has a node with room for a pod now. */
export function hasRoom({ placements }: Plan): boolean {
  return placements.every(({ replicas, freeNodes }) => replicas === 0 || freeNodes.length > 0);
}
