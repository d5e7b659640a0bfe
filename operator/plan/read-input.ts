// Reads what `plan` is given: Models, nodes and facts as YAML or JSON, one document or several, or a kubectl List. Pure.

import { z } from "zod";
import { failureExitCodes, type InspectResult } from "../../puller/contract.ts";
import { modelResource, type Model } from "../api/model.ts";
import type { ResourceClaim } from "../hardware/allocated-devices.ts";
import type { ResourceSlice } from "../hardware/dra.ts";
import type { Node } from "../hardware/node-hardware.ts";
import type { Claim, StorageClass } from "../desired/claim.ts";
import type { KubeObject } from "../kube/types.ts";
import type { PersistentVolume } from "../reconcile/volume-nodes.ts";
import type { ScheduledPod } from "../reconcile/taken-capacity.ts";
import { knownArtifact } from "../reconcile/variants.ts";
import type { Judged } from "../validation/validate-model.ts";
import type { PriorityClass } from "./defaults.ts";
import { checked, documents, itemName, object, PlanInputError } from "./documents.ts";
import type { PlannedCluster, VolumeObjects } from "./plan.ts";

const modelApiVersion = `${modelResource.group}/${modelResource.version}`;

const metadata = z.looseObject({
  name: z.string().min(1),
  namespace: z.string().default("default"),
  uid: z.string().default("00000000-0000-0000-0000-000000000000"),
});
/** As far as facts are read from its status; whether it is a Model at all is for the validator to say. */
const modelSchema = z.looseObject({
  kind: z.literal("Model"),
  metadata,
  spec: z.looseObject({ source: z.looseObject({ reference: z.string().min(1) }) }),
  status: z.lazy(() => statusSchema).optional(),
});
const nodeSchema = z.looseObject({
  kind: z.literal("Node").optional(),
  metadata: z.looseObject({
    name: z.string().min(1),
    labels: z.record(z.string(), z.coerce.string()).default({}),
  }),
  spec: z
    .looseObject({
      taints: z
        .array(z.looseObject({ key: z.string(), value: z.coerce.string().optional(), effect: z.string() }))
        .optional(),
    })
    .optional(),
  status: z.looseObject({ allocatable: z.record(z.string(), z.coerce.string()).optional() }).optional(),
});
const named = z.looseObject({ name: z.string().min(1) });
const sliceSchema = z.looseObject({
  kind: z.literal("ResourceSlice"),
  metadata: named,
  spec: z.looseObject({
    driver: z.string(),
    pool: z.looseObject({ name: z.string(), generation: z.number(), resourceSliceCount: z.number() }),
    devices: z.array(named).optional(),
  }),
});
const podSchema = z.looseObject({
  kind: z.literal("Pod"),
  metadata: named,
  spec: z
    .looseObject({
      nodeName: z.string().optional(),
      containers: z.array(z.looseObject({})),
      initContainers: z.array(z.looseObject({})).optional(),
    })
    .optional(),
});
const amounts = z.record(z.string(), z.coerce.string());
const claimOfVolumeSchema = z.looseObject({
  kind: z.literal("PersistentVolumeClaim"),
  metadata: named.extend({
    labels: z.record(z.string(), z.coerce.string()).optional(),
    ownerReferences: z.array(z.looseObject({ apiVersion: z.string() })).optional(),
  }),
  spec: z
    .looseObject({
      accessModes: z.array(z.string()).optional(),
      storageClassName: z.string().optional(),
      volumeName: z.string().optional(),
      resources: z.looseObject({ requests: amounts.optional() }).optional(),
    })
    .optional(),
  status: z
    .looseObject({
      phase: z.string().optional(),
      capacity: amounts.optional(),
      conditions: z.array(z.looseObject({ type: z.string() })).optional(),
    })
    .optional(),
});
const terms = z.array(z.looseObject({}));
const volumeSchema = z.looseObject({
  kind: z.literal("PersistentVolume"),
  metadata: named,
  spec: z
    .looseObject({
      storageClassName: z.string().optional(),
      claimRef: z.looseObject({}).optional(),
      nodeAffinity: z
        .looseObject({ required: z.looseObject({ nodeSelectorTerms: terms.optional() }).optional() })
        .optional(),
    })
    .optional(),
});
const classSchema = z.looseObject({
  kind: z.literal("StorageClass"),
  metadata: named,
  provisioner: z.string().optional(),
  allowedTopologies: z
    .array(
      z.looseObject({
        matchLabelExpressions: z
          .array(z.looseObject({ key: z.string(), values: z.array(z.string()) }))
          .optional(),
      }),
    )
    .optional(),
});
const limitRangeSchema = z.looseObject({ kind: z.literal("LimitRange"), metadata: named });
const priorityClassSchema = z.looseObject({
  kind: z.literal("PriorityClass"),
  metadata: named,
  globalDefault: z.boolean().optional(),
});
const allocation = z.looseObject({ driver: z.string(), pool: z.string(), device: z.string() });
const claimSchema = z.looseObject({
  kind: z.literal("ResourceClaim"),
  metadata: named,
  status: z
    .looseObject({
      allocation: z
        .looseObject({ devices: z.looseObject({ results: z.array(allocation).optional() }).optional() })
        .optional(),
    })
    .optional(),
});
/** As far as plans read it. A new Model's own status is dropped by the API server, whatever it is. */
const statusSchema = z.looseObject({
  variants: z.array(z.looseObject({ name: z.string(), reference: z.string() })).optional(),
});
const bytes = z.int().min(0);
const factsSchema = z.looseObject({
  reference: z.string().min(1),
  digest: z.string().regex(/^sha(256|512):[0-9a-f]+$/),
  packaging: z.string(),
  format: z.enum(["gguf", "safetensors", "dduf", "unknown"]),
  quantization: z.string().optional(),
  parameters: z.string().optional(),
  sizeBytes: bytes,
  weightBytes: bytes,
  facts: z.record(z.string(), z.union([z.string(), z.number()])).optional(),
});
const failureSchema = z.looseObject({
  reference: z.string().min(1),
  code: z.enum(Object.keys(failureExitCodes) as [keyof typeof failureExitCodes]),
  message: z.string(),
});

