// When to try again: budgets and waits. Pure but for the loop that applies them; clock and randomness are given.

import { setTimeout as delay } from "node:timers/promises";
import { AppError } from "./errors.ts";
import type { RetryListener } from "./types.ts";

export type RetryPolicy = {
  /** First and longest wait, milliseconds; doubles in between, with full jitter. */
  readonly firstWaitMs: number;
  readonly longestWaitMs: number;
  /** Give up after this long without progress, milliseconds. */
  readonly budgetMs: number;
};

export const defaultRetryPolicy: RetryPolicy = { firstWaitMs: 500, longestWaitMs: 30_000, budgetMs: 600_000 };

/** What a retry loop needs of the world. */
export type RetryClock = {
  readonly nowMs: () => number;
  readonly random: () => number;
  readonly sleep: (ms: number, signal: AbortSignal) => Promise<void>;
};

export const realClock: RetryClock = {
  nowMs: () => performance.now(),
  random: Math.random,
  sleep: async (ms, signal) => {
    await delay(ms, undefined, { signal });
  },
};

/** Milliseconds to wait before attempt number `attempt` (from 1): what the server asked, else a random part of a doubling limit. */
export function waitBefore(
  error: AppError,
  attempt: number,
  policy: RetryPolicy,
  random: () => number,
): number {
  if (typeof error.retry === "object") return error.retry.afterMs;
  const limit = Math.min(policy.firstWaitMs * 2 ** Math.min(attempt - 1, 30), policy.longestWaitMs);
  return Math.ceil(limit * random());
}

/**
 * Runs `work` until it succeeds, fails for good, or made no progress for the budget. `work` is told how to report progress,
 * which starts the budget and the waits anew.
 */
export async function withRetries<T>(
  work: (progress: () => void) => Promise<T>,
  options: {
    readonly policy: RetryPolicy;
    readonly signal: AbortSignal;
    readonly clock?: RetryClock;
    readonly onRetry?: RetryListener | undefined;
    /** Failures that this loop leaves to one around it. */
    readonly isFinal?: (error: AppError) => boolean;
  },
): Promise<T> {
  const { policy, signal, clock = realClock } = options;
  let sinceMs = clock.nowMs();
  let attempt = 0;
  const progress = (): void => {
    sinceMs = clock.nowMs();
    attempt = 0;
  };
  for (;;) {
    try {
      return await work(progress);
    } catch (error) {
      if (signal.aborted || !(error instanceof AppError) || error.retry === "never") throw error;
      if (options.isFinal?.(error) === true) throw error;
      attempt += 1;
      const waitMs = waitBefore(error, attempt, policy, clock.random);
      if (clock.nowMs() - sinceMs + waitMs > policy.budgetMs) throw error;
      options.onRetry?.(error, attempt, waitMs);
      await clock.sleep(waitMs, signal);
    }
  }
}
