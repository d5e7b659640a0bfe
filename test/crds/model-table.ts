// Models that the API server takes and refuses: a table for the real one and for the validator that works without.

import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { parseAllDocuments } from "yaml";
import { root } from "./schema.ts";

export type Fields = { readonly [key: string]: unknown };

export const source = { reference: "registry.example.com/ai/qwen" };
export const digest = `sha256:${"a".repeat(64)}`;

/** A spec with one variant whose requirements, accelerator or runtime are the given ones. */
const requiring = (requirements: Fields): Fields => ({ source, variants: [{ name: "q4", requirements }] });
const accelerated = (accelerator: Fields): Fields => requiring({ accelerator });
export const patched = (spec: Fields): Fields => ({ source, template: { spec } });
export const variants = (...list: readonly Fields[]): Fields => ({ source, variants: list });

export const good: readonly (readonly [string, Fields])[] = [
  ["a reference alone", { source }],
  ["a digest", { source: { reference: `registry.example.com:5000/ai/qwen:q4@${digest}` } }],
  ["a short reference", { source: { reference: "ai/qwen" } }],
  [
    "secrets and an authority",
    {
      source: {
        ...source,
        pullSecrets: [{ name: "a" }, { name: "b" }],
        tls: { caBundle: { configMap: { name: "ca", key: "ca.crt" } } },
      },
    },
  ],
  ["plain http", { source: { ...source, tls: { plainHTTP: true } } }],
  [
    "mirrors",
    {
      source: {
        ...source,
        mirrors: [
          { host: "docker.io", url: "https://mirror.example.com/hub" },
          { host: "docker.io", url: "http://10.0.0.1:5000" },
        ],
      },
    },
  ],
  ["refresh with an interval", { source: { ...source, refresh: { policy: "OnChange", interval: "1h30m" } } }],
  ["the shortest interval", { source: { ...source, refresh: { policy: "OnChange", interval: "10s" } } }],
  [
    "relative variants",
    variants({ name: "f16", reference: ":f16" }, { name: "q4", reference: `@${digest}` }),
  ],
  ["variants elsewhere", variants({ name: "q4", reference: "other.example.com/x:q4" })],
  [
    "digests of a pinned source",
    {
      source: { reference: `r.example.com/x@${digest}` },
      variants: [{ name: "a", reference: `@${digest}` }],
    },
  ],
  ["variants from tags", { source, variantsFrom: { tags: { pattern: "{8B,4B}-[QF]*" } } }],
  [
    "variants from an index that is pinned",
    {
      source: { reference: `registry.example.com/ai/qwen@${digest}` },
      variantsFrom: { index: true },
    },
  ],
  [
    "variants found, with needs, and listed",
    {
      source,
      variants: [
        { name: "q4-k-m", runtime: { args: ["--x"] } },
        { name: "own", reference: ":other" },
      ],
      variantsFrom: { index: true, requirements: { accelerator: { vendor: "nvidia" }, memory: "4Gi" } },
    },
  ],
  ["16 variants", variants(...Array.from({ length: 16 }, (_, index) => ({ name: `v${index}` })))],
  [
    "an accelerator",
    accelerated({
      vendor: "nvidia",
      count: 8,
      memoryPerDevice: "20.5Gi",
      products: ["*L4*"],
      minComputeCapability: "8.9",
    }),
  ],
  ["memory is not compared", accelerated({ vendor: "nvidia", memoryPerDevice: "0" })],
  ["vendor none", accelerated({ vendor: "none" })],
  [
    "CPU features and architectures",
    requiring({ architectures: ["arm64"], cpuFeatures: ["AVX512F"], memory: "8Gi" }),
  ],
  [
    "node selector terms",
    requiring({
      nodeSelectorTerms: [
        {
          matchExpressions: [
            { key: "a", operator: "In", values: ["b"] },
            { key: "c", operator: "Exists" },
            { key: "d", operator: "Gt", values: ["-5"] },
          ],
          matchFields: [{ key: "metadata.name", operator: "In", values: ["n"] }],
        },
      ],
    }),
  ],
  [
    "selection",
    {
      source,
      selection: {
        policy: "FirstFit",
        contextLength: 32768,
        parallel: 4,
        cpuFallback: false,
        placement: "Uniform",
        emptyCluster: "Wait",
        reselect: "Never",
      },
    },
  ],
  [
    "a choice that follows the nodes",
    { source, selection: { policy: "BestFit", reselect: "OnNodeChange", unschedulableAfter: "1m30s" } },
  ],
  [
    "a placement per hardware that follows the nodes, on a claim of many nodes",
    {
      source,
      selection: { placement: "PerHardware", reselect: "OnNodeChange" },
      storage: { type: "PersistentVolumeClaim", accessModes: ["ReadWriteMany"] },
    },
  ],
  [
    "a placement per hardware on a claim of somebody else, which the operator judges",
    {
      source,
      selection: { placement: "PerHardware" },
      storage: { type: "PersistentVolumeClaim", claimName: "shared" },
    },
  ],
  [
    "terms of the memory",
    {
      source,
      variants: [
        {
          name: "a",
          footprint: {
            weights: "16Gi",
            cachePerToken: "128Ki",
            cacheType: "q8_0",
            compute: "1Gi",
            overhead: "0",
            utilization: 90,
          },
        },
      ],
    },
  ],
  ["ephemeral storage", { source, storage: { type: "Ephemeral", size: "auto" } }],
  [
    "a claim",
    {
      source,
      replicas: 3,
      storage: {
        type: "PersistentVolumeClaim",
        size: "1Ti",
        storageClassName: "fast",
        accessModes: ["ReadWriteMany"],
        retention: "Retain",
      },
    },
  ],
  [
    "a claim of somebody else",
    { source, storage: { type: "PersistentVolumeClaim", claimName: "models.team" } },
  ],
  [
    "storage of whatever type there is",
    {
      source,
      storage: { type: "Auto", storageClassName: "shared", accessModes: ["ReadWriteMany"], prefetch: {} },
    },
  ],
  ["a node cache", { source, storage: { type: "NodeCache" } }],
  [
    "a node cache that is filled beforehand",
    {
      source,
      storage: {
        type: "NodeCache",
        prefetch: { nodeSelector: { pool: "gpu" }, tolerations: [{ operator: "Exists" }], parallelism: 4 },
      },
    },
  ],
  ["a node cache on a claim of that name", { source, storage: { type: "NodeCache", claimName: "cache" } }],
  ["ephemeral storage of a size, in RAM", { source, storage: { size: "20.5Gi", medium: "Memory" } }],
  [
    "a puller",
    {
      source,
      puller: {
        resources: { limits: { memory: "1Gi" } },
        concurrency: 64,
        bandwidthLimit: "1.5Gi",
        include: ["*.gguf"],
        exclude: ["*.md"],
      },
    },
  ],
  [
    "a named runtime",
    {
      source,
      runtime: {
        name: "llama.cpp",
        env: [{ name: "A", valueFrom: { fieldRef: { fieldPath: "status.podIP" } } }],
        resources: { limits: { "nvidia.com/gpu": 1 } },
      },
    },
  ],
  [
    "a server of one's own",
    {
      source,
      runtime: {
        image: "x:1",
        args: ["$(MODEL_PATH)"],
        port: 9000,
        mountPath: "/data/model",
        tolerations: [{ operator: "Exists" }],
      },
    },
  ],
  ["no replica, suspended", { source, replicas: 0, suspend: true }],
  [
    "a template patch",
    {
      source,
      template: {
        metadata: { labels: { team: "x" } },
        spec: { containers: [{ name: "runtime", livenessProbe: null }], priorityClassName: "high" },
      },
    },
  ],
  [
    "the puller's resources in a patch",
    patched({ initContainers: [{ name: "pull", resources: { limits: { memory: "2Gi" } } }] }),
  ],
  [
    "an init container of one's own",
    patched({
      initContainers: [{ name: "warm", image: "x", command: ["x"], env: [{ name: "A", value: "b" }] }],
    }),
  ],
];

