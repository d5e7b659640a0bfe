// Tells what the artifact behind a reference is, reading the manifest, the config and the front of a few files. Pulls nothing.

import {
  fetchArtifact,
  readFileFacts,
  type ArtifactLayer,
  type FetchedArtifact,
  type FileRole,
  type LayerEncoding,
  type ModelArtifact,
} from "./artifact/index.ts";
import {
  maxEntryPathBytes,
  type ArchitectureFacts,
  type InspectFacts,
  type InspectFailure,
  type InspectResult,
  type ModelFormat,
  type Packaging,
  type RegistryRequirements,
} from "./contract.ts";
import { AppError } from "./oci/errors.ts";
import { parseReference, shownReference } from "./oci/reference.ts";
import { defaultRetryPolicy, type RetryPolicy } from "./oci/retry.ts";
import type { Registry } from "./oci/types.ts";

/** One layer as `inspect` shows it. */
export type InspectedFile = {
  /** Absent for archives, which hold files of their own, and for layers that are not placed. */
  readonly path?: string;
  readonly role: FileRole;
  readonly encoding: LayerEncoding;
  readonly mediaType: string;
  readonly digest: string;
  readonly sizeBytes: number;
  /** False for layers that a pull leaves out. */
  readonly isPlaced: boolean;
};

/** Everything `inspect` knows about one reference. */
export type Inspection = {
  readonly reference: string;
  /** Of the manifest. */
  readonly digest: string;
  readonly packaging: Packaging;
  readonly configMediaType: string;
  readonly format: ModelFormat;
  readonly quantization?: string;
  readonly parameters?: string;
  readonly architecture?: string;
  /** As the artifact's config states it: for display. */
  readonly statedContextLength?: number;
  /** Sum over the layers a pull fetches, each digest once, bytes. */
  readonly sizeBytes: number;
  /** Sum over the layers an engine loads (weights and projectors), each digest once, bytes. */
  readonly weightBytes: number;
  readonly projectorBytes?: number;
  readonly adapterBytes?: number;
  readonly entry?: string;
  readonly facts: ArchitectureFacts;
  /** Hardware that the registry says it needs; only where that was asked for. */
  readonly requirements?: RegistryRequirements;
  /** Name of a variant that was found in an index or by its tag. */
  readonly name?: string;
  readonly files: readonly InspectedFile[];
  /** What could not be learned, and why. */
  readonly notes: readonly string[];
};

/** An Inspection, or why there is none. */
export type InspectionResult = Inspection | InspectFailure;

/** True for the failure arm of an InspectionResult. */
export function isInspectionFailure(result: InspectionResult): result is InspectFailure {
  return "code" in result;
}

/** Inspections that run at once: each is a few small requests after another. */
const concurrency = 4;

/**
 * Inspects one reference: manifest, config, then headers by byte ranges. Facts from headers are not verified against a
 * digest, which covers whole layers; a pull verifies them. Fails with AppError.
 */
export async function inspectReference(
  reference: string,
  registry: Registry,
  signal: AbortSignal,
  retryPolicy: RetryPolicy = defaultRetryPolicy,
): Promise<Inspection> {
  const parsed = parseReference(reference);
  return inspectArtifact(
    reference,
    await fetchArtifact(parsed, registry, signal),
    registry,
    signal,
    retryPolicy,
  );
}

/** The same for an artifact whose manifest and config were read already. */
export async function inspectArtifact(
  reference: string,
  { manifest, artifact }: FetchedArtifact,
  registry: Registry,
  signal: AbortSignal,
  retryPolicy: RetryPolicy,
): Promise<Inspection> {
  const read = await readFileFacts(artifact, {
    registry,
    reference: parseReference(reference),
    signal,
    retryPolicy,
  });
  const quantization = artifact.quantization ?? read.quantization;
  const parameters = artifact.parameters ?? read.parameters;
  const architecture = read.facts.architecture ?? artifact.architecture;
  const projectorBytes = sumOfSizes(artifact, (layer) => layer.role === "projector");
  const adapterBytes = sumOfSizes(artifact, (layer) => layer.role === "adapter");
  return {
    reference,
    digest: manifest.digest,
    packaging: artifact.packaging,
    configMediaType: artifact.configMediaType,
    format: artifact.format,
    ...(quantization === undefined ? {} : { quantization }),
    ...(parameters === undefined ? {} : { parameters }),
    ...(architecture === undefined ? {} : { architecture }),
    ...(artifact.statedContextLength === undefined
      ? {}
      : { statedContextLength: artifact.statedContextLength }),
    sizeBytes: sumOfSizes(artifact, (layer) => layer.isPlaced),
    weightBytes: sumOfSizes(artifact, (layer) => layer.role === "weights" || layer.role === "projector"),
    ...(projectorBytes === 0 ? {} : { projectorBytes }),
    ...(adapterBytes === 0 ? {} : { adapterBytes }),
    ...(artifact.entry === undefined ? {} : { entry: artifact.entry }),
    facts: { ...(architecture === undefined ? {} : { architecture }), ...read.facts },
    files: artifact.layers.map(inspectedFile),
    notes: read.notes,
  };
}

