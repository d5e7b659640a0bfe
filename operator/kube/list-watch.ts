// Keeps a local copy of all objects of a resource by list and watch. Misses nothing: whatever it cannot read makes it list again.

import { KubeError } from "./errors.ts";
import { resourcePath, type KubeReader } from "./client.ts";
import { watchLines } from "./watch-lines.ts";
import type { CacheChange, KubeObject, ObjectCache, ObjectKey, Resource } from "./types.ts";

export type ListWatchOptions<T extends KubeObject> = {
  readonly kube: KubeReader;
  readonly resource: Resource;
  /** Absent: all namespaces. */
  readonly namespace?: string;
  readonly labelSelector?: string;
  /** Objects that leave the selection are told as deleted. */
  readonly fieldSelector?: string;
  readonly pageSize?: number;
  /** Drops what nobody reads before an object is kept: managed fields alone are a quarter of a cache. */
  readonly strip?: (object: T) => T;
  /** Told of every change, after the copy has it. What it throws is told to onError. */
  readonly onChange: (key: ObjectKey, change: CacheChange<T>) => void;
  readonly onError?: (error: unknown) => void;
  readonly onRelist?: () => void;
  /** A watch without any byte, not even a bookmark, for this long is dead, milliseconds. */
  readonly inactivityTimeoutMs?: number;
  /** Asked of the server, so that watches end by themselves now and then, seconds. */
  readonly watchTimeoutSeconds?: () => number;
  readonly random?: () => number;
  /** Waits; tests make it short. */
  readonly sleep?: (ms: number, signal: AbortSignal) => Promise<void>;
};

/** Reflector constants of client-go: 0.8 s, doubled up to 30 s, with full jitter on top. */
const backoff = { firstMs: 800, lastMs: 30_000 };
/** A watch that ends sooner did not work, milliseconds. */
const shortWatchMs = 1_000;
/** After so many failures in a row a watch is not resumed any more: what breaks it may stand in its way each time. */
const mostResumes = 3;

type ListAnswer = {
  readonly kind?: unknown;
  readonly metadata?: { readonly resourceVersion?: unknown; readonly continue?: string };
  readonly items?: unknown;
};
type WatchEvent<T> = {
  readonly type: string;
  readonly object: T & { readonly code?: number; readonly message?: string };
};

/** Why a watch ended. `expired`: its resource version is too old, so only a list helps. */
type WatchEnd = "closed" | "expired";

function cacheKey({ namespace, name }: ObjectKey): string {
  return `${namespace}/${name}`;
}

function keyOf(object: KubeObject): ObjectKey {
  return { namespace: object.metadata.namespace ?? "", name: object.metadata.name };
}

export class ListWatch<T extends KubeObject> implements ObjectCache<T> {
  readonly #options: ListWatchOptions<T>;
  readonly #objects = new Map<string, T>();
  readonly #synced = Promise.withResolvers<void>();
  #hasSynced = false;
  #resourceVersion = "";
  #lastContactMs = performance.now();

  constructor(options: ListWatchOptions<T>) {
    this.#options = options;
    // Nobody has to wait for it.
    this.#synced.promise.catch(() => undefined);
  }

  get hasSynced(): boolean {
    return this.#hasSynced;
  }

  /** When the server last sent anything, on the monotonic clock (performance.now()), milliseconds. */
  get lastContactMs(): number {
    return this.#lastContactMs;
  }

  /** Resolves with the first complete list. */
  get synced(): Promise<void> {
    return this.#synced.promise;
  }

  get(key: ObjectKey): T | undefined {
    return this.#objects.get(cacheKey(key));
  }

