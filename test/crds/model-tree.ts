// The shape of the TypeScript types of a Model as values, so that a test can hold the schema against it. The compiler
// refuses a tree that lacks a field of the type, has one too many, or marks one as optional ("?") that is not.

import type { ModelSpec, ModelStatus, Requirements } from "../../operator/api/model.ts";

/** "object" stands for fields that are passed through as Kubernetes knows them. */
export type Tree<T> = [T] extends [string]
  ? string extends T
    ? "string"
    : { readonly enum: { readonly [Value in T]: true } }
  : [T] extends [number]
    ? "number"
    : [T] extends [boolean]
      ? "boolean"
      : [T] extends [readonly (infer Item)[]]
        ? { readonly items: Tree<Item> }
        : string extends keyof T
          ? "object"
          : {
              readonly [Key in keyof T & string as object extends Pick<T, Key> ? `${Key}?` : Key]: Tree<
                Exclude<T[Key], undefined>
              >;
            };

/** The same for the status, where nothing but names and kinds is held: the schema takes what another version of the operator writes. */
export type StatusTree<T> = [T] extends [string]
  ? "string"
  : [T] extends [number]
    ? "number"
    : [T] extends [readonly (infer Item)[]]
      ? { readonly items: StatusTree<Item> }
      : string extends keyof T
        ? "object"
        : { readonly [Key in keyof T & string]-?: StatusTree<Exclude<T[Key], undefined>> };

const requirementsTree: Tree<Requirements> = {
  "accelerator?": {
    vendor: { enum: { nvidia: true, amd: true, intel: true, habana: true, none: true } },
    "count?": "number",
    "memoryPerDevice?": "string",
    "products?": { items: "string" },
    "minComputeCapability?": "string",
  },
  "architectures?": { items: "string" },
  "cpuFeatures?": { items: "string" },
  "memory?": "string",
  "nodeSelectorTerms?": {
    items: {
      "matchExpressions?": {
        items: {
          key: "string",
          operator: {
            enum: { In: true, NotIn: true, Exists: true, DoesNotExist: true, Gt: true, Lt: true },
          },
          "values?": { items: "string" },
        },
      },
      "matchFields?": {
        items: {
          key: "string",
          operator: {
            enum: { In: true, NotIn: true, Exists: true, DoesNotExist: true, Gt: true, Lt: true },
          },
          "values?": { items: "string" },
        },
      },
    },
  },
};

