// Brings an artifact's manifest and config from a registry and reads them. No layers.

import type { Manifest, Reference, Registry } from "../oci/types.ts";
import { isModelConfig } from "./media-types.ts";
import { maxConfigBytes } from "./model-config.ts";
import { readArtifact, requireManifest } from "./parse-artifact.ts";
import type { ModelArtifact } from "./types.ts";

/** A model artifact and the manifest it came from, which pins it. */
export type FetchedArtifact = { readonly manifest: Manifest; readonly artifact: ModelArtifact };

/** Fetches and reads the artifact a reference names. Fails with AppError; see `readArtifact` and `requireManifest`. */
export async function fetchArtifact(
  reference: Reference,
  registry: Registry,
  signal: AbortSignal,
): Promise<FetchedArtifact> {
  const manifest = requireManifest(await registry.fetchManifest(reference, signal));
  return { manifest, artifact: await fetchConfig(reference, manifest, registry, signal) };
}

/** The same for a manifest that was fetched already. */
export async function fetchConfig(
  reference: Reference,
  manifest: Manifest,
  registry: Registry,
  signal: AbortSignal,
): Promise<ModelArtifact> {
  // What is no model is refused before anything else is asked for.
  readArtifact(manifest, undefined);
  const config = isModelConfig(manifest.config.mediaType)
    ? await registry.fetchBlob(reference, manifest.config, maxConfigBytes, signal)
    : undefined;
  return readArtifact(manifest, config);
}
