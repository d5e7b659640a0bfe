// An artifact over contents that every client under test can pull: ModelPack, with the file names where each looks for them.

import { readFileSync } from "node:fs";
import type { TestRegistry } from "../registry/registry.ts";
import { goJson, publishArtifact } from "../registry/publish.ts";
import { digestOfBytes, type Content, type ContentStore } from "./content.ts";

/** A file of the artifact, with the media type of its layer where it is no raw weight. */
export type Layer = Content & { readonly mediaType?: string };

export const manifestMediaType = "application/vnd.oci.image.manifest.v1+json";
const configMediaType = "application/vnd.cncf.model.config.v1+json";

export type Artifact = {
  readonly repository: string;
  readonly tag: string;
  readonly layers: readonly Layer[];
  /** Sum of the layers, bytes. */
  readonly sizeBytes: number;
  readonly config: Content;
  readonly manifest: Uint8Array;
  readonly digest: string;
};

function layerType({ mediaType }: Layer): string {
  return mediaType ?? "application/vnd.cncf.model.weight.v1.raw";
}

/** `oras` writes files by title; the puller reads the path of ModelPack first, and takes no path for archives. */
function annotations({ name, mediaType }: Layer): Readonly<Record<string, string>> {
  const title = { "org.opencontainers.image.title": name };
  return mediaType === undefined ? { ...title, "org.cncf.model.filepath": name } : {};
}

/** The artifact; its config is put among the contents. */
export function makeArtifact(store: ContentStore, repository: string, layers: readonly Layer[]): Artifact {
  const config = store.bytes(
    "config",
    Buffer.from(
      goJson({
        descriptor: { createdAt: "2026-01-01T00:00:00Z" },
        modelfs: { type: "layers", diffIds: layers.map(({ digest }) => digest) },
        config: { format: "safetensors" },
      }),
    ),
  );
  const manifest = Buffer.from(
    goJson({
      schemaVersion: 2,
      mediaType: manifestMediaType,
      artifactType: "application/vnd.cncf.model.manifest.v1+json",
      config: { mediaType: configMediaType, size: config.sizeBytes, digest: config.digest },
      layers: layers.map((layer) => ({
        mediaType: layerType(layer),
        size: layer.sizeBytes,
        digest: layer.digest,
        annotations: annotations(layer),
      })),
    }),
  );
  return {
    repository,
    tag: "v1",
    layers,
    sizeBytes: layers.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0),
    config,
    manifest,
    digest: digestOfBytes(manifest),
  };
}

/** Pushes an artifact to a real registry, which then has its manifest to the byte. */
export async function pushArtifact(registry: TestRegistry, artifact: Artifact): Promise<void> {
  const published = await publishArtifact(registry, {
    repository: artifact.repository,
    tag: artifact.tag,
    artifactType: "application/vnd.cncf.model.manifest.v1+json",
    config: { mediaType: configMediaType, content: readFileSync(artifact.config.path) },
    layers: artifact.layers.map((layer) => ({
      mediaType: layerType(layer),
      content: { file: layer.path },
      annotations: annotations(layer),
    })),
  });
  if (published.digest !== artifact.digest)
    throw new Error(`the registry has ${published.digest} in place of ${artifact.digest}`);
}
