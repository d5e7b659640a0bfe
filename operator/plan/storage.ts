// Where pods of a planned Model would keep it, and what its volume says of nodes: the operator's own functions on what was listed. Pure.

import { modelResource, type Model, type StorageType } from "../api/model.ts";
import {
  claimLabelValue,
  makesClaim,
  usesClaim,
  wantedClaimName,
  type Claim,
  type StorageClass,
} from "../desired/claim.ts";
import { claimLabel } from "../desired/names.ts";
import { chooseStorage, possibleStorage, withResolvedStorage } from "../desired/resolve-storage.ts";
import type { NodeHardware } from "../hardware/types.ts";
import type { KubeObject, ObjectKey } from "../kube/types.ts";
import { claimVolumeOf, defaultClass } from "../reconcile/claim-volume.ts";
import { canMount, storageState } from "../reconcile/claims.ts";
import { imageVolumeState } from "../reconcile/image-volume.ts";
import { imageVolume } from "../reconcile/settle-storage.ts";
import { volumeSelectors, type PersistentVolume } from "../reconcile/volume-nodes.ts";
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

type VolumeCluster = Pick<PlannedCluster, "storage" | "applied">;

/** What is there, and what is applied with the Model; of one name what is there, whose state is known. */
function together<T extends KubeObject>(there: readonly T[] = [], applied: readonly T[] = []): readonly T[] {
  const names = new Set(there.map(({ metadata }) => metadata.name));
  return [...there, ...applied.filter(({ metadata }) => !names.has(metadata.name))];
}

/** Claims of the Model's namespace. */
function claimsOf({ metadata }: Model, { storage, applied }: VolumeCluster): readonly Claim[] {
  const own = ({ metadata: { namespace } }: Claim): boolean => namespace === metadata.namespace;
  return together(storage?.claims?.filter(own), applied?.claims.filter(own));
}

const volumesOf = ({ storage, applied }: VolumeCluster): readonly PersistentVolume[] =>
  together(storage?.volumes, applied?.volumes);

const classesOf = ({ storage, applied }: VolumeCluster): readonly StorageClass[] =>
  together(storage?.classes, applied?.classes);

/** The Model as the operator would see it; see `withResolvedStorage`. */
export const resolvedModel = (model: Model, cluster: VolumeCluster): Model =>
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
  cluster: VolumeCluster,
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
  cluster: VolumeCluster,
  choice: Choice,
  nodes: readonly NodeHardware[],
): PlannedStorage {
  const { type: stated = "Ephemeral" } = model.spec.storage ?? {};
  if (stated === "ImageVolume") {
    const { status, reason, message } = imageVolumeState({ nodes }, choice);
    return { type: stated, ...(status === "False" ? { refusal: reason } : {}), message };
  }
  const resolved = resolvedModel(model, cluster);
  if (stated !== "Auto") {
    return usesClaim(resolved)
      ? { type: stated, ...judgedClaim(resolved, cluster) }
      : {
          type: stated,
          message: `${model.spec.storage === undefined ? "the default" : "as spec.storage states"}${model.spec.storage?.medium === "Memory" ? "; in RAM, which counts" : ""}`,
        };
  }
  const chosen = chooseStorage(model, possibleStorage(model, claimsOf(model, cluster)));
  const type = chosen?.type ?? "Ephemeral";
  const why =
    cluster.storage?.claims === undefined && type !== "NodeCache"
      ? "Auto, unless the namespace has a node cache, which is taken then; no claims are told"
      : (chosen?.reason ?? "nothing else is possible");
  if (!usesClaim(resolved)) return { type, message: why };
  const judged = judgedClaim(resolved, cluster);
  return { type, ...judged, message: `${why}; ${judged.message}` };
}

/** What the operator would say of the claim of a Model whose storage is resolved. */
function judgedClaim(model: Model, cluster: VolumeCluster): Omit<PlannedStorage, "type"> {
  const name = wantedClaimName(model);
  const claim = claimsOf(model, cluster).find(({ metadata }) => metadata.name === name);
  const shown = JSON.stringify(name);
  if (claim === undefined && cluster.storage?.claims === undefined && !makesClaim(model))
    return {
      message: `no claims are told, so whether ${name === undefined ? "the namespace has a node cache" : `claim ${shown} is there`} is not known; give them by --nodes`,
    };
  const observed = { model: asOwner(model, claim), claim };
  const { status, reason, message, isStalled = false } = storageState(observed);
  if (status === "False" && (isStalled || !canMount(observed))) return { refusal: reason, message };
  if (status === "True") return { message };
  const doubt = bindingDoubt(model, claim, cluster);
  if (doubt?.isNever === true) return { refusal: "PVCPending", message: doubt.message };
  const state =
    claim === undefined
      ? `the operator makes claim ${shown}`
      : cluster.storage?.claims?.includes(claim) === true
        ? message
        : `claim ${shown} is applied with the Model, and not bound yet`;
  return { message: doubt === undefined ? state : `${state}; ${doubt.message}` };
}

