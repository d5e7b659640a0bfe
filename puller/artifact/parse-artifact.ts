// Turns a verified manifest and config into a model artifact: packaging, format, and every layer's path and role.
// Pure; reads no layer.

import type { ModelFormat } from "../contract.ts";
import { AppError } from "../oci/errors.ts";
import type { Descriptor, Digest, Index, Manifest } from "../oci/types.ts";
import { findEntry } from "./entry.ts";
import { parseShard, positionalName, requireStatedPath, roleByName, statedPath } from "./layer-path.ts";
import {
  imageConfigType,
  imageLayerType,
  imageRoot,
  isImage,
  layerAnnotations,
  modelAnnotations,
} from "./image-types.ts";
import { classifyLayer, detectArtifact, isModelConfig, type LayerClass } from "./media-types.ts";
import { emptyModelConfig, normaliseFormat, parseModelConfig, type ModelConfig } from "./model-config.ts";
import { quote } from "../oci/quote.ts";
import { baseName, checkCollisions, safePath, safePathWithoutParents } from "./safe-path.ts";
import type { ArtifactLayer, FileRole, ModelArtifact, SafePath } from "./types.ts";

/** A layer with what its media type says. */
type Classified = { readonly descriptor: Descriptor; readonly class: LayerClass };

/**
 * Reads a model artifact: Docker model config v0.1 and v0.2 (and the prototypes before), and CNCF ModelPack with its
 * former `cnai` names. `config` is the verified config blob, or undefined where it was not fetched.
 *
 * Docker up to v0.1 is named by position as docker/model-runner does, everything else by annotation. Where that
 * client drops a layer without a word (two projectors, two chat templates), this refuses instead.
 *
 * Throws AppError UnsupportedArtifact for anything that is no model packaging or holds no weights, InvalidArtifact
 * for names, diff ids or collisions that cannot be.
 */
export function readArtifact(manifest: Manifest, config: Uint8Array | undefined): ModelArtifact {
  if (isImage(manifest)) return readImage(manifest);
  const kind = detectArtifact(manifest);
  if (kind === undefined) {
    const isForeignImage = manifest.config.mediaType === imageConfigType;
    refuseManifest(
      manifest,
      "is no model artifact that is known",
      isForeignImage ? "; images are read only where puller repack made them" : "",
    );
  }
  const layers = manifest.layers.map((descriptor): Classified => {
    const layerClass = classifyLayer(descriptor.mediaType);
    if (layerClass === undefined || (layerClass.kind === "unknown" && kind.naming === "positional"))
      refuseManifest(manifest, `has a layer of type ${quote(descriptor.mediaType)}, which cannot be placed`);
    return { descriptor, class: layerClass };
  });
  if (layers.length === 0) refuseManifest(manifest, "has no layers");

  const stated =
    config !== undefined && isModelConfig(manifest.config.mediaType)
      ? parseModelConfig(config, layers.length)
      : emptyModelConfig;
  const placed = kind.naming === "positional" ? nameByPosition(layers) : nameByAnnotation(layers, stated);
  const complete = placed.map((layer, index) => withDiffId(layer, stated.diffIds?.[index]));
  checkCollisions(
    complete.flatMap((layer) =>
      layer.path === undefined ? [] : [{ path: layer.path, content: layer.descriptor.digest }],
    ),
  );

  const format = formatOf(complete, stated.format);
  if (format === undefined) refuseManifest(manifest, "holds no model weights");
  checkShards(complete);
  const entry = findEntry(
    format,
    complete.flatMap((layer) => {
      const path = layer.path ?? layer.singleFilePath;
      return layer.role === "weights" && layer.weightFormat === format && path !== undefined ? [path] : [];
    }),
  );
  return {
    packaging: kind.packaging,
    configMediaType: manifest.config.mediaType,
    format,
    ...(stated.quantization === undefined ? {} : { quantization: stated.quantization }),
    ...(stated.parameters === undefined ? {} : { parameters: stated.parameters }),
    ...(stated.architecture === undefined ? {} : { architecture: stated.architecture }),
    ...(stated.contextLength === undefined ? {} : { statedContextLength: stated.contextLength }),
    layers: complete,
    ...(entry === undefined ? {} : { entry }),
  };
}

/** What a manifest's own format annotation says. */
function imageFormat(manifest: Manifest): ModelFormat {
  return normaliseFormat(manifest.annotations[modelAnnotations.format]) ?? "unknown";
}

const roles: ReadonlySet<string> = new Set<FileRole>([
  "weights",
  "projector",
  "adapter",
  "chat-template",
  "config",
  "license",
  "documentation",
  "code",
  "dataset",
  "other",
]);

