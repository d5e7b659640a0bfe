// Which file of a model an engine is given. Pure.

import type { ModelFormat } from "../contract.ts";
import { parseShard } from "./layer-path.ts";
import { baseName } from "./safe-path.ts";
import type { SafePath } from "./types.ts";

/**
 * The entry file among the weight files of a model, given in the artifact's order: the first one, or shard 1 of
 * the set the first one belongs to. Undefined for formats of many files, whose engines take the directory, and
 * where no file is known. Projectors (`mmproj` in the name) are never the entry.
 */
export function findEntry(format: ModelFormat, weights: readonly SafePath[]): SafePath | undefined {
  if (format !== "gguf" && format !== "dduf") return undefined;
  const candidates = weights.filter((path) => !baseName(path).toLowerCase().includes("mmproj"));
  const first = candidates[0];
  const shard = first === undefined ? undefined : parseShard(first);
  if (first === undefined || shard === undefined) return first;
  return (
    candidates.find((path) => {
      const other = parseShard(path);
      return (
        other !== undefined &&
        other.number === 1 &&
        other.count === shard.count &&
        other.prefix === shard.prefix
      );
    }) ?? first
  );
}
