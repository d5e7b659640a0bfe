// How blobs are fetched: hashed by the lane that receives them or by a thread behind several lanes, and how many lanes. Pure.

import type { MachineLimits } from "./machine-limits.ts";
import { tuning } from "./tuning.ts";

/**
 * `stream`: one lane receives, hashes and writes a blob, the cheapest way. `range`: lanes write pieces at their places and a
 * thread hashes behind them, the quickest way for one blob.
 */
export type TransferMode = "stream" | "range";

/** A blob from this size on is worth threads of its own, bytes. */
export const { largeBlobBytes } = tuning;
/** Blobs below this size are many to a model, and the wait for an answer counts, bytes. */
export const smallBlobBytes = 16 * 1024 * 1024;
const mostThreads = 4;
/** Connections at once where the user sets no limit. */
export const defaultMostLanes = 16;

export type TransferPlan = {
  /** Threads with lanes. */
  readonly threads: number;
  /** Lanes to begin with. */
  readonly lanes: number;
  readonly mostLanes: number;
  /** Buffer of each lane, bytes. */
  readonly slabBytes: number;
  /** Pieces that lanes may be ahead of the hash: within the memory that the page cache may hold for us. */
  readonly leadBytes: number;
};

/** Plans for the blobs that are missing. `mostLanes`: connections that the user allows. */
export function planTransfer(
  sizes: readonly number[],
  { processors, memoryBytes }: MachineLimits,
  mostLanes = defaultMostLanes,
): TransferPlan {
  const threads = Math.min(processors, mostThreads);
  const small = sizes.filter((bytes) => bytes < smallBlobBytes).length;
  const large = sizes.length - small;
  const wanted = large > 0 ? Math.min(large, threads) + (small > 0 ? 1 : 0) : threads * 3;
  return {
    threads: Math.max(1, Math.min(threads, sizes.length)),
    lanes: Math.max(1, Math.min(wanted, sizes.length, mostLanes)),
    mostLanes,
    // Two of them fit a second-level cache; with many lanes what they take together is what counts.
    slabBytes: large > 0 && threads <= 2 ? 2 * 1024 * 1024 : 1024 * 1024,
    leadBytes: Math.min(1024 * 1024 * 1024, memoryBytes / 4),
  };
}

/**
 * Mode of a blob that is about to be fetched. `others`: blobs in work or waiting besides it. `isResumed`: pieces of it are there,
 * which a thread can hash while the rest arrives. A thread for hashing needs a processor besides the one that receives.
 */
export function modeOf(
  blob: { readonly sizeBytes: number; readonly isResumed: boolean },
  others: number,
  { processors }: Pick<MachineLimits, "processors">,
): TransferMode {
  if (blob.sizeBytes < largeBlobBytes) return "stream";
  if (blob.isResumed) return "range";
  return processors > 1 && others + 1 < processors ? "range" : "stream";
}

/** What was seen since the last look. */
export type LaneSample = {
  readonly nowMs: number;
  /** Bytes received in all. */
  readonly bytes: number;
  /** Share of the time that the busiest thread was busy, 0 to 1. */
  readonly utilization: number;
  /** Whether somebody waits for a lane. */
  readonly isWanted: boolean;
  /** Whether the user's limit of bytes per second is used up. */
  readonly isAtLimit: boolean;
};

export type LaneState = {
  readonly lanes: number;
  readonly sinceMs: number;
  readonly sinceBytes: number;
  /** Rate and lanes before the last increase, to be compared with what it brought. */
  readonly before?: { readonly lanes: number; readonly bytesPerSecond: number };
  /** Whether the user's limit was used up at a look since then. */
  readonly wasAtLimit: boolean;
  /** No increase before this. */
  readonly holdUntilMs: number;
  /** When a server last had them halved. */
  readonly backedOffMs: number;
};

/** A rate is judged over at least this long, milliseconds. */
const sampleMs = 100;
/** An increase that brings less than this is taken back: after a while, since new connections have to begin first, milliseconds. */
const leastGain = 1.05;
const trialMs = 300;
/** After an increase that brought nothing, and after a server asked to slow down, milliseconds. */
const holdMs = 5_000;
const backOffMs = 15_000;
/** A busier thread gains nothing from more connections. */
const busy = 0.75;

export function firstLaneState(lanes: number, nowMs: number): LaneState {
  return {
    lanes,
    sinceMs: nowMs,
    sinceBytes: 0,
    wasAtLimit: false,
    holdUntilMs: 0,
    backedOffMs: Number.NEGATIVE_INFINITY,
  };
}

/** The number of lanes after a look: doubled while that brings more, which shows a limit per connection; else as it was. */
export function nextLaneState(last: LaneState, sample: LaneSample, mostLanes: number): LaneState {
  const state = sample.isAtLimit && !last.wasAtLimit ? { ...last, wasAtLimit: true } : last;
  const elapsedMs = sample.nowMs - state.sinceMs;
  if (elapsedMs < sampleMs) return state;
  const bytesPerSecond = ((sample.bytes - state.sinceBytes) * 1000) / elapsedMs;
  const fresh = {
    lanes: state.lanes,
    sinceMs: sample.nowMs,
    sinceBytes: sample.bytes,
    wasAtLimit: false,
    holdUntilMs: state.holdUntilMs,
    backedOffMs: state.backedOffMs,
  };
  // More lanes bring nothing then, and that these bring no more than fewer did is not their fault.
  if (state.wasAtLimit) return fresh;
  const { before } = state;
  if (before !== undefined && bytesPerSecond < before.bytesPerSecond * leastGain) {
    if (elapsedMs < trialMs) return state;
    return { ...fresh, lanes: before.lanes, holdUntilMs: sample.nowMs + holdMs };
  }
  const mayGrow =
    sample.isWanted &&
    sample.utilization < busy &&
    sample.nowMs >= state.holdUntilMs &&
    state.lanes < mostLanes &&
    // Nothing so far is a server that has not begun to answer; nothing now, after a burst, is a limit that bites.
    sample.bytes > 0;
  if (!mayGrow) return fresh;
  return {
    ...fresh,
    lanes: Math.min(mostLanes, state.lanes * 2),
    before: { lanes: state.lanes, bytesPerSecond },
  };
}

/**
 * After 429 or 503: half the lanes, and no more for a while. Once for all requests that were on their way at that time, as that of
 * `askedMs` may have been: what more of them are answered so says nothing about the half.
 */
export function backOff(state: LaneState, nowMs: number, askedMs: number): LaneState {
  const { lanes, sinceMs, sinceBytes, wasAtLimit, backedOffMs } = state;
  const isNew = askedMs > backedOffMs;
  return {
    lanes: isNew ? Math.max(1, Math.floor(lanes / 2)) : lanes,
    sinceMs,
    sinceBytes,
    wasAtLimit,
    holdUntilMs: nowMs + backOffMs,
    backedOffMs: isNew ? nowMs : backedOffMs,
  };
}
