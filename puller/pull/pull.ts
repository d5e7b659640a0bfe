// The loop of the puller: resolve -> plan -> free space -> fetch and verify -> publish.

import { readdir, statfs } from "node:fs/promises";
import { join } from "node:path";
import type { Logger } from "pino";
import { fetchConfig, requireManifest } from "../artifact/index.ts";
import type { Globs } from "../artifact/wanted-paths.ts";
import { eachOf } from "../each-of.ts";
import { AppError } from "../oci/errors.ts";
import { formatReference, parseReference } from "../oci/reference.ts";
import type { RetryClock, RetryPolicy } from "../oci/retry.ts";
import type { Descriptor, Digest, Index, Manifest, Reference, Registry } from "../oci/types.ts";
import { beginPartial } from "../store/begin-partial.ts";
import { syncDirectory } from "../store/durability.ts";
import { blobPath, modelDirectory, type StoreLayout } from "../store/layout.ts";
import { isInMemory, memoryRoom } from "../store/memory-room.ts";
import { openStore } from "../store/open-store.ts";
import { removeOrphans, startedBytes } from "../store/orphans.ts";
import type { Verified } from "../store/partial.ts";
import { onVolume } from "../store/storage-error.ts";
import { remember, stamp, trustedBlob } from "../store/trust.ts";
import { defaultTurnTimes, Turns, type TurnOptions } from "../store/turn.ts";
import { noteUse } from "../store/note-use.ts";
import { keepUse } from "../store/uses.ts";
import { lanesWithin } from "../transfer/bandwidth.ts";
import { DataPlane, type DataPlaneOptions, type TransferCounts } from "../transfer/data-plane.ts";
import { machineLimits } from "../transfer/machine-limits.ts";
import { largeBlobBytes, planTransfer, smallBlobBytes } from "../transfer/schedule.ts";
import { tuning } from "../transfer/tuning.ts";
import { fetchBlob, hasBlob } from "./fetch-blob.ts";
import type { FetchOptions } from "./fetch-options.ts";
import { checkMemory, checkSpace, planPull, spaceNeed, type PullPlan } from "./plan.ts";
import type { ProgressTracker, PullSeconds } from "./progress.ts";
import { publishModel } from "./publish.ts";
import { Unpacking } from "./unpacking.ts";
import { findModel, findPublished, refuseReadOnly } from "./warm.ts";

export type PullRequest = Globs & {
  readonly reference: string;
  /** Root of the volume. */
  readonly store: string;
  /** Connections at once, at most. */
  readonly concurrency: number;
  /** Bytes per second over all connections; absent: no limit. */
  readonly bandwidthLimit?: number;
  readonly policy: RetryPolicy;
  readonly slowest: { readonly bytes: number; readonly windowMs: number };
};

export type PullDeps = {
  readonly registry: Registry;
  readonly progress: ProgressTracker;
  readonly log: Logger;
  readonly clock?: RetryClock;
  /** How the data plane connects: as the registry's own client does. */
  readonly connections: Pick<DataPlaneOptions, "authorities" | "connectTimeoutMs" | "stallTimeoutMs">;
  /** How pullers wait for each other. */
  readonly turns?: TurnOptions;
};

export type PullReport = {
  readonly digest: Digest;
  /** The published directory. */
  readonly directory: string;
  readonly totalBytes: number;
  /** Bytes that came over the network in this run. */
  readonly fetchedBytes: number;
  /** True when everything was there already. */
  readonly isWarm: boolean;
  readonly seconds: PullSeconds;
  /** How the blobs came; absent when there was nothing to fetch. */
  readonly transfer?: TransferCounts;
};

/** Pulls one model to a volume. Safe to kill at any point and to run again; several at once share what they fetch. */
export async function pull(request: PullRequest, deps: PullDeps, signal: AbortSignal): Promise<PullReport> {
  const layout = await openStore(request.store);
  const reference = parseReference(request.reference);
  const { progress, registry } = deps;
  const named = await findModel(layout, reference.digest, request, progress, signal);
  if (named !== undefined) return named;
  refuseReadOnly(layout);
  const manifest = await registry.fetchManifest(reference, signal);
  return (
    (await findModel(layout, manifest.digest, request, progress, signal)) ??
    pullTo(layout, manifest, request, deps, signal)
  );
}

/** The same, to a store in which the model of the manifest was not found; the reference is not resolved once more. */
export async function pullTo(
  layout: StoreLayout,
  fetched: Manifest | Index,
  request: PullRequest,
  deps: PullDeps,
  signal: AbortSignal,
): Promise<PullReport> {
  const { registry, progress } = deps;
  const reference = parseReference(request.reference);
  const manifest = requireManifest(fetched);
  const artifact = await fetchConfig(reference, manifest, registry, signal);
  // One resolution per run: a tag that moves meanwhile changes nothing.
  const pinned = { ...reference, digest: manifest.digest };
  progress.enter("planning");
  const plan = planPull(manifest, artifact, request);
  progress.plan(plan.digest, plan.totalBytes, plan.blobs.length);
  const blobs = plan.blobs.map(({ digest }) => digest);
  await noteUse(layout, plan.name, blobs);
  const stopUse = keepUse(layout, plan.name);
  try {
    return await fetchAndPublish(plan, pinned, layout, request, deps, signal);
  } finally {
    stopUse();
    // Young from here on: the pod is about to mount it.
    await noteUse(layout, plan.name, blobs);
  }
}

