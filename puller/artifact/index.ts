// The door of artifact/: what a model artifact is and how its names and archives are read.

export { entriesOf } from "./archive-entries.ts";
export { findEntry } from "./entry.ts";
export { fetchArtifact, fetchConfig, type FetchedArtifact } from "./fetch-artifact.ts";
export { readGgufHeader, type GgufHeader } from "./gguf.ts";
export { readFileFacts, type FileFacts } from "./read-facts.ts";
export { readSafetensorsHeader, type SafetensorsHeader } from "./safetensors.ts";
export { readTransformerConfig } from "./transformer-config.ts";
export { isModelConfig } from "./media-types.ts";
export { maxConfigBytes } from "./model-config.ts";
export { readArtifact, requireManifest } from "./parse-artifact.ts";
export { compareQuality, type Graded } from "./quality.ts";
export { quote } from "../oci/quote.ts";
export {
  baseName,
  checkCollisions,
  maxPathBytes,
  PlacedPaths,
  safePath,
  safePathWithoutParents,
} from "./safe-path.ts";
export { defaultTarLimits, placeExtracted, tarEntries, type TarEntry, type TarLimits } from "./tar.ts";
export type { ArtifactLayer, FileRole, LayerEncoding, ModelArtifact, SafePath } from "./types.ts";
