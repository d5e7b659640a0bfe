// Tells people of transitions as Events that `kubectl describe` shows. Best effort: a lost Event never fails anything.

import { createHash } from "node:crypto";
import type { Kube, KubeObject, Resource } from "./types.ts";

export const eventResource: Resource = {
  group: "",
  version: "v1",
  kind: "Event",
  plural: "events",
  namespaced: true,
};

export type EventRecorderOptions = {
  readonly kube: Kube;
  readonly component: string;
  /** The same event is told once in this time, milliseconds. */
  readonly windowMs?: number;
  readonly nowMs?: () => number;
  readonly onError?: (error: unknown) => void;
};

const maxMessageLength = 1024;
/** Events waiting to be sent; more are dropped, they would be old news. */
const maxPending = 200;

export class EventRecorder {
  readonly #options: EventRecorderOptions;
  readonly #told = new Map<string, number>();
  readonly #pending: KubeObject[] = [];
  readonly #giveUp = new AbortController();
  #sending: Promise<void> | undefined;

  constructor(options: EventRecorderOptions) {
    this.#options = options;
  }

  /** Queues an event about an object; does nothing when the same was told within the window. */
  record(object: KubeObject, type: "Normal" | "Warning", reason: string, message: string): void {
    const nowMs = (this.#options.nowMs ?? Date.now)();
    const windowMs = this.#options.windowMs ?? 120_000;
    for (const [key, atMs] of this.#told) if (nowMs - atMs >= windowMs) this.#told.delete(key);
    const { name, namespace = "default", uid = "" } = object.metadata;
    const key = JSON.stringify([uid, type, reason, message]);
    if (this.#told.has(key) || this.#pending.length >= maxPending) return;
    this.#told.set(key, nowMs);
    const time = `${new Date(nowMs).toISOString().slice(0, 19)}Z`;
    const hash = createHash("sha256").update(key).update(String(nowMs)).digest("hex").slice(0, 16);
    this.#pending.push({
      apiVersion: "v1",
      kind: "Event",
      metadata: { name: `${name}.${hash}`, namespace },
      involvedObject: {
        apiVersion: object.apiVersion,
        kind: object.kind,
        name,
        namespace,
        uid,
        ...(object.metadata.resourceVersion === undefined
          ? {}
          : { resourceVersion: object.metadata.resourceVersion }),
      },
      type,
      reason,
      message: message.slice(0, maxMessageLength).toWellFormed(),
      source: { component: this.#options.component },
      reportingComponent: this.#options.component,
      firstTimestamp: time,
      lastTimestamp: time,
      count: 1,
    } as KubeObject);
    this.#sending ??= this.#send();
  }

  /** Resolves when all queued events were sent; those that were not after the time are given up. */
  async flush(timeoutMs: number): Promise<void> {
    const limit = setTimeout(() => {
      this.#pending.length = 0;
      this.#giveUp.abort();
    }, timeoutMs);
    await this.#sending;
    clearTimeout(limit);
  }

  async #send(): Promise<void> {
    for (let event = this.#pending.shift(); event !== undefined; event = this.#pending.shift()) {
      try {
        const limit = AbortSignal.any([this.#giveUp.signal, AbortSignal.timeout(5_000)]);
        await this.#options.kube.create(eventResource, event, limit);
      } catch (error) {
        this.#options.onError?.(error);
      }
    }
    // In the same turn as the last look at the queue: what is queued after it is sent by a new round.
    this.#sending = undefined;
  }
}
