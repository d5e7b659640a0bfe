// One blob over as many lanes as there are: pieces in order, each written at its place, a thread hashing close behind.

import { setTimeout as delay } from "node:timers/promises";
import { digestAlgorithm } from "../oci/digest.ts";
import { AppError, RangeRefused } from "../oci/errors.ts";
import { withRetries } from "../oci/retry.ts";
import type { Descriptor } from "../oci/types.ts";
import type { Partial } from "../store/partial.ts";
import type { LeasedLane } from "../transfer/lane-pool.ts";
import { tuning } from "../transfer/tuning.ts";
import { progressBytes, rangeWay, unasked, type FetchOptions } from "./fetch-options.ts";
import { LaneTries } from "./lane-tries.ts";

/** A connection this much slower than the others is given up for another one. */
const slowShare = 0.1;
/** A connection is judged after this time, milliseconds. */
const { judgeAfterMs } = tuning;

/** Ranges refused in a row after which a server is one without ranges; once may be a cache that is still cold. */
const mostRefusals = 2;

/** A piece on its way. */
type Running = {
  readonly piece: number;
  readonly sinceMs: number;
  readonly fromBytes: number;
  readonly cancel: (reason: AppError) => void;
};

/** Fills the partial, whatever of it is there; the digest (hex) of what was written. Fails with AppError. */
export async function rangeBlob(
  partial: Partial,
  descriptor: Descriptor,
  options: FetchOptions,
  signal: AbortSignal,
): Promise<string> {
  // Another blob may have failed meanwhile: nobody would tell the hash to stop.
  signal.throwIfAborted();
  const { plane } = options;
  const { map } = partial;
  const algorithm = digestAlgorithm(descriptor.digest);
  // A thread of its own hashes an archive too: whoever unpacks it has enough to do, and is not waited for.
  await options.follower?.follow(partial);
  signal.throwIfAborted();
  const hashed = plane.hashBehind(partial.descriptor, map, algorithm);
  const blob = plane.newBlob();
  const failed = new AbortController();
  const own = AbortSignal.any([signal, failed.signal]);
  /** Aborted when every piece is there: a lane that a server told to wait has nothing to wait for then. */
  const over = new AbortController();
  const wanted = AbortSignal.any([own, over.signal]);
  const stop = (): void => {
    map.stop();
  };
  own.addEventListener("abort", stop, { once: true });
  let failure: { readonly error: unknown } | undefined;
  const fail = (error: unknown): void => {
    failure ??= { error };
    failed.abort(error);
  };
  const lead = tuning.leadPieces || Math.max(2, Math.floor(plane.plan.leadBytes / map.pieceBytes));
  hashed.catch(fail);

  let refusals = 0;
  const opened = new Set<number>();
  const active = new Set<Promise<void>>();
  /** Of those that are active, lanes that wait for the server. */
  let resting = 0;
  const running = new Map<number, Running>();
  /** Bytes per millisecond of pieces that are through, for comparison. */
  const rates: number[] = [];
  const hasWork = (): boolean => !own.aborted && map.firstIncomplete() < map.count;

  const work = async (lane: LeasedLane): Promise<void> => {
    if (!opened.has(lane.thread)) {
      opened.add(lane.thread);
      const { journalOffset } = partial;
      await plane.open(lane.thread, {
        blob,
        descriptor: partial.descriptor,
        map: map.share(),
        ...(journalOffset === undefined ? {} : { journalOffset }),
      });
    }
    while (hasWork() && !plane.pool.isCrowded) {
      const piece = map.claimNext(lead);
      if (piece !== undefined) await fetchPiece(lane, piece);
      // Everything is in somebody's hands, or the hash is behind.
      else if (map.firstIncomplete() < map.hashedPieces + lead) return;
      else await delay(10, undefined, { signal: own });
    }
  };
  const spawn = (lane: LeasedLane): void => {
    const job: Promise<void> = work(lane)
      .catch(fail)
      .finally(() => {
        active.delete(job);
        if (map.firstIncomplete() === map.count) over.abort();
        plane.pool.release(lane);
      });
    active.add(job);
  };

  const fetchPiece = async (lane: LeasedLane, piece: number): Promise<void> => {
    let isOurs = true;
    let isResting = false;
    const tries = new LaneTries(plane);
    const wake = (): void => {
      if (isResting) resting -= 1;
      isResting = false;
    };
    await withRetries(
      async (tellProgress) => {
        wake();
        tries.begin();
        // While this lane waited, another one may have gone on with the piece, or be there to do so.
        if (!isOurs && (plane.pool.isCrowded || !map.claim(piece))) return;
        isOurs = false;
        const offset = map.start(piece) + map.done(piece);
        // Alone, a lane goes on from piece to piece on one answer, until another takes the next one.
        const isRun = active.size - resting <= 1;
        const endExclusive = isRun ? map.sizeBytes : map.start(piece) + map.length(piece);
        const before = map.doneBytes();
        const cancelled = new AbortController();
        running.set(lane.id, {
          piece,
          sinceMs: performance.now(),
          fromBytes: map.done(piece),
          cancel: (reason) => {
            cancelled.abort(reason);
          },
        });
        let isTaken = false;
        try {
          const { answer } = await options.source.request(
            options.reference,
            descriptor,
            { offset, endExclusive, ...rangeWay(options) },
            plane.asker({ lane, blob, piece, offset, endExclusive, isRun, lead }),
            AbortSignal.any([own, cancelled.signal]),
          );
          isTaken = answer.taken;
          if (!isTaken) throw unasked(descriptor, options.reference.registry, offset, answer.status);
          refusals = 0;
          await answer.written;
        } catch (error) {
          if (error instanceof RangeRefused && (refusals += 1) >= mostRefusals) fail(error);
          throw error;
        } finally {
          if (!isTaken) map.release(piece);
          noteRate(lane.id);
          if (map.doneBytes() - before >= progressBytes(descriptor)) tellProgress();
        }
        if (!map.isComplete(piece) && !own.aborted) {
          throw new AppError(
            "RegistryUnreachable",
            `a range of ${descriptor.digest} ended after ${map.done(piece)} of ${map.length(piece)} bytes`,
          );
        }
      },
      {
        policy: options.policy,
        signal: wanted,
        ...(options.clock === undefined ? {} : { clock: options.clock }),
        onRetry: (error, attempt, waitMs) => {
          tries.pause(error);
          resting += 1;
          isResting = true;
          options.onRetry(error, attempt, waitMs);
        },
      },
    )
      .catch((error: unknown) => {
        if (!over.signal.aborted || own.aborted) throw error;
      })
      .finally(() => {
        wake();
        tries.end();
      });
  };

  const rateOf = ({ piece, sinceMs, fromBytes }: Running): number =>
    (map.done(piece) - fromBytes) / Math.max(1, performance.now() - sinceMs);
  const noteRate = (lane: number): void => {
    const run = running.get(lane);
    running.delete(lane);
    if (run !== undefined && map.isComplete(run.piece)) rates.push(rateOf(run));
  };
  /** Gives up connections that are far slower than the others: their pieces are asked for again, from where they are. */
  const hedge = (): void => {
    const known = [...rates.slice(-16), ...[...running.values()].map(rateOf)].sort((a, b) => a - b);
    if (known.length < 3) return;
    const median = known[Math.floor(known.length / 2)] ?? 0;
    for (const run of running.values()) {
      if (performance.now() - run.sinceMs < judgeAfterMs || rateOf(run) >= median * slowShare) continue;
      plane.counts.hedgedPieces += 1;
      run.cancel(
        new AppError("TransferStalled", "a connection is far slower than the others and is given up", {
          retry: { afterMs: 0 },
        }),
      );
    }
  };

  const forget = plane.pool.onFree(() => {
    // A lane that finds nothing to be had is free again at once, and would be offered at once, for ever.
    if (!hasWork() || !map.hasUnclaimed(lead)) return;
    const lane = plane.pool.tryAcquire();
    if (lane !== undefined) spawn(lane);
  });
  const timer = setInterval(hedge, 500);
  try {
    while (hasWork()) {
      if (active.size === 0) spawn(await plane.pool.acquire(own));
      await Promise.race(active);
    }
    await Promise.all(active);
    if (failure !== undefined) throw failure.error;
    signal.throwIfAborted();
    return await hashed;
  } catch (error) {
    fail(error);
    throw failure?.error ?? error;
  } finally {
    clearInterval(timer);
    forget();
    own.removeEventListener("abort", stop);
    // Nothing may touch the file after this: neither a lane nor the hash.
    await Promise.all(active);
    await hashed.catch(() => undefined);
    for (const thread of opened) plane.close(thread, blob);
  }
}