  list(namespace?: string): readonly T[] {
    const all = [...this.#objects.values()];
    return namespace === undefined
      ? all
      : all.filter(({ metadata }) => (metadata.namespace ?? "") === namespace);
  }

  /** Lists and watches until the signal is aborted. Never rejects. */
  async run(signal: AbortSignal): Promise<void> {
    let failures = 0;
    let mustList = true;
    while (!signal.aborted) {
      let watchedSinceMs: number | undefined;
      const hasWatchedLong = (): boolean =>
        watchedSinceMs !== undefined && performance.now() - watchedSinceMs >= shortWatchMs;
      try {
        if (mustList) {
          await this.#list(signal);
          mustList = false;
        }
        watchedSinceMs = performance.now();
        const end = await this.#watch(signal);
        mustList = end === "expired";
        failures = hasWatchedLong() ? 0 : failures + 1;
        // A server that ends each watch at once must not be asked in a tight loop.
        if (failures > 1) await this.#pause(undefined, failures - 1, signal);
      } catch (error) {
        if (signal.aborted) return;
        this.#report(error);
        // That a watch broke after an hour says nothing about how soon the next one will.
        failures = hasWatchedLong() ? 1 : failures + 1;
        mustList ||= !isResumable(error) || failures > mostResumes;
        await this.#pause(error, failures, signal);
      }
    }
  }

  async #pause(error: unknown, failures: number, signal: AbortSignal): Promise<void> {
    const random = this.#options.random ?? Math.random;
    const base = Math.min(backoff.firstMs * 2 ** (failures - 1), backoff.lastMs);
    const askedMs = (error instanceof KubeError ? error.retryAfterMs : undefined) ?? 0;
    const waitMs = Math.max(askedMs, base) + base * random();
    await (this.#options.sleep ?? sleep)(waitMs, signal).catch(() => undefined);
  }

  #report(error: unknown): void {
    try {
      this.#options.onError?.(error);
    } catch {
      // Whoever cannot be told of an error cannot be told of this one.
    }
  }

  /** All pages of one consistent list; replaces the copy only when the last page is in. */
  async #list(signal: AbortSignal): Promise<void> {
    const { kube, resource, namespace, labelSelector, fieldSelector, pageSize = 500 } = this.#options;
    this.#options.onRelist?.();
    const path = resourcePath(resource, namespace);
    const found = new Map<string, T>();
    let token: string | undefined;
    let restarts = 0;
    for (;;) {
      let page: ListAnswer;
      try {
        page = await kube.read<ListAnswer>(
          path,
          {
            limit: String(pageSize),
            ...(labelSelector === undefined ? {} : { labelSelector }),
            ...(fieldSelector === undefined ? {} : { fieldSelector }),
            ...(token === undefined ? {} : { continue: token }),
          },
          signal,
        );
      } catch (error) {
        // The snapshot of a paged list is gone: begin again, but not for ever.
        if (error instanceof KubeError && error.kind === "gone" && token !== undefined && restarts < 3) {
          restarts += 1;
          token = undefined;
          found.clear();
          continue;
        }
        throw error;
      }
      this.#lastContactMs = performance.now();
      const { items, version, next } = readPage<T>(page);
      for (const item of items) {
        // Items of a list carry no type of their own.
        const object = this.#strip({ ...item, apiVersion: apiVersionOf(resource), kind: resource.kind });
        found.set(cacheKey(keyOf(object)), object);
      }
      token = next;
      if (token !== undefined) continue;
      this.#resourceVersion = version;
      break;
    }
    this.#replace(found);
    this.#hasSynced = true;
    this.#synced.resolve();
  }

  #replace(found: ReadonlyMap<string, T>): void {
    const before = new Map(this.#objects);
    this.#objects.clear();
    for (const [key, object] of found) this.#objects.set(key, object);
    for (const [key, object] of before) {
      if (!found.has(key)) this.#tell(object, undefined);
    }
    for (const [key, object] of found) {
      const old = before.get(key);
      if (!isSameState(old, object)) this.#tell(old, object);
    }
  }

  #strip(object: T): T {
    const { managedFields: _dropped, ...metadata } = object.metadata as T["metadata"] & {
      managedFields?: unknown;
    };
    const bare = { ...object, metadata };
    return this.#options.strip?.(bare) ?? bare;
  }

  #tell(before: T | undefined, after: T | undefined): void {
    const object = after ?? before;
    if (object === undefined) return;
    if (before !== undefined && after !== undefined && before.metadata.uid !== after.metadata.uid) {
      // The deletion in between was not seen; it is told all the same.
      this.#tell(before, undefined);
      this.#tell(undefined, after);
      return;
    }
    try {
      this.#options.onChange(keyOf(object), {
        ...(before === undefined ? {} : { before }),
        ...(after === undefined ? {} : { after }),
      });
    } catch (error) {
      this.#report(error);
    }
  }

  async #watch(signal: AbortSignal): Promise<WatchEnd> {
    const { kube, resource, namespace, labelSelector, fieldSelector } = this.#options;
    const timeout = this.#options.watchTimeoutSeconds ?? (() => 300 + Math.floor(Math.random() * 300));
    let stream: Awaited<ReturnType<KubeReader["stream"]>>;
    try {
      stream = await kube.stream(
        resourcePath(resource, namespace),
        {
          watch: "true",
          allowWatchBookmarks: "true",
          resourceVersion: this.#resourceVersion,
          timeoutSeconds: String(timeout()),
          ...(labelSelector === undefined ? {} : { labelSelector }),
          ...(fieldSelector === undefined ? {} : { fieldSelector }),
        },
        signal,
      );
    } catch (error) {
      if (error instanceof KubeError && error.kind === "gone") return "expired";
      throw error;
    }
    try {
      for await (const line of watchLines(
        stream.body,
        this.#options.inactivityTimeoutMs ?? 120_000,
        signal,
      )) {
        this.#lastContactMs = performance.now();
        if (this.#take(JSON.parse(line) as WatchEvent<T>) === "expired") return "expired";
      }
      return "closed";
    } finally {
      stream.close();
    }
  }

  /** Takes one event into the copy. Throws on what it does not understand: the caller lists again rather than skip it. */
  #take(event: WatchEvent<T>): "taken" | "expired" {
    if (event.type !== "ERROR" && isOlder(event.object.metadata.resourceVersion, this.#resourceVersion)) {
      throw new Error(
        `a watch event of version ${event.object.metadata.resourceVersion} after ${this.#resourceVersion}`,
      );
    }
    switch (event.type) {
      case "BOOKMARK":
        break;
      case "ADDED":
      case "MODIFIED": {
        const object = this.#strip(event.object);
        const key = cacheKey(keyOf(object));
        const before = this.#objects.get(key);
        this.#objects.set(key, object);
        // The same once more is no change.
        if (!isSameState(before, object)) this.#tell(before, object);
        break;
      }
      case "DELETED": {
        const key = cacheKey(keyOf(event.object));
        const before = this.#objects.get(key);
        this.#objects.delete(key);
        this.#tell(before, undefined);
        break;
      }
      case "ERROR":
        if (event.object.code === 410) return "expired";
        throw new KubeError(
          event.object.code === 429 ? "throttled" : "unavailable",
          `the watch ended with an error: ${String(event.object.message).slice(0, 200)}`,
          { status: event.object.code ?? 500 },
        );
      default:
        throw new Error(`a watch event of type ${JSON.stringify(event.type)?.slice(0, 40)}`);
    }
    const version = event.object.metadata.resourceVersion;
    if (version === undefined) throw new Error("a watch event without a resource version");
    this.#resourceVersion = version;
    return "taken";
  }
}

