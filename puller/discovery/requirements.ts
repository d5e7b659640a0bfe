// Reads the hardware that the registry says a model needs: annotations of its entry in an index, annotations of its manifest,
// image compatibility artifacts attached to it. Earlier ones go before later ones, field by field.

import type { RegistryRequirements } from "../contract.ts";
import { requireManifest } from "../artifact/index.ts";
import { AppError } from "../oci/errors.ts";
import type { Descriptor, Manifest, Reference, Registry } from "../oci/types.ts";
import { mergeRequirements, readAnnotations } from "./annotations.ts";
import {
  compatibilityArtifactType,
  compatibilityLayerType,
  maxCompatibilityBytes,
  readCompatibility,
} from "./image-compatibility.ts";

/** All needs of one artifact; undefined for none. `ofEntry` are those of its entry in an index. Fails with AppError. */
export async function fetchRequirements(
  reference: Reference,
  manifest: Manifest,
  ofEntry: RegistryRequirements | undefined,
  registry: Registry,
  signal: AbortSignal,
): Promise<RegistryRequirements | undefined> {
  const ofManifest = readAnnotations(manifest.annotations).requirements;
  const referrers = await registry.listReferrers(
    reference,
    manifest.digest,
    compatibilityArtifactType,
    signal,
  );
  const newest = [...referrers].sort(byCreation).at(-1);
  const attached =
    newest === undefined ? undefined : await fetchCompatibility(reference, newest, registry, signal);
  return mergeRequirements(ofEntry, ofManifest, attached);
}

/** By the stated time; of equal ones the later in the list is the newer. */
function byCreation(one: Descriptor, other: Descriptor): number {
  const created = (each: Descriptor): string => each.annotations["org.opencontainers.image.created"] ?? "";
  return created(one) < created(other) ? -1 : created(one) > created(other) ? 1 : 0;
}

async function fetchCompatibility(
  { registry: host, repository }: Reference,
  { digest }: Descriptor,
  registry: Registry,
  signal: AbortSignal,
): Promise<RegistryRequirements> {
  const reference = { registry: host, repository, digest };
  const manifest = requireManifest(await registry.fetchManifest(reference, signal));
  const layer = manifest.layers.find(({ mediaType }) => mediaType === compatibilityLayerType);
  if (layer === undefined)
    throw new AppError(
      "InvalidArtifact",
      `the image compatibility artifact ${digest} has no layer of type ${compatibilityLayerType}`,
    );
  return readCompatibility(await registry.fetchBlob(reference, layer, maxCompatibilityBytes, signal));
}
