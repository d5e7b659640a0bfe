// The tries of one lane: it rests while a server wants it to wait, and comes back when there is room among those that work.

import type { AppError } from "../oci/errors.ts";
import type { DataPlane } from "../transfer/data-plane.ts";

/** Whether a server says by a failure that it is asked too much at once; object stores say so with 503. Pure. */
export function asksForLess(error: Pick<AppError, "code" | "context">): boolean {
  return error.code === "RegistryRateLimited" || error.context["status"] === 503;
}

export class LaneTries {
  readonly #plane: Pick<DataPlane, "pool" | "receivedBytes">;
  #askedMs = Number.NEGATIVE_INFINITY;
  #leave: (() => void) | undefined;

  constructor(plane: Pick<DataPlane, "pool" | "receivedBytes">) {
    this.#plane = plane;
  }

  /** Ends a rest whatever others do; for a lane that gives itself back where there are too many. */
  begin(): void {
    this.end();
    this.#askedMs = performance.now();
  }

  /** Ends a rest once there is room among the lanes that work. True when others went on while it waited for that. */
  async beginInTurn(signal: AbortSignal): Promise<boolean> {
    const { pool, receivedBytes } = this.#plane;
    const hasWaited = this.#leave !== undefined && (await pool.comeBack(signal));
    this.#leave = undefined;
    this.begin();
    return hasWaited && this.#plane.receivedBytes > receivedBytes;
  }

  /** A try failed, and another one follows after a while. */
  pause(error: AppError): void {
    if (asksForLess(error)) this.#plane.pool.backOff(performance.now(), this.#askedMs);
    this.#leave ??= this.#plane.pool.rest();
  }

  /** No try follows. */
  end(): void {
    this.#leave?.();
    this.#leave = undefined;
  }
}
