// The Deployment of a Model: the puller as init container, the runtime beside the model it fetched. Pure.

import { modelDirectoryName } from "../../puller/contract.ts";
import type { Json, JsonObject, Model, NodeSelectorRequirement, RuntimeSpec } from "../api/model.ts";
import { withAppliedHash } from "../kube/needs-apply.ts";
import type { KubeObject } from "../kube/types.ts";
import { runtimeImage } from "../selection/runtime-image.ts";
import type { Placement } from "../selection/types.ts";
import { deviceTolerations } from "../selection/tolerations.ts";
import { bytesQuantity } from "./bytes-quantity.ts";
import { imageModelFolder } from "./image-volume.ts";
import { claimTemplateName, deviceClaimName } from "./claim-template.ts";
import {
  defaultModelMountPath,
  digestAnnotation,
  labels,
  metadata,
  modelVolumeName,
  placementLabel,
  portName,
  runtimeContainerName,
  selectorLabels,
  variantAnnotation,
  workloadName,
} from "./names.ts";
import { withOwnDevices } from "./own-devices.ts";
import { pullContainer } from "./pull-container.ts";
import { patchTemplate } from "./patch-template.ts";
import {
  containerSecurityContext,
  literal,
  podSecurityContext,
  registryVolumes,
  temporaryVolumeName,
} from "./puller-container.ts";
import { storagePlan, withVolumeMemory, type StoragePlan } from "./storage.ts";
import type { WorkloadInput } from "./types.ts";

/** Loading a large model from a slow disk takes long; until then the kubelet must not restart the runtime. */
const startupSeconds = { period: 2, failures: 1800 };

/**
 * The runtime's settings: the Model's, the variant's over them. A variant that names another runtime does not
 * inherit what was written for the first one.
 */
export function runtimeSettings({
  model,
  variantName,
}: {
  readonly model: Pick<Model, "spec">;
  readonly variantName: string;
}): RuntimeSpec {
  const ofModel = model.spec.runtime ?? {};
  const ofVariant = model.spec.variants?.find(({ name }) => name === variantName)?.runtime ?? {};
  const { image: _image, args: _args, port: _port, env: _env, ...anyRuntime } = ofModel;
  const isOther = ofVariant.name !== undefined && ofVariant.name !== ofModel.name;
  const env = [...(isOther ? [] : (ofModel.env ?? [])), ...(ofVariant.env ?? [])];
  return { ...(isOther ? anyRuntime : ofModel), ...ofVariant, ...(env.length === 0 ? {} : { env }) };
}

/** Variables by name: a later one replaces an earlier one in its place, since the API server refuses a name twice. */
function mergeEnvironment(variables: readonly JsonObject[]): readonly JsonObject[] {
  const byName = new Map<Json | undefined, JsonObject>();
  for (const variable of variables) byName.set(variable["name"], variable);
  return [...byName.values()];
}

type StoredInput = WorkloadInput & { readonly storage: StoragePlan };