export const bad: readonly (readonly [string, Fields, string])[] = [
  ["no source", {}, "spec.source: Required value"],
  ["no reference", { source: {} }, "spec.source.reference: Required value"],
  ["an empty reference", { source: { reference: "" } }, "at least 1 chars long"],
  [
    "a URL",
    { source: { reference: "https://registry.example.com/x" } },
    "reference has a URL scheme; leave it out: registry/repository:tag",
  ],
  ["a reference of two lines", { source: { reference: "a/b\nc" } }, "reference has white space in it"],
  ["a variant's URL", variants({ name: "a", reference: "oci://x/y" }), "reference has a URL scheme"],
  ["a variant with a space", variants({ name: "a", reference: ":a b" }), "reference has white space in it"],
  [
    "a tag relative to a digest",
    { source: { reference: `x/y@${digest}` }, variants: [{ name: "a", reference: ":q4" }] },
    "a variant's reference relative to a source pinned by digest must itself be a digest (@sha256:...)",
  ],
  [
    "a secret without a name",
    { source: { ...source, pullSecrets: [{}] } },
    "spec.source.pullSecrets[0].name: Required value",
  ],
  [
    "nine secrets",
    { source: { ...source, pullSecrets: Array.from({ length: 9 }, (_, index) => ({ name: `s${index}` })) } },
    "must have at most 8 items",
  ],
  [
    "plain http with an authority",
    { source: { ...source, tls: { plainHTTP: true, caBundle: { configMap: { name: "a", key: "b" } } } } },
    "plainHTTP and caBundle exclude each other",
  ],
  [
    "an authority without a key",
    { source: { ...source, tls: { caBundle: { configMap: { name: "a" } } } } },
    "configMap.key: Required value",
  ],
  [
    "a mirror that is no URL",
    { source: { ...source, mirrors: [{ host: "docker.io", url: "mirror.example.com" }] } },
    "mirrors[0].url: Invalid value",
  ],
  [
    "a mirror with a password",
    {
      source: { ...source, mirrors: [{ host: "docker.io", url: "https://user:secret@mirror.example.com" }] },
    },
    "mirrors[0].url: Invalid value",
  ],
  [
    "an unknown refresh policy",
    { source: { ...source, refresh: { policy: "Always" } } },
    'supported values: "IfNotPresent", "OnChange"',
  ],
  [
    "an interval too short",
    { source: { ...source, refresh: { interval: "9s" } } },
    "interval is shorter than 10s",
  ],
  ["an empty interval", { source: { ...source, refresh: { interval: "" } } }, "interval is shorter than 10s"],
  ["an interval in days", { source: { ...source, refresh: { interval: "1d" } } }, "interval: Invalid value"],
  [
    "17 variants",
    variants(...Array.from({ length: 17 }, (_, index) => ({ name: `v${index}` }))),
    "must have at most 16 items",
  ],
  ["a name twice", variants({ name: "a" }, { name: "a" }), "Duplicate value"],
  ["a variant without a name", variants({ reference: ":a" }), "variants[0].name: Required value"],
  ["a variant's name with capitals", variants({ name: "Q4_K_M" }), "variants[0].name: Invalid value"],
  [
    "variants from nowhere",
    { source, variantsFrom: {} },
    "variantsFrom takes exactly one of index: true and tags",
  ],
  [
    "variants from no index",
    { source, variantsFrom: { index: false, requirements: { memory: "8Gi" } } },
    "variantsFrom takes exactly one of index: true and tags",
  ],
  [
    "variants from an index and tags",
    { source, variantsFrom: { index: true, tags: { pattern: "*" } } },
    "variantsFrom takes exactly one of index: true and tags",
  ],
  ["variants from tags without a pattern", { source, variantsFrom: { tags: {} } }, "pattern: Required value"],
  [
    "variants from tags with white space",
    { source, variantsFrom: { tags: { pattern: "8B *" } } },
    "pattern: Invalid value",
  ],
  [
    "variants from the tags of a digest",
    {
      source: { reference: `registry.example.com/ai/qwen@${digest}` },
      variantsFrom: { tags: { pattern: "*" } },
    },
    "source.reference takes no digest; leave @sha256:... out",
  ],
  [
    "variants that all need a vendor that is none",
    { source, variantsFrom: { index: true, requirements: { accelerator: { vendor: "acme" } } } },
    "accelerator.vendor: Unsupported value",
  ],
  [
    "compute capability of another vendor than NVIDIA",
    accelerated({ vendor: "amd", minComputeCapability: "8.0" }),
    "minComputeCapability is a notion of CUDA: only vendor nvidia has it",
  ],
  [
    "an unknown vendor",
    accelerated({ vendor: "tpu" }),
    'supported values: "nvidia", "amd", "intel", "habana", "none"',
  ],
  ["an accelerator without a vendor", accelerated({ count: 1 }), "accelerator.vendor: Required value"],
  ["no device", accelerated({ vendor: "nvidia", count: 0 }), "should be greater than or equal to 1"],
  [
    "device memory of none",
    accelerated({ vendor: "none", memoryPerDevice: "1Gi" }),
    "vendor none takes no memoryPerDevice, products or minComputeCapability",
  ],
  [
    "device memory in GB",
    accelerated({ vendor: "nvidia", memoryPerDevice: "20GB" }),
    "memoryPerDevice: Invalid value",
  ],
  ["a negative quantity", requiring({ memory: "-1Gi" }), "memory: Invalid value"],
  [
    "a capability without a point",
    accelerated({ vendor: "nvidia", minComputeCapability: "9" }),
    "minComputeCapability: Invalid value",
  ],
  ["a CPU feature in lower case", requiring({ cpuFeatures: ["avx512f"] }), "cpuFeatures[0]: Invalid value"],
  [
    "two values of Gt",
    requiring({
      nodeSelectorTerms: [{ matchExpressions: [{ key: "a", operator: "Gt", values: ["1", "2"] }] }],
    }),
    "Gt and Lt take one value, an integer",
  ],
  [
    "a value of Lt that is no integer",
    requiring({ nodeSelectorTerms: [{ matchExpressions: [{ key: "a", operator: "Lt", values: ["1.5"] }] }] }),
    "Gt and Lt take one value, an integer",
  ],
  [
    "an unknown operator",
    requiring({ nodeSelectorTerms: [{ matchExpressions: [{ key: "a", operator: "Eq" }] }] }),
    "operator: Unsupported value",
  ],
  [
    "In without values",
    requiring({ nodeSelectorTerms: [{ matchExpressions: [{ key: "a", operator: "In" }] }] }),
    "In, NotIn, Gt and Lt need values; Exists and DoesNotExist take none",
  ],
  [
    "Exists with values",
    requiring({
      nodeSelectorTerms: [{ matchExpressions: [{ key: "a", operator: "Exists", values: ["b"] }] }],
    }),
    "In, NotIn, Gt and Lt need values; Exists and DoesNotExist take none",
  ],
  [
    "a cache of an unknown type",
    { source, variants: [{ name: "a", footprint: { cacheType: "q3" } }] },
    'Unsupported value: "q3"',
  ],
  [
    "more than a whole device",
    { source, variants: [{ name: "a", footprint: { utilization: 101 } }] },
    "should be less than or equal to 100",
  ],
  [
    "a placement per hardware on a claim of one node",
    { source, selection: { placement: "PerHardware" }, storage: { type: "PersistentVolumeClaim" } },
    "placement PerHardware runs pods on several nodes",
  ],
  [
    "a placement per hardware on a claim of one pod",
    {
      source,
      selection: { placement: "PerHardware" },
      storage: { type: "PersistentVolumeClaim", accessModes: ["ReadWriteOncePod"] },
    },
    "placement PerHardware runs pods on several nodes",
  ],
  [
    "too short a time to wait",
    { source, selection: { unschedulableAfter: "5s" } },
    "unschedulableAfter is shorter than 10s",
  ],
  ["no context", { source, selection: { contextLength: 0 } }, "should be greater than or equal to 1"],
  ["no sequence", { source, selection: { parallel: 0 } }, "should be greater than or equal to 1"],
  [
    "filling an ephemeral volume beforehand",
    { source, storage: { prefetch: {} } },
    "storage.prefetch is for types NodeCache and Auto alone",
  ],
  [
    "prefetching nowhere at once",
    { source, storage: { type: "NodeCache", prefetch: { parallelism: 0 } } },
    "should be greater than or equal to 1",
  ],
  [
    "a size of a node cache",
    { source, storage: { type: "NodeCache", size: "20Gi" } },
    "storage.size is not for type NodeCache, whose size its administrator limits",
  ],
  [
    "a size of an image volume",
    { source, storage: { type: "ImageVolume", size: "20Gi" } },
    "storage.size is not for type ImageVolume, whose image the node keeps",
  ],
  [
    "a part of an image volume",
    { source, storage: { type: "ImageVolume" }, puller: { exclude: ["*.md"] } },
    "puller.include and exclude are not for storage.type ImageVolume",
  ],
  [
    "a size that is none",
    { source, storage: { size: "much" } },
    "storage.size is neither auto nor a quantity of bytes such as 20Gi",
  ],
  ["a medium that is none", { source, storage: { medium: "Tape" } }, 'supported values: "Disk", "Memory"'],
  ...[{ storageClassName: "fast" }, { accessModes: ["ReadWriteMany"] }, { retention: "Retain" }].flatMap(
    (fields): (readonly [string, Fields, string])[] =>
      ["Ephemeral", "NodeCache"].map((type) => [
        `${Object.keys(fields)[0]} of type ${type}`,
        { source, storage: { type, ...fields } },
        "storage.storageClassName, accessModes and retention are for types PersistentVolumeClaim and Auto alone",
      ]),
  ),
  [
    "the claim of an ephemeral volume",
    { source, storage: { claimName: "c" } },
    "storage.claimName is for types PersistentVolumeClaim and NodeCache alone",
  ],
  ...[
    { storageClassName: "fast" },
    { accessModes: ["ReadWriteMany"] },
    { size: "10Gi" },
    { retention: "Retain" },
  ].map((fields): readonly [string, Fields, string] => [
    `${Object.keys(fields)[0]} of a claim that is there already`,
    { source, storage: { type: "PersistentVolumeClaim", claimName: "c", ...fields } },
    "storage.claimName names a claim that is there already: storageClassName, accessModes, retention and size are its owner's to decide",
  ]),
  [
    "a claim in RAM",
    { source, storage: { type: "PersistentVolumeClaim", medium: "Memory" } },
    "storage.medium is for type Ephemeral alone",
  ],
  [
    "a claim that nobody can fill",
    { source, storage: { type: "PersistentVolumeClaim", accessModes: ["ReadOnlyMany"] } },
    'supported values: "ReadWriteOnce", "ReadWriteMany", "ReadWriteOncePod"',
  ],
  [
    "a claim for one pod and for many",
    {
      source,
      storage: { type: "PersistentVolumeClaim", accessModes: ["ReadWriteOncePod", "ReadWriteMany"] },
    },
    "storage.accessModes: ReadWriteOncePod goes with no other mode",
  ],
  [
    "a claim for one pod and two replicas",
    { source, replicas: 2, storage: { type: "PersistentVolumeClaim", accessModes: ["ReadWriteOncePod"] } },
    "storage.accessModes ReadWriteOncePod lets one pod alone mount the claim; set replicas to 1, or use ReadWriteOnce or ReadWriteMany",
  ],
  [
    "a claim's name that is none",
    { source, storage: { type: "PersistentVolumeClaim", claimName: "../other" } },
    "spec.storage.claimName in body should match",
  ],
  [
    "a bandwidth limit that is no number of bytes",
    { source, puller: { bandwidthLimit: "100MB/s" } },
    "spec.puller.bandwidthLimit in body should match",
  ],
  [
    "a bandwidth limit that would look like a stall",
    { source, puller: { bandwidthLimit: "1k" } },
    "puller.bandwidthLimit is below 64Ki bytes per second, which would look like a stalled download",
  ],
  [
    "a signature policy",
    { source, puller: { verify: {} } },
    "puller.verify is not yet supported; size and digest are always checked",
  ],
  ["too many blobs at once", { source, puller: { concurrency: 65 } }, "should be less than or equal to 64"],
  ["a port out of range", { source, runtime: { port: 70000 } }, "should be less than or equal to 65535"],
  ["a mount path that is relative", { source, runtime: { mountPath: "models" } }, "mountPath: Invalid value"],
  ["the root as mount path", { source, runtime: { mountPath: "/" } }, "mountPath: Invalid value"],
  [
    "a mount path that is taken",
    { source, runtime: { mountPath: "/tmp" } },
    "mountPath /tmp and /dev/shm are taken by other volumes of the pod",
  ],
  [
    "a variable without a name",
    { source, runtime: { env: [{ value: "x" }] } },
    "env[0].name: Required value",
  ],
  ["negative replicas", { source, replicas: -1 }, "should be greater than or equal to 0"],
  [
    "another image for the puller",
    patched({ initContainers: [{ name: "pull", image: "x" }] }),
    "of the init container pull only resources and imagePullPolicy can be changed",
  ],
  [
    "variables for the puller",
    patched({ initContainers: [{ name: "pull", env: [{ name: "OCIMODEL_TRUSTED_HOST", value: "x" }] }] }),
    "of the init container pull only resources and imagePullPolicy can be changed",
  ],
  [
    "arguments for the puller",
    patched({ initContainers: [{ name: "other" }, { name: "pull", args: ["x"] }] }),
    "of the init container pull only resources and imagePullPolicy can be changed",
  ],
  ["an unknown field", { source, replica: 2 }, 'unknown field "spec.replica"'],
  [
    "a patch that forgets spec",
    { source, template: { containers: [] } },
    'unknown field "spec.template.containers"',
  ],
];

