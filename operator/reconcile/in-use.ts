// Which models the node caches must keep: for each namespace with one, what its pods have mounted and its Models selected. Pure.

import type { Model } from "../api/model.ts";
import { claimLabelValue, type Claim } from "../desired/claim.ts";
import { claimLabel } from "../desired/names.ts";
import { nodeCacheClaim, usedClaimName } from "../desired/resolve-storage.ts";
import type { ObjectCache } from "../kube/types.ts";
import { modelsInUse } from "./collection.ts";
import type { Pod } from "./workload-types.ts";

/** Directory names by namespace; a namespace whose cache is not known is left out, and there everything stays. */
export type InUseLists = ReadonlyMap<string, readonly string[]>;

export type InUseInput = {
  /** Namespaces with a cache. */
  readonly namespaces: readonly string[];
  readonly claims: Pick<ObjectCache<Claim>, "list">;
  readonly models: Pick<ObjectCache<Model>, "list">;
  readonly pods: Pick<ObjectCache<Pod>, "list">;
};

/** The lists as the local copies have it, sorted. Pods that are being deleted count: they read until they are gone. */
export function inUseLists({ namespaces, claims, models, pods }: InUseInput): InUseLists {
  const lists = new Map<string, readonly string[]>();
  for (const namespace of namespaces) {
    const claimsThere = claims.list(namespace);
    const claim = nodeCacheClaim(claimsThere)?.metadata.name;
    if (claim === undefined) continue;
    const value = claimLabelValue(claim);
    lists.set(
      namespace,
      modelsInUse({
        claimPods: pods.list(namespace).filter(({ metadata }) => metadata.labels?.[claimLabel] === value),
        claimModels: models.list(namespace).filter((model) => usedClaimName(model, claimsThere) === claim),
      }),
    );
  }
  return lists;
}

/** A model that is about to be used, although neither a pod nor a status says so yet. */
export type Hold = { readonly namespace: string; readonly directory: string; readonly untilMs: number };

/** What is written: the lists and the holds that still count, as lines by namespace. */
export function inUseData(
  lists: InUseLists,
  holds: readonly Hold[],
  nowMs: number,
): Readonly<Record<string, string>> {
  const data: Record<string, string> = {};
  for (const [namespace, names] of lists) {
    const held = holds.filter((hold) => hold.namespace === namespace && hold.untilMs > nowMs);
    const all = new Set([...names, ...held.map(({ directory }) => directory)]);
    data[namespace] = [...all]
      .sort()
      .map((name) => `${name}\n`)
      .join("");
  }
  return data;
}
