// A model that is on the volume already: found by its seal, without a registry and without a byte of its files. Loaded at every start,
// so it imports nothing that a start does not need.

import { modelDirectoryName } from "../contract.ts";
import type { Globs } from "../artifact/wanted-paths.ts";
import { parseReference } from "../oci/reference.ts";
import type { Digest } from "../oci/types.ts";
import { modelDirectory, type StoreLayout } from "../store/layout.ts";
import { isSealedModelTrusted, readSeal, type Seal } from "../store/seal.ts";
import { noteUse } from "../store/note-use.ts";
import type { ProgressTracker } from "./progress.ts";
import type { PullReport } from "./pull.ts";

/** The report of a model that is named by digest and that is there; undefined when it is to be pulled. */
export async function findNamed(
  layout: StoreLayout,
  request: Globs & { readonly reference: string },
  progress: ProgressTracker,
  signal: AbortSignal,
): Promise<PullReport | undefined> {
  const { digest } = parseReference(request.reference);
  if (digest === undefined) return undefined;
  const name = modelDirectoryName(digest, request.include, request.exclude);
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
export function warmReport(
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