/** Inspects one reference more closely than `inspectReference`, which is the default. */
export type InspectOne = (reference: string) => Promise<Inspection>;

/** Inspects several references; the results are in their order. Rejects only for what is no AppError. */
export async function inspectReferences(
  references: readonly string[],
  registry: Registry,
  signal: AbortSignal,
  retryPolicy: RetryPolicy = defaultRetryPolicy,
  inspectOne: InspectOne = (reference) => inspectReference(reference, registry, signal, retryPolicy),
): Promise<readonly InspectionResult[]> {
  return inParallel(references, (reference) => inspectOrFailure(reference, inspectOne));
}

/** Does `work` for each item, a few at a time; the results are in the order of the items. Rejects with the first rejection. */
export async function inParallel<Item, Result>(
  items: readonly Item[],
  work: (item: Item) => Promise<Result>,
): Promise<readonly Result[]> {
  const results = new Map<number, Result>();
  const queue = items.entries();
  const worker = async (): Promise<void> => {
    for (const [position, item] of queue) results.set(position, await work(item));
  };
  await Promise.all(Array.from({ length: concurrency }, worker));
  return items.map((_, position) => results.get(position) as Result);
}

async function inspectOrFailure(reference: string, inspectOne: InspectOne): Promise<InspectionResult> {
  try {
    return await inspectOne(reference);
  } catch (error) {
    if (!(error instanceof AppError)) throw error;
    return { reference: shownReference(reference), code: error.code, message: error.message };
  }
}

/** The result of one reference for the termination message; what no engine could be given a file of is a failure. */
export function toInspectResult(result: InspectionResult): InspectResult {
  if (isInspectionFailure(result)) return result;
  try {
    return toInspectFacts(result);
  } catch (error) {
    if (!(error instanceof AppError)) throw error;
    return { reference: result.reference, code: error.code, message: error.message };
  }
}

/** The part of an Inspection that goes into the termination message. Throws AppError UnsupportedArtifact where no engine could be given a file. */
export function toInspectFacts(inspection: Inspection): InspectFacts {
  const {
    reference,
    digest,
    packaging,
    format,
    quantization,
    parameters,
    sizeBytes,
    weightBytes,
    projectorBytes,
    adapterBytes,
    entry,
    facts,
    requirements,
  } = inspection;
  if (entry === undefined && (format === "gguf" || format === "dduf"))
    throw new AppError(
      "UnsupportedArtifact",
      `${digest} does not tell which of its files is the ${format} model; package it with one file per layer`,
    );
  if (entry !== undefined && new TextEncoder().encode(entry).byteLength > maxEntryPathBytes)
    throw new AppError(
      "UnsupportedArtifact",
      `${digest} has an entry file whose path is longer than ${maxEntryPathBytes} bytes`,
    );
  return {
    reference,
    digest,
    packaging,
    format,
    ...(quantization === undefined ? {} : { quantization }),
    ...(parameters === undefined ? {} : { parameters }),
    sizeBytes,
    weightBytes,
    ...(projectorBytes === undefined ? {} : { projectorBytes }),
    ...(adapterBytes === undefined ? {} : { adapterBytes }),
    ...(entry === undefined ? {} : { entry }),
    ...(Object.keys(facts).length === 0 ? {} : { facts }),
    ...(requirements === undefined ? {} : { requirements }),
  };
}

function inspectedFile(layer: ArtifactLayer): InspectedFile {
  const path = layer.path ?? layer.singleFilePath;
  return {
    ...(path === undefined ? {} : { path }),
    role: layer.role,
    encoding: layer.encoding,
    mediaType: layer.descriptor.mediaType,
    digest: layer.descriptor.digest,
    sizeBytes: layer.descriptor.sizeBytes,
    isPlaced: layer.isPlaced,
  };
}

function sumOfSizes(artifact: ModelArtifact, isCounted: (layer: ArtifactLayer) => boolean): number {
  const sizes = new Map<string, number>();
  for (const layer of artifact.layers)
    if (isCounted(layer)) sizes.set(layer.descriptor.digest, layer.descriptor.sizeBytes);
  return [...sizes.values()].reduce((sum, size) => sum + size, 0);
}
