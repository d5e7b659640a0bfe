// The threads that unpack, as the main thread sees them: few, each with one archive at a time, served in order.

import type { DigestAlgorithm } from "../oci/digest.ts";
import { AppError } from "../oci/errors.ts";
import { receiveFailure, sendFailure } from "./messages.ts";
import type { PieceMap } from "./piece-map.ts";
import { Thread } from "./thread.ts";
import type { UnpackedEntry, UnpackOrder } from "./unpack-archive.ts";

/** An archive that may have up to 100,000 entries is told of in objects. */
const heapMebibytes = 512;
const mostThreads = 4;

export type UnpackTask = {
  /** Of the blob's file; open until `unpacked` has settled. */
  readonly descriptor: number;
  readonly map: PieceMap;
  readonly order: UnpackOrder;
  /** Hash the blob as well. */
  readonly algorithm?: DigestAlgorithm;
};

/** An archive that a thread is at. */
export type Unpack = {
  readonly unpacked: Promise<readonly UnpackedEntry[]>;
  /** Digest of the blob as hex; never settles where nobody asked for it. */
  readonly hashed: Promise<string>;
};

export class Unpackers {
  readonly #most: number;
  #running = 0;
  readonly #idle: Thread[] = [];
  readonly #all = new Set<Thread>();
  readonly #waiting: (() => void)[] = [];
  #exchanges = 0;
  #isStopped = false;

  /** Unpacking takes a processor for the files and one for the decompression, besides those that receive. */
  constructor(processors: number) {
    this.#most = Math.max(1, Math.min(mostThreads, Math.floor(processors / 2)));
  }

  /** Settles when a thread has begun, after those who asked before. A map that is stopped meanwhile fails with Interrupted. */
  async begin({ descriptor, map, order, algorithm }: UnpackTask): Promise<Unpack> {
    if (this.#isStopped) throw interrupted();
    if (this.#running < this.#most) this.#running += 1;
    else
      await new Promise<void>((resolve) => {
        this.#waiting.push(resolve);
      });
    if (this.#isStopped) throw interrupted();
    const thread = this.#idle.pop() ?? this.#newThread();
    const exchange = (this.#exchanges += 2);
    const hashed = new Promise<string>((resolve, reject) => {
      if (algorithm === undefined) return;
      thread.exchanges.set(exchange + 1, {
        head: () => undefined,
        settle: (answer) => {
          if (answer.kind === "hashed") resolve(answer.hex ?? "");
          else reject(answer.kind === "failed" ? receiveFailure(answer.failure) : unexpected());
        },
      });
    });
    const unpacked = new Promise<readonly UnpackedEntry[]>((resolve, reject) => {
      thread.exchanges.set(exchange, {
        head: () => undefined,
        settle: (answer) => {
          if (answer.kind === "unpacked") resolve(answer.entries);
          else reject(answer.kind === "failed" ? receiveFailure(answer.failure) : unexpected());
        },
      });
    });
    thread.send({
      kind: "unpack",
      exchange,
      descriptor,
      map: map.share(),
      order,
      ...(algorithm === undefined ? {} : { hash: { exchange: exchange + 1, algorithm } }),
    });
    const ended = async (): Promise<void> => {
      await Promise.allSettled(algorithm === undefined ? [unpacked] : [unpacked, hashed]);
      if (this.#all.has(thread)) this.#idle.push(thread);
      const next = this.#waiting.shift();
      if (next === undefined) this.#running -= 1;
      else next();
    };
    void ended();
    return { unpacked, hashed };
  }

  /** Ends all threads at once; what they were at fails with Interrupted. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    const threads = [...this.#all];
    await Promise.allSettled(threads.map(async (thread) => thread.worker.terminate()));
    for (const { exchanges } of threads) {
      for (const [exchange, { settle }] of exchanges)
        settle({ kind: "failed", exchange, failure: sendFailure(interrupted()) });
      exchanges.clear();
    }
    for (const resolve of this.#waiting.splice(0)) resolve();
  }

  #newThread(): Thread {
    const thread = new Thread(
      "unpack-worker",
      undefined,
      () => {
        this.#all.delete(thread);
      },
      heapMebibytes,
    );
    this.#all.add(thread);
    return thread;
  }
}

function interrupted(): AppError {
  return new AppError("Interrupted", "given up");
}

function unexpected(): AppError {
  return new AppError("InternalError", "a thread that unpacks answered with something else");
}