const apiVersionOf = (value: unknown): string => object.safeParse(value).data?.apiVersion ?? "";

/** Whether a document claims to be a Model: by its kind, or by a group in which there is nothing else. */
function isMeantAsModel(value: unknown): boolean {
  return (
    object.safeParse(value).data?.kind === modelResource.kind ||
    apiVersionOf(value).startsWith(`${modelResource.group}/`)
  );
}

/**
 * Models of a text, with the defaults of their schema; other kinds beside them (a GitOps file often has some) are left alone.
 * One that the API server would refuse is refused with all that is wrong in all of them.
 * @param stated namespace of those that name none, and as for kubectl of all others too; absent: any
 * @param usual namespace of those that name none where none is stated
 */
export function readModels(
  text: string,
  file: string,
  validate: (model: unknown) => Judged,
  stated?: string,
  usual = "default",
): readonly Model[] {
  const all = documents(text, file);
  for (const [index, value] of all.entries()) {
    if (typeof object.safeParse(value).data?.kind !== "string")
      throw new PlanInputError(
        `${file}: document ${index + 1} has no kind; a Model begins with apiVersion: ${modelApiVersion} and kind: Model`,
      );
  }
  const models = all.filter(isMeantAsModel);
  if (models.length === 0) {
    const kinds = [...new Set(all.map((value) => object.safeParse(value).data?.kind))].join(", ");
    throw new PlanInputError(`${file} holds no object of kind Model, only ${kinds.slice(0, 200)}`);
  }
  const judged = models.map((value) => ({ value, ...validate(value) }));
  const refused = judged.filter(({ problems }) => problems.length > 0);
  if (refused.length > 0)
    throw new PlanInputError(
      refused
        .map(({ value, problems }) => {
          const name = named.safeParse(object.safeParse(value).data?.metadata).data?.name;
          const model = name === undefined ? "a Model without a name" : `Model ${JSON.stringify(name)}`;
          const lines = problems.map(
            ({ path, message }) => `  ${path === "" ? "the Model" : path}: ${message}`,
          );
          return `${file}: ${model} would be refused by the API server:\n${lines.join("\n")}`;
        })
        .join("\n"),
    );
  return judged.map(({ model }) => {
    // Server-set, and of no matter for a choice.
    const { metadata: given, status, ...rest } = model as Model;
    const told = statusSchema.safeParse(status);
    const { namespace = stated ?? usual, ...meta } = given as Partial<Model["metadata"]>;
    if (stated !== undefined && namespace !== stated)
      throw new PlanInputError(
        `${file}: Model ${JSON.stringify(meta.name)} is of namespace ${namespace}, and --namespace says ${stated}; leave one of them out`,
      );
    return {
      ...rest,
      metadata: metadata.parse({ ...meta, namespace }),
      ...(told.success && status !== undefined ? { status } : {}),
    } as Model;
  });
}

