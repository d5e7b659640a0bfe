// One run of the puller: from arguments to an exit code, with the process's outputs and signal given. The work is in pull/,
// inspect.ts and store/; main.ts is the process around it.

import { readFileSync, statSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import { pino, type DestinationStream, type Logger } from "pino";
import {
  commandNames,
  numberValue,
  parseByteCount,
  parseCommandLine,
  requiredValue,
  requiredValues,
  type CommandLine,
} from "./command-line.ts";
import {
  contractVersion,
  isInspectFailure,
  isModelDirectoryName,
  isRetryable,
  maxInspectReferences,
  type TerminationMessage,
} from "./contract.ts";
import { discoverIndex, fetchIndex, inspectDescribed } from "./discovery/discover-index.ts";
import { discoverTags } from "./discovery/discover-tags.ts";
import { leftOutMessage } from "./discovery/left-out.ts";
import { inspectReferences, toInspectResult, type InspectionResult } from "./inspect.ts";
import { inspectTable } from "./inspect-table.ts";
import {
  AppError,
  createRegistry,
  defaultConnectTimeoutMs,
  defaultRetryPolicy,
  loadCredentials,
  trustedAuthorities,
  type WritableRegistry,
} from "./oci/index.ts";
import { shownReference } from "./oci/reference.ts";
import { ProgressTracker, reportProgress, serveProgress, type Terminal } from "./pull/progress.ts";
import { pull } from "./pull/pull.ts";
import type { Platform } from "./repack/image.ts";
import { parseTarget, repack } from "./repack/repack.ts";
import { largestChunkBytes } from "./repack/upload-layer.ts";
import { collectGarbage, type GcOptions } from "./store/gc.ts";
import { openExistingStore } from "./store/open-store.ts";
import { repairStore } from "./store/repair.ts";
import { prepareTenants } from "./store/tenants.ts";
import { verifyStore } from "./store/verify.ts";
import { parseTenants, tend } from "./tend.ts";
import { writeTermination } from "./termination.ts";

type Command = Extract<CommandLine, { kind: "command" }>;
/** What a command ends with when it succeeds, besides its text on stdout. */
type Result = Partial<TerminationMessage> & { readonly message: string; readonly failure?: AppError };

/** What a run needs of its process. */
export type World = {
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly stdout: { write(text: string): unknown };
  /** For people: usage errors, and a bar where it is a terminal. */
  readonly stderr: Terminal;
  /** Where JSON lines of the log go. */
  readonly log: DestinationStream;
  /** Aborted with the name of the signal that ends the run. */
  readonly signal: AbortSignal;
};

/** The log of a process: standard error, every line written when it is logged. */
export function logDestination(): DestinationStream {
  const destination = pino.destination({ dest: 2, sync: true });
  // A log that cannot be written (full disk, closed pipe) must not end a pull.
  destination.on("error", () => undefined);
  return destination;
}

/** Less would look like a stall, bytes per second. */
const leastBandwidth = 64 * 1024;

/** After a signal a run ends within this time, come what may, milliseconds. */
const signalGraceMs = 1_700;

function parseMirrors(values: readonly string[]): readonly { readonly host: string; readonly url: string }[] {
  return values.map((value) => {
    const equals = value.indexOf("=");
    if (equals < 1) {
      throw new AppError(
        "InvalidUsage",
        `--mirror ${JSON.stringify(shownReference(value).slice(0, 100))} is not HOST=URL, such as docker.io=https://mirror.example.com`,
      );
    }
    return { host: value.slice(0, equals), url: value.slice(equals + 1) };
  });
}

async function openRegistry(line: Command, world: World, log: Logger): Promise<WritableRegistry> {
  return createRegistry({
    credentials: await loadCredentials(line.values("docker-config")),
    caFiles: line.values("ca-file"),
    plainHTTPHosts: line.values("plain-http"),
    mirrors: parseMirrors(line.values("mirror")),
    trustedHosts: line.values("trusted-host"),
    stallTimeoutMs: numberValue(line, "stall-timeout", { min: 0.1, max: 3600 }) * 1000,
    retryPolicy: retryPolicy(line),
    environment: world.environment,
    userAgent: `ocimodel-puller/${version()}`,
    onRetry: (error, attempt, waitMs) => {
      log.warn({ ...error.context, code: error.code, attempt, waitMs }, error.message);
    },
  });
}

function retryPolicy(line: Command): typeof defaultRetryPolicy {
  return {
    ...defaultRetryPolicy,
    budgetMs: numberValue(line, "retry-budget", { min: 0, max: 86_400 }) * 1000,
  };
}

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

async function runPull(
  line: Command,
  world: World,
  log: Logger,
  signal: AbortSignal,
  progress: ProgressTracker,
): Promise<Result> {
  if (line.values("reference").length > 1) throw new AppError("InvalidUsage", "pull takes one --reference");
  const stallSeconds = numberValue(line, "stall-timeout", { min: 0.1, max: 3600 });
  const request = {
    reference: requiredValue(line, "reference"),
    store: requiredValue(line, "store"),
    include: line.values("include"),
    exclude: line.values("exclude"),
    concurrency: numberValue(line, "concurrency", { min: 1, max: 64, isWhole: true }),
    ...bandwidthLimit(line),
    policy: retryPolicy(line),
    // A connection that drips holds a pull up as one that is silent does.
    slowest: { bytes: 2048 * stallSeconds, windowMs: 2000 * stallSeconds },
  };
  const registry = await openRegistry(line, world, log);
  const [address] = line.values("progress-address");
  const server = address === undefined ? undefined : await serveProgress(progress, address);
  const reporter = reportProgress(progress, world.stderr, log);
  try {
    const authorities = trustedAuthorities(line.values("ca-file"));
    const connections = {
      connectTimeoutMs: defaultConnectTimeoutMs,
      stallTimeoutMs: stallSeconds * 1000,
      ...(authorities === undefined ? {} : { authorities }),
    };
    const report = await pull(request, { registry, progress, log, connections }, signal);
    world.stdout.write(`${JSON.stringify(report)}\n`);
    log.info({ digest: report.digest, seconds: report.seconds }, "where the time went");
    const message = report.isWarm
      ? `${report.digest} was complete already`
      : `${report.digest} is complete: ${report.totalBytes} bytes, ${report.fetchedBytes} of them fetched`;
    return { message, digest: report.digest, bytesFetched: report.fetchedBytes };
  } finally {
    reporter.stop();
    server?.close();
    await registry.close();
  }
}

function parsePlatform(text: string): Platform {
  const match = /^([a-z0-9]{1,20})\/([a-z0-9]{1,20})(?:\/([a-z0-9]{1,20}))?$/.exec(text);
  if (match === null) {
    throw new AppError(
      "InvalidUsage",
      `--platform ${JSON.stringify(text.slice(0, 60))} is not OS/ARCH or OS/ARCH/VARIANT, such as linux/arm64`,
    );
  }
  const [, os = "", architecture = "", variant] = match;
  return { os, architecture, ...(variant === undefined ? {} : { variant }) };
}

/** The least and the most that a chunk of an upload may be, bytes: what storage behind registries takes, and memory. */
const chunkBounds = { least: 2 ** 20, most: largestChunkBytes };

function parseChunkBytes(text: string): number {
  const bytes = parseByteCount(text);
  if (bytes !== undefined && bytes >= chunkBounds.least && bytes <= chunkBounds.most) return bytes;
  throw new AppError(
    "InvalidUsage",
    `--chunk-size ${JSON.stringify(text.slice(0, 40))} is no number of bytes from 1Mi to 256Mi`,
  );
}

async function runRepack(
  line: Command,
  world: World,
  log: Logger,
  signal: AbortSignal,
  progress: ProgressTracker,
): Promise<Result> {
  if (line.values("reference").length > 1) throw new AppError("InvalidUsage", "repack takes one --reference");
  const [journal] = line.values("journal");
  const request = {
    reference: requiredValue(line, "reference"),
    to: requiredValue(line, "to"),
    platform: parsePlatform(requiredValue(line, "platform")),
    chunkBytes: parseChunkBytes(requiredValue(line, "chunk-size")),
    include: line.values("include"),
    exclude: line.values("exclude"),
    ...(journal === undefined ? {} : { journal }),
    policy: retryPolicy(line),
  };
  parseTarget(request.to);
  const registry = await openRegistry(line, world, log);
  const reporter = reportProgress(progress, world.stderr, log);
  try {
    const report = await repack(request, { registry, progress, log }, signal);
    world.stdout.write(`${JSON.stringify(report)}\n`);
    return {
      message: `${report.reference} is complete: ${report.totalBytes} bytes in ${report.layers} layers, ${report.uploadedBytes} of them uploaded`,
      digest: report.digest,
    };
  } finally {
    reporter.stop();
    await registry.close();
  }
}

/** How often a discovery that takes long tells how far it is, milliseconds. */
const discoveryReportMs = 5_000;

async function runInspect(line: Command, world: World, log: Logger, signal: AbortSignal): Promise<Result> {
  const references = line.values("reference");
  const [glob] = line.values("tags");
  const [indexReference] = line.values("index");
  if (references.length === 0 && indexReference === undefined) requiredValue(line, "reference");
  if (glob !== undefined && (references.length > 1 || indexReference !== undefined)) {
    throw new AppError("InvalidUsage", "--tags goes with one --reference and without --index");
  }
  const registry = await openRegistry(line, world, log);
  const policy = retryPolicy(line);
  let reportedMs = performance.now();
  const onProgress = (done: number, total: number): void => {
    if (done === total || performance.now() - reportedMs < discoveryReportMs) return;
    reportedMs = performance.now();
    log.info({ done, total }, "reading artifacts");
  };
  const options = { registry, signal, retryPolicy: policy, onProgress };
  const discover =
    glob !== undefined
      ? () => discoverTags(references[0] ?? "", glob, options)
      : references.length === 0
        ? () => discoverIndex(indexReference ?? "", options)
        : undefined;
  try {
    if (discover !== undefined) {
      const found = await discover();
      for (const each of found.leftOut) log.warn(each, "left out");
      printInspections(line, world, found.variants, leftOutMessage(found.leftOut, 2000));
      const leftOut = leftOutMessage(found.leftOut);
      return {
        message: `${found.variants.length} variants found`,
        ...(found.digest === undefined ? {} : { digest: found.digest }),
        discovered: {
          variants: found.variants.map(({ name = "", digest }) => ({ name, reference: `@${digest}` })),
          ...(leftOut === undefined ? {} : { leftOut }),
        },
        inspected: found.variants.map(toInspectResult),
      };
    }
    const index =
      indexReference === undefined ? undefined : await fetchIndex(indexReference, { registry, signal });
    const isDescribed = index !== undefined || line.values("requirements").length > 0;
    const results = await inspectReferences(
      references,
      registry,
      signal,
      policy,
      ...(isDescribed ? [async (reference: string) => inspectDescribed(reference, index, options)] : []),
    );
    printInspections(line, world, results);
    const all = results.map(toInspectResult);
    const failed = all.find(isInspectFailure);
    return {
      message: `${results.length} inspected`,
      ...(index === undefined ? {} : { digest: index.digest }),
      inspected: all.slice(0, maxInspectReferences),
      ...(failed === undefined ? {} : { failure: new AppError(failed.code, failed.message) }),
    };
  } finally {
    await registry.close();
  }
}

function printInspections(
  line: Command,
  world: World,
  results: readonly InspectionResult[],
  note?: string,
): void {
  const text =
    line.values("output")[0] === "json"
      ? `${JSON.stringify(results, undefined, 2)}\n`
      : `${inspectTable(results)}${note === undefined ? "" : `\n${note}`}`;
  world.stdout.write(text.endsWith("\n") ? text : `${text}\n`);
}

async function runVerify(line: Command, world: World, signal: AbortSignal): Promise<Result> {
  const report = await verifyStore(await openExistingStore(requiredValue(line, "store")), signal);
  world.stdout.write(`${JSON.stringify(report, undefined, 2)}\n`);
  const { damages } = report;
  const message = `${report.blobs} blobs and ${report.models} models were read, ${damages.length} damages found`;
  return damages.length === 0
    ? { message }
    : {
        message,
        failure: new AppError(
          "DigestMismatch",
          `${message}; puller repair mends what can be mended here, and the next pull the rest`,
        ),
      };
}

async function runRepair(line: Command, world: World, signal: AbortSignal): Promise<Result> {
  const report = await repairStore(await openExistingStore(requiredValue(line, "store")), signal);
  world.stdout.write(`${JSON.stringify(report, undefined, 2)}\n`);
  const left = report.repairs.filter(({ outcome }) => outcome === "left").length;
  return {
    message: `${report.repairs.length} damages found; ${left} of them are mended by the next pull of the models`,
  };
}

async function runGc(line: Command, world: World): Promise<Result> {
  const [limit] = line.values("size-limit");
  const keep = line.values("keep");
  const wrong = keep.find((name) => !isModelDirectoryName(name));
  if (wrong !== undefined) {
    // A misspelt name would keep nothing.
    throw new AppError(
      "InvalidUsage",
      `--keep ${JSON.stringify(wrong.slice(0, 150))} is no name of a directory under models: 64 hex digits, and with globs - and 8 more`,
    );
  }
  const options: GcOptions = {
    minimumAgeMs: numberValue(line, "minimum-age", { min: 0, max: 1e9 }) * 1000,
    keep: new Set(keep),
    unusedModels: line.values("unused-models")[0] === "remove" ? "remove" : "keep",
    ...(limit === undefined
      ? {}
      : { sizeLimitBytes: numberValue(line, "size-limit", { min: 0, max: 2 ** 53 - 1, isWhole: true }) }),
  };
  const report = await collectGarbage(await openExistingStore(requiredValue(line, "store")), options);
  world.stdout.write(`${JSON.stringify(report)}\n`);
  return {
    message: `${report.removedModels.length} models, ${report.removedBlobs} blobs and ${report.removedPartials} partial files removed, ${report.freedBytes} bytes freed`,
  };
}

async function runPrepare(line: Command): Promise<Result> {
  const tenants = parseTenants(requiredValues(line, "tenant"));
  const changed = await prepareTenants(requiredValue(line, "cache"), tenants);
  return { message: `${tenants.length} directories are ready, ${changed.length} were made or changed` };
}

/** A misspelt directory would hold no list, so that nothing were ever removed. */
function existingDirectory(path: string): string {
  if (statSync(path, { throwIfNoEntry: false })?.isDirectory() === true) return path;
  throw new AppError("InvalidUsage", `--in-use ${JSON.stringify(path.slice(0, 200))} is no directory`);
}

async function runTend(line: Command, log: Logger, signal: AbortSignal): Promise<Result> {
  await tend(
    {
      cache: requiredValue(line, "cache"),
      tenants: parseTenants(requiredValues(line, "tenant")),
      inUse: existingDirectory(requiredValue(line, "in-use")),
      minimumAgeMs: numberValue(line, "minimum-age", { min: 0, max: 1e9 }) * 1000,
      everyMs: numberValue(line, "every", { min: 1, max: 86_400 }) * 1000,
    },
    log,
    signal,
  );
  return { message: "ended by a signal" };
}

function version(): string {
  try {
    const manifest = JSON.parse(readFileSync(new URL("package.json", import.meta.url), "utf8")) as {
      version: string;
    };
    return manifest.version;
  } catch {
    return "unknown";
  }
}

function asAppError(error: unknown): AppError {
  if (error instanceof AppError) return error;
  const name = error instanceof Error ? error.name : typeof error;
  return new AppError("InternalError", `a defect of the puller (${name}); its log has the details`, {
    cause: error,
  });
}

/** Does what the command line says. */
async function perform(
  line: Command,
  world: World,
  log: Logger,
  signal: AbortSignal,
  progress: ProgressTracker,
): Promise<Result> {
  switch (line.command) {
    case "pull":
      return runPull(line, world, log, signal, progress);
    case "inspect":
      return runInspect(line, world, log, signal);
    case "repack":
      return runRepack(line, world, log, signal, progress);
    case "verify":
      return runVerify(line, world, signal);
    case "gc":
      return runGc(line, world);
    case "repair":
      return runRepair(line, world, signal);
    case "prepare":
      return runPrepare(line);
    case "tend":
      return runTend(line, log, signal);
  }
}

/** Ends with the signal's failure when the grace after it is over. */
async function afterSignal(signal: AbortSignal, done: AbortSignal): Promise<never> {
  await new Promise<void>((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener("abort", () => resolve(), { once: true });
  });
  await delay(signalGraceMs, undefined, { ref: false, signal: done });
  throw signal.reason;
}

/** Runs the command and returns the exit code. Never rejects; what went wrong is told in the log and the termination message. */
export async function run(args: readonly string[], world: World): Promise<number> {
  let line: CommandLine;
  try {
    line = parseCommandLine(args, world.environment);
  } catch (error) {
    return refuseCommandLine(asAppError(error), args, world);
  }
  if (line.kind === "help") {
    world.stdout.write(line.text);
    return 0;
  }
  if (line.kind === "version") {
    world.stdout.write(`puller ${version()}\n`);
    return 0;
  }
  const log = pino({ level: line.values("log-level")[0] ?? "info", base: null }, world.log).child({
    command: line.command,
  });
  const stop = new AbortController();
  const onSignal = (): void => {
    stop.abort(
      new AppError("Interrupted", `ended by ${String(world.signal.reason)}; what was fetched is kept`),
    );
  };
  if (world.signal.aborted) onSignal();
  world.signal.addEventListener("abort", onSignal, { once: true });
  const given = line.values("reference")[0] ?? line.values("index")[0];
  const reference = given === undefined ? undefined : shownReference(given);
  const progress = new ProgressTracker(reference ?? "");
  const done = new AbortController();
  let result: Result;
  try {
    const work = perform(line, world, log, stop.signal, progress);
    const late = afterSignal(stop.signal, done.signal);
    late.catch(() => undefined);
    result = await Promise.race([work, late]);
  } catch (error) {
    // Whatever broke because of the signal, the signal is the reason.
    const failure = stop.signal.aborted ? asAppError(stop.signal.reason) : asAppError(error);
    result = { message: failure.message, failure };
    progress.enter("failed");
  } finally {
    done.abort();
    world.signal.removeEventListener("abort", onSignal);
  }
  const { failure, ...facts } = result;
  const message: TerminationMessage = {
    v: contractVersion,
    command: line.command,
    retryable: failure !== undefined && isRetryable(failure.code),
    ...(reference === undefined ? {} : { reference }),
    ...(line.command === "pull" || line.command === "repack"
      ? { bytesDone: progress.completedBytes, bytesTotal: progress.totalBytes }
      : {}),
    ...facts,
    code: failure?.code ?? "Ready",
    message: failure?.message ?? facts.message,
  };
  if (failure === undefined) log.info({ digest: facts.digest }, facts.message);
  else {
    const cause =
      failure.code === "InternalError" && failure.cause instanceof Error
        ? { stack: failure.cause.stack }
        : {};
    log.error(
      { ...failure.context, code: failure.code, retryable: message.retryable, ...cause },
      failure.message,
    );
  }
  const [file] = line.values("termination-log");
  const unwritten = file === undefined ? undefined : writeTermination(file, message);
  if (unwritten !== undefined) log.error(unwritten);
  return failure?.exitCode ?? 0;
}

/** Tells a usage error to people, and to the termination log where one can be found in a line that is wrong. */
function refuseCommandLine(failure: AppError, args: readonly string[], world: World): number {
  const { code, message } = failure;
  world.stderr.write(`puller: ${message}\n`);
  const file = flagValue(args, "--termination-log") ?? world.environment["OCIMODEL_TERMINATION_LOG"];
  if (file === undefined || file === "") return failure.exitCode;
  const command = commandNames.find((name) => name === args[0]) ?? "pull";
  const unwritten = writeTermination(file, { v: contractVersion, command, code, retryable: false, message });
  if (unwritten !== undefined) world.stderr.write(`puller: ${unwritten}\n`);
  return failure.exitCode;
}

/** A flag's value as it was given, before the command line is checked. */
function flagValue(args: readonly string[], flag: string): string | undefined {
  const index = args.findIndex((each) => each === flag || each.startsWith(`${flag}=`));
  if (index === -1) return undefined;
  const found = args[index];
  return found?.includes("=") === true ? found.slice(flag.length + 1) : args[index + 1];
}
