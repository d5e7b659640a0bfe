// Keeps the ConfigMap that tells the node caches which models are in use. The caches' pods mount it and remove nothing it names.
//
// A model is on it before a pod is made that mounts it, so that an operator that dies in between loses nothing; it goes from it when
// no pod and no Model names it any more. Writes are one after the other, and none in steady state.

import { isDeepStrictEqual } from "node:util";
import type { OperatorConfiguration } from "../configuration.ts";
import { managedByLabel, managedByValue } from "../desired/names.ts";
import type { Kube, KubeObject } from "../kube/types.ts";
import { inUseData, type Hold, type InUseLists } from "./in-use.ts";
import { configMapResource } from "./resources.ts";

type ConfigMap = KubeObject & { readonly data?: Readonly<Record<string, string>> };

/** By then the status or a pod says what was held, milliseconds. */
const holdMs = 600_000;

export type InUseLedgerDeps = {
  readonly kube: Pick<Kube, "get" | "apply">;
  readonly nodeCache: NonNullable<OperatorConfiguration["nodeCache"]>;
  /** What the local copies say now. */
  readonly lists: () => InUseLists;
  /** The DaemonSet that reads it, which it is deleted with; undefined: not known. */
  readonly reader: () => KubeObject | undefined;
  readonly nowMs: () => number;
};

export class InUseLedger {
  readonly #deps: InUseLedgerDeps;
  #holds: readonly Hold[] = [];
  /** What is there, once it was read or written. */
  #written: Readonly<Record<string, string>> | undefined;
  #last: Promise<unknown> = Promise.resolve();

  constructor(deps: InUseLedgerDeps) {
    this.#deps = deps;
  }

  /** Resolves when the model is on the list of its namespace; at once where the namespace has no cache. */
  async hold(namespace: string, directory: string, signal: AbortSignal): Promise<void> {
    if (!this.#deps.nodeCache.namespaces.includes(namespace)) return;
    if (this.#deps.lists().get(namespace)?.includes(directory) !== true) {
      this.#holds = [
        ...this.#holds.filter((each) => each.namespace !== namespace || each.directory !== directory),
        { namespace, directory, untilMs: this.#deps.nowMs() + holdMs },
      ];
    }
    if (this.#written?.[namespace]?.split("\n").includes(directory) === true) return;
    await this.refresh(signal);
  }

  /**
   * Writes what is in use if it differs from what is written.
   * @returns when a hold ends and it is to be looked at again, milliseconds; undefined: never
   */
  async refresh(signal: AbortSignal): Promise<number | undefined> {
    const turn = this.#last.then(async () => this.#write(signal));
    this.#last = turn.catch(() => undefined);
    await turn;
    const nowMs = this.#deps.nowMs();
    const ends = this.#holds.map(({ untilMs }) => untilMs - nowMs);
    return ends.length === 0 ? undefined : Math.max(1, ...ends);
  }

  async #write(signal: AbortSignal): Promise<void> {
    const { kube, nodeCache, lists, reader, nowMs } = this.#deps;
    const { namespace, inUse: name } = nodeCache;
    const now = lists();
    // What a pod or a status names by now needs no hold any more.
    this.#holds = this.#holds.filter(
      (hold) => hold.untilMs > nowMs() && now.get(hold.namespace)?.includes(hold.directory) !== true,
    );
    this.#written ??= (await kube.get<ConfigMap>(configMapResource, { namespace, name }, signal))?.data;
    const data = inUseData(now, this.#holds, nowMs());
    if (isDeepStrictEqual(this.#written, data)) return;
    // Unknown until it is answered: a write that was lost may have been made.
    this.#written = undefined;
    const owner = reader();
    await kube.apply(
      configMapResource,
      {
        apiVersion: "v1",
        kind: "ConfigMap",
        metadata: {
          name,
          namespace,
          labels: { [managedByLabel]: managedByValue },
          ...(owner === undefined
            ? {}
            : {
                ownerReferences: [
                  {
                    apiVersion: "apps/v1",
                    kind: "DaemonSet",
                    name: owner.metadata.name,
                    uid: owner.metadata.uid ?? "",
                  },
                ],
              }),
        },
        data,
      } as KubeObject,
      signal,
    );
    this.#written = data;
  }
}