/** The Model with the uid of the one of its name that owns the claim: a file that is to be applied states none. Other groups may have Models too. */
function asOwner(model: Model, claim: Claim | undefined): Model {
  const owner = claim?.metadata.ownerReferences?.find(
    ({ apiVersion, kind, name }) =>
      apiVersion.startsWith(`${modelResource.group}/`) &&
      kind === modelResource.kind &&
      name === model.metadata.name,
  );
  return owner === undefined ? model : { ...model, metadata: { ...model.metadata, uid: owner.uid } };
}

type BindableVolume = PersistentVolume & {
  readonly spec?: { readonly storageClassName?: string; readonly claimRef?: unknown };
};

type ProvidingClass = StorageClass & { readonly provisioner?: string };

/**
 * Why nothing would ever be bound to a claim that is not bound, since no class makes a volume and no volume waits for it; or that nobody can
 * say that, where classes or volumes of the cluster are not told. Undefined: something would be bound.
 */
function bindingDoubt(
  model: Model,
  claim: Claim | undefined,
  cluster: VolumeCluster,
): { readonly isNever: boolean; readonly message: string } | undefined {
  const { storage } = cluster;
  const classes = classesOf(cluster);
  const volumes = volumesOf(cluster);
  if ((claim?.spec?.volumeName ?? "") !== "") return undefined;
  const stated = claim === undefined ? model.spec.storage?.storageClassName : claim.spec?.storageClassName;
  // Where nobody tells the cluster's classes, it may have a default one.
  const className =
    stated ?? defaultClass(classes)?.metadata.name ?? (storage?.classes === undefined ? undefined : "");
  const isProvided = ({ metadata, provisioner }: ProvidingClass): boolean =>
    metadata.name === className && provisioner !== "kubernetes.io/no-provisioner";
  if (classes.some(isProvided)) return undefined;
  const isFree = ({ spec }: BindableVolume): boolean =>
    (spec?.storageClassName ?? "") === className && spec?.claimRef === undefined;
  const isReserved = ({ spec }: BindableVolume): boolean => {
    const { name, namespace } = (spec?.claimRef ?? {}) as { name?: string; namespace?: string };
    return name === wantedClaimName(model) && namespace === model.metadata.namespace;
  };
  if (volumes.some((volume) => isFree(volume) || isReserved(volume))) return undefined;
  const isClassKnown =
    storage?.classes !== undefined || classes.some(({ metadata }) => metadata.name === className);
  if (!isClassKnown && stated !== "")
    return {
      isNever: false,
      message: "no storage classes are told, so whether one provides it is not known; give them by --nodes",
    };
  const names = classes.map(({ metadata }) => metadata.name);
  const there =
    names.length === 0 ? "there is none" : `there ${names.length === 1 ? "is" : "are"} ${names.join(", ")}`;
  const [why, andNone] =
    className !== undefined && names.includes(className)
      ? [`storage class ${JSON.stringify(className)} makes no volumes`, ", and no volume of it is free"]
      : stated === ""
        ? ['its class is ""', ", and no volume without a class is free"]
        : stated === undefined
          ? [`it states no storage class, and none is the default (${there})`, ""]
          : [`the cluster has no storage class ${JSON.stringify(stated)} (${there})`, ""];
  if (storage?.volumes === undefined)
    return {
      isNever: false,
      message: `${why}, and no volumes are told, so whether one waits for it is not known; give them by --nodes`,
    };
  const where = claim === undefined ? "spec.storage.storageClassName" : "storageClassName of the claim";
  return {
    isNever: true,
    message: `claim ${JSON.stringify(wantedClaimName(model))} would never be bound: ${why}${andNone}; name one that provides it in ${where}, or make it`,
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
  cluster: VolumeCluster & Pick<PlannedCluster, "pods">,
): readonly NodeSelector[] {
  const { pods = [] } = cluster;
  const name = wantedClaimName(model);
  if (name === undefined) return [];
  const found = claimVolumeOf(model, {
    claims: byKey(claimsOf(model, cluster)),
    volumes: byKey(volumesOf(cluster)),
    storageClasses: byKey(classesOf(cluster)),
  });
  // How pods share a claim that nobody tells is not known.
  if (found.claim === undefined && !makesClaim(model)) return [];
  const claimPods = pods.filter(
    ({ metadata: { namespace, labels } }) =>
      namespace === model.metadata.namespace && labels?.[claimLabel] === claimLabelValue(name),
  );
  return volumeSelectors({ ...found, model, claimPods: claimPods as readonly Pod[] });
}
