// One operator works at a time: a Lease that is renewed, and work that stops in time when it cannot be. Monotonic clock only.
// It is no fence: two may work for a moment, so every write is safe under two (see docs/architecture.md).

import { KubeError } from "./errors.ts";
import type { Kube, KubeObject, Resource } from "./types.ts";

export const leaseResource: Resource = {
  group: "coordination.k8s.io",
  version: "v1",
  kind: "Lease",
  plural: "leases",
  namespaced: true,
};

type Lease = KubeObject & {
  readonly spec?: {
    readonly holderIdentity?: string;
    readonly leaseDurationSeconds?: number;
    readonly renewTime?: string;
    readonly acquireTime?: string;
    readonly leaseTransitions?: number;
  };
};

/** What the election asks of the API server beyond Kube: replacing a Lease in the state that was read. */
export interface LeaseWriter extends Kube {
  replace<T extends KubeObject>(resource: Resource, object: KubeObject, signal: AbortSignal): Promise<T>;
}

export type LeaderElectionOptions = {
  readonly kube: LeaseWriter;
  readonly namespace: string;
  readonly name: string;
  readonly identity: string;
  /** client-go: 15 s, 10 s, 2 s. */
  readonly leaseDurationMs?: number;
  readonly renewDeadlineMs?: number;
  readonly retryPeriodMs?: number;
  readonly onChange?: (isLeader: boolean) => void;
  /** Told whenever the API server has answered about the lease: a candidate that hears nothing cannot take over. */
  readonly onContact?: () => void;
  readonly onError?: (error: unknown) => void;
};

/** What an attempt on the lease came to: ours, another's, or not known. */
type Attempt = "held" | "taken" | "unknown";

/** Resolves after the time, or at once when the signal is aborted. */
async function pause(ms: number, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return;
  await new Promise<void>((resolve) => {
    const handle = setTimeout(done, ms);
    function done(): void {
      clearTimeout(handle);
      signal.removeEventListener("abort", done);
      resolve();
    }
    signal.addEventListener("abort", done, { once: true });
  });
}

/**
 * Waits for leadership, runs `work` with a signal that is aborted when the lease could not be renewed within the
 * renew deadline, and gives the lease back after `work` has returned. Resolves when `signal` is aborted, or when leadership
 * was lost: the process should then end, since nothing else can tell how old its view is.
 */
