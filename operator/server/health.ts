// What /healthz and /readyz answer, from the vital signs of this process. Pure.

import type { Health } from "./http.ts";

/** Signs of life; times in milliseconds. */
export type Vitals = {
  readonly isLeader: boolean;
  /** Since the API server last answered about the lease; undefined: not once yet. Of a candidate only. */
  readonly leaseSilenceMs: number | undefined;
  /** Of the leader; undefined before it began. */
  readonly controller:
    | {
        readonly hasSynced: boolean;
        /** Since the API server last sent anything on the quietest watch. */
        readonly silenceMs: number;
        /** Of the longest reconcile under way. */
        readonly busyMs: number;
      }
    | undefined;
};

/** A watch that is silent for longer than this is about to be given up: bookmarks come every minute. */
const longestSilenceMs = 180_000;
/** A candidate asks every two seconds. */
const longestLeaseSilenceMs = 30_000;
/** Every request of a reconcile ends after 30 s; one that takes this long never will. */
const longestReconcileMs = 600_000;

const healthy = (reason: string): Health => ({ isHealthy: true, reason });
const unhealthy = (reason: string): Health => ({ isHealthy: false, reason });

/** Whether this replica does its part: as the leader to see and act, as a candidate to be able to take over. */
export function readiness({ isLeader, leaseSilenceMs, controller }: Vitals): Health {
  if (!isLeader) {
    if (leaseSilenceMs === undefined) return unhealthy("the API server has not answered yet");
    return leaseSilenceMs > longestLeaseSilenceMs
      ? unhealthy("the API server does not answer about the lease")
      : healthy("standby: another replica leads");
  }
  if (controller?.hasSynced !== true) return unhealthy("the caches are not complete yet");
  return controller.silenceMs > longestSilenceMs
    ? unhealthy("the API server has been silent for too long")
    : healthy("ok");
}

/** Whether a restart would help: never for what is wrong elsewhere. */
export function liveness({ controller }: Vitals): Health {
  return (controller?.busyMs ?? 0) > longestReconcileMs
    ? unhealthy("a reconcile does not end")
    : healthy("ok");
}