export const badNames: readonly (readonly [string, string])[] = [
  ["a".repeat(53), "metadata.name is longer than 52 characters, so the names of its pods would be too long"],
  ["qwen2.5", "metadata.name is no DNS label, and its Service has the same name"],
  ["7b", "metadata.name is no DNS label, and its Service has the same name"],
];

/** Specs that the documentation shows: whole Models, and parts of a spec (a source is added). */
export function documentedSpecs(): readonly (readonly [string, Fields])[] {
  const fenced = ["README.md", "docs/model-reference.md"].flatMap((file) => {
    const text = readFileSync(join(root, file), "utf8");
    return [...text.matchAll(/```yaml\n(.*?)```/gs)].map(
      ([, yaml = ""], index) => [`${file} (${index + 1})`, yaml] as const,
    );
  });
  const examples = readdirSync(join(root, "docs/examples"))
    .filter((file) => file.endsWith(".yaml"))
    .map(
      (file) => [`docs/examples/${file}`, readFileSync(join(root, "docs/examples", file), "utf8")] as const,
    );
  return [...fenced, ...examples]
    .flatMap(([where, yaml]) =>
      parseAllDocuments(yaml).map((document) => [where, document.toJS() as Fields] as const),
    )
    .filter(([, value]) => !("status" in value) && (value["kind"] ?? "Model") === "Model")
    .map(
      ([where, value]) =>
        [where, { source, ...("kind" in value ? (value["spec"] as Fields) : value) }] as const,
    );
}