/** Reads an image that `puller repack` made: archives with the model below one folder, described by our annotations. */
function readImage(manifest: Manifest): ModelArtifact {
  const format = imageFormat(manifest);
  const layers = manifest.layers.map((descriptor): ArtifactLayer => {
    if (descriptor.mediaType !== imageLayerType)
      refuseManifest(manifest, `has a layer of type ${quote(descriptor.mediaType)}, which cannot be placed`);
    const stated = descriptor.annotations[layerAnnotations.role] ?? "other";
    if (!roles.has(stated))
      throw new AppError(
        "InvalidArtifact",
        `layer ${descriptor.digest} has the role ${quote(stated)}, which is none; repack the artifact again`,
      );
    const role = stated as FileRole;
    const path = descriptor.annotations[layerAnnotations.path];
    const file = path === undefined ? undefined : safePathWithoutParents(path);
    return {
      descriptor,
      encoding: "tar",
      root: imageRoot,
      role,
      isPlaced: true,
      ...(file === undefined ? {} : { singleFilePath: file }),
      ...(role === "weights"
        ? { weightFormat: (file === undefined ? undefined : formatByName(file)) ?? format }
        : {}),
    };
  });
  if (layers.length === 0) refuseManifest(manifest, "has no layers");
  const entry = findEntry(
    format,
    layers.flatMap(({ role, weightFormat, singleFilePath }) =>
      role === "weights" && weightFormat === format && singleFilePath !== undefined ? [singleFilePath] : [],
    ),
  );
  const { quantization, parameters } = modelAnnotations;
  return {
    packaging: "image",
    configMediaType: manifest.config.mediaType,
    format,
    ...shownAnnotation(manifest, quantization, "quantization"),
    ...shownAnnotation(manifest, parameters, "parameters"),
    layers,
    ...(entry === undefined ? {} : { entry }),
  };
}

function shownAnnotation<Name extends string>(
  { annotations }: Manifest,
  key: string,
  name: Name,
): { readonly [name in Name]?: string } {
  const value = annotations[key];
  return value === undefined || value.length > 64
    ? {}
    : ({ [name]: value } as { readonly [name in Name]: string });
}

/**
 * The manifest of what a registry answered. Throws AppError UnsupportedArtifact for an image index: which of its
 * children is meant is the user's choice, never a guess.
 */
export function requireManifest(fetched: Manifest | Index): Manifest {
  if (fetched.kind === "manifest") return fetched;
  throw new AppError(
    "UnsupportedArtifact",
    `${fetched.digest} is an image index of ${fetched.manifests.length} manifests, not a model; name one of them by its digest or tag`,
  );
}

/** Docker v0.1 and before. */
function nameByPosition(layers: readonly Classified[]): ArtifactLayer[] {
  const counts = { gguf: 0, safetensors: 0 };
  for (const layer of layers)
    if (layer.class.kind === "gguf" || layer.class.kind === "safetensors") counts[layer.class.kind] += 1;
  for (const [kind, what] of singleKinds) {
    const digests = new Set(
      layers.filter((layer) => layer.class.kind === kind).map((layer) => layer.descriptor.digest),
    );
    if (digests.size > 1)
      throw new AppError(
        "InvalidArtifact",
        `artifact has ${digests.size} different ${what} layers where its format names one; package it in a format with file names (Docker v0.2 or ModelPack)`,
      );
  }
  const positions = { gguf: 0, safetensors: 0 };
  return layers.map(({ descriptor, class: layerClass }): ArtifactLayer => {
    const base = { descriptor, encoding: layerClass.encoding, role: layerClass.role };
    switch (layerClass.kind) {
      case "gguf":
        positions.gguf += 1;
        return {
          ...base,
          isPlaced: true,
          weightFormat: "gguf",
          path: safePath(positionalName("gguf", positions.gguf, counts.gguf)),
        };
      case "safetensors": {
        positions.safetensors += 1;
        const path =
          statedPath(descriptor) ?? positionalName("safetensors", positions.safetensors, counts.safetensors);
        return { ...base, isPlaced: true, weightFormat: "safetensors", path: safePath(path) };
      }
      case "dduf":
        // The reference client takes the blob's own name.
        return {
          ...base,
          isPlaced: true,
          weightFormat: "dduf",
          path: safePath(`${descriptor.digest.slice(descriptor.digest.indexOf(":") + 1)}.dduf`),
        };
      case "projector":
        return { ...base, isPlaced: true, path: safePath("model.mmproj") };
      case "chat-template":
        return { ...base, isPlaced: true, path: safePath("template.jinja") };
      case "config-tar":
      case "directory-tar":
        return { ...base, isPlaced: true };
      case "license":
        return { ...base, isPlaced: false };
      case "adapter":
      case "file":
      case "weight":
      case "weight-config":
      case "documentation":
      case "code":
      case "dataset":
      case "unknown": {
        const path = safePath(requireStatedPath(descriptor));
        return { ...base, role: roleByName(layerClass.role, path), isPlaced: true, path };
      }
    }
  });
}

/** Layers of which Docker v0.1 can hold one, since their file has a fixed name. */
const singleKinds = [
  ["projector", "projector"],
  ["chat-template", "chat template"],
  ["config-tar", "configuration archive"],
  ["dduf", "DDUF"],
] as const;

