// What spec.storage comes to in its namespace: which claim a node cache is. Pure.

import type { Model } from "../api/model.ts";
import type { Claim } from "./claim.ts";
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

/**
 * The Model as everything else sees it: `spec.storage` names its claim where it has one. Nothing of this is ever written to the
 * spec of the real one.
 * @param claims all claims of the Model's namespace
 */
export function withResolvedStorage(model: Model, claims: readonly Claim[]): Model {
  const { storage } = model.spec;
  if (storage?.type !== "NodeCache" || storage.claimName !== undefined) return model;
  const found = nodeCacheClaim(claims);
  if (found === undefined) return model;
  return { ...model, spec: { ...model.spec, storage: { ...storage, claimName: found.metadata.name } } };
}
