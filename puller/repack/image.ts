// Config and manifest of a repacked image: the same layers give the same bytes. Pure.
// https://github.com/opencontainers/image-spec/blob/v1.1.1/config.md and …/manifest.md

import {
  annotationPrefix,
  imageConfigType,
  imageLayerType,
  layerAnnotations,
  modelAnnotations,
} from "../artifact/image-types.ts";
import type { ModelArtifact } from "../artifact/types.ts";
import { digestOf } from "../oci/digest.ts";
import { mediaTypes } from "../oci/manifest.ts";
import type { Digest, Manifest } from "../oci/types.ts";
import type { LayerPlan } from "./plan.ts";

/** A layer that is in the target. */
export type ImageLayer = { readonly digest: Digest; readonly sizeBytes: number };

export type Platform = { readonly os: string; readonly architecture: string; readonly variant?: string };

/** A document to be pushed. */
export type Document = { readonly mediaType: string; readonly digest: Digest; readonly bytes: Uint8Array };

function document(mediaType: string, value: unknown): Document {
  const bytes = Buffer.from(JSON.stringify(value), "utf8");
  return { mediaType, digest: digestOf(bytes), bytes };
}

/** Layers are not compressed: each is its own diff id. */
export function imageConfig(layers: readonly ImageLayer[], platform: Platform): Document {
  return document(imageConfigType, {
    created: "1970-01-01T00:00:00Z",
    architecture: platform.architecture,
    os: platform.os,
    ...(platform.variant === undefined ? {} : { variant: platform.variant }),
    config: {},
    rootfs: { type: "layers", diff_ids: layers.map(({ digest }) => digest) },
  });
}

/** Our annotations on a layer: what it was made of, and so what it need not be made of again. */
export function annotationsOf(layer: LayerPlan): Readonly<Record<string, string>> {
  const { content } = layer;
  const only =
    content.kind === "archive"
      ? { source: content.archive.descriptor.digest, path: content.archive.singleFilePath }
      : content.files.length === 1
        ? { source: content.files[0]?.descriptor.digest, path: content.files[0]?.path }
        : {};
  return {
    [layerAnnotations.recipe]: layer.recipe,
    [layerAnnotations.role]: layer.role,
    ...(only.source === undefined ? {} : { [layerAnnotations.source]: only.source }),
    ...(only.path === undefined ? {} : { [layerAnnotations.path]: only.path }),
  };
}

/** The image's manifest; it says which artifact it was made from, and what that says of itself for the choice of variants. */
export function imageManifest(input: {
  readonly source: Manifest;
  readonly artifact: ModelArtifact;
  readonly config: Document;
  readonly layers: readonly { readonly plan: LayerPlan; readonly layer: ImageLayer }[];
}): Document {
  const { source, artifact, config, layers } = input;
  const described = Object.entries(source.annotations).filter(([key]) => key.startsWith(annotationPrefix));
  return document(mediaTypes.ociManifest, {
    schemaVersion: 2,
    mediaType: mediaTypes.ociManifest,
    config: { mediaType: config.mediaType, digest: config.digest, size: config.bytes.length },
    layers: layers.map(({ plan, layer }) => ({
      mediaType: imageLayerType,
      digest: layer.digest,
      size: layer.sizeBytes,
      annotations: annotationsOf(plan),
    })),
    annotations: {
      ...(artifact.quantization === undefined
        ? {}
        : { [modelAnnotations.quantization]: artifact.quantization }),
      ...(artifact.parameters === undefined ? {} : { [modelAnnotations.parameters]: artifact.parameters }),
      ...Object.fromEntries(described),
      [modelAnnotations.format]: artifact.format,
      [modelAnnotations.source]: source.digest,
    },
  });
}
