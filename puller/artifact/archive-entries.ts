// The entries of a layer as files of the model: an image has them below a folder of its own, which is not the model's.

import { AppError } from "../oci/errors.ts";
import { quote } from "../oci/quote.ts";
import { tarEntries, type TarEntry, type TarLimits } from "./tar.ts";
import type { ArtifactLayer, SafePath } from "./types.ts";

/**
 * As `tarEntries`; with `root`, paths are those below it, and anything beside it is refused: it would be no file of the model.
 * Throws AppError InvalidArtifact; errors of `source` as they are.
 */
export async function* entriesOf(
  source: AsyncIterable<Uint8Array>,
  layer: { readonly encoding: Exclude<ArtifactLayer["encoding"], "raw">; readonly root?: string },
  limits?: TarLimits,
): AsyncGenerator<TarEntry, void, undefined> {
  const { root } = layer;
  if (root === undefined) {
    yield* tarEntries(source, layer.encoding, limits);
    return;
  }
  for await (const entry of tarEntries(source, layer.encoding, limits)) {
    if (entry.path === root && entry.type === "directory") continue;
    if (!entry.path.startsWith(`${root}/`))
      throw new AppError(
        "InvalidArtifact",
        `an image layer holds ${quote(entry.path)}, which is not below /${root}`,
      );
    yield { ...entry, path: entry.path.slice(root.length + 1) as SafePath };
  }
}
