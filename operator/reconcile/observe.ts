// Takes one snapshot for a Model: from the local copies of the API server's objects, and from what its pullers have told.

import type { PullProgress } from "../../puller/contract.ts";
import type { Model } from "../api/model.ts";
import type { OperatorConfiguration } from "../configuration.ts";
import { claimLabelValue, wantedClaimName, type Claim, type StorageClass } from "../desired/claim.ts";
import {
  chooseStorage,
  possibleStorage,
  usedClaimName,
  withResolvedStorage,
} from "../desired/resolve-storage.ts";
import {
  claimLabel,
  componentLabel,
  modelNameLabel,
  pullContainerName,
  serviceName,
} from "../desired/names.ts";
import type { NodeHardware } from "../hardware/types.ts";
import type { KubeObject, ObjectCache, ObjectKey } from "../kube/types.ts";
import { claimVolumeOf } from "./claim-volume.ts";
import type { NodeCacheState, Observed } from "./observed.ts";
import type { PersistentVolume } from "./volume-nodes.ts";
import type { DaemonSet, Deployment, Pod } from "./workload-types.ts";

/** Everything that observing needs. */
export type World = {
  readonly configuration: OperatorConfiguration;
  readonly models: ObjectCache<Model>;
  /** Nodes as the Model sees them: what its own pods take is free for it. */
  readonly hardware: (model: ObjectKey) => readonly NodeHardware[];
  readonly deployments: ObjectCache<Deployment>;
  readonly claimTemplates: ObjectCache<KubeObject>;
  readonly services: ObjectCache<KubeObject>;
  readonly pods: ObjectCache<Pod>;
  readonly claims: ObjectCache<Claim>;
  readonly volumes: Pick<ObjectCache<PersistentVolume>, "get">;
  readonly storageClasses: Pick<ObjectCache<StorageClass>, "get" | "list">;
  /** The DaemonSet of the node caches; empty where there is none. */
  readonly daemonSets: Pick<ObjectCache<DaemonSet>, "get">;
  /** What the puller of a pod has told last; undefined when it has told nothing yet. */
  readonly progress: (pod: Pod, model: ObjectKey) => PullProgress | undefined;
  readonly nowMs: () => number;
};

/** Pullers that are asked of one Model; with more replicas the first ones speak for all. */
const maxAskedPods = 8;

/** How far the chart's node cache is; undefined where the Model uses none, or an administrator's own. */
function nodeCacheState(model: Model, { configuration, daemonSets }: World): NodeCacheState | undefined {
  const { nodeCache } = configuration;
  if (model.spec.storage?.type !== "NodeCache" || nodeCache === undefined) return undefined;
  if (!nodeCache.namespaces.includes(model.metadata.namespace)) return undefined;
  const { namespace, daemonSet: name } = nodeCache;
  const status = daemonSets.get({ namespace, name })?.status;
  return {
    daemonSet: `${namespace}/${name}`,
    nodes: status?.desiredNumberScheduled ?? 0,
    ready: status?.numberReady ?? 0,
  };
}

/** The snapshot, or undefined when the Model is gone or going: then its owner references do the rest. */
export function observe(key: ObjectKey, world: World): Observed | undefined {
  const stated = world.models.get(key);
  if (stated === undefined || stated.metadata.deletionTimestamp !== undefined) return undefined;
  const claims = world.claims.list(key.namespace);
  const model = withResolvedStorage(stated, claims);
  const labelled = world.pods
    .list(key.namespace)
    .filter(({ metadata }) => metadata.labels?.[modelNameLabel] === key.name);
  const pods = labelled.filter(({ metadata }) => metadata.deletionTimestamp === undefined);
  const workloadPods = pods.filter(({ metadata }) => metadata.labels?.[componentLabel] === "server");
  // Anybody may write labels: what the operator deletes is its own by owner too.
  const ownPods = (component: string): readonly Pod[] =>
    pods.filter(
      ({ metadata }) =>
        metadata.labels?.[componentLabel] === component &&
        (metadata.ownerReferences ?? []).some(({ uid }) => uid === model.metadata.uid),
    );
  const leaving = (component: string): readonly Pod[] =>
    labelled.filter(
      ({ metadata }) =>
        metadata.deletionTimestamp !== undefined && metadata.labels?.[componentLabel] === component,
    );
  const pulling = workloadPods
    .filter(
      ({ status }) =>
        status?.podIP !== undefined &&
        status.initContainerStatuses?.some(
          ({ name, state }) => name === pullContainerName && state?.running !== undefined,
        ) === true,
    )
    .slice(0, maxAskedPods);
  const claim = wantedClaimName(model);
  const nodeCache = nodeCacheState(model, world);
  const possible = possibleStorage(stated, claims);
  const chosen = chooseStorage(stated, possible);
  return {
    model,
    configuration: world.configuration,
    nodes: world.hardware(key),
    deployments: world.deployments
      .list(key.namespace)
      .filter(({ metadata }) => metadata.labels?.[modelNameLabel] === key.name),
    claimTemplates: world.claimTemplates
      .list(key.namespace)
      .filter(({ metadata }) => metadata.labels?.[modelNameLabel] === key.name),
    service: world.services.get({ namespace: key.namespace, name: serviceName(model) }),
    ...claimVolumeOf(model, world),
    ...(chosen === undefined ? {} : { autoStorage: { chosen, possible } }),
    ...(nodeCache === undefined ? {} : { nodeCache }),
    ownedClaims: claims.filter(({ metadata }) =>
      metadata.ownerReferences?.some(({ uid }) => uid === model.metadata.uid),
    ),
    claimPods:
      claim === undefined
        ? []
        : world.pods
            .list(key.namespace)
            .filter(({ metadata }) => metadata.labels?.[claimLabel] === claimLabelValue(claim)),
    claimModels:
      claim === undefined
        ? []
        : world.models.list(key.namespace).filter((each) => usedClaimName(each, claims) === claim),
    collectPods: ownPods("collect"),
    prefetchPods: ownPods("prefetch"),
    workloadPods,
    inspectPods: ownPods("inspect"),
    leavingPods: leaving("inspect").map(({ metadata }) => metadata.name),
    leavingNodes: leaving("server").flatMap(({ spec }) => spec?.nodeName ?? []),
    progress: new Map(
      pulling.flatMap((pod) => {
        const progress = world.progress(pod, key);
        return progress === undefined ? [] : [[pod.metadata.uid ?? "", progress] as const];
      }),
    ),
    nowMs: world.nowMs(),
  };
}