async function fetchAndPublish(
  plan: PullPlan,
  pinned: Reference,
  layout: StoreLayout,
  request: PullRequest,
  deps: PullDeps,
  signal: AbortSignal,
): Promise<PullReport> {
  const { progress, log } = deps;
  const isThere = await trustedBlobs(layout, plan.blobs, signal);
  const missing = plan.blobs.filter(({ digest }) => !isThere.has(digest));
  const present = plan.blobs.filter(({ digest }) => isThere.has(digest));
  for (const { sizeBytes } of present) {
    progress.add(sizeBytes, "volume");
    progress.completeFile();
  }
  // A file that lost a link looks touched, and would be read once more.
  for (const blob of await removeOrphans(layout, present)) {
    const verified = isThere.get(blob.digest);
    if (verified !== undefined) await stamp(layout, blobPath(layout, blob.digest), blob, verified);
  }
  await refuseWithoutSpace(layout, spaceNeed(plan, missing, await startedBytes(layout, missing)));
  log.info(
    {
      reference: formatReference(pinned),
      totalBytes: plan.totalBytes,
      blobs: plan.blobs.length,
      missing: missing.length,
    },
    "plan",
  );
  progress.enter("fetching");
  const onRetry = (error: AppError, attempt: number, waitMs: number): void => {
    progress.fail(error);
    log.warn({ ...error.context, code: error.code, attempt, waitMs }, error.message);
  };
  const unpacking = new Unpacking(layout, request, plan.archives, machineLimits().processors, signal);
  let fetched: Fetched | undefined;
  try {
    for (const archive of plan.archives) {
      if (!missing.some(({ digest }) => digest === archive.descriptor.digest))
        await unpacking.fromBlob(archive);
    }
    const what = { ...request, reference: pinned, layout, onRetry, unpacking };
    fetched = await fetchAll(missing, what, deps, signal);
    progress.enter("publishing");
    // Whoever was waited for has published it by now, as a rule.
    const isPublished =
      fetched?.hasWaited === true && (await findPublished(layout, plan, signal)) !== undefined;
    if (!isPublished) {
      const trusted = await trustedBlobs(layout, plan.blobs, signal);
      const changed = plan.blobs.find(({ digest }) => !trusted.has(digest));
      if (changed !== undefined) {
        throw new AppError(
          "StorageFailed",
          `${changed.digest} was changed on the volume by somebody else while the model was being pulled; it is fetched again`,
        );
      }
      await publishModel(layout, plan, { blobs: trusted, unpacked: await unpacking.finish() }, signal);
    }
  } finally {
    await unpacking.remove();
  }
  progress.enter("ready");
  return {
    digest: plan.digest,
    directory: modelDirectory(layout, plan.name),
    totalBytes: plan.totalBytes,
    fetchedBytes: progress.fetchedBytes,
    isWarm: false,
    seconds: progress.seconds,
    ...(fetched === undefined ? {} : { transfer: fetched.counts }),
  };
}

/** Blobs looked at at once: on a file server each look takes a round trip. */
const looksAtOnce = 4;

/** Those of the blobs that are on the volume and can be used, each with the file that was judged. */
async function trustedBlobs(
  layout: StoreLayout,
  blobs: readonly Descriptor[],
  signal: AbortSignal,
): Promise<ReadonlyMap<Digest, Verified>> {
  const trusted = new Map<Digest, Verified>();
  await eachOf(blobs, looksAtOnce, signal, async (blob, each) => {
    const found = await trustedBlob(layout, blob, each);
    if (found !== undefined) trusted.set(blob.digest, found);
  });
  return trusted;
}

/** `hasWaited`: another puller has brought some of the blobs meanwhile. */
type Fetched = { readonly counts: TransferCounts; readonly hasWaited: boolean };