const whole = (fields: Fields, metadata: Fields = {}): Fields => ({
  apiVersion: "ocimodel.dev/v1alpha1",
  kind: "Model",
  metadata: { name: "qwen", ...metadata },
  spec: { source },
  ...fields,
});

/** Whole Models, as files and `kubectl get -o yaml` have them. */
export const goodModels: readonly (readonly [string, Fields])[] = [
  [
    "labels and annotations",
    whole(
      {},
      {
        namespace: "default",
        labels: { app: "", "Example.com_x": "A-b.c_1", "team.example.com/part": "x" },
        annotations: { "Team.example.com/Note": "any text\nat all", plain: "" },
      },
    ),
  ],
  [
    "what the API server writes",
    whole(
      { status: { phase: "Ready", conditions: [], fieldOfAnotherVersion: 1 } },
      {
        creationTimestamp: "2026-01-01T00:00:00Z",
        finalizers: ["example.com/x"],
        generation: 3,
        managedFields: [
          {
            manager: "kubectl",
            operation: "Apply",
            apiVersion: "ocimodel.dev/v1alpha1",
            fieldsType: "FieldsV1",
            fieldsV1: {},
          },
        ],
        uid: "00000000-0000-0000-0000-000000000000",
      },
    ),
  ],
  ["no labels after all", whole({}, { labels: null, annotations: null, creationTimestamp: null })],
  [
    "nulls where nothing is meant",
    whole({
      spec: {
        source: { ...source, tls: null, pullSecrets: null },
        replicas: null,
        selection: { policy: null, contextLength: null },
        storage: { type: "NodeCache", prefetch: { nodeSelector: { a: null } } },
      },
    }),
  ],
];

