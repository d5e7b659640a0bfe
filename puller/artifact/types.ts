// What a model artifact is, after its manifest and config were read: files with names, roles and blobs. Data only.

import type { ArchitectureFacts, ModelFormat, Packaging } from "../contract.ts";
import type { Descriptor, Digest } from "../oci/types.ts";

/** What a file is for. */
export type FileRole =
  | "weights"
  | "projector"
  | "adapter"
  | "chat-template"
  | "config"
  | "license"
  | "documentation"
  | "code"
  | "dataset"
  | "other";

/** How a layer's blob becomes files. */
export type LayerEncoding = "raw" | "tar" | "tar+gzip" | "tar+zstd";

/** A safe relative path with forward slashes. Made only by `safePath`. */
declare const safePathBrand: unique symbol;
export type SafePath = string & { readonly [safePathBrand]: true };

/** One layer and where it goes. */
export type ArtifactLayer = {
  readonly descriptor: Descriptor;
  readonly encoding: LayerEncoding;
  readonly role: FileRole;
  /** Destination of a raw layer. */
  readonly path?: SafePath;
  /**
   * For archives: a path that the archive's single file takes when its entry has only the base name
   * (reference peers: AIKit drops directories); otherwise entries are placed from the root.
   */
  readonly singleFilePath?: SafePath;
  /** For archives that are layers of an image: the folder in them that is the model's. */
  readonly root?: string;
  /** Digest of the uncompressed tar, where the config states it for a compressed layer. */
  readonly diffId?: Digest;
  /** Format of a weight layer, as far as type, name or config tell. */
  readonly weightFormat?: ModelFormat;
  /** False for layers that are known but not placed (license layers of Docker v0.1). */
  readonly isPlaced: boolean;
};

/** A model artifact, ready to be planned. */
export type ModelArtifact = {
  readonly packaging: Packaging;
  /** Config media type, for messages. */
  readonly configMediaType: string;
  readonly format: ModelFormat;
  readonly quantization?: string;
  readonly parameters?: string;
  readonly architecture?: string;
  /** Context length the config states; a display value, never to be used blindly. */
  readonly statedContextLength?: number;
  readonly layers: readonly ArtifactLayer[];
  /** The file an engine is given; absent for multi-file formats. For shards it is shard 1. */
  readonly entry?: SafePath;
  readonly facts?: ArchitectureFacts;
};