/** Claims, volumes and storage classes beside the Models of a text, which are applied together. */
export function readApplied(text: string, file: string, namespace = "default"): VolumeObjects {
  const all = documents(text, file);
  const read = <T>(kind: string, schema: z.ZodType): readonly T[] =>
    all.flatMap((value, index) =>
      object.safeParse(value).data?.kind === kind ? [checked(schema, value, file, index) as T] : [],
    );
  return {
    claims: read<Claim>("PersistentVolumeClaim", claimOfVolumeSchema).map((claim) => ({
      ...claim,
      metadata: { namespace, ...claim.metadata },
    })),
    volumes: read<PersistentVolume>("PersistentVolume", volumeSchema),
    classes: read<StorageClass>("StorageClass", classSchema),
  };
}

/**
 * Nodes as `kubectl get nodes -o yaml` prints them, in one file or several, and beside them ResourceSlices, pods, ResourceClaims, claims, volumes and classes
 * of storage, LimitRanges and PriorityClasses, if it was asked for these too. Of pods, claims, volumes and classes each counts only where there are some: files
 * without any say nothing about them, since nobody may have asked.
 */
export function readCluster(
  files: readonly { readonly text: string; readonly file: string }[],
): PlannedCluster {
  const nodes: Node[] = [];
  const slices: ResourceSlice[] = [];
  const pods: ScheduledPod[] = [];
  const claims: ResourceClaim[] = [];
  const storage = { claims: [] as Claim[], volumes: [] as PersistentVolume[], classes: [] as StorageClass[] };
  const limitRanges: KubeObject[] = [];
  const priorityClasses: PriorityClass[] = [];
  const given = files.flatMap(({ text, file }) =>
    documents(text, file).map((value, index) => ({ value, index, file })),
  );
  for (const { value, index, file } of given) {
    const { kind } = object.safeParse(value).data ?? {};
    const read = <T>(schema: z.ZodType): T => checked(schema, value, file, index) as T;
    if (kind === "ResourceSlice") slices.push(read(sliceSchema));
    else if (kind === "Pod") pods.push(read(podSchema));
    else if (kind === "ResourceClaim") claims.push(read(claimSchema));
    else if (kind === "PersistentVolumeClaim") storage.claims.push(read(claimOfVolumeSchema));
    else if (kind === "PersistentVolume") storage.volumes.push(read(volumeSchema));
    else if (kind === "StorageClass") storage.classes.push(read(classSchema));
    else if (kind === "LimitRange") limitRanges.push(read(limitRangeSchema));
    else if (kind === "PriorityClass") priorityClasses.push(read(priorityClassSchema));
    else if (kind === undefined || kind === "Node") nodes.push(read(nodeSchema));
    else
      throw new PlanInputError(
        `${file}: ${itemName(value, index)} is nothing that --nodes takes; see --help`,
      );
  }
  return {
    nodes,
    slices,
    claims,
    defaults: { limitRanges, priorityClasses },
    ...(pods.length === 0 ? {} : { pods }),
    // Neither is a claim missing where classes alone are told, nor a class where claims alone are.
    storage: {
      ...(storage.claims.length === 0 ? {} : { claims: storage.claims }),
      ...(storage.volumes.length === 0 ? {} : { volumes: storage.volumes }),
      ...(storage.classes.length === 0 ? {} : { classes: storage.classes }),
    },
  };
}

/**
 * Facts by reference: the output of `puller inspect --output json`, or Models with a status, which holds what the operator
 * has read.
 */
export function readFacts(text: string, file: string): ReadonlyMap<string, InspectResult> {
  const results = new Map<string, InspectResult>();
  for (const [index, value] of documents(text, file).flat().entries()) {
    if (object.safeParse(value).data?.kind === "Model") {
      const model = checked(modelSchema, value, file, index) as unknown as Model;
      for (const [reference, result] of factsOfStatus(model)) results.set(reference, result);
      continue;
    }
    if (object.safeParse(value).data?.kind !== undefined)
      throw new PlanInputError(
        `${file}: ${itemName(value, index)} tells nothing of an artifact; --facts takes the output of "puller inspect --output json", or Models with a status`,
      );
    const failure = failureSchema.safeParse(value);
    const result = failure.success ? failure.data : checked(factsSchema, value, file, index);
    results.set(result.reference, result as unknown as InspectResult);
  }
  return results;
}

/** What a Model's status knows of its references. */
export function factsOfStatus(model: Model): ReadonlyMap<string, InspectResult> {
  return new Map(
    (model.status?.variants ?? []).flatMap((each) => {
      const known = knownArtifact(model, each);
      const { name, reference, describedBy } = each;
      // Found variants have their names from here, as in the puller's own output.
      return known === undefined
        ? []
        : [[reference, describedBy === undefined ? known : { ...known, name }] as const];
    }),
  );
}
