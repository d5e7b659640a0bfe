// The operator's configuration: a YAML file (mounted ConfigMap) plus flags, checked at start. Types and schema only; main.ts reads it.

import { z } from "zod";

/** One runtime. */
export const runtimeSchema = z.strictObject({
  /** Image of the inference server. */
  image: z.string().min(1),
  /** Used instead when the pod has NVIDIA devices. */
  acceleratorImage: z.string().min(1).optional(),
  /** Images for devices of other vendors than NVIDIA; a variant that asks for a vendor without one is refused. */
  vendorImages: z.partialRecord(z.enum(["amd", "intel", "habana"]), z.string().min(1)).optional(),
  /** Weight formats it loads. */
  formats: z.array(z.enum(["gguf", "safetensors", "dduf", "unknown"])).min(1),
  /** Whether it can serve without an accelerator. */
  cpu: z.boolean(),
  command: z.array(z.string()).optional(),
  /** `$(MODEL_PATH)` and the other MODEL_… variables may be used. */
  args: z.array(z.string()).default([]),
  /** Added when the pod has accelerators. */
  acceleratorArgs: z.array(z.string()).default([]),
  env: z.array(z.record(z.string(), z.json())).default([]),
  port: z.int().min(1).max(65535),
  /** HTTP path that answers 200 once the model is loaded; absent: the port accepting connections is enough. */
  healthPath: z.string().startsWith("/").optional(),
  resources: z.record(z.string(), z.json()).default({}),
  /** Mounts a memory-backed /dev/shm (tensor parallel engines need it). */
  sharedMemory: z.boolean().default(false),
  /** How the engine uses memory, for the estimate; default by format: as llama.cpp for GGUF, as vLLM otherwise. */
  memory: z
    .strictObject({
      model: z.enum(["llama.cpp", "vllm"]).optional(),
      /** Memory of the engine itself on each device, a quantity. */
      overhead: z
        .string()
        .regex(/^[0-9]+(\.[0-9]+)?(k|M|G|T|Ki|Mi|Gi|Ti)?$/)
        .optional(),
      /** Share of each device that the engine uses (vLLM: --gpu-memory-utilization). */
      utilization: z.number().gt(0).max(1).optional(),
      /** How weights are divided among devices; none: each device holds all. */
      sharding: z.enum(["layers", "tensors", "none"]).optional(),
      /** Tokens computed at once (llama.cpp: --ubatch-size). */
      batchTokens: z.int().min(1).max(1_000_000).optional(),
    })
    .optional(),
});

export const configurationSchema = z.strictObject({
  pullerImage: z.string().min(1),
  pullerImagePullPolicy: z.enum(["Always", "IfNotPresent", "Never"]).default("IfNotPresent"),
  /** Resources of puller containers unless the Model says otherwise. */
  pullerResources: z.record(z.string(), z.json()).default({}),
  /** Environment of puller containers, such as HTTPS_PROXY. Values are in plain sight: no secrets. */
  pullerEnv: z.array(z.strictObject({ name: z.string().min(1), value: z.string() })).optional(),
  /** Runtime name -> definition; the first that takes a format is its default. */
  runtimes: z.record(z.string().regex(/^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$/), runtimeSchema),
  /** Models on claims that nobody has used for this long, and that no pod and no Model uses, are removed. */
  collectAfterSeconds: z.int().min(1).default(3600),
  /** The caches of nodes that the chart made; absent: none, or an administrator's own. */
  nodeCache: z
    .strictObject({
      /** Where the DaemonSet and the list are. */
      namespace: z.string().min(1),
      /** DaemonSet that prepares the directories and removes what is not in use. */
      daemonSet: z.string().min(1),
      /** ConfigMap in which the operator lists what is in use. */
      inUse: z.string().min(1),
      /** Namespaces with a cache. */
      namespaces: z.array(z.string().min(1)),
    })
    .optional(),
  /** Namespaces to watch; empty: all. */
  namespaces: z.array(z.string()).default([]),
  /** Models reconciled at once. */
  concurrency: z.int().min(1).max(64).default(4),
});

/** Everything the operator is told at start. */
export type OperatorConfiguration = z.infer<typeof configurationSchema>;
export type RuntimeDefinition = z.infer<typeof runtimeSchema>;