/** Fetches blobs over the data plane. */
async function fetchAll(
  missing: readonly Descriptor[],
  request: Pick<PullRequest, "concurrency" | "bandwidthLimit" | "policy" | "slowest"> &
    Pick<FetchOptions, "reference" | "layout" | "onRetry"> & { readonly unpacking: Unpacking },
  { registry, progress, log, clock, connections, turns }: PullDeps,
  signal: AbortSignal,
): Promise<Fetched | undefined> {
  const [first] = missing;
  if (first === undefined) return undefined;
  const { concurrency, bandwidthLimit, policy, slowest, reference, layout, onRetry, unpacking } = request;
  const limits = machineLimits();
  const planned = planTransfer(
    missing.map(({ sizeBytes }) => sizeBytes),
    limits,
    lanesWithin(bandwidthLimit, concurrency),
  );
  const plane = new DataPlane({
    ...connections,
    slowest,
    limits,
    plan: {
      ...planned,
      lanes: Math.min(tuning.lanes || planned.lanes, planned.mostLanes),
      slabBytes: tuning.slabBytes || planned.slabBytes,
    },
    ...(bandwidthLimit === undefined ? {} : { bandwidthLimit }),
  });
  plane.start();
  const waiting = new Turns(layout, turns);
  // Pullers of one model wait for each other; two models that share small blobs may fetch those twice.
  const turnOfGroup = reference.digest ?? first.digest;
  let hasWaited = false;
  let largeLeft = missing.filter(({ sizeBytes }) => sizeBytes >= largeBlobBytes).length;
  try {
    const isThere = async (blob: Descriptor): Promise<boolean> => hasBlob(layout, blob);
    const found = (blob: Descriptor): void => {
      hasWaited = true;
      progress.add(blob.sizeBytes, "volume");
      if (blob.sizeBytes >= largeBlobBytes) largeLeft -= 1;
      progress.completeFile();
    };
    const fetchOne = async (blob: Descriptor, hasTurn: boolean, ownSignal: AbortSignal): Promise<void> => {
      const times = turns?.times ?? defaultTurnTimes;
      const partial = await beginPartial(
        { layout, descriptor: blob, hasTurn, times, isThere: async () => isThere(blob) },
        ownSignal,
      );
      if (partial === undefined) {
        found(blob);
        return;
      }
      const isLarge = blob.sizeBytes >= largeBlobBytes;
      const follower = unpacking.follower(blob);
      const options: FetchOptions = {
        source: registry,
        plane,
        layout,
        reference,
        policy,
        slowest,
        progress,
        onRetry,
        log,
        otherLargeBlobs: () => largeLeft - (isLarge ? 1 : 0),
        ...(clock === undefined ? {} : { clock }),
        ...(follower === undefined ? {} : { follower }),
      };
      const verified = await fetchBlob(blob, partial, options, ownSignal);
      const note = blob.sizeBytes < smallBlobBytes ? remember : stamp;
      await note(layout, blobPath(layout, blob.digest), blob, verified);
      if (isLarge) largeLeft -= 1;
      progress.completeFile();
    };
    const { grouped, single } = inTurns(missing);
    const fetchSingle = async (ownSignal: AbortSignal): Promise<void> =>
      eachOf(single, concurrency, ownSignal, async (blob, each) => {
        const how = await waiting.take(
          blob.digest,
          async () => isThere(blob),
          each,
          async (hasTurn) => fetchOne(blob, hasTurn, each),
        );
        if (how === "done by another") found(blob);
      });
    const fetchGroup = async (ownSignal: AbortSignal): Promise<void> => {
      if (grouped.length === 0) return;
      const areThere = async (): Promise<boolean> => {
        for (const blob of grouped) if (!(await isThere(blob))) return false;
        return true;
      };
      const how = await waiting.take(turnOfGroup, areThere, ownSignal, async (hasTurn) =>
        eachOf(grouped, concurrency, ownSignal, async (blob, each) => {
          // Whoever had the turn before may have brought a part of them.
          if (await isThere(blob)) found(blob);
          else await fetchOne(blob, hasTurn, each);
        }),
      );
      if (how === "done by another") for (const blob of grouped) found(blob);
    };
    const unlessBroken = AbortSignal.any([signal, unpacking.broken]);
    await eachOf([fetchSingle, fetchGroup], 2, unlessBroken, async (fetch, ownSignal) => fetch(ownSignal));
    await syncBlobs(layout);
    return { counts: plane.counts, hasWaited };
  } finally {
    await plane.stop();
  }
}

/** So many small blobs take one turn together: one for each would take longer than the blob. */
const leastGrouped = 16;

/** Which blobs are fetched in a turn of their own, the largest first since what is left at the end is then little, and which together. Pure. */
export function inTurns(missing: readonly Descriptor[]): {
  readonly single: readonly Descriptor[];
  readonly grouped: readonly Descriptor[];
} {
  const largestFirst = missing.toSorted((one, other) => other.sizeBytes - one.sizeBytes);
  const grouped = largestFirst.filter(({ sizeBytes }) => sizeBytes < smallBlobBytes);
  if (grouped.length < leastGrouped) return { single: largestFirst, grouped: [] };
  return { single: largestFirst.filter(({ sizeBytes }) => sizeBytes >= smallBlobBytes), grouped };
}

/** Makes the names of small blobs durable, once for all of them. */
async function syncBlobs(layout: StoreLayout): Promise<void> {
  await onVolume("syncing the blobs", async () => {
    for (const algorithm of await readdir(layout.blobs)) await syncDirectory(join(layout.blobs, algorithm));
  });
}

async function refuseWithoutSpace(layout: StoreLayout, need: ReturnType<typeof spaceNeed>): Promise<void> {
  const free = await onVolume("asking for free space", async () => statfs(layout.root));
  checkSpace(need, { bytes: free.bavail * free.bsize, inodes: free.ffree, totalInodes: free.files });
  if (isInMemory(free)) checkMemory(need, await memoryRoom());
}
