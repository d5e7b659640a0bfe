// Where pods of a planned Model would keep it, and what its volume says of nodes: the operator's own functions on what was listed. Pure.

import type { Model, StorageType } from "../api/model.ts";
import { claimLabelValue, wantedClaimName, type Claim } from "../desired/claim.ts";
import { claimLabel } from "../desired/names.ts";
import { chooseStorage, possibleStorage, withResolvedStorage } from "../desired/resolve-storage.ts";
import type { NodeHardware } from "../hardware/types.ts";
import type { KubeObject, ObjectKey } from "../kube/types.ts";
import { claimVolumeOf } from "../reconcile/claim-volume.ts";
import { imageVolumeState } from "../reconcile/image-volume.ts";
import { imageVolume } from "../reconcile/settle-storage.ts";
import { volumeSelectors } from "../reconcile/volume-nodes.ts";
import type { Pod } from "../reconcile/workload-types.ts";
import type { NodeSelector } from "../selection/node-selector.ts";
import type { Choice } from "../selection/types.ts";
import type { PlannedCluster } from "./plan.ts";

export type PlannedStorage = {
  readonly type: StorageType;
  /** A reason of the condition StorageReady; absent where nothing is in the way. */
  readonly refusal?: string;
  /** Why this type, or why it is refused. */
  readonly message: string;
};

const claimsOf = ({ metadata }: Model, { storage }: Pick<PlannedCluster, "storage">): readonly Claim[] =>
  (storage?.claims ?? []).filter(({ metadata: { namespace } }) => namespace === metadata.namespace);

/** The Model as the operator would see it; see `withResolvedStorage`. */
export const resolvedModel = (model: Model, cluster: Pick<PlannedCluster, "storage">): Model =>
  withResolvedStorage(model, claimsOf(model, cluster));

/** The Model as for an image volume, where its type Auto may come to that; undefined where it may not. */
export function asImageVolume(model: Model): Model | undefined {
  const { storage, puller: { include = [], exclude = [] } = {} } = model.spec;
  const isWhole = include.length === 0 && exclude.length === 0 && storage?.prefetch === undefined;
  return storage?.type === "Auto" && isWhole
    ? { ...model, spec: { ...model.spec, storage: { type: "ImageVolume" } } }
    : undefined;
}

/** What Auto comes to where the choice is one for an image volume; undefined: not that. */
export function plannedImageVolume(
  model: Model,
  cluster: Pick<PlannedCluster, "storage">,
  choice: Choice,
  nodes: readonly NodeHardware[],
): PlannedStorage | undefined {
  if (imageVolumeState({ nodes }, choice).status !== "True") return undefined;
  const chosen = chooseStorage(model, [imageVolume, ...possibleStorage(model, claimsOf(model, cluster))]);
  return chosen?.type === "ImageVolume" ? { type: chosen.type, message: chosen.reason } : undefined;
}

/** What the operator would make of `spec.storage` for a choice, where it is no image volume of type Auto. */
export function planStorage(
  model: Model,
  cluster: Pick<PlannedCluster, "storage">,
  choice: Choice,
  nodes: readonly NodeHardware[],
): PlannedStorage {
  const stated = model.spec.storage?.type ?? "Ephemeral";
  if (stated === "ImageVolume") {
    const { status, reason, message } = imageVolumeState({ nodes }, choice);
    return { type: stated, ...(status === "False" ? { refusal: reason } : {}), message };
  }
  const unseen = "claims and volumes are not looked at";
  const isSeen = cluster.storage !== undefined;
  if (stated !== "Auto")
    return {
      type: stated,
      message: `as spec.storage states${isSeen || stated === "Ephemeral" ? "" : `; ${unseen}`}`,
    };
  const chosen = chooseStorage(model, possibleStorage(model, claimsOf(model, cluster)));
  return {
    type: chosen?.type ?? "Ephemeral",
    message: isSeen
      ? (chosen?.reason ?? "nothing else is possible")
      : `Auto, unless the namespace has a node cache, which is taken then; ${unseen}`,
  };
}

const byKey = <T extends KubeObject>(objects: readonly T[]) => ({
  get: ({ namespace, name }: ObjectKey): T | undefined =>
    objects.find(
      ({ metadata }) => metadata.name === name && (namespace === "" || metadata.namespace === namespace),
    ),
  list: (): readonly T[] => objects,
});

/** What the volume of the Model, whose storage is resolved, says of nodes; nothing where nobody has listed any. */
export function plannedVolumeSelectors(
  model: Model,
  { storage, pods = [] }: Pick<PlannedCluster, "storage" | "pods">,
): readonly NodeSelector[] {
  const name = wantedClaimName(model);
  if (storage === undefined || name === undefined) return [];
  const found = claimVolumeOf(model, {
    claims: byKey(storage.claims),
    volumes: byKey(storage.volumes),
    storageClasses: byKey(storage.classes),
  });
  const claimPods = pods.filter(
    ({ metadata: { namespace, labels } }) =>
      namespace === model.metadata.namespace && labels?.[claimLabel] === claimLabelValue(name),
  );
  return volumeSelectors({ ...found, model, claimPods: claimPods as readonly Pod[] });
}
