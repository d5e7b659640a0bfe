// The Deployment of a Model: the puller as init container, the runtime beside the model it fetched. Pure.

import { modelDirectoryName } from "../../puller/contract.ts";
import { progressPort } from "../../puller/contract.ts";
import type { JsonObject, Model, RuntimeSpec } from "../api/model.ts";
import { withAppliedHash } from "../kube/needs-apply.ts";
import type { KubeObject } from "../kube/types.ts";
import {
  defaultModelMountPath,
  digestAnnotation,
  labels,
  metadata,
  modelVolumeName,
  portName,
  pullContainerName,
  runtimeContainerName,
  selectorLabels,
  storeMountPath,
  variantAnnotation,
  workloadName,
} from "./names.ts";
import { patchTemplate } from "./patch-template.ts";
import {
  containerSecurityContext,
  podSecurityContext,
  pullerResources,
  registryArguments,
  registryVolumeMounts,
  registryVolumes,
  temporaryVolumeName,
} from "./puller-container.ts";
import type { WorkloadInput } from "./types.ts";

/** Room on the volume beyond the model itself: directories, records of the store, a tar unpacked beside its blob. */
const volumeHeadroomBytes = 64 * 2 ** 20;
/** Loading a large model from a slow disk takes long; until then the kubelet must not restart the runtime. */
const startupSeconds = { period: 2, failures: 1800 };

/** `registry/repository@digest`: what was chosen is what is pulled, whatever the tag says by then. */
export function pinnedReference(reference: string, digest: string): string {
  const withoutDigest = reference.split("@")[0] ?? reference;
  const slash = withoutDigest.lastIndexOf("/");
  const colon = withoutDigest.indexOf(":", slash + 1);
  return `${colon === -1 ? withoutDigest : withoutDigest.slice(0, colon)}@${digest}`;
}

/** The runtime's settings, the Model's over the named runtime's, the variant's over the Model's. */
function runtimeSettings(model: Model, input: WorkloadInput): RuntimeSpec {
  const variant = model.spec.variants?.find(({ name }) => name === input.variantName)?.runtime ?? {};
  return { ...model.spec.runtime, ...variant };
}

/** Bytes the volume needs: archives are there twice, as blob and unpacked. */
function volumeBytes(input: WorkloadInput): number {
  const needed = input.artifact.sizeBytes * 2 + volumeHeadroomBytes;
  // Whole mebibytes, as the API server would write them.
  return Math.ceil(needed / 2 ** 20);
}

function pullContainer(input: WorkloadInput): JsonObject {
  const { model, configuration, artifact } = input;
  const { include = [], exclude = [], concurrency } = model.spec.puller ?? {};
  const resources = pullerResources(model, configuration);
  const requests = (resources["requests"] ?? {}) as JsonObject;
  return {
    name: pullContainerName,
    image: configuration.pullerImage,
    imagePullPolicy: configuration.pullerImagePullPolicy,
    args: [
      "pull",
      `--reference=${pinnedReference(artifact.reference, artifact.digest)}`,
      `--store=${storeMountPath}`,
      `--progress-address=0.0.0.0:${progressPort}`,
      "--termination-log=/dev/termination-log",
      ...registryArguments(model, [artifact.reference]),
      ...include.map((glob) => `--include=${glob}`),
      ...exclude.map((glob) => `--exclude=${glob}`),
      ...(concurrency === undefined ? [] : [`--concurrency=${concurrency}`]),
    ],
    ports: [{ containerPort: progressPort, name: "progress", protocol: "TCP" }],
    // The scheduler must not choose a node whose disk cannot take the model.
    resources: { ...resources, requests: { ...requests, "ephemeral-storage": `${volumeBytes(input)}Mi` } },
    securityContext: containerSecurityContext,
    terminationMessagePolicy: "File",
    volumeMounts: [{ mountPath: storeMountPath, name: modelVolumeName }, ...registryVolumeMounts(model)],
  };
}

