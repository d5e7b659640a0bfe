// The container that brings a model to the volume of its pod. Pure.

import { progressPort } from "../../puller/contract.ts";
import { resolveRelativeReference } from "../../puller/oci/reference.ts";
import type { JsonObject } from "../api/model.ts";
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

/** The complete container. */
export function pullContainer(input: PullInput): JsonObject {
  const { model, configuration, artifact, storage } = input;
  const { include = [], exclude = [], concurrency, bandwidthLimit } = model.spec.puller ?? {};
  const resources = withVolumeMemory(pullerResources(model, configuration), storage.memoryBytes);
  const requests = (resources["requests"] ?? {}) as JsonObject;
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
    // The scheduler must not choose a node whose disk cannot take the model.
    resources:
      storage.ephemeralStorageBytes === 0
        ? resources
        : {
            ...resources,
            requests: { "ephemeral-storage": bytesQuantity(storage.ephemeralStorageBytes), ...requests },
          },
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
