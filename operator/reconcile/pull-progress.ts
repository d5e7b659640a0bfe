// What pullers have told last of how far they are. A reconcile reads that and waits for nobody: asking goes on beside it, and an answer
// that is news wakes the Model. A puller behind a network policy, which never answers, holds up nothing.

import { isDeepStrictEqual } from "node:util";
import type { PullProgress } from "../../puller/contract.ts";
import type { ObjectKey } from "../kube/types.ts";
import type { Pod } from "./workload-types.ts";

export type PullProgressDeps = {
  /** Never rejects; undefined is no answer. */
  readonly ask: (pod: Pod) => Promise<PullProgress | undefined>;
  /** Called with the Model when a puller of it has told something else than before. */
  readonly onNews: (model: ObjectKey) => void;
  /** Milliseconds of a clock that never goes back. */
  readonly nowMs: () => number;
};

/** A puller is asked again no sooner than this, milliseconds: each answer brings a reconcile, which reads and does not ask again. */
export const leastIntervalMs = 4_000;

type Told = { askedMs: number; isAsking: boolean; progress: PullProgress | undefined };

export class PullProgressBoard {
  readonly #deps: PullProgressDeps;
  /** By the pod's uid. */
  readonly #told = new Map<string, Told>();

  constructor(deps: PullProgressDeps) {
    this.#deps = deps;
  }

  /**
   * What the pod's puller told last, also when it does not answer any more: what it had it still has, but nobody knows how fast it
   * is. Asks anew beside that, unless that was done just now.
   */
  of(pod: Pod, model: ObjectKey): PullProgress | undefined {
    const { uid = "" } = pod.metadata;
    const nowMs = this.#deps.nowMs();
    let told = this.#told.get(uid);
    if (told === undefined) {
      told = { askedMs: -Infinity, isAsking: false, progress: undefined };
      this.#told.set(uid, told);
    }
    if (!told.isAsking && nowMs - told.askedMs >= leastIntervalMs) {
      told.askedMs = nowMs;
      told.isAsking = true;
      void this.#ask(pod, model, told);
    }
    return told.progress;
  }

  /** Of a pod that is gone nothing is kept. */
  forget(pod: Pod | undefined): void {
    this.#told.delete(pod?.metadata.uid ?? "");
  }

  async #ask(pod: Pod, model: ObjectKey, told: Told): Promise<void> {
    const progress = (await this.#deps.ask(pod)) ?? withoutSpeed(told.progress);
    told.isAsking = false;
    if (progress === undefined || isDeepStrictEqual(progress, told.progress)) return;
    told.progress = progress;
    // The pod may have gone meanwhile.
    if (this.#told.get(pod.metadata.uid ?? "") === told) this.#deps.onNews(model);
  }
}

/** What a puller that has fallen silent told last: the bytes are there, its speed and the time that is left are not known any more. */
function withoutSpeed(progress: PullProgress | undefined): PullProgress | undefined {
  if (progress === undefined) return undefined;
  const { remainingSeconds: _unknown, ...rest } = progress;
  return { ...rest, bytesPerSecond: 0 };
}
