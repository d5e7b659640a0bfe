// Lanes to be had: as many at once as the schedule allows, spread over threads, the waiting served in order.

import {
  backOff,
  firstLaneState,
  nextLaneState,
  type LaneSample,
  type LaneState,
  type TransferPlan,
} from "./schedule.ts";

/** A lane that somebody has. Given back by `release`. */
export type LeasedLane = { readonly id: number; readonly thread: number };

type Waiting<T> = { readonly resolve: (value: T) => void };

export class LanePool {
  readonly #plan: Pick<TransferPlan, "threads" | "mostLanes">;
  #state: LaneState;
  readonly #free: number[] = [];
  #next = 0;
  readonly #leased = new Set<number>();
  #resting = 0;
  readonly #waiting = new Set<Waiting<LeasedLane>>();
  /** Lanes that have rested. They go before those who wait for a lane. */
  readonly #returning = new Set<Waiting<undefined>>();
  /** Blobs that would take more lanes if there were some. */
  readonly #wishes = new Set<() => void>();

  constructor(plan: Pick<TransferPlan, "threads" | "lanes" | "mostLanes">, nowMs: number) {
    this.#plan = plan;
    this.#state = firstLaneState(plan.lanes, nowMs);
  }

  /** Lanes that may be in use at once. */
  get lanes(): number {
    return this.#state.lanes;
  }

  /** Ids of the lanes that somebody has: below the most that there may be. */
  get inUse(): ReadonlySet<number> {
    return this.#leased;
  }

  /** Waits for a lane. */
  async acquire(signal: AbortSignal): Promise<LeasedLane> {
    signal.throwIfAborted();
    const lane = this.tryAcquire();
    if (lane !== undefined) return lane;
    return this.#queue(this.#waiting, signal);
  }

  /** A lane, if one is free now and nobody waits for it. */
  tryAcquire(): LeasedLane | undefined {
    if (this.#leased.size >= this.#state.lanes || this.#waiting.size > 0) return undefined;
    return this.#lease();
  }

  release(lane: LeasedLane): void {
    this.#leased.delete(lane.id);
    this.#free.push(lane.id);
    this.#serve();
  }

  /** Calls `wish` whenever lanes have become free, until the returned function is called. */
  onFree(wish: () => void): () => void {
    this.#wishes.add(wish);
    return () => this.#wishes.delete(wish);
  }

  /**
   * Whether a lane is to be given back, since fewer are allowed than are in use. One that rests is not in use: else those that
   * work would stop for others that were told to wait, and nothing would move.
   */
  get isCrowded(): boolean {
    return this.#leased.size - this.#resting > this.#state.lanes;
  }

  /** A lane waits for its server; until the returned function is called, once, it keeps its place, in which nobody else asks. */
  rest(): () => void {
    this.#resting += 1;
    this.#serveReturning();
    return () => {
      this.#resting -= 1;
    };
  }

  /**
   * Ends the rest of a lane, in place of the function that `rest` gave, once fewer lanes work than may. True when that had to be
   * waited for, which may be until a large blob is through: a lane that works is not taken from its blob for one that its server
   * may tell to wait again, and that would keep the place meanwhile. Where it throws, the lane still rests.
   */
  async comeBack(signal: AbortSignal): Promise<boolean> {
    signal.throwIfAborted();
    if (this.#returning.size === 0 && this.#hasRoom()) {
      this.#resting -= 1;
      return false;
    }
    await this.#queue(this.#returning, signal);
    return true;
  }

  look(sample: Omit<LaneSample, "isWanted">): void {
    const isWanted = this.#waiting.size > 0 || this.#returning.size > 0 || this.#wishes.size > 0;
    this.#state = nextLaneState(this.#state, { ...sample, isWanted }, this.#plan.mostLanes);
    this.#serve();
  }

  /** A server asked for less, in answer to a request of `askedMs`. */
  backOff(nowMs: number, askedMs: number): void {
    this.#state = backOff(this.#state, nowMs, askedMs);
  }

  async #queue<T>(queue: Set<Waiting<T>>, signal: AbortSignal): Promise<T> {
    return new Promise((resolve, reject) => {
      const abort = (): void => {
        queue.delete(waiting);
        reject(signal.reason as Error);
      };
      const waiting: Waiting<T> = {
        resolve: (given) => {
          signal.removeEventListener("abort", abort);
          resolve(given);
        },
      };
      signal.addEventListener("abort", abort, { once: true });
      queue.add(waiting);
    });
  }

  /** Whether one more lane of those that rest may work. */
  #hasRoom(): boolean {
    return this.#leased.size - this.#resting < this.#state.lanes;
  }

  #lease(): LeasedLane {
    const id = this.#free.pop() ?? this.#next++;
    this.#leased.add(id);
    return { id, thread: id % this.#plan.threads };
  }

  /** Lets lanes come back, as many as there is room for. */
  #serveReturning(): void {
    for (const returning of this.#returning) {
      if (!this.#hasRoom()) return;
      this.#returning.delete(returning);
      this.#resting -= 1;
      returning.resolve(undefined);
    }
  }

  #serve(): void {
    this.#serveReturning();
    for (const waiting of this.#waiting) {
      if (this.#leased.size >= this.#state.lanes) return;
      this.#waiting.delete(waiting);
      waiting.resolve(this.#lease());
    }
    for (const wish of this.#wishes) {
      if (this.#leased.size >= this.#state.lanes) return;
      wish();
    }
  }
}