function runtimeContainer(input: StoredInput, settings: RuntimeSpec): JsonObject {
  const { model, artifact, placement, runtime, storage } = input;
  const { definition } = runtime;
  const mountPath = settings.mountPath ?? defaultModelMountPath;
  const usesDevice = placement.accelerator !== "none";
  const port = settings.port ?? definition.port;
  const image = settings.image ?? runtimeImage(definition, placement.accelerator) ?? definition.image;
  const args = settings.args ?? [...definition.args, ...(usesDevice ? definition.acceleratorArgs : [])];
  const { include, exclude } = model.spec.puller ?? {};
  const { contextLength } = placement.footprint;
  const parallel = model.spec.selection?.parallel ?? 1;
  const probe =
    definition.healthPath === undefined
      ? { tcpSocket: { port: portName } }
      : { httpGet: { path: definition.healthPath, port: portName, scheme: "HTTP" } };
  return {
    name: runtimeContainerName,
    image,
    imagePullPolicy: "IfNotPresent",
    ...(definition.command === undefined ? {} : { command: definition.command }),
    args,
    env: mergeEnvironment([
      { name: "MODEL_DIR", value: literal(mountPath) },
      {
        name: "MODEL_PATH",
        value: literal(artifact.entry === undefined ? mountPath : `${mountPath}/${artifact.entry}`),
      },
      { name: "MODEL_NAME", value: model.metadata.name },
      { name: "MODEL_CONTEXT_LENGTH", value: String(contextLength) },
      { name: "MODEL_PARALLEL", value: String(parallel) },
      // Engines that divide one cache among their sequences are given the whole.
      { name: "MODEL_CACHE_TOKENS", value: String(contextLength * parallel) },
      {
        name: "MODEL_GPU_COUNT",
        value: String((placement.deviceResource ?? placement.deviceClaim)?.count ?? 0),
      },
      { name: "MODEL_PORT", value: String(port) },
      // Images of inference servers write caches to their home; the root file system is read-only.
      { name: "HOME", value: "/tmp" },
      ...(definition.env as JsonObject[]),
      ...(settings.env ?? []),
    ]),
    ports: [{ containerPort: port, name: portName, protocol: "TCP" }],
    resources: runtimeResources(input, settings),
    securityContext: containerSecurityContext,
    startupProbe: {
      ...probe,
      failureThreshold: startupSeconds.failures,
      periodSeconds: startupSeconds.period,
      timeoutSeconds: 5,
    },
    readinessProbe: { ...probe, failureThreshold: 3, periodSeconds: 5, timeoutSeconds: 5 },
    livenessProbe: { ...probe, failureThreshold: 6, periodSeconds: 10, timeoutSeconds: 10 },
    terminationMessagePolicy: "FallbackToLogsOnError",
    volumeMounts: [
      {
        mountPath,
        name: modelVolumeName,
        readOnly: true,
        subPath:
          storage.isImage === true
            ? imageModelFolder
            : `models/${modelDirectoryName(artifact.digest, include ?? [], exclude ?? [])}`,
      },
      { mountPath: "/tmp", name: temporaryVolumeName },
      ...(definition.sharedMemory ? [{ mountPath: "/dev/shm", name: "shared-memory" }] : []),
    ],
  };
}

/** Devices and RAM that the placement asks for; what the user states wins, but for the devices. */
export function runtimeResources(
  input: {
    readonly placement: Pick<Placement, "deviceResource" | "deviceClaim" | "memoryBytes">;
    readonly runtime: WorkloadInput["runtime"];
    readonly storage: Pick<StoragePlan, "memoryBytes">;
  },
  settings: Pick<RuntimeSpec, "resources">,
): JsonObject {
  const { placement, runtime, storage } = input;
  const stated = settings.resources ?? (runtime.definition.resources as JsonObject);
  const statedLimits = (stated["limits"] ?? {}) as JsonObject;
  const devices: JsonObject =
    placement.deviceResource === undefined
      ? {}
      : { [placement.deviceResource.name]: String(placement.deviceResource.count) };
  // A stated limit without a request is the request too: an estimate above it would be refused by the API server.
  const memory: JsonObject =
    placement.memoryBytes > 0 && statedLimits["memory"] === undefined
      ? { memory: bytesQuantity(placement.memoryBytes) }
      : {};
  const claims: JsonObject =
    placement.deviceClaim === undefined
      ? {}
      : { claims: [...((stated["claims"] ?? []) as readonly Json[]), { name: deviceClaimName }] };
  const limits = { ...statedLimits, ...devices };
  const requests = { ...memory, ...(stated["requests"] as JsonObject | undefined), ...devices };
  const resources = {
    ...stated,
    ...claims,
    ...(Object.keys(requests).length === 0 ? {} : { requests }),
    ...(Object.keys(limits).length === 0 ? {} : { limits }),
  };
  return withVolumeMemory(resources, storage.memoryBytes);
}

/** Nodes that the pods need, those that they leave to pods of better classes where they can, and those that have the model. */
function nodeAffinity(
  { nodeSelectorTerms }: Placement,
  avoid: readonly NodeSelectorRequirement[],
  preferredNodes: readonly string[],
): JsonObject {
  const required: JsonObject =
    nodeSelectorTerms.length === 0
      ? {}
      : {
          requiredDuringSchedulingIgnoredDuringExecution: {
            nodeSelectorTerms: nodeSelectorTerms as unknown as readonly JsonObject[],
          },
        };
  const terms: readonly JsonObject[] = [
    ...avoid.map((requirement) => ({
      weight: 100,
      preference: { matchExpressions: [requirement as unknown as JsonObject] },
    })),
    // Less than a better class is worth. A term names one node: the API server takes no more in a field.
    ...preferredNodes.map((node) => ({
      weight: 50,
      preference: { matchFields: [{ key: "metadata.name", operator: "In", values: [node] }] },
    })),
  ];
  const preferred: JsonObject =
    terms.length === 0 ? {} : { preferredDuringSchedulingIgnoredDuringExecution: terms };
  const both = { ...required, ...preferred };
  return Object.keys(both).length === 0 ? {} : { nodeAffinity: both };
}

