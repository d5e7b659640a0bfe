// The claim of a Model with the volume that it is bound to, or the class that will make one. Pure.

import { makesClaim, wantedClaimName, type Claim, type StorageClass } from "../desired/claim.ts";
import type { Model } from "../api/model.ts";
import type { ObjectCache } from "../kube/types.ts";
import type { PersistentVolume } from "./volume-nodes.ts";

/** Where claims, volumes and classes are found. */
export type VolumeSources = {
  readonly claims: Pick<ObjectCache<Claim>, "get">;
  readonly volumes: Pick<ObjectCache<PersistentVolume>, "get">;
  readonly storageClasses: Pick<ObjectCache<StorageClass>, "get" | "list">;
};

export type ClaimVolume = {
  readonly claim: Claim | undefined;
  readonly claimClass?: StorageClass;
  readonly claimVolume?: PersistentVolume;
};

const defaultClassAnnotations = [
  "storageclass.kubernetes.io/is-default-class",
  "storageclass.beta.kubernetes.io/is-default-class",
];

/** The class that the API server gives to a claim without one: of several the newest, then the first by name. */
export function defaultClass(classes: readonly StorageClass[]): StorageClass | undefined {
  const createdMs = ({ metadata }: StorageClass): number => Date.parse(metadata.creationTimestamp ?? "") || 0;
  return classes
    .filter(({ metadata: { annotations = {} } }) =>
      defaultClassAnnotations.some((each) => annotations[each] === "true"),
    )
    .sort(
      (one, other) => createdMs(other) - createdMs(one) || (one.metadata.name < other.metadata.name ? -1 : 1),
    )[0];
}

/** What is there of the Model's volume. The Model's storage is resolved: of no type Auto. */
export function claimVolumeOf(model: Model, { claims, volumes, storageClasses }: VolumeSources): ClaimVolume {
  const { namespace } = model.metadata;
  const name = wantedClaimName(model);
  if (name === undefined) return { claim: undefined };
  const claim = claims.get({ namespace, name });
  // The volume of a claim that is still to be made is tied to the topologies of the class that the claim will state, or be given.
  const spec = claim === undefined && makesClaim(model) ? (model.spec.storage ?? {}) : claim?.spec;
  const stated = spec?.storageClassName;
  const claimClass =
    spec === undefined || stated === ""
      ? undefined
      : stated === undefined
        ? defaultClass(storageClasses.list())
        : storageClasses.get({ namespace: "", name: stated });
  const volumeName = claim?.spec?.volumeName ?? "";
  const claimVolume = volumeName === "" ? undefined : volumes.get({ namespace: "", name: volumeName });
  return {
    claim,
    ...(claimClass === undefined ? {} : { claimClass }),
    ...(claimVolume === undefined ? {} : { claimVolume }),
  };
}
