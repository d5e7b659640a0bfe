// Plans all Models of a run, and what a run of several says as a whole. Pure.

import type { Model } from "../api/model.ts";
import { planModel, type Plan, type PlanInput } from "./plan.ts";

/** The program's own failure on a Model: neither its input nor the cluster is to blame. */
export class PlanDefect extends Error {
  override name = "PlanDefect";
}

/** The plan of each Model; a failure names the one that it is of, with its file. */
export function planAll(
  models: readonly { readonly model: Model; readonly file: string }[],
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