function runtimeContainer(input: WorkloadInput, settings: RuntimeSpec): JsonObject {
  const { model, artifact, placement, runtime } = input;
  const { definition } = runtime;
  const mountPath = settings.mountPath ?? defaultModelMountPath;
  const usesDevice = placement.deviceResource !== undefined;
  const port = settings.port ?? definition.port;
  const image =
    settings.image ?? (usesDevice ? (definition.acceleratorImage ?? definition.image) : definition.image);
  const args = settings.args ?? [...definition.args, ...(usesDevice ? definition.acceleratorArgs : [])];
  const { include, exclude } = model.spec.puller ?? {};
  const probe =
    definition.healthPath === undefined
      ? { tcpSocket: { port: portName } }
      : { httpGet: { path: definition.healthPath, port: portName, scheme: "HTTP" } };
  return {
    name: runtimeContainerName,
    image,
    imagePullPolicy: "IfNotPresent",
    ...(definition.command === undefined || settings.image !== undefined
      ? {}
      : { command: definition.command }),
    args,
    env: [
      { name: "MODEL_DIR", value: mountPath },
      {
        name: "MODEL_PATH",
        value: artifact.entry === undefined ? mountPath : `${mountPath}/${artifact.entry}`,
      },
      { name: "MODEL_NAME", value: model.metadata.name },
      { name: "MODEL_CONTEXT_LENGTH", value: String(placement.footprint.contextLength) },
      { name: "MODEL_GPU_COUNT", value: String(placement.deviceResource?.count ?? 0) },
      // Images of inference servers write caches to their home; the root file system is read-only.
      { name: "HOME", value: "/tmp" },
      ...(definition.env as JsonObject[]),
      ...(settings.env ?? []),
    ],
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
        subPath: `models/${modelDirectoryName(artifact.digest, include ?? [], exclude ?? [])}`,
      },
      { mountPath: "/tmp", name: temporaryVolumeName },
      ...(definition.sharedMemory ? [{ mountPath: "/dev/shm", name: "shared-memory" }] : []),
    ],
  };
}

/** Devices and RAM that the placement asks for; what the user states wins, but for the devices. */
function runtimeResources(input: WorkloadInput, settings: RuntimeSpec): JsonObject {
  const { placement, runtime } = input;
  const stated = settings.resources ?? (runtime.definition.resources as JsonObject);
  const devices: JsonObject =
    placement.deviceResource === undefined
      ? {}
      : { [placement.deviceResource.name]: String(placement.deviceResource.count) };
  const memory: JsonObject =
    placement.memoryBytes > 0 ? { memory: `${Math.ceil(placement.memoryBytes / 2 ** 20)}Mi` } : {};
  const limits = { ...(stated["limits"] as JsonObject | undefined), ...devices };
  return {
    ...stated,
    requests: { ...memory, ...(stated["requests"] as JsonObject | undefined), ...devices },
    ...(Object.keys(limits).length === 0 ? {} : { limits }),
  };
}

/** The complete Deployment. */
export function workloadDeployment(input: WorkloadInput): KubeObject {
  const { model, artifact, placement, variantName, runtime } = input;
  const settings = runtimeSettings(model, input);
  const usesDevice = placement.deviceResource !== undefined;
  const tolerations: readonly JsonObject[] = [
    ...(usesDevice ? [{ effect: "NoSchedule", key: "nvidia.com/gpu", operator: "Exists" }] : []),
    ...(settings.tolerations ?? []),
  ];
  const template: JsonObject = {
    metadata: {
      annotations: { [digestAnnotation]: artifact.digest, [variantAnnotation]: variantName },
      labels: labels(model, "server"),
    },
    spec: {
      ...(placement.nodeSelectorTerms.length === 0
        ? {}
        : {
            affinity: {
              nodeAffinity: {
                requiredDuringSchedulingIgnoredDuringExecution: {
                  nodeSelectorTerms: placement.nodeSelectorTerms as unknown as readonly JsonObject[],
                },
              },
            },
          }),
      automountServiceAccountToken: false,
      containers: [runtimeContainer(input, settings)],
      enableServiceLinks: false,
      initContainers: [pullContainer(input)],
      securityContext: podSecurityContext,
      terminationGracePeriodSeconds: 30,
      ...(tolerations.length === 0 ? {} : { tolerations }),
      volumes: [
        { name: modelVolumeName, emptyDir: { sizeLimit: `${volumeBytes(input)}Mi` } },
        { name: temporaryVolumeName, emptyDir: {} },
        ...(runtime.definition.sharedMemory
          ? [{ name: "shared-memory", emptyDir: { medium: "Memory" } }]
          : []),
        ...registryVolumes(model),
      ],
    },
  };
  const deployment = {
    apiVersion: "apps/v1",
    kind: "Deployment",
    metadata: metadata(model, workloadName(model), "server"),
    spec: {
      // Pulling counts as progress only when a pod becomes ready: a large model over a slow link takes hours.
      progressDeadlineSeconds: 7200,
      replicas: model.spec.replicas ?? 1,
      revisionHistoryLimit: 2,
      selector: { matchLabels: selectorLabels(model) },
      strategy: {
        type: "RollingUpdate",
        // A pod that waits for a device which only its predecessor can free would wait for ever.
        rollingUpdate: usesDevice ? { maxSurge: 0, maxUnavailable: 1 } : { maxSurge: 1, maxUnavailable: 0 },
      },
      template: patchTemplate(template, model.spec.template),
    },
  };
  return withAppliedHash(deployment as unknown as KubeObject);
}
