// Manifests and indexes: raw verified bytes in, validated data out. Refuses what two readers could read in two ways. Pure.

import * as z from "zod";
import { digestProblem, isDigest } from "./digest.ts";
import { AppError } from "./errors.ts";
import { limits } from "./limits.ts";
import { fieldName, parseJsonObject } from "./strict-json.ts";
import type { Descriptor, Digest, Index, IndexEntry, Manifest } from "./types.ts";

export const mediaTypes = {
  ociManifest: "application/vnd.oci.image.manifest.v1+json",
  ociIndex: "application/vnd.oci.image.index.v1+json",
  dockerManifest: "application/vnd.docker.distribution.manifest.v2+json",
  dockerIndex: "application/vnd.docker.distribution.manifest.list.v2+json",
} as const;

const manifestTypes: ReadonlySet<string> = new Set([mediaTypes.ociManifest, mediaTypes.dockerManifest]);
const indexTypes: ReadonlySet<string> = new Set([mediaTypes.ociIndex, mediaTypes.dockerIndex]);

const annotations = z.record(z.string().max(1024), z.string().max(limits.annotationLength));
// Shown to people, on terminals too.
const mediaType = z
  .string()
  .min(1)
  .max(255)
  .regex(/^[ -~]+$/, { error: "expected printable ASCII" });

const descriptor = z.looseObject({
  mediaType,
  digest: z.custom<Digest>(isDigest, { error: ({ input }) => digestProblem(input) }),
  size: z.int().min(0),
  annotations: annotations.nullish(),
  artifactType: mediaType.optional(),
});

const indexEntry = descriptor.extend({
  platform: z
    .looseObject({ architecture: z.string().max(64), os: z.string().max(64) })
    .optional()
    .catch(undefined),
  modelMetadata: z.record(z.string(), z.unknown()).optional().catch(undefined),
});

const manifestSchema = z.looseObject({
  schemaVersion: z.literal(2),
  mediaType: mediaType.optional(),
  artifactType: mediaType.optional(),
  config: descriptor,
  layers: z.array(descriptor).max(limits.layers),
  annotations: annotations.nullish(),
});

const indexSchema = z.looseObject({
  schemaVersion: z.literal(2),
  mediaType: mediaType.optional(),
  artifactType: mediaType.optional(),
  manifests: z.array(indexEntry).max(limits.children),
  annotations: annotations.nullish(),
});

function toDescriptor(parsed: z.infer<typeof descriptor>): Descriptor {
  return {
    mediaType: parsed.mediaType,
    digest: parsed.digest,
    sizeBytes: parsed.size,
    annotations: parsed.annotations ?? {},
    ...(parsed.artifactType === undefined ? {} : { artifactType: parsed.artifactType }),
  };
}

function toIndexEntry(parsed: z.infer<typeof indexEntry>): IndexEntry {
  const { platform, modelMetadata } = parsed;
  return {
    ...toDescriptor(parsed),
    ...(platform === undefined ? {} : { platform: { architecture: platform.architecture, os: platform.os } }),
    ...(modelMetadata === undefined ? {} : { modelMetadata }),
  };
}

function refuse(what: string): AppError {
  return new AppError("InvalidArtifact", `the manifest ${what}`);
}

function problem(error: z.ZodError): string {
  const issue = error.issues[0];
  const path = issue?.path.map(String) ?? [];
  const strange = path.findIndex((part) => !fieldName.test(part));
  const where = (strange === -1 ? path : path.slice(0, strange)).join(".");
  return `is invalid at ${where === "" ? "its top" : where}: ${issue?.message ?? "unknown"}; the artifact must be pushed again by a tool that follows the OCI image specification`;
}

/**
 * Parses the verified bytes of a manifest or index. `contentType` is the answer's header, if it had one: header, `mediaType`
 * field and shape must agree (CVE-2021-41190). Fails with InvalidArtifact, or UnsupportedArtifact for other documents.
 */
export function parseManifest(
  raw: Uint8Array,
  digest: Digest,
  contentType: string | undefined,
): Manifest | Index {
  if (raw.length > limits.manifestBytes) throw refuse(`is larger than ${limits.manifestBytes} bytes`);
  const document = parseJsonObject(raw, "manifest");
  if (document["schemaVersion"] === 1) {
    throw new AppError(
      "UnsupportedArtifact",
      "the manifest is a Docker schema 1 manifest, which holds no model",
    );
  }
  const hasManifests = "manifests" in document;
  const hasLayers = "layers" in document || "config" in document;
  if (hasManifests && hasLayers)
    throw refuse("is both a manifest and an index: it has layers or config, and manifests");
  const stated = typeof document["mediaType"] === "string" ? document["mediaType"] : undefined;
  const header = contentType?.split(";")[0]?.trim().toLowerCase();
  const known = (type: string | undefined): boolean =>
    type !== undefined && (manifestTypes.has(type) || indexTypes.has(type));
  if (stated !== undefined && !known(stated)) {
    throw new AppError(
      "UnsupportedArtifact",
      `the manifest's media type ${JSON.stringify(stated.slice(0, 120))} is not supported`,
    );
  }
  for (const type of [stated, header]) {
    if (type === undefined || !known(type)) continue;
    if (manifestTypes.has(type) === hasManifests)
      throw refuse(`says it is ${type}, but has the shape of the other kind`);
  }
  if (stated !== undefined && known(header) && header !== stated) {
    throw refuse(`says it is ${stated}, but was served as ${header ?? ""}`);
  }
  if (hasManifests) {
    const parsed = indexSchema.safeParse(document);
    if (!parsed.success) throw refuse(problem(parsed.error));
    const { data } = parsed;
    return {
      kind: "index",
      digest,
      mediaType: stated ?? mediaTypes.ociIndex,
      ...(data.artifactType === undefined ? {} : { artifactType: data.artifactType }),
      manifests: data.manifests.map(toIndexEntry),
      annotations: data.annotations ?? {},
      raw,
    };
  }
  const parsed = manifestSchema.safeParse(document);
  if (!parsed.success) throw refuse(problem(parsed.error));
  const { data } = parsed;
  const statedBytes = data.layers.reduce((sum, { size }) => sum + size, 0);
  if (statedBytes > Number.MAX_SAFE_INTEGER)
    throw refuse(`states more than ${Number.MAX_SAFE_INTEGER} bytes in all; no such model can be`);
  return {
    kind: "manifest",
    digest,
    mediaType: stated ?? mediaTypes.ociManifest,
    ...(data.artifactType === undefined ? {} : { artifactType: data.artifactType }),
    config: toDescriptor(data.config),
    layers: data.layers.map(toDescriptor),
    annotations: data.annotations ?? {},
    raw,
  };
}
