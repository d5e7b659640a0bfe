// Types of the Kubernetes transport: objects as plain JSON, resources, and the port that the reconciler uses. Knows no Model.

/** Metadata as JSON from the API server (timestamps stay strings). Unknown fields pass through untouched. */
export type ObjectMeta = {
  readonly name: string;
  readonly namespace?: string;
  readonly uid?: string;
  readonly resourceVersion?: string;
  readonly generation?: number;
  readonly creationTimestamp?: string;
  readonly deletionTimestamp?: string;
  readonly labels?: Readonly<Record<string, string>>;
  readonly annotations?: Readonly<Record<string, string>>;
  readonly ownerReferences?: readonly OwnerReference[];
  readonly finalizers?: readonly string[];
};

/** An owner reference; the garbage collector deletes the object with its owner. */
export type OwnerReference = {
  readonly apiVersion: string;
  readonly kind: string;
  readonly name: string;
  readonly uid: string;
  readonly controller?: boolean;
  readonly blockOwnerDeletion?: boolean;
};

/** Any object of the API. */
export type KubeObject = {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: ObjectMeta;
};

/** How a type is reached: `/apis/<group>/<version>/[namespaces/<ns>/]<plural>`; group "" is the core group. */
export type Resource = {
  readonly group: string;
  readonly version: string;
  readonly kind: string;
  readonly plural: string;
  readonly namespaced: boolean;
};

/** Name of an object; `namespace` is "" for cluster-scoped ones. */
export type ObjectKey = { readonly namespace: string; readonly name: string };

/** Only this very object, in this very state, is deleted. */
export type DeletePreconditions = { readonly uid: string; readonly resourceVersion?: string };

/** What a reconciler asks of the API server. Failures are KubeError. */
export interface Kube {
  get<T extends KubeObject>(resource: Resource, key: ObjectKey, signal: AbortSignal): Promise<T | undefined>;
  /** Server-side apply with the operator's one field manager and force. */
  apply<T extends KubeObject>(resource: Resource, object: KubeObject, signal: AbortSignal): Promise<T>;
  /** Server-side apply on the status subresource; with `metadata.resourceVersion` in the object it fails with a conflict if stale. */
  applyStatus<T extends KubeObject>(resource: Resource, object: KubeObject, signal: AbortSignal): Promise<T>;
  /** Creates; undefined when an object of that name is there already. */
  create<T extends KubeObject>(
    resource: Resource,
    object: KubeObject,
    signal: AbortSignal,
  ): Promise<T | undefined>;
  /** Deletes in the background; false when it was gone or is another one by now (precondition). */
  delete(
    resource: Resource,
    key: ObjectKey,
    preconditions: DeletePreconditions,
    signal: AbortSignal,
  ): Promise<boolean>;
}

/** A local copy of all objects of a resource, kept by list and watch. */
export interface ObjectCache<T extends KubeObject> {
  /** True once the first list is in; false again never. */
  readonly hasSynced: boolean;
  get(key: ObjectKey): T | undefined;
  list(namespace?: string): readonly T[];
}

/** What changed; a receiver must not branch on anything but the key. */
export type CacheChange<T extends KubeObject> = { readonly before?: T; readonly after?: T };
