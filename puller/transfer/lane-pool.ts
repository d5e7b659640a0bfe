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

type Waiting = { readonly resolve: (lane: LeasedLane) => void; readonly reject: (error: unknown) => void };

export class LanePool {
  readonly #plan: Pick<TransferPlan, "threads" | "mostLanes">;
  #state: LaneState;
  readonly #free: number[] = [];
  #next = 0;
  #leased = 0;
  #resting = 0;
  readonly #waiting = new Set<Waiting>();
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

  /** Waits for a lane. */
  async acquire(signal: AbortSignal): Promise<LeasedLane> {
    signal.throwIfAborted();
    const lane = this.tryAcquire();
    if (lane !== undefined) return lane;
    return new Promise((resolve, reject) => {
      const abort = (): void => {
        this.#waiting.delete(waiting);
        reject(signal.reason as Error);
      };
      const waiting: Waiting = {
        resolve: (given) => {
          signal.removeEventListener("abort", abort);
          resolve(given);
        },
        reject,
      };
      signal.addEventListener("abort", abort, { once: true });
      this.#waiting.add(waiting);
    });
  }

  /** A lane, if one is free now and nobody waits for it. */
  tryAcquire(): LeasedLane | undefined {
    if (this.#leased >= this.#state.lanes || this.#waiting.size > 0) return undefined;
    return this.#lease();
  }

  release(lane: LeasedLane): void {
    this.#leased -= 1;
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
    return this.#leased - this.#resting > this.#state.lanes;
  }

  /** A lane waits for its server; until the returned function is called, once, it keeps its place, in which nobody else asks. */
  rest(): () => void {
    this.#resting += 1;
    return () => {
      this.#resting -= 1;
    };
  }

  look(sample: Omit<LaneSample, "isWanted">): void {
    const isWanted = this.#waiting.size > 0 || this.#wishes.size > 0;
    this.#state = nextLaneState(this.#state, { ...sample, isWanted }, this.#plan.mostLanes);
    this.#serve();
  }

  /** A server asked to slow down. */
  backOff(nowMs: number): void {
    this.#state = backOff(this.#state, nowMs);
  }

  #lease(): LeasedLane {
    this.#leased += 1;
    const id = this.#free.pop() ?? this.#next++;
    return { id, thread: id % this.#plan.threads };
  }

  #serve(): void {
    for (const waiting of this.#waiting) {
      if (this.#leased >= this.#state.lanes) return;
      this.#waiting.delete(waiting);
      waiting.resolve(this.#lease());
    }
    for (const wish of this.#wishes) {
      if (this.#leased >= this.#state.lanes) return;
      wish();
    }
  }
}
