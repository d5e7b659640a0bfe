// The Model resource as TypeScript: equal to crds/ by test. Plain readonly data; defaults of the schema are already filled in.

import type {
  ArchitectureFacts,
  DiscoveredVariant,
  FailureCode,
  ModelFormat,
  Packaging,
} from "../../puller/contract.ts";
import type { KubeObject, ObjectMeta, Resource } from "../kube/types.ts";
import type { Condition } from "./conditions.ts";
import type { JsonObject } from "./json.ts";

/** Passed through to the pod as Kubernetes knows it. */
export type { Json, JsonObject } from "./json.ts";

export const modelResource: Resource = {
  group: "ocimodel.dev",
  version: "v1alpha1",
  kind: "Model",
  plural: "models",
  namespaced: true,
};

export type LocalObjectReference = { readonly name: string };
export type ConfigMapKeyReference = { readonly name: string; readonly key: string };

/** `image: URL` pairs tried before the registry itself. */
export type Mirror = { readonly host: string; readonly url: string };

export type ModelSource = {
  /** `registry/repository[:tag][@digest]`; variants may be relative to it (`:q4`, `@sha256:…`). */
  readonly reference: string;
  readonly pullSecrets?: readonly LocalObjectReference[];
  readonly tls?: {
    readonly caBundle?: { readonly configMap: ConfigMapKeyReference };
    readonly plainHTTP?: boolean;
  };
  readonly mirrors?: readonly Mirror[];
  readonly refresh?: { readonly policy: "IfNotPresent" | "OnChange"; readonly interval?: string };
};

export type AcceleratorVendor = "nvidia" | "amd" | "intel" | "habana" | "none";

export type AcceleratorRequirement = {
  readonly vendor: AcceleratorVendor;
  /** Devices of one pod; default 1. */
  readonly count?: number;
  /** Quantity; default: the estimate divided by `count`. */
  readonly memoryPerDevice?: string;
  /** Globs over the product name; any one must match. */
  readonly products?: readonly string[];
  /** `major.minor`, compared as numbers. */
  readonly minComputeCapability?: string;
};

export type NodeSelectorRequirement = {
  readonly key: string;
  readonly operator: "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt";
  readonly values?: readonly string[];
};
export type NodeSelectorTerm = {
  readonly matchExpressions?: readonly NodeSelectorRequirement[];
  readonly matchFields?: readonly NodeSelectorRequirement[];
};

export type Requirements = {
  readonly accelerator?: AcceleratorRequirement;
  /** `kubernetes.io/arch` values; any one. */
  readonly architectures?: readonly string[];
  /** Node Feature Discovery CPU flags (`AVX512F`); all. */
  readonly cpuFeatures?: readonly string[];
  /** RAM quantity one pod needs; default: the estimate when no accelerator is used. */
  readonly memory?: string;
  /** ORed terms, ANDed with everything else. */
  readonly nodeSelectorTerms?: readonly NodeSelectorTerm[];
};

export type RuntimeSpec = {
  /** Named runtime of the operator's configuration; default: the first that takes the variant's format. */
  readonly name?: string;
  readonly image?: string;
  readonly args?: readonly string[];
  readonly env?: readonly JsonObject[];
  readonly port?: number;
  readonly resources?: JsonObject;
  readonly tolerations?: readonly JsonObject[];
  /** Where the model directory is mounted; default /models. */
  readonly mountPath?: string;
};

export type CacheType = "f32" | "f16" | "bf16" | "fp8" | "q8_0" | "q5_1" | "q5_0" | "q4_1" | "q4_0";

/** What is known better than the estimate; quantities. */
export type FootprintSpec = {
  readonly weights?: string;
  /** Cache of one token of one sequence. */
  readonly cachePerToken?: string;
  /** Type of the cache's elements, as the runtime's arguments ask for; default f16. */
  readonly cacheType?: CacheType;
  readonly compute?: string;
  /** Of the engine itself, on each device. */
  readonly overhead?: string;
  /** Share of each device that the engine uses, percent. */
  readonly utilization?: number;
};

export type VariantSpec = {
  readonly name: string;
  /** Absent: the source's own reference. */
  readonly reference?: string;
  readonly requirements?: Requirements;
  readonly footprint?: FootprintSpec;
  readonly runtime?: RuntimeSpec;
};

/** Where variants are found instead of listed: exactly one of `index` and `tags`. */
export type VariantsFrom = {
  /** Only ever true. */
  readonly index?: boolean;
  readonly tags?: { readonly pattern: string };
  /** Of every found variant, as far as neither the registry nor a listed variant of the same name says otherwise. */
  readonly requirements?: Requirements;
};

