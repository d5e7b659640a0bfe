// From an artifact and what is on the volume to what is to be done: blobs to fetch, files to place, bytes needed. Pure.

import type { ArtifactLayer, ModelArtifact, SafePath } from "../artifact/types.ts";
import { wantedBy, type Globs } from "../artifact/wanted-paths.ts";
import { modelDirectoryName } from "../contract.ts";
import { AppError } from "../oci/errors.ts";
import type { Descriptor, Digest, Manifest } from "../oci/types.ts";

/** A file that is one blob. */
export type PlannedFile = { readonly path: SafePath; readonly descriptor: Descriptor };
/** A layer that holds files of its own. */
export type PlannedArchive = {
  readonly descriptor: Descriptor;
  readonly encoding: Exclude<ArtifactLayer["encoding"], "raw">;
  readonly singleFilePath?: SafePath;
  /** The folder in it that is the model's; absent: all of it. */
  readonly root?: string;
};

export type PullPlan = {
  readonly digest: Digest;
  /** Name of the model's directory. */
  readonly name: string;
  readonly files: readonly PlannedFile[];
  readonly archives: readonly PlannedArchive[];
  /** Each digest once. */
  readonly blobs: readonly Descriptor[];
  /** Sum of `blobs`, bytes. */
  readonly totalBytes: number;
  readonly entry?: SafePath;
  /** Whether a path, of a file or inside an archive, is wanted. */
  readonly isWanted: (path: string) => boolean;
};

/** Plans a pull. Fails with InvalidUsage when the globs leave nothing, UnsupportedArtifact when there is nothing to place. */
export function planPull(manifest: Manifest, artifact: ModelArtifact, globs: Globs): PullPlan {
  const isWanted = wantedBy(globs);
  const placed = artifact.layers.filter(({ isPlaced }) => isPlaced);
  if (placed.length === 0) {
    throw new AppError("UnsupportedArtifact", "the artifact has no layer that is a file of a model");
  }
  const files = placed.flatMap(({ path, descriptor, encoding }): PlannedFile[] =>
    encoding === "raw" && path !== undefined && isWanted(path) ? [{ path, descriptor }] : [],
  );
  const archives = placed.flatMap(({ descriptor, encoding, singleFilePath, root }): PlannedArchive[] =>
    encoding === "raw"
      ? []
      : [
          {
            descriptor,
            encoding,
            ...(singleFilePath === undefined ? {} : { singleFilePath }),
            ...(root === undefined ? {} : { root }),
          },
        ],
  );
  if (files.length === 0 && archives.length === 0) {
    const names = placed.flatMap(({ path }) => path ?? []).slice(0, 10);
    throw new AppError(
      "InvalidUsage",
      `--include and --exclude leave no file; the artifact has ${names.join(", ")}${placed.length > names.length ? ", …" : ""}`,
    );
  }
  const byDigest = new Map<Digest, Descriptor>();
  for (const { descriptor } of [...files, ...archives]) {
    const known = byDigest.get(descriptor.digest);
    if (known !== undefined && known.sizeBytes !== descriptor.sizeBytes) {
      throw new AppError(
        "InvalidArtifact",
        `the manifest states two sizes for ${descriptor.digest}: ${known.sizeBytes} and ${descriptor.sizeBytes}`,
      );
    }
    byDigest.set(descriptor.digest, descriptor);
  }
  const blobs = [...byDigest.values()];
  return {
    digest: manifest.digest,
    name: modelDirectoryName(manifest.digest, globs.include, globs.exclude),
    files: distinct(files),
    archives,
    blobs,
    totalBytes: blobs.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0),
    ...(artifact.entry === undefined || !isWanted(artifact.entry) ? {} : { entry: artifact.entry }),
    isWanted,
  };
}

/** The same file listed twice is one file; different ones of a path were refused before. */
function distinct(files: readonly PlannedFile[]): readonly PlannedFile[] {
  return [...new Map(files.map((file) => [file.path, file])).values()];
}

/** What the volume has, and what the plan still needs of it. */
export type SpaceNeed = { readonly bytes: number; readonly inodes: number };

/**
 * Space for the blobs that are missing, without the `startedBytes` of them that partial files take already, and for archives once
 * more unpacked (at least their own size).
 */
export function spaceNeed(plan: PullPlan, missing: readonly Descriptor[], startedBytes = 0): SpaceNeed {
  const blobs = missing.reduce((sum, { sizeBytes }) => sum + sizeBytes, -startedBytes);
  const unpacked = plan.archives.reduce((sum, { descriptor }) => sum + descriptor.sizeBytes, 0);
  // A blob, its directory of partials, the model's directories, staging and the seal.
  return { bytes: blobs + unpacked, inodes: missing.length * 2 + plan.files.length + 16 };
}

/** Refuses before the first byte when the volume cannot take the model. `free.inodes` 0 means that it does not count them. */
export function checkSpace(
  need: SpaceNeed,
  free: { readonly bytes: number; readonly inodes: number; readonly totalInodes: number },
): void {
  if (need.bytes > free.bytes) {
    throw new AppError(
      "OutOfSpace",
      `the model needs ${need.bytes} more bytes and the volume has ${free.bytes} free; enlarge it or remove models`,
      { context: { neededBytes: need.bytes, freeBytes: free.bytes } },
    );
  }
  if (free.totalInodes > 0 && need.inodes > free.inodes) {
    throw new AppError(
      "OutOfSpace",
      `the model needs about ${need.inodes} inodes and the volume has ${free.inodes} free`,
      { context: { neededInodes: need.inodes, freeInodes: free.inodes } },
    );
  }
}

/**
 * Refuses before the first byte when a volume in RAM would take more than the container's memory limit leaves: the kernel
 * would kill the puller in the middle. `room` undefined means that there is no limit.
 */
export function checkMemory(need: SpaceNeed, room: number | undefined): void {
  if (room === undefined || need.bytes <= room) return;
  throw new AppError(
    "OutOfSpace",
    `the volume is in memory, the model needs ${need.bytes} more bytes and the puller's memory limit leaves ${room}; raise spec.puller.resources.limits.memory or use the node's disk`,
    { context: { neededBytes: need.bytes, freeBytes: room } },
  );
}
