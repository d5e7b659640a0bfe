// The volume of a Model's pods: what kind it is, how pods share it, and what it costs the node. Pure.

import { modelDirectoryName } from "../../puller/contract.ts";
import { resolveRelativeReference } from "../../puller/oci/reference.ts";
import type { JsonObject, Model } from "../api/model.ts";
import { parseQuantity } from "../kube/quantity.ts";
import { bytesQuantity } from "./bytes-quantity.ts";
import { claimLabelValue, claimSharing, usesClaim, wantedClaimName, type Sharing } from "./claim.ts";
import { usesImageVolume } from "./image-volume.ts";
import { claimLabel, modelDirectoryAnnotation, modelVolumeName, volumeBytesAnnotation } from "./names.ts";
import type { WorkloadInput } from "./types.ts";
import { statedBytes, volumeNeed } from "./volume-need.ts";

/** How a pod gets its volume and what is to be reserved for it. */
export type StoragePlan = {
  /** The entry in the pod's `volumes`. */
  readonly volume: JsonObject;
  /** The node brings the model itself: there is nothing for a puller to do. */
  readonly isImage?: boolean;
  /** To be requested of the node's disk, bytes; 0 where the volume is not there. */
  readonly ephemeralStorageBytes: number;
  /** Held in RAM by the volume, bytes: every container that runs beside it needs as much more. */
  readonly memoryBytes: number;
  /** Undefined: each pod has a volume of its own. */
  readonly sharing: Sharing | undefined;
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
  readonly podAffinity: JsonObject | undefined;
};

/** The volume of the pods. */
export function storagePlan({
  model,
  artifact,
  claim,
}: Pick<WorkloadInput, "model" | "artifact" | "claim">): StoragePlan {
  const need = volumeNeed(artifact);
  const name = wantedClaimName(model);
  if (name !== undefined) {
    const sharing = claimSharing(model, claim);
    const value = claimLabelValue(name);
    const { include = [], exclude = [] } = model.spec.puller ?? {};
    return {
      volume: {
        name: modelVolumeName,
        persistentVolumeClaim: { claimName: name, ...(sharing === "ReadOnly" ? { readOnly: true } : {}) },
      },
      ephemeralStorageBytes: 0,
      memoryBytes: 0,
      sharing,
      labels: { [claimLabel]: value },
      // Tell what older pods still have mounted, and how much room that takes, when there are newer ones.
      annotations: {
        [modelDirectoryAnnotation]: modelDirectoryName(artifact.digest, include, exclude),
        [volumeBytesAnnotation]: String(need.limit),
      },
      podAffinity: sharing === "OneNode" ? onNodeOfClaim(value) : undefined,
    };
  }
  if (usesImageVolume(model)) {
    return {
      volume: {
        name: modelVolumeName,
        // What was chosen is what is mounted, whatever the tag says by then.
        image: {
          reference: resolveRelativeReference(artifact.reference, `@${artifact.digest}`),
          pullPolicy: "IfNotPresent",
        },
      },
      isImage: true,
      ephemeralStorageBytes: 0,
      memoryBytes: 0,
      sharing: undefined,
      labels: {},
      annotations: {},
      podAffinity: undefined,
    };
  }
  const { diskBytes, memoryBytes } = volumeAmounts(model, artifact);
  const isInMemory = memoryBytes > 0;
  const limit = statedBytes(model) ?? need.limit;
  return {
    volume: {
      name: modelVolumeName,
      emptyDir: { ...(isInMemory ? { medium: "Memory" } : {}), sizeLimit: bytesQuantity(limit) },
    },
    ephemeralStorageBytes: diskBytes,
    memoryBytes,
    sharing: undefined,
    labels: {},
    annotations: {},
    podAffinity: undefined,
  };
}

/** What the volume costs a node of its disk, or of its RAM, bytes; both 0 where it is no part of the node. */
export function volumeAmounts(
  model: Pick<Model, "spec">,
  artifact: WorkloadInput["artifact"],
): { readonly diskBytes: number; readonly memoryBytes: number } {
  if (usesClaim(model) || usesImageVolume(model)) return { diskBytes: 0, memoryBytes: 0 };
  const stated = statedBytes(model);
  const need = volumeNeed(artifact);
  return model.spec.storage?.medium === "Memory"
    ? { diskBytes: 0, memoryBytes: stated ?? need.limit }
    : { diskBytes: stated ?? need.request, memoryBytes: 0 };
}

/**
 * A disk that one node alone can attach: a pod on another one would wait for it without end. So all pods of the claim, of
 * whichever Model, go where the first one is; the first one goes where it fits, and a claim that waits for it binds there.
 */
export function onNodeOfClaim(value: string): JsonObject {
  return {
    requiredDuringSchedulingIgnoredDuringExecution: [
      { labelSelector: { matchLabels: { [claimLabel]: value } }, topologyKey: "kubernetes.io/hostname" },
    ],
  };
}

/**
 * Resources of a container beside a volume that holds `bytes` in RAM: the kernel counts them against the pod, so requests and
 * limits of memory grow by them. Without a limit the request has to be there, or the scheduler would not know of them.
 */
export function withVolumeMemory(resources: JsonObject, bytes: number): JsonObject {
  if (bytes === 0) return resources;
  const grown = (list: JsonObject, isNeeded: boolean): JsonObject => {
    const before = parseQuantity(list["memory"] as string | number | undefined);
    if (before === undefined && !isNeeded) return list;
    return { ...list, memory: bytesQuantity((before ?? 0) + bytes) };
  };
  const limits = grown((resources["limits"] ?? {}) as JsonObject, false);
  const requests = grown((resources["requests"] ?? {}) as JsonObject, limits["memory"] === undefined);
  return {
    ...resources,
    ...(Object.keys(requests).length === 0 ? {} : { requests }),
    ...(Object.keys(limits).length === 0 ? {} : { limits }),
  };
}