/** Docker v0.2 and ModelPack. */
function nameByAnnotation(layers: readonly Classified[], stated: ModelConfig): ArtifactLayer[] {
  return layers.map(({ descriptor, class: layerClass }): ArtifactLayer => {
    const base = { descriptor, encoding: layerClass.encoding, isPlaced: true };
    if (layerClass.encoding === "raw") {
      const path = safePathWithoutParents(requireStatedPath(descriptor));
      const role = roleByName(layerClass.role, path);
      return { ...base, role, path, ...weightFormatOf(role, layerClass, path, stated.format) };
    }
    // Entries are placed from the root; the annotation only tells where a lone file whose directory was lost belongs.
    const annotated = statedPath(descriptor);
    if (annotated === undefined || /^\.?\/?$/u.test(annotated)) return { ...base, role: layerClass.role };
    const path = safePathWithoutParents(annotated);
    const role = roleByName(layerClass.role, path);
    const isNamedFile = path.includes("/") || formatByName(path) !== undefined;
    return {
      ...base,
      role,
      ...(isNamedFile ? { singleFilePath: path } : {}),
      ...weightFormatOf(role, layerClass, path, stated.format),
    };
  });
}

function weightFormatOf(
  role: ArtifactLayer["role"],
  layerClass: LayerClass,
  path: SafePath,
  stated: ModelFormat | undefined,
): { readonly weightFormat?: ModelFormat } {
  if (role !== "weights") return {};
  if (layerClass.kind === "gguf" || layerClass.kind === "safetensors" || layerClass.kind === "dduf")
    return { weightFormat: layerClass.kind };
  return { weightFormat: formatByName(path) ?? stated ?? "unknown" };
}

function formatByName(path: string): ModelFormat | undefined {
  const name = baseName(path);
  const dot = name.lastIndexOf(".");
  return dot === -1
    ? undefined
    : normaliseFormat(/^(?:gguf|safetensors|dduf)$/iu.exec(name.slice(dot + 1))?.[0]);
}

/** The stated format if some weights have it, else that of the weights, GGUF before safetensors before DDUF; undefined without weights. */
function formatOf(
  layers: readonly ArtifactLayer[],
  stated: ModelFormat | undefined,
): ModelFormat | undefined {
  const weights = layers.filter((layer) => layer.role === "weights");
  if (weights.length === 0) return undefined;
  // Archives of weights may have no name: what they hold is what the config says.
  const present = new Set(weights.map((layer) => layer.weightFormat ?? stated ?? "unknown"));
  if (stated !== undefined && present.has(stated)) return stated;
  return (["gguf", "safetensors", "dduf"] as const).find((format) => present.has(format)) ?? "unknown";
}

/** Throws InvalidArtifact when a set of shards is not complete. Says nothing about archives, whose content is not known yet. */
function checkShards(layers: readonly ArtifactLayer[]): void {
  const weights = layers.filter((layer) => layer.role === "weights");
  if (weights.some((layer) => layer.encoding !== "raw")) return;
  const sets = new Map<
    string,
    { readonly path: string; readonly count: number; readonly numbers: Set<number> }
  >();
  for (const { path } of weights) {
    const shard = path === undefined ? undefined : parseShard(path);
    if (path === undefined || shard === undefined) continue;
    const key = `${shard.prefix}\n${shard.count}\n${path.slice(path.lastIndexOf("."))}`;
    const set = sets.get(key) ?? { path, count: shard.count, numbers: new Set<number>() };
    sets.set(key, set);
    if (shard.number < 1 || shard.number > shard.count)
      throw new AppError("InvalidArtifact", `file ${quote(path)} has a shard number that cannot be`);
    set.numbers.add(shard.number);
  }
  for (const { path, count, numbers } of sets.values())
    if (numbers.size !== count)
      throw new AppError(
        "InvalidArtifact",
        `artifact has ${numbers.size} of the ${count} shards that ${quote(path)} belongs to; it must be packaged again with all of them`,
      );
}

function withDiffId(layer: ArtifactLayer, diffId: Digest | undefined): ArtifactLayer {
  if (diffId === undefined || diffId === layer.descriptor.digest) return layer;
  if (layer.encoding === "raw" || layer.encoding === "tar") {
    // Another algorithm may name the same bytes.
    if (diffId.split(":")[0] !== layer.descriptor.digest.split(":")[0]) return layer;
    throw new AppError(
      "InvalidArtifact",
      `layer ${layer.descriptor.digest} is not compressed but its diff id is ${diffId}; the artifact must be packaged again`,
    );
  }
  return { ...layer, diffId };
}

function refuseManifest(manifest: Manifest, why: string, remedy = ""): never {
  const types = [...new Set(manifest.layers.map((layer) => layer.mediaType))];
  const shown = types.slice(0, 8).map(quote).join(", ");
  const more = types.length > 8 ? ` and ${types.length - 8} more` : "";
  throw new AppError(
    "UnsupportedArtifact",
    `${manifest.digest} ${why}: artifact type ${manifest.artifactType === undefined ? "none" : quote(manifest.artifactType)}, ` +
      `config type ${quote(manifest.config.mediaType)}, layer types ${shown === "" ? "none" : shown}${more}${remedy}`,
  );
}