export const specTree: Tree<ModelSpec> = {
  source: {
    reference: "string",
    "pullSecrets?": { items: { name: "string" } },
    "tls?": { "caBundle?": { configMap: { name: "string", key: "string" } }, "plainHTTP?": "boolean" },
    "mirrors?": { items: { host: "string", url: "string" } },
    "refresh?": { policy: { enum: { IfNotPresent: true, OnChange: true } }, "interval?": "string" },
  },
  "variants?": {
    items: {
      name: "string",
      "reference?": "string",
      "footprint?": {
        "weights?": "string",
        "cachePerToken?": "string",
        "cacheType?": {
          enum: {
            f32: true,
            f16: true,
            bf16: true,
            fp8: true,
            q8_0: true,
            q5_1: true,
            q5_0: true,
            q4_1: true,
            q4_0: true,
          },
        },
        "compute?": "string",
        "overhead?": "string",
        "utilization?": "number",
      },
      "requirements?": requirementsTree,
      "runtime?": {
        "name?": "string",
        "image?": "string",
        "args?": { items: "string" },
        "env?": { items: "object" },
        "port?": "number",
        "resources?": "object",
        "tolerations?": { items: "object" },
        "mountPath?": "string",
      },
    },
  },
  "variantsFrom?": {
    "index?": "boolean",
    "tags?": { pattern: "string" },
    "requirements?": requirementsTree,
  },
  "selection?": {
    "policy?": { enum: { FirstFit: true, BestFit: true } },
    "contextLength?": "number",
    "parallel?": "number",
    "cpuFallback?": "boolean",
    "placement?": { enum: { Uniform: true, PerHardware: true } },
    "emptyCluster?": { enum: { Wait: true, Provision: true } },
    "reselect?": { enum: { Never: true, WhenUnschedulable: true, OnNodeChange: true } },
    "unschedulableAfter?": "string",
  },
  "storage?": {
    "type?": {
      enum: { Ephemeral: true, PersistentVolumeClaim: true, NodeCache: true, ImageVolume: true, Auto: true },
    },
    "size?": "string",
    "medium?": { enum: { Disk: true, Memory: true } },
    "storageClassName?": "string",
    "accessModes?": {
      items: { enum: { ReadWriteOnce: true, ReadWriteMany: true, ReadWriteOncePod: true } },
    },
    "claimName?": "string",
    "retention?": { enum: { Retain: true, Delete: true } },
    "prefetch?": { "nodeSelector?": "object", "tolerations?": { items: "object" }, "parallelism?": "number" },
  },
  "puller?": {
    "resources?": "object",
    "concurrency?": "number",
    "bandwidthLimit?": "string",
    "include?": { items: "string" },
    "exclude?": { items: "string" },
    "verify?": "object",
  },
  "runtime?": {
    "name?": "string",
    "image?": "string",
    "args?": { items: "string" },
    "env?": { items: "object" },
    "port?": "number",
    "resources?": "object",
    "tolerations?": { items: "object" },
    "mountPath?": "string",
  },
  "replicas?": "number",
  "template?": "object",
  "suspend?": "boolean",
};
export const statusTree: StatusTree<ModelStatus> = {
  observedGeneration: "number",
  phase: "string",
  source: { digest: "string", resolvedAt: "string" },
  discovery: {
    question: "string",
    digest: "string",
    resolvedAt: "string",
    variants: { items: { name: "string", reference: "string" } },
    leftOut: "string",
    failure: { code: "string", message: "string" },
  },
  selected: {
    variant: "string",
    digest: "string",
    sizeBytes: "number",
    requiredBytes: "number",
    reason: "string",
    accelerator: "string",
    nodes: "number",
    contextLength: "number",
  },
  placements: {
    items: {
      key: "string",
      variant: "string",
      digest: "string",
      sizeBytes: "number",
      accelerator: "string",
      contextLength: "number",
      replicas: "number",
      readyReplicas: "number",
      nodes: "number",
    },
  },
  reselection: {
    better: { variant: "string", accelerator: "string", since: "string" },
    passedOver: { items: { variant: "string", accelerator: "string", at: "string", placement: "string" } },
    isSurging: "boolean",
  },
  variants: {
    items: {
      name: "string",
      reference: "string",
      digest: "string",
      packaging: "string",
      format: "string",
      quantization: "string",
      parameters: "string",
      sizeBytes: "number",
      weightBytes: "number",
      projectorBytes: "number",
      adapterBytes: "number",
      entry: "string",
      facts: {
        architecture: "string",
        contextLength: "number",
        layers: "number",
        heads: "number",
        keyValueHeads: "number",
        keyLength: "number",
        valueLength: "number",
        embeddingLength: "number",
        vocabularySize: "number",
        feedForwardLength: "number",
        experts: "number",
        expertsUsed: "number",
        expertLength: "number",
        keyValueHeadsSum: "number",
        latentLength: "number",
        attentionLayers: "number",
        slidingWindow: "number",
        slidingLayers: "number",
        recurrentLayers: "number",
        recurrentStateBytes: "number",
      },
      requirements: "object",
      describedBy: "string",
      requiredBytes: "number",
      footprint: {
        devices: "number",
        perDeviceBytes: "number",
        weightBytes: "number",
        projectorBytes: "number",
        adapterBytes: "number",
        cacheBytes: "number",
        stateBytes: "number",
        computeBytes: "number",
        overheadBytes: "number",
        utilizationPercent: "number",
        contextLength: "number",
        parallel: "number",
        assumed: { items: "string" },
      },
      verdict: "string",
      message: "string",
      matchingNodes: "number",
      nearMisses: { items: { node: "string", lacks: "string", missingBytes: "number" } },
      failure: { code: "string", message: "string" },
    },
  },
  storage: {
    inUse: { items: "string" },
    since: "string",
    isPending: "boolean",
    type: "string",
    reason: "string",
    copies: { items: { node: "string", model: "string", since: "string" } },
    pods: "number",
    warmPods: "number",
    savedBytes: "number",
  },
  pull: {
    totalBytes: "number",
    completedBytes: "number",
    percent: "string",
    bytesPerSecond: "number",
    remainingSeconds: "number",
    pods: { pending: "number", pulling: "number", done: "number", failed: "number" },
    lastFailure: {
      reason: "string",
      message: "string",
      node: "string",
      exitCode: "number",
      at: "string",
    },
  },
  replicas: "number",
  readyReplicas: "number",
  ready: "string",
  chosen: "string",
  selector: "string",
  conditions: {
    items: {
      type: "string",
      status: "string",
      reason: "string",
      message: "string",
      lastTransitionTime: "string",
      observedGeneration: "number",
    },
  },
};
