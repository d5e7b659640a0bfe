// Reads what the files of an artifact say about the model, without pulling them: GGUF and safetensors headers and config.json.

import type { ArchitectureFacts } from "../contract.ts";
import { AppError } from "../oci/errors.ts";
import { readGgufHeader, type GgufHeader } from "./gguf.ts";
import { parseShard } from "./layer-path.ts";
import { formatParameterCount } from "./parameter-count.ts";
import { quote } from "../oci/quote.ts";
import { rangesOfLayer, withArchivedFile, type RemoteLayers } from "./remote-file.ts";
import { baseName } from "./safe-path.ts";
import { readSafetensorsHeader, type SafetensorsHeader } from "./safetensors.ts";
import { maxTransformerConfigBytes, readTransformerConfig } from "./transformer-config.ts";
import type { ArtifactLayer, ModelArtifact } from "./types.ts";

/** What the files say. Strings are for display and choice, as in ModelArtifact. */
export type FileFacts = {
  readonly facts: ArchitectureFacts;
  readonly quantization?: string;
  readonly parameters?: string;
  /** What could not be learned, and why, in sentences for people. */
  readonly notes: readonly string[];
};

/** Safetensors files of which headers are read when the artifact itself does not state its parameters. */
const maxShardHeaders = 16;

/** Reads the facts of an artifact's files. Fails with AppError when a header is invalid or cannot be read. */
export async function readFileFacts(artifact: ModelArtifact, remote: RemoteLayers): Promise<FileFacts> {
  if (artifact.format === "gguf") return await readGgufFacts(artifact, remote);
  if (artifact.format === "safetensors") return await readSafetensorsFacts(artifact, remote);
  return {
    facts: {},
    notes: [`headers of ${artifact.format === "dduf" ? "DDUF" : "unknown"} files are not read`],
  };
}

async function readGgufFacts(artifact: ModelArtifact, remote: RemoteLayers): Promise<FileFacts> {
  const layer = artifact.layers.find(
    (item) => artifact.entry !== undefined && (item.path ?? item.singleFilePath) === artifact.entry,
  );
  if (layer === undefined) return { facts: {}, notes: ["no GGUF file is named, so none was looked into"] };
  const header =
    layer.encoding === "raw"
      ? await readGgufHeader(rangesOfLayer(remote, layer.descriptor), layer.descriptor.sizeBytes)
      : await withArchivedFile(
          remote,
          layer,
          (path) => path === layer.singleFilePath || path === baseName(layer.singleFilePath ?? ""),
          async (file) => await readGgufHeader(file.readRange, file.sizeBytes),
        );
  if (header === undefined)
    return {
      facts: {},
      notes: [
        `${layer.singleFilePath ?? "the entry file"} is not at the front of its archive, so it was not looked into`,
      ],
    };
  checkSplit(artifact, header);
  return {
    facts: header.facts,
    ...(header.quantization === undefined ? {} : { quantization: header.quantization }),
    ...(header.split === undefined && header.parameterCount > 0
      ? { parameters: formatParameterCount(header.parameterCount) }
      : {}),
    notes: [],
  };
}

/** An engine given any but the first shard, or too few of them, does not start. */
function checkSplit(artifact: ModelArtifact, header: GgufHeader): void {
  const { entry } = artifact;
  if (entry === undefined) return;
  if (header.type === "mmproj" || header.type === "adapter")
    throw new AppError(
      "InvalidArtifact",
      `entry file ${quote(entry)} is of type ${header.type}, not a model`,
    );
  const stated = parseShard(entry);
  if (header.split === undefined) {
    if (stated !== undefined && stated.count > 1)
      throw new AppError("InvalidArtifact", `entry file ${quote(entry)} is named as a shard but is none`);
    return;
  }
  const { number, count } = header.split;
  if (number !== 0)
    throw new AppError(
      "InvalidArtifact",
      `entry file ${quote(entry)} is shard ${number + 1} of ${count}; its layers are in the wrong order, so the artifact must be packaged again`,
    );
  if (count !== (stated?.count ?? 1))
    throw new AppError(
      "InvalidArtifact",
      `entry file ${quote(entry)} is the first of ${count} shards but the artifact has ${stated?.count ?? 1}`,
    );
}

async function readSafetensorsFacts(artifact: ModelArtifact, remote: RemoteLayers): Promise<FileFacts> {
  const weights = artifact.layers.filter(
    (layer) => layer.role === "weights" && layer.weightFormat === "safetensors",
  );
  const notes: string[] = [];
  const isStated = artifact.parameters !== undefined && artifact.quantization !== undefined;
  const looked = isStated ? weights.slice(0, 1) : weights.slice(0, maxShardHeaders);
  const headers: SafetensorsHeader[] = [];
  for (const layer of looked) {
    const header =
      layer.encoding === "raw"
        ? await readSafetensorsHeader(rangesOfLayer(remote, layer.descriptor), layer.descriptor.sizeBytes)
        : await withArchivedFile(
            remote,
            layer,
            (path) => path.endsWith(".safetensors"),
            async (file) => await readSafetensorsHeader(file.readRange, file.sizeBytes),
          );
    if (header === undefined)
      notes.push(`no safetensors file is at the front of layer ${layer.descriptor.digest}`);
    else headers.push(header);
  }
  const isComplete = headers.length === weights.length && weights.every((layer) => layer.encoding === "raw");
  const elementTypes = new Set(
    headers.map((header) => header.elementType).filter((type) => type !== undefined),
  );
  const [elementType, another] = elementTypes;
  const parameterCount = headers.reduce((sum, header) => sum + header.parameterCount, 0);
  const config = await readConfig(artifact, remote, notes);
  return {
    facts: config ?? {},
    ...(elementType === undefined ? {} : { quantization: another === undefined ? elementType : "mixed" }),
    ...(isComplete && parameterCount > 0 ? { parameters: formatParameterCount(parameterCount) } : {}),
    notes,
  };
}

async function readConfig(
  artifact: ModelArtifact,
  remote: RemoteLayers,
  notes: string[],
): Promise<ArchitectureFacts | undefined> {
  const candidates = artifact.layers.filter(
    (layer) => layer.path !== undefined && baseName(layer.path) === "config.json",
  );
  // The one nearest the root: pipelines of several models have more below.
  const layer = candidates.sort((one, other) => depth(one) - depth(other))[0];
  if (layer !== undefined) {
    const bytes = await remote.registry.fetchBlob(
      remote.reference,
      layer.descriptor,
      maxTransformerConfigBytes,
      remote.signal,
    );
    return readTransformerConfig(bytes);
  }
  for (const archive of artifact.layers) {
    if (
      archive.encoding === "raw" ||
      !archive.isPlaced ||
      (archive.role !== "config" && archive.role !== "other")
    )
      continue;
    const found = await withArchivedFile(
      remote,
      archive,
      (path) => baseName(path) === "config.json",
      async (file) => {
        if (file.sizeBytes > maxTransformerConfigBytes)
          throw new AppError(
            "InvalidArtifact",
            `config.json has ${file.sizeBytes} bytes; at most ${maxTransformerConfigBytes} are read`,
          );
        return readTransformerConfig(await file.readRange(0, file.sizeBytes));
      },
    );
    if (found !== undefined) return found;
  }
  notes.push("no config.json was found, so the architecture is not known");
  return undefined;
}

function depth(layer: ArtifactLayer): number {
  return (layer.path ?? "").split("/").length;
}
