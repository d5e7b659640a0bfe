// The operator's process: flags, configuration, wiring, signals. No decisions.

import { readFileSync } from "node:fs";
import { hostname } from "node:os";
import { randomUUID } from "node:crypto";
import { parse } from "yaml";
import { z } from "zod";
import { helpText, parseCommandLine } from "./command-line.ts";
import { configurationSchema, type OperatorConfiguration } from "./configuration.ts";
import { KubeClient, loadKubeConfig } from "./kube/client.ts";
import { servesGroupVersion } from "./kube/discovery.ts";
import { EventRecorder } from "./kube/events.ts";
import { runWithLeadership } from "./kube/leader-election.ts";
import { Controller } from "./reconcile/controller.ts";
import { liveness, readiness, type Vitals } from "./server/health.ts";
import { serve } from "./server/http.ts";
import { createLog } from "./server/log.ts";
import { createMetrics } from "./server/metrics.ts";
import { version } from "./version.ts";

/** Work in progress gets this long after a signal, milliseconds. */
const shutdownMs = 25_000;

/** Reads and checks the configuration; its problems are told with path and remedy. */
function readConfiguration(file: string): OperatorConfiguration {
  let document: unknown;
  try {
    document = parse(readFileSync(file, "utf8"));
  } catch (error) {
    throw new Error(
      `configuration ${file} cannot be read: ${error instanceof Error ? error.message : "unknown"}`,
      {
        cause: error,
      },
    );
  }
  const parsed = configurationSchema.safeParse(document);
  if (!parsed.success) throw new Error(`configuration ${file} is invalid:\n${z.prettifyError(parsed.error)}`);
  return parsed.data;
}

async function main(): Promise<number> {
  const line = parseCommandLine(process.argv.slice(2));
  if (line.kind === "help") {
    process.stdout.write(helpText());
    return 0;
  }
  if (line.kind === "version") {
    process.stdout.write(`operator ${version()}\n`);
    return 0;
  }
  const log = createLog(line.logLevel);
  const configuration = readConfiguration(line.config);
  const stop = new AbortController();
  for (const name of ["SIGTERM", "SIGINT"] as const) {
    process.on(name, () => {
      log.info({ signal: name }, "stopping");
      stop.abort();
      setTimeout(() => process.exit(1), shutdownMs).unref();
    });
  }
  let controller: Controller | undefined;
  const metrics = createMetrics(
    () => controller?.depth ?? 0,
    () => controller?.countedModels() ?? [],
  );
  const kube = new KubeClient({
    kubeConfig: loadKubeConfig(),
    fieldManager: "ocimodel",
    userAgent: "ocimodel-operator",
    onAnswer: (verb, _path, status, durationMs) => {
      metrics.apiRequests.inc({ verb, code: String(status) });
      if (verb !== "watch") metrics.apiSeconds.observe({ verb }, durationMs / 1000);
    },
  });
  const onError = (error: unknown): void => {
    log.warn({ error: error instanceof Error ? error.message : "unknown" }, "the API server did not take it");
  };
  const events = new EventRecorder({ kube, component: "ocimodel", onError });
  const namespace = line.leaderElectionNamespace;
  let isLeader = namespace === undefined;
  let leaseAnsweredMs: number | undefined;
  const vitals = (): Vitals => ({
    isLeader,
    leaseSilenceMs: leaseAnsweredMs === undefined ? undefined : performance.now() - leaseAnsweredMs,
    controller,
  });
  const health = await serve(line.healthAddress, {
    healthz: () => liveness(vitals()),
    readyz: () => readiness(vitals()),
  });
  const exposition = await serve(line.metricsAddress, {
    metrics: async () => ({
      contentType: metrics.registry.contentType,
      text: await metrics.registry.metrics(),
    }),
  });
  log.info(
    { runtimes: Object.keys(configuration.runtimes), namespaces: configuration.namespaces },
    "started",
  );
  const work = async (signal: AbortSignal): Promise<void> => {
    let hasResourceSlices: boolean;
    try {
      hasResourceSlices = await servesGroupVersion(kube, "resource.k8s.io/v1", signal, onError);
    } catch (error) {
      if (signal.aborted) return;
      throw error;
    }
    log.info(
      { resourceSlices: hasResourceSlices, freeCapacity: configuration.namespaces.length === 0 },
      "what is read of the hardware",
    );
    controller = new Controller({ kube, configuration, events, metrics, log, hasResourceSlices });
    await controller.run(signal);
  };
  let end: "stopped" | "lost" = "stopped";
  if (namespace === undefined) {
    metrics.isLeader.set(1);
    await work(stop.signal);
  } else {
    const onChange = (leads: boolean): void => {
      isLeader = leads;
      metrics.isLeader.set(leads ? 1 : 0);
      log.info(leads ? "this replica leads" : "this replica does not lead any more");
    };
    const identity = `${hostname()}_${randomUUID().slice(0, 8)}`;
    const onContact = (): void => {
      leaseAnsweredMs = performance.now();
    };
    const options = { kube, namespace, name: "ocimodel-operator", identity, onChange, onContact, onError };
    end = await runWithLeadership(options, work, stop.signal);
  }
  health.server.close();
  exposition.server.close();
  if (end === "lost")
    log.error("the lease could not be renewed in time; ending, so that another replica may lead");
  return end === "lost" ? 1 : 0;
}

try {
  process.exit(await main());
} catch (error) {
  process.stderr.write(`operator: ${error instanceof Error ? error.message : "unknown failure"}\n`);
  process.exit(64);
}
