// The threads that move bytes, as the main thread sees them: requests and answers in messages, progress in shared memory.

import { setTimeout as delay } from "node:timers/promises";
import type { FailureCode } from "../contract.ts";
import type { DigestAlgorithm } from "../oci/digest.ts";
import { FastPathRefused } from "../oci/errors.ts";
import type { AnswerHead, Asker, Hop } from "../oci/transport.ts";
import { Allowance, mayRead } from "./bandwidth.ts";
import { LanePool, type LeasedLane } from "./lane-pool.ts";
import type { MachineLimits } from "./machine-limits.ts";
import {
  receiveFailure,
  type LaneBlob,
  type ThreadSettings,
  type ToHasher,
  type ToLane,
} from "./messages.ts";
import type { PieceMap } from "./piece-map.ts";
import type { TransferPlan } from "./schedule.ts";
import { Thread } from "./thread.ts";

/** Often enough to see a limit per connection within a tenth of a second, milliseconds. */
const lookMs = 50;
/** A refill of the allowance, milliseconds. */
const refillMs = 20;

export type DataPlaneOptions = Omit<ThreadSettings, "slabBytes" | "allowance"> & {
  readonly plan: TransferPlan;
  readonly limits: MachineLimits;
  /** Bytes per second over all connections; absent: no limit. */
  readonly bandwidthLimit?: number;
};

/** Counts of one run, for the report. */
export type TransferCounts = {
  streamedBlobs: number;
  rangedBlobs: number;
  /** Blobs that the slower path took, by reason. */
  readonly fallbacks: Record<string, number>;
  /** Pieces that were asked for once more because their connection was much slower than the others. */
  hedgedPieces: number;
  mostLanes: number;
};

/** What is asked of a lane. */
export type LaneFetch = {
  readonly lane: LeasedLane;
  readonly blob: number;
  readonly piece: number;
  readonly offset: number;
  readonly endExclusive: number;
  readonly isRun: boolean;
  readonly lead: number;
};

/** The head of a lane's answer; `written` settles when the body is written, if the answer was what was asked for. */
export type LaneAnswer = AnswerHead & { readonly taken: boolean; readonly written: Promise<void> };

export class DataPlane {
  readonly pool: LanePool;
  readonly plan: TransferPlan;
  readonly limits: MachineLimits;
  readonly counts: TransferCounts = {
    streamedBlobs: 0,
    rangedBlobs: 0,
    fallbacks: {},
    hedgedPieces: 0,
    mostLanes: 0,
  };
  readonly #settings: ThreadSettings;
  readonly #threads: (Thread | undefined)[] = [];
  readonly #idleHashers: Thread[] = [];
  readonly #hashers: Thread[] = [];
  readonly #timers: NodeJS.Timeout[] = [];
  /** What lanes may still receive; undefined: no limit. */
  readonly #allowance: Allowance | undefined;
  #exchanges = 0;
  #blobs = 0;
  #receivedBytes = 0;

