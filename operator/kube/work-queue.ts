// Keys waiting to be worked on: each key is worked on by one worker at a time, and no wake-up is lost. Knows no objects.

export type WorkQueueOptions = {
  readonly concurrency: number;
  /** First and longest wait after failures of a key, milliseconds; doubles in between (client-go: 5 ms to 1000 s). */
  readonly backoff?: { readonly firstMs: number; readonly lastMs: number };
  readonly random?: () => number;
  /** Told how long a key had waited when its work began. */
  readonly onStart?: (waitedMs: number) => void;
};

/** What became of one piece of work: again after a time, again with backoff (and not before a server allows it), or only when woken. */
export type WorkResult =
  | { readonly kind: "done"; readonly recheckAfterMs?: number }
  | { readonly kind: "retry"; readonly notBeforeMs?: number };

type Worker = (key: string, signal: AbortSignal) => Promise<WorkResult>;

const defaultBackoff = { firstMs: 5, lastMs: 1_000_000 };

/** Longest time that a timer of Node takes, milliseconds; it fires at once when given more. */
const longestTimerMs = 2 ** 31 - 1;

export class WorkQueue {
  readonly #options: WorkQueueOptions;
  /** Keys to be worked on, in order, with the time since when. */
  readonly #dirty = new Map<string, number>();
  /** Keys being worked on, with the time since when. */
  readonly #processing = new Map<string, number>();
  readonly #failures = new Map<string, number>();
  readonly #timers = new Map<string, { readonly dueMs: number; readonly handle: NodeJS.Timeout }>();
  #worker: Worker | undefined;
  #signal: AbortSignal | undefined;
  #idle: (() => void) | undefined;

  constructor(options: WorkQueueOptions) {
    this.#options = options;
  }

  /** Keys that wait for a worker. */
  get depth(): number {
    return this.#dirty.size;
  }

  /** How long the longest work under way has taken so far, milliseconds; 0 when there is none. */
  get busyMs(): number {
    return this.#processing.size === 0 ? 0 : performance.now() - Math.min(...this.#processing.values());
  }

  /** Wakes a key. While it is being worked on, it is worked on once more afterwards. */
  add(key: string): void {
    if (this.#signal?.aborted === true) return;
    if (!this.#dirty.has(key)) this.#dirty.set(key, performance.now());
    this.#dispatch();
  }

  /** Wakes a key after a time; of several times the earliest holds. */
  addAfter(key: string, ms: number): void {
    if (this.#signal?.aborted === true) return;
    const dueMs = performance.now() + ms;
    const planned = this.#timers.get(key);
    if (planned !== undefined && planned.dueMs <= dueMs) return;
    clearTimeout(planned?.handle);
    // A wait that is longer ends early: the work then finds that its time has not come.
    const handle = setTimeout(
      () => {
        this.#timers.delete(key);
        this.add(key);
      },
      Math.min(ms, longestTimerMs),
    );
    this.#timers.set(key, { dueMs, handle });
  }

  /** Works until the signal is aborted; resolves when the last worker has returned. */
  async run(worker: Worker, signal: AbortSignal): Promise<void> {
    this.#worker = worker;
    this.#signal = signal;
    this.#dispatch();
    if (!signal.aborted) {
      await new Promise<void>((resolve) => {
        signal.addEventListener(
          "abort",
          () => {
            resolve();
          },
          { once: true },
        );
      });
    }
    for (const { handle } of this.#timers.values()) clearTimeout(handle);
    this.#timers.clear();
    this.#dirty.clear();
    if (this.#processing.size > 0) {
      await new Promise<void>((resolve) => {
        this.#idle = resolve;
      });
    }
  }

  #dispatch(): void {
    const worker = this.#worker;
    const signal = this.#signal;
    if (worker === undefined || signal === undefined || signal.aborted) return;
    for (const [key, sinceMs] of this.#dirty) {
      if (this.#processing.size >= this.#options.concurrency) return;
      if (this.#processing.has(key)) continue;
      this.#dirty.delete(key);
      this.#processing.set(key, performance.now());
      this.#options.onStart?.(performance.now() - sinceMs);
      void this.#work(worker, key, signal);
    }
  }

  async #work(worker: Worker, key: string, signal: AbortSignal): Promise<void> {
    let result: WorkResult;
    try {
      result = await worker(key, signal);
    } catch {
      // The worker tells its errors itself; here a failure only means: again.
      result = { kind: "retry" };
    }
    this.#processing.delete(key);
    if (result.kind === "retry") {
      const failures = this.#failures.get(key) ?? 0;
      this.#failures.set(key, failures + 1);
      const { firstMs, lastMs } = this.#options.backoff ?? defaultBackoff;
      const random = this.#options.random ?? Math.random;
      const waitMs = Math.min(firstMs * 2 ** Math.min(failures, 40), lastMs) * (0.5 + random() / 2);
      this.addAfter(key, Math.max(waitMs, result.notBeforeMs ?? 0));
    } else {
      this.#failures.delete(key);
      if (result.recheckAfterMs !== undefined) this.addAfter(key, result.recheckAfterMs);
    }
    this.#dispatch();
    if (this.#processing.size === 0 && signal.aborted) this.#idle?.();
  }
}
