// The bytes of one image layer, made from blobs of the source as they stream by. Constant memory.

import { baseName, entriesOf, placeExtracted, type PlacedPaths } from "../artifact/index.ts";
import type { SafePath } from "../artifact/types.ts";
import { AppError } from "../oci/errors.ts";
import type { Descriptor } from "../oci/types.ts";
import type { PlannedArchive, PlannedFile } from "../pull/plan.ts";
import { foldersAbove, imagePath, type LayerPlan } from "./plan.ts";
import { endOfArchive, entryHeader, padding } from "./tar-writer.ts";

/** What content is made with. */
export type ContentSource = {
  /** Bytes of a blob; the end only when they were the right ones. */
  readonly read: (descriptor: Descriptor) => AsyncIterable<Uint8Array>;
  readonly isWanted: (path: string) => boolean;
  /** Paths of the whole image: no layer may put a file where another has one. */
  readonly placed: PlacedPaths;
  /** Told of the paths of an archive's files. */
  readonly onArchivedFile: (path: SafePath) => void;
};

/** Yields the layer: folders, files, links, end. Fails with AppError. */
export async function* layerContent(
  layer: LayerPlan,
  source: ContentSource,
): AsyncGenerator<Uint8Array, void, undefined> {
  const { content } = layer;
  yield* content.kind === "files"
    ? filesContent(content.files, source)
    : archiveContent(content.archive, layer.recipe, source);
  yield endOfArchive;
}

function* folders(paths: readonly string[], made: Set<string>): Generator<Uint8Array> {
  for (const folder of foldersAbove(paths)) {
    if (made.has(folder)) continue;
    made.add(folder);
    yield entryHeader({ type: "directory", path: folder });
  }
}

async function* filesContent(
  files: readonly PlannedFile[],
  source: ContentSource,
): AsyncGenerator<Uint8Array, void, undefined> {
  const made = new Set<string>();
  for (const { path, descriptor } of files) {
    source.placed.claimFile(path, descriptor.digest);
    yield* folders([imagePath(path)], made);
    yield entryHeader({ type: "file", path: imagePath(path), sizeBytes: descriptor.sizeBytes });
    yield* source.read(descriptor);
    yield padding(descriptor.sizeBytes);
  }
}

async function* archiveContent(
  archive: PlannedArchive,
  /** Stands for the content of its files: the same archive may be read again. */
  recipe: string,
  source: ContentSource,
): AsyncGenerator<Uint8Array, void, undefined> {
  const lone = await lonePath(archive, source);
  const made = new Set<string>();
  const links: { readonly path: SafePath; readonly target: string }[] = [];
  for await (const entry of entriesOf(source.read(archive.descriptor), archive)) {
    const path = entry.type === "file" && lone !== undefined ? lone : entry.path;
    if (entry.type === "directory") {
      if (!source.isWanted(`${path}/`) && !source.isWanted(path)) continue;
      source.placed.claimDirectory(path);
      yield* folders([`${imagePath(path)}/`], made);
    } else if (!source.isWanted(path)) {
      continue;
    } else if (entry.type === "symlink") {
      source.placed.claimFile(path, recipe);
      links.push({ path, target: entry.target });
    } else {
      source.placed.claimFile(path, recipe);
      source.onArchivedFile(path);
      yield* folders([imagePath(path)], made);
      yield entryHeader({ type: "file", path: imagePath(path), sizeBytes: entry.sizeBytes });
      yield* entry.content;
      yield padding(entry.sizeBytes);
    }
  }
  // Behind the files: no file is ever written through a link.
  for (const { path, target } of links) {
    yield* folders([imagePath(path)], made);
    yield entryHeader({ type: "symlink", path: imagePath(path), target });
  }
}

/**
 * Where the only file of an archive goes, if it is the only one and belongs elsewhere: an archive for which that is possible
 * is read twice, since its end tells and a stream has no way back.
 */
async function lonePath(archive: PlannedArchive, source: ContentSource): Promise<SafePath | undefined> {
  const { singleFilePath } = archive;
  if (singleFilePath === undefined || !singleFilePath.includes("/")) return undefined;
  const files: SafePath[] = [];
  for await (const entry of entriesOf(source.read(archive.descriptor), archive)) {
    if (entry.type !== "file") continue;
    if (entry.path !== baseName(singleFilePath)) return undefined;
    files.push(entry.path);
    if (files.length > 1) return undefined;
  }
  const [only] = placeExtracted(files, singleFilePath);
  return only;
}

/** Throws InvalidArtifact when the model's entry file is in none of the layers. */
export function requireEntry(entry: string | undefined, paths: ReadonlySet<string>): void {
  if (entry === undefined || paths.has(entry)) return;
  throw new AppError(
    "InvalidArtifact",
    `the archives of the artifact do not hold its entry file ${JSON.stringify(entry)}; package it with one file per layer`,
  );
}
