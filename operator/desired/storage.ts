// The volume of a Model's pods: what kind it is, how large, and what it costs the node. Pure.

import type { InspectFacts } from "../../puller/contract.ts";
import type { JsonObject, Model } from "../api/model.ts";
import { parseQuantity } from "../kube/quantity.ts";
import { bytesQuantity } from "./bytes-quantity.ts";
import { modelVolumeName } from "./names.ts";

/** Room on the volume beyond the model itself: directories, records of the store. */
const volumeHeadroomBytes = 64 * 2 ** 20;

/** How a pod gets its volume and what is to be reserved for it. */
export type StoragePlan = {
  /** The entry in the pod's `volumes`. */
  readonly volume: JsonObject;
  /** To be requested of the node's disk, bytes; 0 where the volume is not there. */
  readonly ephemeralStorageBytes: number;
  /** Held in RAM by the volume, bytes: every container that runs beside it needs as much more. */
  readonly memoryBytes: number;
};

/**
 * What a volume needs for one artifact, bytes. An archive is there twice, as blob and unpacked; Docker's weights are never
 * in one. The request is what the puller checks for; the limit leaves room for archives that are compressed.
 */
export function volumeNeed({ packaging, sizeBytes, weightBytes }: InspectFacts): {
  readonly request: number;
  readonly limit: number;
} {
  const archived = packaging === "docker" ? Math.max(0, sizeBytes - weightBytes) : sizeBytes;
  const request = sizeBytes + archived + volumeHeadroomBytes;
  return { request, limit: request + archived };
}

/** Bytes that `spec.storage.size` states; undefined for "auto". */
function statedBytes(model: Model): number | undefined {
  return parseQuantity(model.spec.storage?.size);
}

/** The volume of the pods of `model` for `artifact`. */
export function storagePlan(model: Model, artifact: InspectFacts): StoragePlan {
  const stated = statedBytes(model);
  const need = volumeNeed(artifact);
  const limit = stated ?? need.limit;
  const isInMemory = model.spec.storage?.medium === "Memory";
  return {
    volume: {
      name: modelVolumeName,
      emptyDir: { ...(isInMemory ? { medium: "Memory" } : {}), sizeLimit: bytesQuantity(limit) },
    },
    ephemeralStorageBytes: isInMemory ? 0 : (stated ?? need.request),
    memoryBytes: isInMemory ? limit : 0,
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