  constructor({ plan, limits, bandwidthLimit, ...settings }: DataPlaneOptions) {
    this.plan = plan;
    this.limits = limits;
    this.pool = new LanePool(plan, performance.now());
    const allowance =
      bandwidthLimit === undefined
        ? undefined
        : new Allowance(bandwidthLimit, plan.mostLanes, performance.now());
    this.#settings = {
      ...settings,
      slabBytes: plan.slabBytes,
      ...(allowance === undefined ? {} : { allowance: allowance.shared }),
    };
    this.#allowance = allowance;
    if (allowance !== undefined) {
      this.#timers.push(
        setInterval(() => {
          allowance.refill(performance.now(), this.pool.inUse);
        }, refillMs),
      );
    }
    this.#timers.push(
      setInterval(() => {
        const utilization = Math.max(0, ...this.#threads.map((thread) => thread?.utilization() ?? 0));
        this.counts.mostLanes = Math.max(this.counts.mostLanes, this.pool.lanes);
        const isAtLimit = this.#allowance?.isUsedUp ?? false;
        this.pool.look({ nowMs: performance.now(), bytes: this.#receivedBytes, utilization, isAtLimit });
      }, lookMs),
    );
  }

  /** Starts the first threads, so that they are there when the first blob is. */
  start(): void {
    for (let thread = 0; thread < Math.min(this.plan.threads, this.plan.lanes); thread += 1)
      this.#thread(thread);
  }

  /** Told of bytes that arrived, for the choice of the number of lanes. */
  addReceived(bytes: number): void {
    this.#receivedBytes += bytes;
  }

  /** Counts bytes that came by another way in a lane's place against the limit, and waits until there may be more. */
  async spend({ id }: LeasedLane, bytes: number, signal: AbortSignal): Promise<void> {
    const allowance = this.#allowance?.of(id);
    if (allowance === undefined) return;
    Atomics.sub(allowance, 0, bytes);
    while (!mayRead(Atomics.load(allowance, 0))) await delay(refillMs, undefined, { signal });
  }

  get receivedBytes(): number {
    return this.#receivedBytes;
  }

  newBlob(): number {
    return (this.#blobs += 1);
  }

  /** Makes a blob known to a thread, once that runs: its start is not part of any wait for a server. */
  async open(thread: number, blob: LaneBlob): Promise<void> {
    const started = this.#thread(thread);
    started.send({ kind: "open", blob });
    await started.isRunning;
  }

  close(thread: number, blob: number): void {
    this.#threads[thread]?.send({ kind: "close", blob });
  }

  async hashPrefix(thread: number, blob: number, bytes: number): Promise<void> {
    await this.#hashed(this.#thread(thread), (exchange) => ({ kind: "hash-prefix", exchange, blob, bytes }));
  }

  /** Digest, as hex, of what a hashing lane has written. */
  async finish(thread: number, blob: number): Promise<string> {
    return this.#hashed(this.#thread(thread), (exchange) => ({ kind: "finish", exchange, blob }));
  }

  /** Hashes a blob's file behind those who write it; the digest as hex. */
  async hashBehind(descriptor: number, map: PieceMap, algorithm: DigestAlgorithm): Promise<string> {
    const hasher = this.#idleHashers.pop() ?? this.#newHasher();
    try {
      return await this.#hashed(hasher, (exchange) => ({
        kind: "hash",
        exchange,
        descriptor,
        map: map.share(),
        algorithm,
      }));
    } finally {
      this.#idleHashers.push(hasher);
    }
  }

  /** A client that asks by a lane: for the exchange of the registry that the lane's answer belongs to. */
  asker(fetch: LaneFetch): Asker<LaneAnswer> {
    return async (hop, signal) => {
      if (hop.isProxied) throw new FastPathRefused("a proxy");
      signal.throwIfAborted();
      const thread = this.#thread(fetch.lane.thread);
      const exchange = (this.#exchanges += 1);
      const cancel = (): void => {
        thread.send({ kind: "cancel", lane: fetch.lane.id });
      };
      signal.addEventListener("abort", cancel, { once: true });
      const { lane, ...what } = fetch;
      return new Promise((resolve, reject) => {
        let ended: { readonly failure?: unknown } | undefined;
        let onEnd: (() => void) | undefined;
        const written = async (): Promise<void> =>
          new Promise((done, failed) => {
            onEnd = () => {
              if (ended?.failure === undefined) done();
              else failed(ended.failure as Error);
            };
            if (ended !== undefined) onEnd();
          });
        thread.exchanges.set(exchange, {
          head: ({ status, headers, taken }) => {
            const whenWritten = written();
            // Whoever does not want the body does not wait for it.
            whenWritten.catch(() => undefined);
            resolve({
              status,
              headers,
              taken,
              written: whenWritten,
              // Over when the lane has read the rest, or has closed the connection.
              discard: async () => whenWritten.catch(() => undefined),
            });
          },
          settle: (message) => {
            signal.removeEventListener("abort", cancel);
            const failure =
              message.kind === "failed"
                ? signal.aborted
                  ? (signal.reason as unknown)
                  : receiveFailure(message.failure)
                : undefined;
            ended = { failure };
            if (onEnd !== undefined) onEnd();
            else if (failure !== undefined) reject(failure as Error);
          },
        });
        thread.send({ kind: "fetch", exchange, lane: lane.id, ...what, ...laneRequest(hop) });
      });
    };
  }

  /** Ends all threads at once. */
  async stop(): Promise<void> {
    for (const timer of this.#timers) clearInterval(timer);
    await Promise.allSettled(
      [...this.#threads, ...this.#hashers].map(async (thread) => thread?.worker.terminate()),
    );
  }

  #thread(index: number): Thread {
    return (this.#threads[index] ??= new Thread("lane-worker", this.#settings, () => {
      this.#threads[index] = undefined;
    }));
  }

  #newHasher(): Thread {
    const hasher = new Thread("hash-worker", this.#settings, () => undefined);
    this.#hashers.push(hasher);
    return hasher;
  }

  async #hashed(thread: Thread, message: (exchange: number) => ToLane | ToHasher): Promise<string> {
    const exchange = (this.#exchanges += 1);
    return new Promise((resolve, reject) => {
      thread.exchanges.set(exchange, {
        head: () => undefined,
        settle: (answer) => {
          if (answer.kind === "failed") reject(receiveFailure(answer.failure));
          else resolve(answer.kind === "hashed" ? (answer.hex ?? "") : "");
        },
      });
      thread.send(message(exchange));
    });
  }
}

/** A hop as a lane sends it. Pure; fails with FastPathRefused. */
export function laneRequest(
  hop: Hop,
): Pick<Extract<ToLane, { kind: "fetch" }>, "target" | "head" | "stallCode"> {
  const { url } = hop;
  const isSecure = url.protocol === "https:";
  const stallCode: FailureCode = hop.stallCode;
  const lines = [`GET ${url.pathname}${url.search} HTTP/1.1`, `host: ${url.host}`];
  for (const [name, value] of Object.entries(hop.headers)) lines.push(`${name}: ${headerValue(value)}`);
  return {
    target: {
      isSecure,
      hostname: url.hostname,
      port: Number(url.port) || (isSecure ? 443 : 80),
      isGuarded: !hop.anyAddress,
    },
    head: lines.join("\r\n"),
    stallCode,
  };
}

/** Refuses what would end a header line: a token from a server becomes one. */
function headerValue(value: string): string {
  // oxlint-disable-next-line no-control-regex
  if (/[\u0000-\u0008\u000a-\u001f\u007f\u0100-\uffff]/.test(value))
    throw new FastPathRefused("a header value with control characters");
  return value;
}