export async function runWithLeadership(
  options: LeaderElectionOptions,
  work: (signal: AbortSignal) => Promise<void>,
  signal: AbortSignal,
): Promise<"stopped" | "lost"> {
  const { leaseDurationMs = 15_000, renewDeadlineMs = 10_000, retryPeriodMs = 2_000 } = options;
  const key = { namespace: options.namespace, name: options.name };
  // What was seen of another holder, and when on our clock: its own timestamps are not compared with ours.
  let seen: { readonly version: string; readonly atMs: number } | undefined;

  const attempt = async (limit: AbortSignal): Promise<Attempt> => {
    const lease = await options.kube.get<Lease>(leaseResource, key, limit);
    options.onContact?.();
    const now = new Date().toISOString().replace("Z", "000Z");
    const spec = {
      holderIdentity: options.identity,
      leaseDurationSeconds: Math.ceil(leaseDurationMs / 1000),
      renewTime: now,
    };
    if (lease === undefined) {
      const made = await options.kube.create<Lease>(
        leaseResource,
        {
          apiVersion: "coordination.k8s.io/v1",
          kind: "Lease",
          metadata: key,
          spec: { ...spec, acquireTime: now, leaseTransitions: 0 },
        } as KubeObject,
        limit,
      );
      // Somebody else was first: the next look says who.
      return made === undefined ? "unknown" : "held";
    }
    const holder = lease.spec?.holderIdentity ?? "";
    const version = lease.metadata.resourceVersion ?? "";
    if (holder !== options.identity && holder !== "") {
      if (seen?.version !== version) seen = { version, atMs: performance.now() };
      const theirsMs = (lease.spec?.leaseDurationSeconds ?? 15) * 1000;
      if (performance.now() - seen.atMs < theirsMs) return "taken";
    }
    const isTaken = holder !== options.identity;
    await options.kube.replace(
      leaseResource,
      {
        apiVersion: "coordination.k8s.io/v1",
        kind: "Lease",
        metadata: { ...key, resourceVersion: version },
        spec: {
          ...spec,
          acquireTime: isTaken ? now : (lease.spec?.acquireTime ?? now),
          leaseTransitions: (lease.spec?.leaseTransitions ?? 0) + (isTaken ? 1 : 0),
        },
      } as KubeObject,
      limit,
    );
    return "held";
  };

  // The time counts from before the request: the lease runs from then on, however late the answer comes.
  const tryOnce = async (
    whileWanted: AbortSignal,
    limitMs: number,
  ): Promise<{ readonly result: Attempt; readonly startedMs: number }> => {
    const startedMs = performance.now();
    try {
      // The attempt itself may hang: the deadline cuts it too.
      const limit = AbortSignal.any([whileWanted, AbortSignal.timeout(Math.ceil(limitMs))]);
      return { result: await attempt(limit), startedMs };
    } catch (error) {
      if (!whileWanted.aborted && !(error instanceof KubeError && error.kind === "conflict"))
        options.onError?.(error);
      return { result: "unknown", startedMs };
    }
  };

  let renewedMs: number;
  for (;;) {
    if (signal.aborted) return "stopped";
    const { result, startedMs } = await tryOnce(signal, renewDeadlineMs);
    renewedMs = startedMs;
    if (result === "held") break;
    await pause(retryPeriodMs, signal);
  }
  if (signal.aborted) {
    await release(options, key);
    return "stopped";
  }
  options.onChange?.(true);
  const lost = new AbortController();
  const working = work(AbortSignal.any([signal, lost.signal]));
  const finished = working.then(
    () => undefined,
    () => undefined,
  );
  const ended = new AbortController();
  void finished.then(() => {
    ended.abort();
  });
  const over = AbortSignal.any([signal, ended.signal]);
  while (!over.aborted) {
    await pause(Math.min(retryPeriodMs, renewDeadlineMs - (performance.now() - renewedMs)), over);
    if (over.aborted) break;
    const remainingMs = renewDeadlineMs - (performance.now() - renewedMs);
    const { result, startedMs } =
      remainingMs > 0 ? await tryOnce(over, remainingMs) : ({ result: "unknown", startedMs: 0 } as const);
    if (result === "held") renewedMs = startedMs;
    // Once another holds it there is nothing to wait for.
    if (!over.aborted && (result === "taken" || performance.now() - renewedMs >= renewDeadlineMs)) {
      lost.abort();
      break;
    }
  }
  await finished;
  options.onChange?.(false);
  if (lost.signal.aborted) {
    await working;
    return "lost";
  }
  await release(options, key);
  await working;
  return "stopped";
}

/** Gives the lease back, so that another need not wait for it to run out. */
async function release(
  options: LeaderElectionOptions,
  key: { namespace: string; name: string },
): Promise<void> {
  try {
    const limit = AbortSignal.timeout(2_000);
    const lease = await options.kube.get<Lease>(leaseResource, key, limit);
    if (lease?.spec?.holderIdentity !== options.identity) return;
    const { holderIdentity: _released, ...spec } = lease.spec;
    await options.kube.replace(
      leaseResource,
      {
        apiVersion: "coordination.k8s.io/v1",
        kind: "Lease",
        metadata: { ...key, resourceVersion: lease.metadata.resourceVersion ?? "" },
        spec: { ...spec, holderIdentity: "" },
      } as KubeObject,
      limit,
    );
  } catch (error) {
    options.onError?.(error);
  }
}
