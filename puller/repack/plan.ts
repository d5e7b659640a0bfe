// What the layers of a repacked image are: which files each holds, and a name for that by which a layer is known again. Pure.

import { createHash } from "node:crypto";
import { imageRoot } from "../artifact/image-types.ts";
import type { FileRole, ModelArtifact, SafePath } from "../artifact/types.ts";
import type { Globs } from "../artifact/wanted-paths.ts";
import { AppError } from "../oci/errors.ts";
import { quote } from "../oci/quote.ts";
import type { Digest } from "../oci/types.ts";
import type { PlannedArchive, PlannedFile, PullPlan } from "../pull/plan.ts";

/** Version of what is written for the same files: another one gives other layers. */
const recipeVersion = 1;

/** Layers of one image. Container runtimes stack them as mounts, and refuse more than 127. */
export const maxImageLayers = 100;

/** One layer of the image. */
export type LayerPlan = {
  readonly content:
    | { readonly kind: "files"; readonly files: readonly PlannedFile[] }
    | { readonly kind: "archive"; readonly archive: PlannedArchive };
  readonly role: FileRole;
  /** sha256 of what the layer is made of and how: the same recipe gives the same bytes. */
  readonly recipe: string;
  /** Bytes of the blobs that it is made of. */
  readonly sourceBytes: number;
};

/** Container runtimes take such a file for the order to delete another one. */
function refuseWhiteout(path: string): void {
  if (!path.split("/").some((segment) => segment.startsWith(".wh."))) return;
  throw new AppError(
    "UnsupportedArtifact",
    `file ${quote(path)} cannot be in an image: names that begin with .wh. delete files there; leave it out with --exclude`,
  );
}

/** Throws UnsupportedArtifact for a path that means something else inside an image layer. */
export function imagePath(path: SafePath): string {
  refuseWhiteout(path);
  return `${imageRoot}/${path}`;
}

/** The folders above the paths, each once, before what is in them. */
export function foldersAbove(paths: readonly string[]): readonly string[] {
  const folders = new Set<string>();
  for (const path of paths)
    for (let slash = path.indexOf("/"); slash !== -1; slash = path.indexOf("/", slash + 1))
      folders.add(path.slice(0, slash));
  return [...folders];
}

function recipeOf(parts: unknown): string {
  return `sha256:${createHash("sha256")
    .update(JSON.stringify([recipeVersion, imageRoot, parts]))
    .digest("hex")}`;
}

function filesLayer(files: readonly PlannedFile[], role: FileRole): LayerPlan {
  for (const { path } of files) refuseWhiteout(path);
  return {
    content: { kind: "files", files },
    role,
    recipe: recipeOf(["files", files.map(({ path, descriptor }) => [path, descriptor.digest])]),
    sourceBytes: files.reduce((sum, { descriptor }) => sum + descriptor.sizeBytes, 0),
  };
}

/**
 * The layers in the artifact's order: a file each, an archive each. Where that would be more than an image can have, the
 * smallest files share a layer, those of each role apart.
 */
export function planLayers(
  plan: Pick<PullPlan, "files" | "archives">,
  artifact: ModelArtifact,
  globs: Globs,
): readonly LayerPlan[] {
  const roles = new Map<Digest, FileRole>();
  const byPath = new Map<string, FileRole>();
  for (const { descriptor, role, path } of artifact.layers) {
    roles.set(descriptor.digest, role);
    if (path !== undefined) byPath.set(path, role);
  }
  const roleOf = ({ path, descriptor }: PlannedFile): FileRole =>
    byPath.get(path) ?? roles.get(descriptor.digest) ?? "other";
  const archives = plan.archives.map((archive): LayerPlan => ({
    content: { kind: "archive", archive },
    role: roles.get(archive.descriptor.digest) ?? "other",
    recipe: recipeOf([
      "archive",
      archive.descriptor.digest,
      archive.encoding,
      archive.singleFilePath ?? null,
      archive.root ?? null,
      globs.include,
      globs.exclude,
    ]),
    sourceBytes: archive.descriptor.sizeBytes,
  }));
  if (archives.length > maxImageLayers / 2) {
    throw new AppError(
      "UnsupportedArtifact",
      `the artifact has ${archives.length} archives and an image can have ${maxImageLayers / 2} of them; package it with fewer`,
    );
  }
  const room = maxImageLayers - archives.length;
  const shared = new Set<PlannedFile>();
  if (plan.files.length > room) {
    const sharedRoles = new Set(plan.files.map(roleOf)).size;
    const bySize = plan.files.toSorted(
      (one, other) =>
        other.descriptor.sizeBytes - one.descriptor.sizeBytes || (one.path < other.path ? -1 : 1),
    );
    for (const file of bySize.slice(room - sharedRoles)) shared.add(file);
  }
  const together = Map.groupBy(shared, roleOf);
  return [
    ...[...together].map(([role, files]) =>
      filesLayer(
        files.toSorted((one, other) => (one.path < other.path ? -1 : 1)),
        role,
      ),
    ),
    ...plan.files.filter((file) => !shared.has(file)).map((file) => filesLayer([file], roleOf(file))),
    ...archives,
  ];
}