export type SelectionSpec = {
  readonly policy?: "FirstFit" | "BestFit";
  /** Tokens of one sequence that the runtime is started for. */
  readonly contextLength?: number;
  /** Sequences served at once. */
  readonly parallel?: number;
  readonly cpuFallback?: boolean;
  readonly placement?: "Uniform" | "PerHardware";
  readonly emptyCluster?: "Wait" | "Provision";
  readonly reselect?: "Never" | "WhenUnschedulable" | "OnNodeChange";
  readonly unschedulableAfter?: string;
};

/** Where a model is kept, once Auto has chosen. */
export type StorageType = "Ephemeral" | "PersistentVolumeClaim" | "NodeCache" | "ImageVolume";

/** Nodes that a model is brought to before any pod wants it there. */
export type PrefetchSpec = {
  /** Labels, all; absent or empty: every node. */
  readonly nodeSelector?: Readonly<Record<string, string>>;
  /** Besides those of the servers' pods. */
  readonly tolerations?: readonly JsonObject[];
  /** Nodes that fetch at once; default 2. */
  readonly parallelism?: number;
};

export type StorageSpec = {
  readonly type?: StorageType | "Auto";
  /** Quantity or "auto". */
  readonly size?: string;
  /** Of an Ephemeral volume: the node's disk, or RAM. */
  readonly medium?: "Disk" | "Memory";
  readonly storageClassName?: string;
  readonly accessModes?: readonly ("ReadWriteOnce" | "ReadWriteMany" | "ReadWriteOncePod")[];
  /** Of a PersistentVolumeClaim or NodeCache: a claim that is there already. */
  readonly claimName?: string;
  readonly retention?: "Retain" | "Delete";
  /** Of a NodeCache. */
  readonly prefetch?: PrefetchSpec;
};

export type PullerSpec = {
  readonly resources?: JsonObject;
  readonly concurrency?: number;
  readonly bandwidthLimit?: string;
  readonly include?: readonly string[];
  readonly exclude?: readonly string[];
  readonly verify?: JsonObject;
};

export type ModelSpec = {
  readonly source: ModelSource;
  readonly variants?: readonly VariantSpec[];
  readonly variantsFrom?: VariantsFrom;
  readonly selection?: SelectionSpec;
  readonly storage?: StorageSpec;
  readonly puller?: PullerSpec;
  readonly runtime?: RuntimeSpec;
  readonly replicas?: number;
  /** Strategic-merge-like patch of the pod template (metadata and spec), applied last. */
  readonly template?: JsonObject;
  readonly suspend?: boolean;
};

export type Verdict =
  | "Selected"
  | "Fits"
  | "NoFreeCapacity"
  | "TooLarge"
  | "NoMatchingNode"
  | "RuntimeUnsupported"
  | "Unresolvable"
  | "Pending";

/** Memory that serving needs, by term, bytes, as the estimate has it. */
export type FootprintStatus = {
  readonly devices: number;
  /** Of each device, or of the host. */
  readonly perDeviceBytes: number;
  readonly weightBytes: number;
  readonly projectorBytes?: number;
  readonly adapterBytes?: number;
  readonly cacheBytes: number;
  readonly stateBytes?: number;
  readonly computeBytes: number;
  readonly overheadBytes: number;
  readonly utilizationPercent: number;
  readonly contextLength: number;
  readonly parallel: number;
  /** Terms for which the artifact does not state enough. */
  readonly assumed?: readonly string[];
};

/** What is known of one variant: its artifact as `inspect` told it, and the verdict. */
export type VariantStatus = {
  readonly name: string;
  /** The full reference that was asked. */
  readonly reference: string;
  readonly digest?: string;
  readonly packaging?: Packaging;
  readonly format?: ModelFormat;
  readonly quantization?: string;
  readonly parameters?: string;
  readonly sizeBytes?: number;
  readonly weightBytes?: number;
  readonly projectorBytes?: number;
  readonly adapterBytes?: number;
  readonly entry?: string;
  readonly facts?: ArchitectureFacts;
  /** Hardware that the registry says it needs (`RegistryRequirements`); of found variants only. */
  readonly requirements?: JsonObject;
  /** Digest of the index whose entry was read with it, or `tags`; of found variants only. */
  readonly describedBy?: string;
  /** Device memory (or RAM) that serving needs, bytes. */
  readonly requiredBytes?: number;
  readonly footprint?: FootprintStatus;
  readonly verdict: Verdict;
  readonly message: string;
  readonly matchingNodes?: number;
  /** Where no node takes a pod now: the nodes that are nearest to it, the nearest first, at most three. */
  readonly nearMisses?: readonly {
    readonly node: string;
    readonly lacks: string;
    readonly missingBytes?: number;
  }[];
  /** Why it could not be inspected, when it could not. */
  readonly failure?: { readonly code: FailureCode; readonly message: string };
};

export type SelectedStatus = {
  readonly variant: string;
  readonly digest: string;
  readonly sizeBytes: number;
  readonly requiredBytes: number;
  /** Why this one, in a sentence. */
  readonly reason: string;
  /** Vendor of the devices; `none`: CPUs. */
  readonly accelerator: AcceleratorVendor;
  /** Number of nodes that it fits on. */
  readonly nodes: number;
  /** Tokens of one sequence that the server is started for. */
  readonly contextLength?: number;
};

