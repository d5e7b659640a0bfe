// Several watches of one resource as one local copy. No decisions.

import type { ListWatch } from "../kube/list-watch.ts";
import type { KubeObject, ObjectCache, ObjectKey } from "../kube/types.ts";

/** A resource in one namespace, in several, or in all: one watch for each. */
export class Watched<T extends KubeObject> implements ObjectCache<T> {
  readonly watches: readonly ListWatch<T>[];

  constructor(watches: readonly ListWatch<T>[]) {
    this.watches = watches;
  }

  get hasSynced(): boolean {
    return this.watches.every(({ hasSynced }) => hasSynced);
  }

  get(key: ObjectKey): T | undefined {
    for (const watch of this.watches) {
      const found = watch.get(key);
      if (found !== undefined) return found;
    }
    return undefined;
  }

  list(namespace?: string): readonly T[] {
    return this.watches.flatMap((watch) => watch.list(namespace));
  }
}

/** A Watched of whatever type, as far as running it goes. */
export type AnyWatched = {
  readonly hasSynced: boolean;
  readonly watches: readonly Pick<ListWatch<KubeObject>, "run" | "synced" | "lastContactMs">[];
};
