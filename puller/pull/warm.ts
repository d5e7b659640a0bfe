// A model that is on the volume already: found by its seal, without a registry and without a byte of its files. Loaded at every start,
// so it imports nothing that a start does not need.

import { modelDirectoryName } from "../contract.ts";
import type { Globs } from "../artifact/wanted-paths.ts";
import { AppError } from "../oci/errors.ts";
import type { Digest } from "../oci/types.ts";
import { modelDirectory, type StoreLayout } from "../store/layout.ts";
import { isSealedModelTrusted, readSeal, type Seal } from "../store/seal.ts";
import { noteUse } from "../store/note-use.ts";
import type { ProgressTracker } from "./progress.ts";
import type { PullReport } from "./pull.ts";

/** The report of a model that is there; undefined when it is to be pulled. `digest`: of its manifest, if that is known. */
export async function findModel(
  layout: StoreLayout,
  digest: Digest | undefined,
  { include, exclude }: Globs,
  progress: ProgressTracker,
  signal: AbortSignal,
): Promise<PullReport | undefined> {
  if (digest === undefined) return undefined;
  const name = modelDirectoryName(digest, include, exclude);
  const seal = await findPublished(layout, { name, digest }, signal);
  return seal && warmReport(layout, seal, progress);
}

/** The seal of the model if it is there and can be used; from now on it is in use. */
export async function findPublished(
  layout: StoreLayout,
  { name, digest }: { readonly name: string; readonly digest: Digest },
  signal: AbortSignal,
): Promise<Seal | undefined> {
  const seal = await readSeal(layout, name);
  if (seal === undefined) return undefined;
  // Before the look at it: garbage collection takes it away first and looks for uses then.
  if (!layout.isReadOnly) await noteUse(layout, name, seal.blobs);
  return seal.digest === digest && (await isSealedModelTrusted(layout, seal, signal)) ? seal : undefined;
}

/** What a pull reports that found everything there. */
function warmReport(
  layout: StoreLayout,
  { name, digest, files }: Seal,
  progress: ProgressTracker,
): PullReport {
  const totalBytes = files.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  progress.plan(digest, totalBytes, files.length);
  progress.add(totalBytes, "volume");
  progress.enter("ready");
  return {
    digest,
    directory: modelDirectory(layout, name),
    totalBytes,
    fetchedBytes: 0,
    isWarm: true,
    seconds: progress.seconds,
  };
}

/** Fails with StorageFailed when nothing can be written to the store, so that a model that is not there cannot be pulled. */
export function refuseReadOnly({ isReadOnly, root }: StoreLayout): void {
  if (!isReadOnly) return;
  throw new AppError(
    "StorageFailed",
    `the volume ${root} can only be read and does not hold the model; name it by digest, and fill the volume with puller pull from where it can be written to`,
  );
}
