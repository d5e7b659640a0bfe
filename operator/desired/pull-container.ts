// The container that brings a model to the volume of its pod. Pure.

import { progressPort } from "../../puller/contract.ts";
import { resolveRelativeReference } from "../../puller/oci/reference.ts";
import type { JsonObject, Model } from "../api/model.ts";
import type { OperatorConfiguration } from "../configuration.ts";
import { diskResource } from "../hardware/pod-requests.ts";
import { bytesQuantity } from "./bytes-quantity.ts";
import { modelVolumeName, pullContainerName, storeMountPath } from "./names.ts";
import {
  containerSecurityContext,
  literal,
  pullerEnvironment,
  pullerResources,
  registryArguments,
  registryVolumeMounts,
} from "./puller-container.ts";
import { withVolumeMemory, type StoragePlan } from "./storage.ts";
import type { WorkloadInput } from "./types.ts";

type PullInput = Pick<WorkloadInput, "model" | "configuration" | "artifact"> & {
  readonly storage: StoragePlan;
};

/** What it requests: its own, and what the volume costs the node, or the scheduler would choose one whose disk cannot take the model. */
export function pullContainerResources(
  model: Pick<Model, "spec">,
  configuration: Pick<OperatorConfiguration, "pullerResources">,
  { memoryBytes, ephemeralStorageBytes }: Pick<StoragePlan, "memoryBytes" | "ephemeralStorageBytes">,
): JsonObject {
  const resources = withVolumeMemory(pullerResources(model, configuration), memoryBytes);
  if (ephemeralStorageBytes === 0) return resources;
  const requests = (resources["requests"] ?? {}) as JsonObject;
  return { ...resources, requests: { [diskResource]: bytesQuantity(ephemeralStorageBytes), ...requests } };
}

/** The complete container. */
export function pullContainer(input: PullInput): JsonObject {
  const { model, configuration, artifact, storage } = input;
  const { include = [], exclude = [], concurrency, bandwidthLimit } = model.spec.puller ?? {};
  return {
    name: pullContainerName,
    image: configuration.pullerImage,
    imagePullPolicy: configuration.pullerImagePullPolicy,
    args: [
      "pull",
      // What was chosen is what is pulled, whatever the tag says by then.
      `--reference=${resolveRelativeReference(artifact.reference, `@${artifact.digest}`)}`,
      `--store=${storeMountPath}`,
      `--progress-address=0.0.0.0:${progressPort}`,
      "--termination-log=/dev/termination-log",
      ...registryArguments(model, [artifact.reference]),
      ...include.map((glob) => `--include=${glob}`),
      ...exclude.map((glob) => `--exclude=${glob}`),
      ...(concurrency === undefined ? [] : [`--concurrency=${concurrency}`]),
      ...(bandwidthLimit === undefined ? [] : [`--bandwidth-limit=${bandwidthLimit}`]),
    ].map(literal),
    ...pullerEnvironment(configuration),
    ports: [{ containerPort: progressPort, name: "progress", protocol: "TCP" }],
    resources: pullContainerResources(model, configuration, storage),
    securityContext: containerSecurityContext,
    terminationMessagePolicy: "File",
    volumeMounts: [
      {
        mountPath: storeMountPath,
        name: modelVolumeName,
        ...(storage.sharing === "ReadOnly" ? { readOnly: true } : {}),
      },
      ...registryVolumeMounts(model),
    ],
  };
}
