// Follows ConfigMaps with a ListWatch and keeps everything a handler was told; the validators of a watch are checked on that.

import { expect } from "vitest";
import { resourcePath } from "../../../operator/kube/client.ts";
import { ListWatch, type ListWatchOptions } from "../../../operator/kube/list-watch.ts";
import { waitFor } from "../../cluster/run-command.ts";
import { configMaps, type ApiServer, type ConfigMap } from "./api-server.ts";

export type Told = {
  readonly name: string;
  readonly before: ConfigMap | undefined;
  readonly after: ConfigMap | undefined;
};

export class Follower {
  readonly told: Told[] = [];
  readonly errors: unknown[] = [];
  readonly waits: number[] = [];
  relists = 0;
  readonly watch: ListWatch<ConfigMap>;
  readonly namespace: string;
  readonly #server: ApiServer;
  readonly #stop = new AbortController();
  #running: Promise<void> | undefined;

  constructor(server: ApiServer, namespace: string, options: Partial<ListWatchOptions<ConfigMap>> = {}) {
    this.#server = server;
    this.namespace = namespace;
    this.watch = new ListWatch<ConfigMap>({
      kube: server.proxied({ timeoutMs: 1_000 }),
      resource: configMaps,
      namespace,
      onChange: (key, { before, after }) => this.told.push({ name: key.name, before, after }),
      onError: (error) => this.errors.push(error),
      onRelist: () => (this.relists += 1),
      random: () => 0,
      // Backoff is recorded, not waited for.
      sleep: async (ms) => {
        this.waits.push(ms);
        await new Promise((resolve) => setTimeout(resolve, 5));
      },
      ...options,
    });
  }

  async start(): Promise<this> {
    this.#running = this.watch.run(this.#stop.signal);
    await this.watch.synced;
    return this;
  }

  /** Starts without waiting for the first list. */
  begin(): this {
    this.#running = this.watch.run(this.#stop.signal);
    return this;
  }

  /** Stops, and fails when that takes long. */
  async stop(): Promise<void> {
    this.#stop.abort();
    const limit = new Promise<never>((_resolve, reject) =>
      setTimeout(() => reject(new Error("the list-watch did not stop within 2 s")), 2_000).unref(),
    );
    await Promise.race([this.#running, limit]);
  }

  /** Waits until a watch with no more than this plan of faults is open: its request has been answered. */
  async watching(after = 0): Promise<void> {
    await waitFor(
      "a watch to be open",
      () =>
        this.watches()
          .slice(after)
          .some(({ status }) => status === 200),
      {
        intervalMs: 5,
      },
    );
  }

  /** Requests of watches that passed the proxy. */
  watches(): ApiServer["proxy"]["requests"] {
    const path = resourcePath(configMaps, this.namespace);
    return this.#server.proxy.requests.filter(
      (each) => each.path.startsWith(`${path}?`) && each.path.includes("watch=true"),
    );
  }

  lists(): ApiServer["proxy"]["requests"] {
    const path = resourcePath(configMaps, this.namespace);
    return this.#server.proxy.requests.filter(
      (each) => each.path.startsWith(`${path}?`) && !each.path.includes("watch=true"),
    );
  }

  /** Waits until the copy equals what the server has, and checks that what was told amounts to the copy, in order. */
  async agrees(): Promise<void> {
    const list = async (): Promise<readonly string[]> => {
      const answer = await this.#server.direct.read<{ readonly items: readonly ConfigMap[] }>(
        resourcePath(configMaps, this.namespace),
        {},
        AbortSignal.timeout(10_000),
      );
      return answer.items.map(stateOf).toSorted();
    };
    let [has, wanted]: (readonly string[])[] = [];
    await waitFor(
      "the copy to equal the server",
      async () => {
        wanted = await list();
        has = this.watch.list().map(stateOf).toSorted();
        return JSON.stringify(wanted) === JSON.stringify(has);
      },
      {
        intervalMs: 10,
        describe: () => JSON.stringify({ wanted, has, errors: this.errors.map(String) }, undefined, 1),
      },
    );
    this.validate();
  }

  /** Ordered, Unique, Reliable: what was told, one after the other, is a history that leads to the copy. */
  validate(): void {
    const copy = new Map<string, ConfigMap>();
    const gone = new Set<string>();
    for (const { name, before, after } of this.told) {
      // Each telling starts where the last one ended.
      expect(before?.metadata.resourceVersion).toBe(copy.get(name)?.metadata.resourceVersion);
      expect(before === undefined && after === undefined).toBe(false);
      if (after === undefined) {
        copy.delete(name);
        gone.add(before?.metadata.uid ?? "");
        continue;
      }
      if (before !== undefined) {
        expect(after.metadata.uid).toBe(before.metadata.uid);
        expect(Number(after.metadata.resourceVersion)).toBeGreaterThan(
          Number(before.metadata.resourceVersion),
        );
      }
      // What was deleted never comes back as the same.
      expect(gone.has(after.metadata.uid ?? "")).toBe(false);
      copy.set(name, after);
    }
    expect([...copy.values()].map(stateOf).toSorted()).toEqual(this.watch.list().map(stateOf).toSorted());
  }

  /** Values of one object in the order told; "-" where it was deleted. */
  history(name: string): readonly string[] {
    return this.told
      .filter((each) => each.name === name)
      .map(({ after }) => (after === undefined ? "-" : (after.data?.["value"] ?? "")));
  }
}

function stateOf({ metadata }: ConfigMap): string {
  return `${metadata.name} ${metadata.uid} ${metadata.resourceVersion}`;
}
