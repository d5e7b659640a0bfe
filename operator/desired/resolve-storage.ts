// What spec.storage comes to in its namespace: which type Auto is, and which claim a node cache is. Pure.

import type { Model, StorageSpec, StorageType } from "../api/model.ts";
import { wantedClaimName, type Claim } from "./claim.ts";
import { nodeCacheLabel } from "./names.ts";

/** The claim of a namespace that is labelled as its node cache: the first by name of those that are not being deleted. */
export function nodeCacheClaim(claims: readonly Claim[]): Claim | undefined {
  return claims
    .filter(
      ({ metadata }) =>
        metadata.labels?.[nodeCacheLabel] === "true" && metadata.deletionTimestamp === undefined,
    )
    .sort((one, other) => (one.metadata.name < other.metadata.name ? -1 : 1))[0];
}

/** What type Auto came to, and why. */
export type AutoChoice = { readonly type: StorageType; readonly reason: string };

type Rule = (storage: StorageSpec, claims: readonly Claim[]) => AutoChoice | undefined;

/**
 * In this order; the first that applies is taken. Each says itself whether it applies, so that a further type is one more rule.
 * ImageVolume goes before all of them, where it is possible: that is known only when a variant was selected.
 */
const rules: readonly Rule[] = [
  (_storage, claims) => {
    const claim = nodeCacheClaim(claims);
    return claim === undefined
      ? undefined
      : {
          type: "NodeCache",
          reason: `claim ${JSON.stringify(claim.metadata.name)} is the namespace's node cache`,
        };
  },
  ({ storageClassName, accessModes = [] }) =>
    storageClassName !== undefined && accessModes.includes("ReadWriteMany")
      ? {
          type: "PersistentVolumeClaim",
          reason: `class ${JSON.stringify(storageClassName)} is stated, with ReadWriteMany`,
        }
      : undefined,
  () => ({
    type: "Ephemeral",
    reason: "the namespace has no node cache, and no storage class with ReadWriteMany is stated",
  }),
];

/** What type Auto may come to with the claims of the namespace, the best first; empty for every other type. */
export function possibleStorage({ spec }: Model, claims: readonly Claim[]): readonly AutoChoice[] {
  const { storage } = spec;
  return storage?.type === "Auto" ? rules.flatMap((rule) => rule(storage, claims) ?? []) : [];
}

/**
 * Which of what is possible is taken: the first. What was taken for pods that are there is kept as long as it is possible and
 * replicas are wanted, since another type would restart all of them; a claim is kept without replicas too.
 */
export function chooseStorage(
  { spec, status }: Model,
  possible: readonly AutoChoice[],
): AutoChoice | undefined {
  const before = possible.find(({ type }) => type === status?.storage?.type);
  // Before a variant was selected no pod was made. A claim goes with the type that it was made for, and the model with the claim.
  const isKept =
    status?.selected !== undefined && (spec.replicas !== 0 || before?.type === "PersistentVolumeClaim");
  return (isKept ? before : undefined) ?? possible[0];
}

/** The fields that are for the chosen type; the others were stated for the case that another one is chosen. */
function storageOf(type: StorageType, storage: StorageSpec): StorageSpec {
  const { size, storageClassName, accessModes, retention, prefetch } = storage;
  switch (type) {
    case "NodeCache":
      return { type, ...(prefetch === undefined ? {} : { prefetch }) };
    case "PersistentVolumeClaim":
      return {
        type,
        ...(size === undefined ? {} : { size }),
        ...(storageClassName === undefined ? {} : { storageClassName }),
        ...(accessModes === undefined ? {} : { accessModes }),
        ...(retention === undefined ? {} : { retention }),
      };
    case "Ephemeral":
    case "ImageVolume":
      return { type, ...(size === undefined ? {} : { size }) };
  }
}

/**
 * The Model as everything else sees it: `spec.storage` is of no type Auto, and names its claim where it has one. Nothing of this is
 * ever written to the spec of the real one.
 * @param claims all claims of the Model's namespace
 */
export function withResolvedStorage(model: Model, claims: readonly Claim[]): Model {
  const chosen = chooseStorage(model, possibleStorage(model, claims));
  const stated = model.spec.storage;
  const storage = chosen === undefined || stated === undefined ? stated : storageOf(chosen.type, stated);
  const isNamed = storage?.type !== "NodeCache" || storage.claimName !== undefined;
  const found = isNamed ? undefined : nodeCacheClaim(claims);
  if (storage === undefined || (storage === stated && found === undefined)) return model;
  return {
    ...model,
    spec: {
      ...model.spec,
      storage: found === undefined ? storage : { ...storage, claimName: found.metadata.name },
    },
  };
}

/** The claim that a Model uses; undefined where it uses none, and where its type Auto has come to an image volume. */
export function usedClaimName(model: Model, claims: readonly Claim[]): string | undefined {
  const { spec, status } = model;
  // What it left in a claim before is in nobody's use.
  if (spec.storage?.type === "Auto" && status?.storage?.type === "ImageVolume") return undefined;
  return wantedClaimName(withResolvedStorage(model, claims));
}