export const badModels: readonly (readonly [string, Fields])[] = [
  ["no name", { ...whole({}), metadata: {} }],
  ["a field in the wrong place", whole({ replicas: 1 })],
  ["a field of metadata that is none", whole({}, { label: {} })],
  ["labels that are a list", whole({}, { labels: ["a"] })],
  ["a number as a label", whole({}, { labels: { a: 1 } })],
  ["a key of a label that is none", whole({}, { labels: { "a b": "x" } })],
  ["a key with two slashes", whole({}, { labels: { "a/b/c": "x" } })],
  ["a value of a label that is none", whole({}, { labels: { a: "x y" } })],
  ["a label that is too long", whole({}, { labels: { a: "x".repeat(64) } })],
  ["a key of an annotation that is none", whole({}, { annotations: { "-a": "x" } })],
  ["annotations without end", whole({}, { annotations: { a: "x".repeat(262_145) } })],
  ["a version that is not there", whole({ apiVersion: "ocimodel.dev/v1" })],
  ["no version", whole({ apiVersion: null })],
  ["no spec", { apiVersion: "ocimodel.dev/v1alpha1", kind: "Model", metadata: { name: "qwen" } }],
  ["a spec that is a text", whole({ spec: "x" })],
  ["an accelerator that is misspelt", whole({ spec: { source, acelerator: {} } })],
  ["a variant that is a text", whole({ spec: { source, variants: ["q4"] } })],
  ["a variant that is null", whole({ spec: { source, variants: [null] } })],
  ["variants that are a map", whole({ spec: { source, variants: { q4: {} } } })],
  ["replicas in quotes", whole({ spec: { source, replicas: "2" } })],
  ["half a replica", whole({ spec: { source, replicas: 0.5 } })],
  ["a number as a reference", whole({ spec: { source: { reference: 1 } } })],
  ["yes for a boolean", whole({ spec: { source: { ...source, tls: { plainHTTP: "yes" } } } })],
  ["a number as an argument", whole({ spec: { source, runtime: { image: "x", args: ["--port", 8080] } } })],
  ["no access mode", whole({ spec: { source, storage: { type: "Auto", accessModes: [] } } })],
  [
    "an access mode twice",
    whole({ spec: { source, storage: { type: "Auto", accessModes: ["ReadWriteMany", "ReadWriteMany"] } } }),
  ],
  [
    "too many labels to prefetch by",
    whole({
      spec: {
        source,
        storage: {
          type: "NodeCache",
          prefetch: {
            nodeSelector: Object.fromEntries(Array.from({ length: 17 }, (_, index) => [`k${index}`, "v"])),
          },
        },
      },
    }),
  ],
];