/** A page of a list. Throws on anything else: an answer without items must never look like a cluster without objects. */
function readPage<T>(page: ListAnswer): {
  readonly items: readonly T[];
  readonly version: string;
  readonly next: string | undefined;
} {
  const version = page.metadata?.resourceVersion;
  const { kind, items } = page;
  const isList =
    typeof kind === "string" && kind.endsWith("List") && (items === null || Array.isArray(items));
  if (!isList || typeof version !== "string" || version === "")
    throw new Error(`the API server answered a list with a ${JSON.stringify(kind)?.slice(0, 40)}`);
  const next = page.metadata?.continue;
  return {
    items: (items ?? []) as readonly T[],
    version,
    next: next === undefined || next === "" ? undefined : next,
  };
}

/** Whether a watch may go on at the version where it was: nothing was answered, or only that it should wait. */
function isResumable(error: unknown): boolean {
  return error instanceof KubeError && (error.status === 0 || error.kind === "throttled");
}

function isSameState(one: KubeObject | undefined, other: KubeObject): boolean {
  return (
    one?.metadata.uid === other.metadata.uid &&
    one?.metadata.resourceVersion === other.metadata.resourceVersion
  );
}

/** Compares resource versions, which are decimal numbers of one order for each resource (Kubernetes 1.35 says so). */
function isOlder(one: string | undefined, other: string): boolean {
  if (one === undefined || !/^\d+$/.test(one) || !/^\d+$/.test(other)) return false;
  return BigInt(one) < BigInt(other);
}

function apiVersionOf({ group, version }: Resource): string {
  return group === "" ? version : `${group}/${version}`;
}

async function sleep(ms: number, signal: AbortSignal): Promise<void> {
  await new Promise<void>((resolve) => {
    const timer = setTimeout(done, ms);
    function done(): void {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      resolve();
    }
    signal.addEventListener("abort", done, { once: true });
  });
}
