// The classes of nodes of a placement PerHardware in the status, and what of them is remembered for the next decision. Pure.

import type { Model, PlacementStatus, SelectedStatus } from "../api/model.ts";
import { digestAnnotation, variantAnnotation } from "../desired/names.ts";
import type { RunningShare } from "../selection/per-hardware.ts";
import type { Choice } from "../selection/types.ts";
import type { Observed } from "./observed.ts";
import { ownDeployments, placementKeyOf } from "./rollout.ts";
import type { WorkloadPart } from "./workload-state.ts";

export function isPerHardware({ spec }: Model): boolean {
  return spec.selection?.placement === "PerHardware";
}

/** What each class was given last, by its key; nothing for a Uniform placement. */
export function runningShares(model: Model): ReadonlyMap<string, RunningShare> {
  const placements = isPerHardware(model) ? (model.status?.placements ?? []) : [];
  return new Map(
    placements
      .filter(({ replicas }) => replicas > 0)
      .map(({ key, replicas, contextLength }) => [key, { replicas, contextLength }]),
  );
}

/**
 * The classes, best first, then those that are over and still serve. Undefined for a Uniform placement. Without a new choice what was
 * chosen last stays.
 */
export function placementStatuses(
  observed: Observed,
  choice: Choice | undefined,
): readonly PlacementStatus[] | undefined {
  const { model } = observed;
  if (!isPerHardware(model)) return undefined;
  const before = model.status?.placements ?? [];
  const own = ownDeployments(observed);
  const readyOf = (key: string): number =>
    own.find((each) => placementKeyOf(each) === key)?.status?.readyReplicas ?? 0;
  const chosen =
    choice?.kind === "selected"
      ? choice.shares.map(({ key, candidate, placement, replicas, nodes }) => ({
          key,
          variant: candidate.variant.name,
          digest: candidate.artifact.digest,
          sizeBytes: candidate.artifact.sizeBytes,
          accelerator: placement.accelerator,
          contextLength: placement.footprint.contextLength,
          replicas,
          nodes: nodes.length,
        }))
      : before;
  const over = own.flatMap((deployment) => {
    const key = placementKeyOf(deployment);
    const { annotations = {} } = deployment.spec?.template?.metadata ?? {};
    const known = before.find((each) => each.key === key);
    if (chosen.some((each) => each.key === key)) return [];
    return [
      {
        key,
        variant: known?.variant ?? annotations[variantAnnotation] ?? "",
        digest: known?.digest ?? annotations[digestAnnotation] ?? "",
        sizeBytes: known?.sizeBytes ?? 0,
        accelerator: known?.accelerator ?? ("none" as const),
        contextLength: known?.contextLength ?? 0,
        replicas: 0,
        nodes: 0,
      },
    ];
  });
  return [...chosen, ...over].map((each) => ({ ...each, readyReplicas: readyOf(each.key) }));
}

/** The Deployments that are to be. */
export function workloadParts(
  model: Model,
  { digest, sizeBytes }: SelectedStatus,
  placements: readonly PlacementStatus[] | undefined,
): readonly WorkloadPart[] {
  if (placements === undefined) return [{ key: "", digest, sizeBytes, replicas: model.spec.replicas ?? 1 }];
  return placements.filter(({ replicas }) => replicas > 0);
}

/** For the printer column: the variant, or each with its replicas. */
export function chosenText(
  { variant }: SelectedStatus,
  placements: readonly PlacementStatus[] | undefined,
): string {
  const counts = new Map<string, number>();
  for (const each of placements ?? []) {
    if (each.replicas > 0) counts.set(each.variant, (counts.get(each.variant) ?? 0) + each.replicas);
  }
  return counts.size < 2 ? variant : [...counts].map(([name, replicas]) => `${name}=${replicas}`).join(",");
}
