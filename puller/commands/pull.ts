// puller pull: one model to a volume. A model that is there needs no registry, and what speaks with one is not even loaded then:
// this is what most pods start with.

import type { Logger } from "pino";
import { numberValue, parseByteCount, requiredValue } from "../command-line.ts";
import { AppError } from "../oci/errors.ts";
import { reportProgress, serveProgress, type ProgressTracker } from "../pull/progress.ts";
import type { PullReport, PullRequest } from "../pull/pull.ts";
import { findModel, refuseReadOnly } from "../pull/warm.ts";
import type { StoreLayout } from "../store/layout.ts";
import { openStore } from "../store/open-store.ts";
import { parseReference } from "../oci/reference.ts";
import type { Reference } from "../oci/types.ts";
import type { Command, Result, World } from "./command.ts";
import { parseMirrors, retryPolicy } from "./registry-flags.ts";

/** Less would look like a stall, bytes per second. */
const leastBandwidth = 64 * 1024;

function bandwidthLimit(line: Command): { readonly bandwidthLimit?: number } {
  const [text] = line.values("bandwidth-limit");
  if (text === undefined) return {};
  const bytes = parseByteCount(text);
  if (bytes === undefined || bytes < leastBandwidth) {
    throw new AppError(
      "InvalidUsage",
      `--bandwidth-limit ${JSON.stringify(text.slice(0, 40))} is no number of bytes per second of at least ${leastBandwidth}, such as 100Mi or 1G`,
    );
  }
  return { bandwidthLimit: bytes };
}

export async function runPull(
  line: Command,
  world: World,
  log: Logger,
  signal: AbortSignal,
  progress: ProgressTracker,
): Promise<Result> {
  if (line.values("reference").length > 1) throw new AppError("InvalidUsage", "pull takes one --reference");
  const stallSeconds = numberValue(line, "stall-timeout", { min: 0.1, max: 3600 });
  const request: PullRequest = {
    reference: requiredValue(line, "reference"),
    store: requiredValue(line, "store"),
    include: line.values("include"),
    exclude: line.values("exclude"),
    concurrency: numberValue(line, "concurrency", { min: 1, max: 64, isWhole: true }),
    ...bandwidthLimit(line),
    policy: retryPolicy(line, world),
    // A connection that drips holds a pull up as one that is silent does.
    slowest: { bytes: 2048 * stallSeconds, windowMs: 2000 * stallSeconds },
  };
  // Refused also by a start that needs none.
  parseMirrors(line.values("mirror"));
  const [address] = line.values("progress-address");
  const server = address === undefined ? undefined : await serveProgress(progress, address);
  const reporter = reportProgress(progress, world.stderr, log);
  try {
    const layout = await openStore(request.store);
    const reference = parseReference(request.reference);
    const report =
      (await findModel(layout, reference.digest, request, progress, signal)) ??
      (await resolveAndPull(layout, reference, request, line, world, log, progress, signal));
    world.stdout.write(`${JSON.stringify(report)}\n`);
    log.info({ digest: report.digest, seconds: report.seconds }, "where the time went");
    const message = report.isWarm
      ? `${report.digest} was complete already`
      : `${report.digest} is complete: ${report.totalBytes} bytes, ${report.fetchedBytes} of them fetched`;
    return { message, digest: report.digest, bytesFetched: report.fetchedBytes };
  } finally {
    reporter.stop();
    server?.close();
  }
}

async function resolveAndPull(
  layout: StoreLayout,
  reference: Reference,
  request: PullRequest,
  line: Command,
  world: World,
  log: Logger,
  progress: ProgressTracker,
  signal: AbortSignal,
): Promise<PullReport> {
  refuseReadOnly(layout);
  const [{ openRegistry }, { defaultConnectTimeoutMs, trustedAuthorities }] = await Promise.all([
    import("./open-registry.ts"),
    import("../oci/index.ts"),
  ]);
  const registry = await openRegistry(line, world, log);
  try {
    const manifest = await registry.fetchManifest(reference, signal);
    const found = await findModel(layout, manifest.digest, request, progress, signal);
    if (found !== undefined) return found;
    const { pullTo } = await import("../pull/pull.ts");
    const authorities = trustedAuthorities(line.values("ca-file"));
    const connections = {
      connectTimeoutMs: defaultConnectTimeoutMs,
      stallTimeoutMs: numberValue(line, "stall-timeout", { min: 0.1, max: 3600 }) * 1000,
      ...(authorities === undefined ? {} : { authorities }),
    };
    return await pullTo(layout, manifest, request, { registry, progress, log, connections }, signal);
  } finally {
    await registry.close();
  }
}
