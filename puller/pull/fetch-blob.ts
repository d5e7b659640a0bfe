// Brings one blob to the volume: resumes what is there, retries while there is progress, and publishes only what was verified.
// How the bytes come is for stream-blob, range-blob and slow-blob.

import { AppError, FastPathRefused, RangeRefused } from "../oci/errors.ts";
import type { Descriptor } from "../oci/types.ts";
import { blobPath, type StoreLayout } from "../store/layout.ts";
import { isWholeBlob, Partial, type Verified } from "../store/partial.ts";
import { modeOf } from "../transfer/schedule.ts";
import { tuning } from "../transfer/tuning.ts";
import type { FetchOptions } from "./fetch-options.ts";
import { rangeBlob } from "./range-blob.ts";
import { slowBlob } from "./slow-blob.ts";
import { streamBlob } from "./stream-blob.ts";

/** Written bytes are brought to the disk in portions of this size, while more arrive. */
const { syncEveryBytes } = tuning;
const lookMs = 50;

/** Whether a blob is on the volume already. */
export async function hasBlob(layout: StoreLayout, descriptor: Descriptor): Promise<boolean> {
  return isWholeBlob(layout, blobPath(layout, descriptor.digest), descriptor.sizeBytes);
}

/** Fetches a blob that is not there into a partial of this process. A digest that does not match costs one clean try more, without mirrors. Fails with AppError. */
export async function fetchBlob(
  descriptor: Descriptor,
  first: Partial,
  options: FetchOptions,
  signal: AbortSignal,
): Promise<Verified> {
  for (let attempt = 1; ; attempt += 1) {
    const partial = attempt === 1 ? first : await Partial.create(options.layout, descriptor);
    const watch = watchPartial(partial, options);
    try {
      const way = attempt === 1 ? options : { ...options, skipsMirrors: true };
      const hex = await transfer(partial, descriptor, way, watch.look, signal);
      watch.stop();
      return await partial.publish(hex);
    } catch (error) {
      watch.stop();
      const isWrong = error instanceof AppError && error.code === "DigestMismatch";
      if (!isWrong) {
        await partial.keep();
        throw error;
      }
      options.progress.add(-partial.doneBytes, "network");
      await partial.discard();
      if (attempt > 1) throw error;
      options.onRetry(error, attempt, 0);
    }
  }
}

/** Fills the partial; the digest (hex) of what was written. */
async function transfer(
  partial: Partial,
  descriptor: Descriptor,
  options: FetchOptions,
  look: () => void,
  signal: AbortSignal,
): Promise<string> {
  const { plane, log } = options;
  const mode = modeOf(
    { sizeBytes: descriptor.sizeBytes, isResumed: partial.doneBytes > 0 },
    options.otherLargeBlobs(),
    plane.limits,
  );
  try {
    if (mode === "range") {
      try {
        const hex = await rangeBlob(partial, descriptor, options, signal);
        plane.counts.rangedBlobs += 1;
        return hex;
      } catch (error) {
        if (!(error instanceof RangeRefused) || signal.aborted) throw error;
        // A server without ranges, or without the one that was asked for: from the beginning, over one connection.
        log.warn({ digest: descriptor.digest, ...error.context }, error.message);
        look();
        await partial.restart();
      }
    }
    const hex = await streamBlob(partial, descriptor, options, look, signal);
    plane.counts.streamedBlobs += 1;
    return hex;
  } catch (error) {
    if (!(error instanceof FastPathRefused)) throw error;
    const { odd } = error;
    plane.counts.fallbacks[odd] = (plane.counts.fallbacks[odd] ?? 0) + 1;
    log.warn({ digest: descriptor.digest, reason: odd }, "the slower path takes this blob");
    look();
    return slowBlob(partial, descriptor, options, signal);
  }
}

/** Tells progress and syncs while a partial grows. */
function watchPartial(
  partial: Partial,
  { progress, plane }: FetchOptions,
): { readonly look: () => void; readonly stop: () => void } {
  let seen = partial.doneBytes;
  progress.add(seen, "volume");
  const look = (): void => {
    const bytes = partial.doneBytes;
    if (bytes !== seen) progress.add(bytes - seen, "network");
    if (bytes > seen) plane.addReceived(bytes - seen);
    seen = bytes;
    partial.syncBehind(syncEveryBytes);
  };
  const timer = setInterval(look, lookMs);
  return {
    look,
    stop: () => {
      clearInterval(timer);
      look();
    },
  };
}
