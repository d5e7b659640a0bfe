// All metrics of the operator, in one place. Names carry their units.

import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from "prom-client";

export type Metrics = {
  readonly registry: Registry;
  readonly reconciles: Counter<"outcome" | "reason">;
  readonly reconcileSeconds: Histogram;
  readonly queueDepth: Gauge;
  readonly queueWaitSeconds: Histogram;
  readonly apiRequests: Counter<"verb" | "code">;
  readonly apiSeconds: Histogram<"verb">;
  readonly relists: Counter<"resource">;
  readonly watchErrors: Counter<"resource">;
  readonly isLeader: Gauge;
  readonly models: Gauge<"reason">;
  readonly variants: Gauge<"verdict">;
  readonly modelBytes: Counter<"source">;
  readonly modelStarts: Counter<"start">;
};

/** What is counted of one Model. */
export type CountedModel = { readonly reason: string; readonly verdicts: readonly string[] };

/**
 * Fresh metrics with a registry of their own. `queueDepth` and `countedModels` are asked at each scrape: counting thousands of
 * Models after each reconcile would take longer than the reconcile.
 */
export function createMetrics(
  queueDepth: () => number,
  countedModels: () => readonly CountedModel[] = () => [],
): Metrics {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  const registers = [registry];
  return {
    registry,
    reconciles: new Counter({
      name: "ocimodel_reconciles_total",
      help: "Reconciles by how they ended.",
      labelNames: ["outcome", "reason"],
      registers,
    }),
    reconcileSeconds: new Histogram({
      name: "ocimodel_reconcile_duration_seconds",
      help: "Time of one reconcile.",
      buckets: [0.005, 0.02, 0.1, 0.5, 2, 10],
      registers,
    }),
    queueDepth: new Gauge({
      name: "ocimodel_queue_depth",
      help: "Models that wait for a worker.",
      registers,
      collect() {
        this.set(queueDepth());
      },
    }),
    queueWaitSeconds: new Histogram({
      name: "ocimodel_queue_wait_seconds",
      help: "Time a Model waited for a worker.",
      buckets: [0.001, 0.01, 0.1, 1, 10],
      registers,
    }),
    apiRequests: new Counter({
      name: "ocimodel_api_requests_total",
      help: "Requests to the API server by verb and HTTP code; 0 is no answer.",
      labelNames: ["verb", "code"],
      registers,
    }),
    apiSeconds: new Histogram({
      name: "ocimodel_api_request_duration_seconds",
      help: "Time of requests to the API server, without watches.",
      labelNames: ["verb"],
      buckets: [0.005, 0.02, 0.1, 0.5, 2, 10],
      registers,
    }),
    relists: new Counter({
      name: "ocimodel_relists_total",
      help: "Full lists of a resource.",
      labelNames: ["resource"],
      registers,
    }),
    watchErrors: new Counter({
      name: "ocimodel_watch_errors_total",
      help: "Lists and watches that failed.",
      labelNames: ["resource"],
      registers,
    }),
    isLeader: new Gauge({ name: "ocimodel_leader", help: "1 while this process leads.", registers }),
    modelBytes: new Counter({
      name: "ocimodel_model_bytes_total",
      help: "Bytes of models that pods started with: fetched from the registry, or found on the volume.",
      labelNames: ["source"],
      registers,
    }),
    modelStarts: new Counter({
      name: "ocimodel_model_starts_total",
      help: "Pods whose model was complete: cold ones fetched something, warm ones nothing.",
      labelNames: ["start"],
      registers,
    }),
    models: new Gauge({
      name: "ocimodel_models",
      help: "Models by the reason of their Ready condition.",
      labelNames: ["reason"],
      registers,
      collect() {
        this.reset();
        for (const { reason } of countedModels()) this.inc({ reason });
      },
    }),
    variants: new Gauge({
      name: "ocimodel_variants",
      help: "Variants of all Models by their verdict.",
      labelNames: ["verdict"],
      registers,
      collect() {
        this.reset();
        for (const { verdicts } of countedModels()) for (const verdict of verdicts) this.inc({ verdict });
      },
    }),
  };
}