/** A class of nodes with its variant and its part of the replicas; of placement PerHardware only. */
export type PlacementStatus = {
  /** Names its Deployment and labels its pods. */
  readonly key: string;
  readonly variant: string;
  readonly digest: string;
  readonly sizeBytes: number;
  readonly accelerator: AcceleratorVendor;
  readonly contextLength: number;
  /** Replicas that are to run there; 0: none, or those that run go as others become ready. */
  readonly replicas: number;
  readonly readyReplicas: number;
  /** Nodes for which no better variant fits. */
  readonly nodes: number;
};

/** What is remembered between two looks at a choice. */
export type ReselectionStatus = {
  /** A better variant fits since then; it is taken when it has for long enough. */
  readonly better?: {
    readonly variant: string;
    readonly accelerator: AcceleratorVendor;
    readonly since: string;
  };
  /** What could not be scheduled, and when it was given up. */
  readonly passedOver?: readonly {
    readonly variant: string;
    readonly accelerator: AcceleratorVendor;
    readonly at: string;
    /** Key of its class of nodes; of placement PerHardware only. */
    readonly placement?: string;
  }[];
  /** A better variant is being rolled out: new pods serve before old ones go. */
  readonly isSurging?: boolean;
};

export type PullStatus = {
  readonly totalBytes: number;
  readonly completedBytes: number;
  /** `42%`: for the printer column. */
  readonly percent: string;
  readonly bytesPerSecond?: number;
  readonly remainingSeconds?: number;
  readonly pods: {
    readonly pending: number;
    readonly pulling: number;
    readonly done: number;
    readonly failed: number;
  };
  readonly lastFailure?: {
    readonly reason: string;
    readonly message: string;
    readonly node?: string;
    readonly exitCode?: number;
    readonly at: string;
  };
};

/** What `spec.variantsFrom` led to. */
export type DiscoveryStatus = {
  /** What was asked, so that an answer to another question is not taken for one to this. */
  readonly question: string;
  /** Of the index. */
  readonly digest?: string;
  readonly resolvedAt?: string;
  /** The best in quality first. */
  readonly variants?: readonly DiscoveredVariant[];
  /** What was left out, and why. */
  readonly leftOut?: string;
  /** Why there is no answer yet. */
  readonly failure?: { readonly code: FailureCode; readonly message: string };
};

/** A node whose cache has a model. */
export type CopyStatus = {
  readonly node: string;
  /** Directory under `models/`. */
  readonly model: string;
  /** When a pod there had fetched or found it, RFC 3339. */
  readonly since: string;
};

/** What the operator remembers of the claim that it made. */
export type CollectionStatus = {
  /** Directories under `models/` that pods or Models use, sorted. */
  readonly inUse: readonly string[];
  /** Since when these, RFC 3339. */
  readonly since: string;
  /** Whether others may be there, which are to be removed. */
  readonly isPending: boolean;
};

/** What is remembered of where the model is kept. */
export type StorageStatus = {
  readonly inUse?: CollectionStatus["inUse"];
  readonly since?: string;
  readonly isPending?: boolean;
  /** What type Auto came to. */
  readonly type?: StorageType;
  /** Why, in a sentence. */
  readonly reason?: string;
  /** Nodes whose cache has the selected model, by name; of a NodeCache. */
  readonly copies?: readonly CopyStatus[];
  /** Pods of now whose pullers have ended well; of a claim or a node cache. */
  readonly pods?: number;
  /** Those of them that found the whole model there. */
  readonly warmPods?: number;
  /** Bytes that all of them together found there. */
  readonly savedBytes?: number;
};

export type ModelStatus = {
  readonly observedGeneration?: number;
  /** For people and printer columns only: never a contract. */
  readonly phase?: string;
  readonly source?: { readonly digest: string; readonly resolvedAt: string };
  readonly discovery?: DiscoveryStatus;
  readonly selected?: SelectedStatus;
  readonly placements?: readonly PlacementStatus[];
  readonly reselection?: ReselectionStatus;
  readonly variants?: readonly VariantStatus[];
  readonly pull?: PullStatus;
  readonly storage?: StorageStatus;
  readonly replicas?: number;
  readonly readyReplicas?: number;
  /** `2/3`: for the printer column. */
  readonly ready?: string;
  /** `q8`, or `f16=2,q8=1` of several: for the printer column. */
  readonly chosen?: string;
  /** Label selector of the pods, for the scale subresource. */
  readonly selector?: string;
  readonly conditions?: readonly Condition[];
};

export type Model = KubeObject & {
  readonly metadata: ObjectMeta & { readonly namespace: string; readonly uid: string };
  readonly spec: ModelSpec;
  readonly status?: ModelStatus;
};
