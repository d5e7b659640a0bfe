// Builds manifests for tests: real shapes, digests from short names.

import { createHash } from "node:crypto";

import type { Descriptor, Digest, Index, Manifest } from "../../../puller/oci/types.ts";

export const dockerV01 = "application/vnd.docker.ai.model.config.v0.1+json";
export const dockerV02 = "application/vnd.docker.ai.model.config.v0.2+json";
export const modelPackConfig = "application/vnd.cncf.model.config.v1+json";
export const modelPackManifest = "application/vnd.cncf.model.manifest.v1+json";
export const filepath = "org.cncf.model.filepath";

export function digestOf(content: string | Uint8Array): Digest {
  return `sha256:${createHash("sha256").update(content).digest("hex")}` as Digest;
}

/** A layer of which only the type, the content's name and perhaps the file path matter. */
export function layer(
  mediaType: string,
  content: string,
  annotations: Readonly<Record<string, string>> | string = {},
): Descriptor {
  return {
    mediaType,
    digest: digestOf(content),
    sizeBytes: content.length,
    annotations: typeof annotations === "string" ? { [filepath]: annotations } : annotations,
  };
}

export function manifest(configType: string, layers: readonly Descriptor[], artifactType?: string): Manifest {
  return {
    kind: "manifest",
    digest: digestOf("manifest"),
    mediaType: "application/vnd.oci.image.manifest.v1+json",
    ...(artifactType === undefined ? {} : { artifactType }),
    config: { mediaType: configType, digest: digestOf("config"), sizeBytes: 6, annotations: {} },
    layers,
    annotations: {},
    raw: new Uint8Array(),
  };
}

export function index(children: number): Index {
  return {
    kind: "index",
    digest: digestOf("index"),
    mediaType: "application/vnd.oci.image.index.v1+json",
    manifests: Array.from({ length: children }, (_, number) =>
      layer("application/vnd.oci.image.manifest.v1+json", `child ${number}`),
    ),
    annotations: {},
    raw: new Uint8Array(),
  };
}

export function json(value: unknown): Uint8Array {
  return new TextEncoder().encode(JSON.stringify(value));
}
