// Brings one blob to the volume: resumes what is there, retries while there is progress, and publishes only what was verified.

import { AppError, RangeRefused } from "../oci/errors.ts";
import { withRetries, type RetryClock, type RetryPolicy } from "../oci/retry.ts";
import type { BlobSource, Descriptor, Reference } from "../oci/types.ts";
import { blobPath, type StoreLayout } from "../store/layout.ts";
import { isWholeBlob, Partial } from "../store/partial.ts";
import type { ProgressTracker } from "./progress.ts";

export type FetchOptions = {
  readonly source: BlobSource;
  readonly layout: StoreLayout;
  readonly reference: Reference;
  readonly policy: RetryPolicy;
  readonly progress: ProgressTracker;
  readonly clock?: RetryClock;
  /** Fewer bytes than this in each window are a stall. */
  readonly slowest: { readonly bytes: number; readonly windowMs: number };
  readonly onRetry: (error: AppError, attempt: number, waitMs: number) => void;
};

/** Progress of this much starts the retry budget anew, bytes. */
const progressBytes = 1024 * 1024;

/** Whether a blob is on the volume already. */
export async function hasBlob(layout: StoreLayout, descriptor: Descriptor): Promise<boolean> {
  return isWholeBlob(blobPath(layout, descriptor.digest), descriptor.sizeBytes);
}

/** Fetches a blob that is not there. A digest that does not match costs one clean try more. Fails with AppError. */
export async function fetchBlob(
  descriptor: Descriptor,
  options: FetchOptions,
  signal: AbortSignal,
): Promise<void> {
  const { progress } = options;
  for (let attempt = 1; ; attempt += 1) {
    const partial =
      attempt === 1
        ? await Partial.adopt(options.layout, descriptor, signal)
        : await Partial.create(options.layout, descriptor);
    progress.add(partial.bytes, "volume");
    try {
      await fill(partial, descriptor, options, signal);
    } catch (error) {
      const isWrong = error instanceof AppError && error.code === "DigestMismatch";
      if (!isWrong) {
        await partial.keep();
        throw error;
      }
      progress.add(-partial.bytes, "network");
      await partial.discard();
      if (attempt > 1) throw error;
      options.onRetry(error, attempt, 0);
      continue;
    }
    try {
      await partial.publish();
      return;
    } catch (error) {
      progress.add(-descriptor.sizeBytes, "network");
      if (attempt > 1 || !(error instanceof AppError) || error.code !== "DigestMismatch") throw error;
      options.onRetry(error, attempt, 0);
    }
  }
}

/** Appends until the partial has all bytes. */
async function fill(
  partial: Partial,
  descriptor: Descriptor,
  options: FetchOptions,
  signal: AbortSignal,
): Promise<void> {
  let entityTag: string | undefined;
  await withRetries(
    async (tellProgress) => {
      if (partial.bytes === descriptor.sizeBytes) return;
      const offset = partial.bytes;
      try {
        const stream = await options.source.open(
          options.reference,
          descriptor,
          { offset, ...(entityTag === undefined ? {} : { ifRange: entityTag }) },
          signal,
        );
        entityTag = stream.entityTag;
        await take(stream.body, offset - stream.offset, partial, options, tellProgress, signal);
      } catch (error) {
        if (error instanceof RangeRefused && offset > 0) {
          // What is there may not be the beginning of this blob at all.
          options.progress.add(-partial.bytes, "network");
          await partial.restart();
        }
        throw error;
      }
      if (partial.bytes < descriptor.sizeBytes) {
        throw new AppError(
          "RegistryUnreachable",
          `${descriptor.digest} ended after ${partial.bytes} of ${descriptor.sizeBytes} bytes`,
        );
      }
    },
    {
      policy: options.policy,
      signal,
      ...(options.clock === undefined ? {} : { clock: options.clock }),
      onRetry: options.onRetry,
    },
  );
}

/** Appends a body, after `skip` bytes that the server sent although they were not asked for. */
async function take(
  body: AsyncIterable<Uint8Array>,
  skip: number,
  partial: Partial,
  options: FetchOptions,
  tellProgress: () => void,
  signal: AbortSignal,
): Promise<void> {
  let toSkip = skip;
  let fresh = 0;
  let windowBytes = 0;
  let windowStartMs = performance.now();
  for await (const chunk of body) {
    signal.throwIfAborted();
    const skipped = Math.min(toSkip, chunk.length);
    toSkip -= skipped;
    const wanted = chunk.subarray(skipped);
    if (wanted.length > 0) {
      await partial.append(wanted);
      options.progress.add(wanted.length, "network");
      fresh += wanted.length;
      if (fresh >= progressBytes) {
        fresh = 0;
        tellProgress();
      }
    }
    windowBytes += chunk.length;
    const elapsedMs = performance.now() - windowStartMs;
    if (elapsedMs < options.slowest.windowMs) continue;
    if (windowBytes < options.slowest.bytes) {
      throw new AppError(
        "TransferStalled",
        `only ${windowBytes} bytes came in ${Math.round(elapsedMs / 1000)} s; the connection is given up`,
      );
    }
    windowBytes = 0;
    windowStartMs = performance.now();
  }
}
