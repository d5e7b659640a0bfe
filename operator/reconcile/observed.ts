// One snapshot of everything a decision may depend on. Data only; observe.ts takes it.

import type { PullProgress } from "../../puller/contract.ts";
import type { Model } from "../api/model.ts";
import type { OperatorConfiguration } from "../configuration.ts";
import type { Claim, StorageClass } from "../desired/claim.ts";
import type { AutoChoice } from "../desired/resolve-storage.ts";
import type { NodeHardware } from "../hardware/types.ts";
import type { KubeObject } from "../kube/types.ts";
import type { PersistentVolume } from "./volume-nodes.ts";
import type { Deployment, Pod } from "./workload-types.ts";

export type NodeCacheState = {
  /** `namespace/name` of the DaemonSet that prepares it. */
  readonly daemonSet: string;
  readonly nodes: number;
  readonly ready: number;
};

export type Observed = {
  readonly model: Model;
  readonly configuration: OperatorConfiguration;
  readonly nodes: readonly NodeHardware[];
  /** Deployments with the labels of this Model, whoever owns them. */
  readonly deployments: readonly Deployment[];
  /** ResourceClaimTemplates with the labels of this Model; none where the API server has no such. */
  readonly claimTemplates?: readonly KubeObject[];
  readonly service: KubeObject | undefined;
  /** The claim that the spec names or that the operator makes; undefined: there is none, or none is used. */
  readonly claim: Claim | undefined;
  /** What storage type Auto came to, and all that it may come to, ImageVolume apart; the Model here has the chosen type. */
  readonly autoStorage?: { readonly chosen: AutoChoice; readonly possible: readonly AutoChoice[] };
  /** Class of the claim, where it has one and the operator knows it. */
  readonly claimClass?: StorageClass;
  /** The volume that the claim is bound to. */
  readonly claimVolume?: PersistentVolume;
  /** Of a NodeCache that the chart made: how many nodes it is on, and on how many its directory is ready. */
  readonly nodeCache?: NodeCacheState;
  /** All claims that this very Model owns. */
  readonly ownedClaims: readonly Claim[];
  /** Pods of the workload, not being deleted. */
  readonly workloadPods: readonly Pod[];
  /** Inspect pods of this Model, not being deleted. */
  readonly inspectPods: readonly Pod[];
  /** Names of inspect pods that are being deleted: on a node that is lost, for as long as nobody removes the node. */
  readonly leavingPods?: readonly string[];
  /** Nodes on which server pods of this Model are being deleted, and hold what they hold until they are gone. */
  readonly leavingNodes?: readonly string[];
  /** Pods of any Model that have the claim mounted, also those that are being deleted. */
  readonly claimPods: readonly Pod[];
  /** Models that use the claim. */
  readonly claimModels: readonly Model[];
  /** Pods of this Model that clear the claim, not being deleted. */
  readonly collectPods: readonly Pod[];
  /** Pods of this Model that prefetch, not being deleted. */
  readonly prefetchPods: readonly Pod[];
  /** What pullers answered on their progress port, by pod uid. */
  readonly progress: ReadonlyMap<string, PullProgress>;
  /** Milliseconds since 1970. */
  readonly nowMs: number;
};
