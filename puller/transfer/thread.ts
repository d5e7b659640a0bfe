// A thread of the data plane, as the main thread sees it: messages to it, and the answers to each exchange.

import { Worker } from "node:worker_threads";
import type { FromLane, ThreadSettings, ToHasher, ToLane, ToUnpacker } from "./messages.ts";

/** Threads are compiled beside this file, or run from source as it is. */
const extension = import.meta.url.endsWith(".ts") ? "ts" : "js";

/** Who waits for answers to a message. */
export type Exchange = {
  readonly head: (message: Extract<FromLane, { kind: "head" }>) => void;
  readonly settle: (message: Exclude<FromLane, { kind: "head" | "ready" }>) => void;
};

export class Thread {
  readonly worker: Worker;
  readonly exchanges = new Map<number, Exchange>();
  /** Settles when the thread runs, or has ended. */
  readonly isRunning: Promise<void>;
  #tellRunning: () => void = () => undefined;
  #lastUtilization: ReturnType<Worker["performance"]["eventLoopUtilization"]> | undefined;

  /** `heapMebibytes`: of objects; what bytes lie in is no part of it. */
  constructor(
    name: string,
    settings: ThreadSettings | undefined,
    onEnd: (error: Error) => void,
    heapMebibytes = 64,
  ) {
    this.worker = new Worker(new URL(`./${name}.${extension}`, import.meta.url), {
      workerData: settings,
      name,
      resourceLimits: { maxYoungGenerationSizeMb: 2, maxOldGenerationSizeMb: heapMebibytes },
    });
    this.isRunning = new Promise((resolve) => {
      this.worker.once("exit", () => {
        resolve();
      });
      this.#tellRunning = resolve;
    });
    this.worker.on("message", (message: FromLane) => {
      if (message.kind === "ready") {
        this.#tellRunning();
        return;
      }
      const exchange = this.exchanges.get(message.exchange);
      if (message.kind === "head") exchange?.head(message);
      else {
        this.exchanges.delete(message.exchange);
        exchange?.settle(message);
      }
    });
    this.worker.on("error", (error) => {
      for (const [exchange, { settle }] of this.exchanges) {
        settle({
          kind: "failed",
          exchange,
          failure: {
            code: "InternalError",
            message: "a thread of the data plane ended; its log has the details",
            retry: "never",
            context: { stack: error instanceof Error ? error.stack?.slice(0, 2000) : "" },
          },
        });
      }
      this.exchanges.clear();
      onEnd(error instanceof Error ? error : new Error("a thread failed"));
    });
  }

  send(message: ToLane | ToHasher | ToUnpacker): void {
    this.worker.postMessage(message);
  }

  /** Share of the time since the last call that the thread was busy. */
  utilization(): number {
    const now = this.worker.performance.eventLoopUtilization();
    const last = this.#lastUtilization;
    this.#lastUtilization = now;
    return last === undefined ? 1 : this.worker.performance.eventLoopUtilization(now, last).utilization;
  }
}