/** The node pulls the image with the credentials that the puller would have. */
function imagePullSecrets(model: Model): JsonObject {
  const { pullSecrets = [] } = model.spec.source;
  return pullSecrets.length === 0 ? {} : { imagePullSecrets: pullSecrets.map(({ name }) => ({ name })) };
}

/** The complete Deployment. */
export function workloadDeployment(input: WorkloadInput): KubeObject {
  const { model, artifact, placement, variantName, runtime } = input;
  const settings = runtimeSettings(input);
  const usesDevice = placement.accelerator !== "none";
  const storage = storagePlan(input);
  const stored = { ...input, storage };
  const { key = "", avoid = [] } = input.share ?? {};
  const ofShare: Readonly<Record<string, string>> = key === "" ? {} : { [placementLabel]: key };
  const affinity: JsonObject = {
    ...nodeAffinity(placement, avoid, input.preferredNodes ?? []),
    ...(storage.podAffinity === undefined ? {} : { podAffinity: storage.podAffinity }),
  };
  const tolerations: readonly JsonObject[] = [
    ...(placement.accelerator === "none" ? [] : deviceTolerations(placement.accelerator)),
    ...(settings.tolerations ?? []),
  ];
  const template: JsonObject = {
    metadata: {
      annotations: {
        [digestAnnotation]: artifact.digest,
        [variantAnnotation]: variantName,
        ...storage.annotations,
      },
      labels: { ...labels(model, "server"), ...ofShare, ...storage.labels },
    },
    spec: {
      ...(Object.keys(affinity).length === 0 ? {} : { affinity }),
      automountServiceAccountToken: false,
      containers: [runtimeContainer(stored, settings)],
      enableServiceLinks: false,
      ...(storage.isImage === true ? imagePullSecrets(model) : { initContainers: [pullContainer(stored)] }),
      ...(placement.deviceClaim === undefined
        ? {}
        : {
            resourceClaims: [
              {
                name: deviceClaimName,
                resourceClaimTemplateName: claimTemplateName(model, placement.deviceClaim),
              },
            ],
          }),
      securityContext: podSecurityContext,
      terminationGracePeriodSeconds: 30,
      ...(tolerations.length === 0 ? {} : { tolerations }),
      volumes: [
        storage.volume,
        { name: temporaryVolumeName, emptyDir: {} },
        ...(runtime.definition.sharedMemory
          ? [{ name: "shared-memory", emptyDir: { medium: "Memory" } }]
          : []),
        ...(storage.isImage === true ? [] : registryVolumes(model)),
      ],
    },
  };
  const isBound = usesDevice || storage.sharing === "OneNode" || storage.sharing === "OnePod";
  const deployment = {
    apiVersion: "apps/v1",
    kind: "Deployment",
    metadata: {
      ...metadata(model, workloadName(model, key), "server"),
      labels: { ...labels(model, "server"), ...ofShare },
    },
    spec: {
      // Pulling counts as progress only when a pod becomes ready: a large model over a slow link takes hours.
      progressDeadlineSeconds: 7200,
      replicas: input.replicas ?? model.spec.replicas ?? 1,
      revisionHistoryLimit: 2,
      selector: { matchLabels: { ...selectorLabels(model), ...ofShare } },
      strategy: {
        type: "RollingUpdate",
        // A pod that waits for a device, a disk or room on the disk's node which only its predecessor can free would wait for
        // ever.
        rollingUpdate:
          isBound && input.isSurging !== true
            ? { maxSurge: 0, maxUnavailable: 1 }
            : { maxSurge: 1, maxUnavailable: 0 },
      },
      template: withOwnDevices(
        patchTemplate(template, model.spec.template),
        placement,
        placement.deviceClaim === undefined ? undefined : claimTemplateName(model, placement.deviceClaim),
      ),
    },
  };
  return withAppliedHash(deployment as unknown as KubeObject);
}
