// How large the volume for an artifact has to be. Pure.

import type { InspectFacts } from "../../puller/contract.ts";
import type { Model } from "../api/model.ts";
import { parseQuantity } from "../kube/quantity.ts";

/** Room on the volume beyond the model itself: directories, records of the store. */
const volumeHeadroomBytes = 64 * 2 ** 20;

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
export function statedBytes(model: Pick<Model, "spec">): number | undefined {
  return parseQuantity(model.spec.storage?.size);
}
