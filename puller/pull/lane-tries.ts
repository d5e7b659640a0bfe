// The tries of one lane: it rests while a server wants it to wait, and comes back when there is room among those that work.

import type { AppError } from "../oci/errors.ts";
import type { LanePool } from "../transfer/lane-pool.ts";

/** Whether a server says by a failure that it is asked too much at once; object stores say so with 503. Pure. */
export function asksForLess(error: Pick<AppError, "code" | "context">): boolean {
  return error.code === "RegistryRateLimited" || error.context["status"] === 503;
}

export class LaneTries {
  readonly #pool: LanePool;
  #askedMs = Number.NEGATIVE_INFINITY;
  #leave: (() => void) | undefined;

  constructor(pool: LanePool) {
    this.#pool = pool;
  }

  /** Ends a rest whatever others do; for a lane that gives itself back where there are too many. */
  begin(): void {
    this.#leave?.();
    this.#leave = undefined;
    this.#askedMs = performance.now();
  }

  /** Ends a rest once there is room among the lanes that work. True when it had to be waited for. */
  async beginInTurn(signal: AbortSignal): Promise<boolean> {
    const hasWaited = this.#leave !== undefined && (await this.#pool.comeBack(signal));
    this.#leave = undefined;
    this.begin();
    return hasWaited;
  }

  /** A try failed, and another one follows after a while. */
  pause(error: AppError): void {
    if (asksForLess(error)) this.#pool.backOff(performance.now(), this.#askedMs);
    this.#leave ??= this.#pool.rest();
  }

  /** No try follows. */
  end(): void {
    this.#leave?.();
    this.#leave = undefined;
  }
}
