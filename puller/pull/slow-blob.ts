// One blob through the registry client itself: for proxies and for answers that the data plane does not take. Correct before quick.

import { Verifier } from "../oci/digest.ts";
import { AppError, RangeRefused } from "../oci/errors.ts";
import { withRetries } from "../oci/retry.ts";
import type { Descriptor } from "../oci/types.ts";
import type { Partial } from "../store/partial.ts";
import type { LeasedLane } from "../transfer/lane-pool.ts";
import { progressBytes, rangeWay, type FetchOptions } from "./fetch-options.ts";
import { YoungBuffers } from "./young-buffers.ts";
import { LaneTries } from "./lane-tries.ts";

/** Fills the partial in order; the digest (hex) of what was written. Takes the place of a lane meanwhile. Fails with AppError. */
export async function slowBlob(
  partial: Partial,
  descriptor: Descriptor,
  options: FetchOptions,
  signal: AbortSignal,
): Promise<string> {
  const { pool } = options.plane;
  const lane = await pool.acquire(signal);
  try {
    return await fill(partial, descriptor, options, lane, signal);
  } finally {
    pool.release(lane);
  }
}

async function fill(
  partial: Partial,
  descriptor: Descriptor,
  options: FetchOptions,
  lane: LeasedLane,
  signal: AbortSignal,
): Promise<string> {
  if (partial.doneBytes !== partial.contiguousBytes) await partial.restart();
  await partial.goOn();
  await options.follower?.follow(partial);
  let verifier = await hashWritten(partial, descriptor, signal);
  const tries = new LaneTries(options.plane);
  await withRetries(
    async (tellProgress) => {
      if (await tries.beginInTurn(signal)) tellProgress();
      const offset = verifier.bytes;
      if (offset === descriptor.sizeBytes) return;
      try {
        const stream = await options.source.open(
          options.reference,
          descriptor,
          { offset, ...rangeWay(options) },
          signal,
        );
        const enough = progressBytes(descriptor);
        await take(
          stream.body,
          offset - stream.offset,
          partial,
          verifier,
          enough,
          options,
          lane,
          tellProgress,
          signal,
        );
      } catch (error) {
        if (error instanceof RangeRefused && offset > 0) {
          // What is there may not be the beginning of this blob at all.
          await partial.restart();
          await options.follower?.follow(partial);
          verifier = new Verifier(descriptor);
        }
        throw error;
      }
      if (verifier.bytes < descriptor.sizeBytes) {
        throw new AppError(
          "RegistryUnreachable",
          `${descriptor.digest} ended after ${verifier.bytes} of ${descriptor.sizeBytes} bytes`,
        );
      }
    },
    {
      policy: options.policy,
      signal,
      ...(options.clock === undefined ? {} : { clock: options.clock }),
      onRetry: (error, attempt, waitMs) => {
        tries.pause(error);
        options.onRetry(error, attempt, waitMs);
      },
    },
  ).finally(() => {
    tries.end();
  });
  return verifier.finish();
}

async function hashWritten(partial: Partial, descriptor: Descriptor, signal: AbortSignal): Promise<Verifier> {
  const verifier = new Verifier(descriptor);
  const buffer = Buffer.allocUnsafe(1024 * 1024);
  while (verifier.bytes < partial.contiguousBytes) {
    signal.throwIfAborted();
    const left = partial.contiguousBytes - verifier.bytes;
    const bytes = await partial.read(buffer.subarray(0, Math.min(left, buffer.length)), verifier.bytes);
    if (bytes === 0)
      throw new AppError("StorageFailed", `${descriptor.digest} is shorter on the volume than written`);
    verifier.update(buffer.subarray(0, bytes));
  }
  return verifier;
}

/** Appends a body, after `skip` bytes that the server sent although they were not asked for. */
async function take(
  body: AsyncIterable<Uint8Array>,
  skip: number,
  partial: Partial,
  verifier: Verifier,
  enoughBytes: number,
  options: FetchOptions,
  lane: LeasedLane,
  tellProgress: () => void,
  signal: AbortSignal,
): Promise<void> {
  let toSkip = skip;
  let fresh = 0;
  // Time that was waited for the server: how long the volume or a limit takes says nothing about it.
  let windowMs = 0;
  let windowBytes = 0;
  let askedMs = performance.now();
  const young = new YoungBuffers();
  for await (const chunk of body) {
    windowMs += performance.now() - askedMs;
    signal.throwIfAborted();
    young.add(chunk.length);
    const skipped = Math.min(toSkip, chunk.length);
    toSkip -= skipped;
    const wanted = chunk.subarray(skipped);
    if (wanted.length > 0) {
      // Before the write: it refuses the first byte too many.
      verifier.update(wanted);
      await partial.append(wanted);
      fresh += wanted.length;
      if (fresh >= enoughBytes) {
        fresh = 0;
        tellProgress();
      }
    }
    windowBytes += chunk.length;
    if (windowMs >= options.slowest.windowMs) {
      if (windowBytes < options.slowest.bytes) {
        throw new AppError(
          "TransferStalled",
          `only ${windowBytes} bytes came in ${Math.round(windowMs / 1000)} s; the connection is given up`,
        );
      }
      windowBytes = 0;
      windowMs = 0;
    }
    await options.plane.spend(lane, chunk.length, signal);
    askedMs = performance.now();
  }
}
