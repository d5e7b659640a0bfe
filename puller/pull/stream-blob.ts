// One blob over one lane, which hashes what it writes: the cheapest way, and the one for servers without ranges.

import { digestAlgorithm } from "../oci/digest.ts";
import { AppError, RangeRefused } from "../oci/errors.ts";
import { withRetries } from "../oci/retry.ts";
import type { Descriptor } from "../oci/types.ts";
import type { Partial } from "../store/partial.ts";
import { progressBytes, rangeWay, unasked, type FetchOptions } from "./fetch-options.ts";
import { LaneTries } from "./lane-tries.ts";

/** Fills the partial in order, going on behind what is there; the digest (hex) of what was written. Fails with AppError. */
export async function streamBlob(
  partial: Partial,
  descriptor: Descriptor,
  options: FetchOptions,
  look: () => void,
  signal: AbortSignal,
): Promise<string> {
  const { plane, reference, source } = options;
  if (partial.doneBytes !== partial.contiguousBytes) await partial.restart();
  await options.follower?.follow(partial);
  const lane = await plane.pool.acquire(signal);
  const tries = new LaneTries(plane);
  let blob = plane.newBlob();
  const open = async (): Promise<void> => {
    const { journalOffset } = partial;
    await plane.open(lane.thread, {
      blob,
      descriptor: partial.descriptor,
      map: partial.map.share(),
      inlineHash: digestAlgorithm(descriptor.digest),
      ...(journalOffset === undefined ? {} : { journalOffset }),
    });
    if (partial.contiguousBytes > 0) await plane.hashPrefix(lane.thread, blob, partial.contiguousBytes);
  };
  const restart = async (): Promise<void> => {
    look();
    plane.close(lane.thread, blob);
    await partial.restart();
    await options.follower?.follow(partial);
    blob = plane.newBlob();
    await open();
  };
  try {
    await open();
    await withRetries(
      async (tellProgress) => {
        if (await tries.beginInTurn(signal)) tellProgress();
        const offset = partial.contiguousBytes;
        if (offset === descriptor.sizeBytes) return;
        const { map } = partial;
        const piece = map.firstIncomplete();
        map.claim(piece);
        let isTaken = false;
        try {
          const { answer } = await source.request(
            reference,
            descriptor,
            { offset, ...rangeWay(options) },
            plane.asker({
              lane,
              blob,
              piece,
              offset,
              endExclusive: descriptor.sizeBytes,
              isRun: true,
              lead: Number.POSITIVE_INFINITY,
            }),
            signal,
          );
          isTaken = answer.taken;
          if (!isTaken) throw unasked(descriptor, reference.registry, offset, answer.status);
          await answer.written;
        } catch (error) {
          if (partial.contiguousBytes - offset >= progressBytes(descriptor)) tellProgress();
          if (error instanceof RangeRefused && offset > 0) await restart();
          throw error;
        } finally {
          if (!isTaken) map.release(piece);
        }
        if (partial.contiguousBytes < descriptor.sizeBytes) {
          if (partial.contiguousBytes - offset >= progressBytes(descriptor)) tellProgress();
          throw new AppError(
            "RegistryUnreachable",
            `${descriptor.digest} ended after ${partial.contiguousBytes} of ${descriptor.sizeBytes} bytes`,
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
    );
    return await plane.finish(lane.thread, blob);
  } finally {
    tries.end();
    plane.close(lane.thread, blob);
    plane.pool.release(lane);
  }
}
