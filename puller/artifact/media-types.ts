// The media types of model artifacts: which packaging a manifest is, and what a layer's type says about its content. Pure.

import type { Packaging } from "../contract.ts";
import type { FileRole, LayerEncoding } from "./types.ts";

/** How files get their names: by position (Docker v0.1 and before), or from each layer's annotation. */
export type Naming = "positional" | "annotated";

/** What a manifest's types say about it. */
export type ArtifactKind = { readonly packaging: Packaging; readonly naming: Naming };

/** Kinds of layers. The ModelPack kinds of one role are told apart by their file names later. */
export type LayerKind =
  | "gguf"
  | "projector"
  | "adapter"
  | "safetensors"
  | "dduf"
  | "chat-template"
  | "license"
  | "config-tar"
  | "directory-tar"
  | "file"
  | "weight"
  | "weight-config"
  | "documentation"
  | "code"
  | "dataset"
  | "unknown";

/** What a layer's media type says. */
export type LayerClass = {
  readonly kind: LayerKind;
  readonly encoding: LayerEncoding;
  readonly role: FileRole;
};

/** Docker's config types. `v1` was written by prototypes in March 2025 only and is read like v0.1. */
const dockerConfigs: ReadonlyMap<string, Naming> = new Map([
  ["application/vnd.docker.ai.model.config.v1+json", "positional"],
  ["application/vnd.docker.ai.model.config.v0.1+json", "positional"],
  ["application/vnd.docker.ai.model.config.v0.2+json", "annotated"],
]);

const dockerLayers: ReadonlyMap<string, LayerClass> = new Map<string, LayerClass>([
  ["application/vnd.docker.ai.gguf.v3", { kind: "gguf", encoding: "raw", role: "weights" }],
  ["application/vnd.docker.ai.model.file.v1+gguf", { kind: "gguf", encoding: "raw", role: "weights" }],
  ["application/vnd.docker.ai.gguf.v3.lora", { kind: "adapter", encoding: "raw", role: "adapter" }],
  ["application/vnd.docker.ai.gguf.v3.mmproj", { kind: "projector", encoding: "raw", role: "projector" }],
  ["application/vnd.docker.ai.mmproj", { kind: "projector", encoding: "raw", role: "projector" }],
  ["application/vnd.docker.ai.safetensors", { kind: "safetensors", encoding: "raw", role: "weights" }],
  ["application/vnd.docker.ai.dduf", { kind: "dduf", encoding: "raw", role: "weights" }],
  [
    "application/vnd.docker.ai.chat.template.jinja",
    { kind: "chat-template", encoding: "raw", role: "chat-template" },
  ],
  ["application/vnd.docker.ai.license", { kind: "license", encoding: "raw", role: "license" }],
  ["application/vnd.docker.ai.vllm.config.tar", { kind: "config-tar", encoding: "tar", role: "config" }],
  ["application/vnd.docker.ai.dir.tar", { kind: "directory-tar", encoding: "tar", role: "other" }],
  ["application/vnd.docker.ai.model.file", { kind: "file", encoding: "raw", role: "other" }],
]);

const modelPackKinds: Readonly<Record<string, { readonly kind: LayerKind; readonly role: FileRole }>> = {
  weight: { kind: "weight", role: "weights" },
  "weight.config": { kind: "weight-config", role: "config" },
  doc: { kind: "documentation", role: "documentation" },
  code: { kind: "code", role: "code" },
  dataset: { kind: "dataset", role: "dataset" },
};

// `cnai` is what the specification was called up to v0.0.6; `.gguf` and `.safetensors` are Docker's own additions.
const modelPackLayer =
  /^application\/vnd\.(?:cncf|cnai)\.model\.(weight|weight\.config|doc|code|dataset)\.v1\.(raw|tar|tar\+gzip|tar\+zstd|gguf|safetensors)$/u;
const modelPackLayerPrefix = /^application\/vnd\.(?:cncf|cnai)\.model\./u;
const modelPackConfig = /^application\/vnd\.(?:cncf|cnai)\.model\.config\.v1\+json$/u;
const modelPackManifest = /^application\/vnd\.(?:cncf|cnai)\.model\.manifest\.v1\+json$/u;

/** Annotations that name a layer's file, the first that is present wins. */
export const filePathAnnotations = [
  "org.cncf.model.filepath",
  "org.cnai.model.filepath",
  "org.opencontainers.image.title",
] as const;

/** Annotations that hold a JSON string with the file's `name`, used when none of `filePathAnnotations` is present. */
export const fileMetadataAnnotations = [
  "org.cncf.model.file.metadata+json",
  "org.cnai.model.file.metadata+json",
] as const;

/** Which packaging a manifest is; undefined for anything else. The config type decides before the artifact type. */
export function detectArtifact(manifest: {
  readonly artifactType?: string;
  readonly config: { readonly mediaType: string };
  readonly layers: readonly { readonly mediaType: string }[];
}): ArtifactKind | undefined {
  const naming = dockerConfigs.get(manifest.config.mediaType);
  if (naming !== undefined) return { packaging: "docker", naming };
  if (
    modelPackConfig.test(manifest.config.mediaType) ||
    (manifest.artifactType !== undefined && modelPackManifest.test(manifest.artifactType)) ||
    manifest.layers.some((layer) => modelPackLayerPrefix.test(layer.mediaType))
  )
    return { packaging: "modelpack", naming: "annotated" };
  return undefined;
}

/** Whether a config of this type is a model's config: others (an empty object, an image config) say nothing and are not read. */
export function isModelConfig(mediaType: string): boolean {
  return dockerConfigs.has(mediaType) || modelPackConfig.test(mediaType);
}

/**
 * What a layer's media type says. Types nobody defined are "unknown" and raw: whoever wrote them gave the file a name
 * in an annotation (podman does). Undefined for unknown types that name an archive or a compression, whose bytes
 * would be useless as they are.
 */
export function classifyLayer(mediaType: string): LayerClass | undefined {
  const docker = dockerLayers.get(mediaType);
  if (docker !== undefined) return docker;
  const match = modelPackLayer.exec(mediaType);
  if (match !== null) {
    const known = modelPackKinds[match[1] ?? ""];
    const encoding = match[2] ?? "";
    if (known === undefined) return undefined;
    if (encoding === "gguf" || encoding === "safetensors")
      return known.kind === "weight" ? { kind: encoding, encoding: "raw", role: "weights" } : undefined;
    return { ...known, encoding: encoding as LayerEncoding };
  }
  if (/(?:^|[.+/-])(?:tar|tgz|gzip|gz|zstd|zip|xz|bzip2)(?:$|[.+;-])/u.test(mediaType)) return undefined;
  return { kind: "unknown", encoding: "raw", role: "other" };
}
