// The puller's process: command line, signals, exit code. The work is in pull/, inspect.ts and store/.

import { readFileSync } from "node:fs";
import { pino, type Logger } from "pino";
import { numberValue, parseCommandLine, requiredValue, type CommandLine } from "./command-line.ts";
import {
  contractVersion,
  isInspectFailure,
  isRetryable,
  maxInspectReferences,
  type TerminationMessage,
} from "./contract.ts";
import { inspectReferences, inspectTags, toInspectResult, type InspectionResult } from "./inspect.ts";
import { inspectTable } from "./inspect-table.ts";
import { AppError, createRegistry, defaultRetryPolicy, loadCredentials, type Registry } from "./oci/index.ts";
import { ProgressTracker, reportProgress, serveProgress } from "./pull/progress.ts";
import { pull } from "./pull/pull.ts";
import { collectGarbage } from "./store/gc.ts";
import { openStore } from "./store/open-store.ts";
import { verifyStore } from "./store/verify.ts";
import { writeTermination } from "./termination.ts";

type Command = Extract<CommandLine, { kind: "command" }>;
/** What a command ends with when it succeeds, besides its text on stdout. */
type Result = Partial<TerminationMessage> & { readonly message: string; readonly failure?: AppError };

/** After a signal the process ends within this time, come what may, milliseconds. */
const signalGraceMs = 1_800;

function parseMirrors(values: readonly string[]): readonly { readonly host: string; readonly url: string }[] {
  return values.map((value) => {
    const equals = value.indexOf("=");
    if (equals < 1) {
      throw new AppError("InvalidUsage", `--mirror ${JSON.stringify(value.slice(0, 100))} is not HOST=URL`);
    }
    return { host: value.slice(0, equals).toLowerCase(), url: value.slice(equals + 1) };
  });
}

async function openRegistry(line: Command, log: Logger): Promise<Registry> {
  return createRegistry({
    credentials: await loadCredentials(line.values("docker-config")),
    caFiles: line.values("ca-file"),
    plainHTTPHosts: line.values("plain-http"),
    mirrors: parseMirrors(line.values("mirror")),
    trustedHosts: line.values("trusted-host"),
    stallTimeoutMs: numberValue(line, "stall-timeout", { min: 0.1, max: 3600 }) * 1000,
    retryPolicy: retryPolicy(line),
    environment: process.env,
    userAgent: `ocimodel-puller/${version()}`,
    onRetry: (error, attempt, waitMs) => {
      log.warn({ code: error.code, attempt, waitMs, ...error.context }, error.message);
    },
  });
}

function retryPolicy(line: Command): typeof defaultRetryPolicy {
  return {
    ...defaultRetryPolicy,
    budgetMs: numberValue(line, "retry-budget", { min: 0, max: 86_400 }) * 1000,
  };
}

async function runPull(
  line: Command,
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
    policy: retryPolicy(line),
    // A connection that drips holds a pull up as one that is silent does.
    slowest: { bytes: 2048 * stallSeconds, windowMs: 2000 * stallSeconds },
  };
  const registry = await openRegistry(line, log);
  const [address] = line.values("progress-address");
  const server = address === undefined ? undefined : await serveProgress(progress, address);
  const reporter = reportProgress(progress, process.stderr, log);
  try {
    const report = await pull(request, { registry, progress, log }, signal);
    process.stdout.write(`${JSON.stringify(report)}\n`);
    const message = report.isWarm
      ? `${report.digest} was complete already`
      : `${report.digest} is complete: ${report.totalBytes} bytes, ${report.fetchedBytes} of them fetched`;
    return { message, digest: report.digest };
  } finally {
    reporter.stop();
    server?.close();
    await registry.close();
  }
}

async function runInspect(line: Command, log: Logger, signal: AbortSignal): Promise<Result> {
  const references = line.values("reference");
  if (references.length === 0) requiredValue(line, "reference");
  const [glob] = line.values("tags");
  if (glob !== undefined && references.length > 1) {
    throw new AppError("InvalidUsage", "--tags goes with one --reference");
  }
  const registry = await openRegistry(line, log);
  try {
    let results: readonly InspectionResult[];
    if (glob === undefined)
      results = await inspectReferences(references, registry, signal, retryPolicy(line));
    else {
      const found = await inspectTags(references[0] ?? "", glob, registry, signal, retryPolicy(line));
      if (found.leftOut.length > 0)
        log.warn({ leftOut: found.leftOut }, "more tags match than are inspected");
      results = found.results;
    }
    const text =
      line.values("output")[0] === "json"
        ? `${JSON.stringify(results, undefined, 2)}\n`
        : inspectTable(results);
    process.stdout.write(text.endsWith("\n") ? text : `${text}\n`);
    const all = results.map(toInspectResult);
    const failed = all.find(isInspectFailure);
    return {
      message: `${results.length} inspected`,
      inspected: all.slice(0, maxInspectReferences),
      ...(failed === undefined ? {} : { failure: new AppError(failed.code, failed.message) }),
    };
  } finally {
    await registry.close();
  }
}

async function runVerify(line: Command, signal: AbortSignal): Promise<Result> {
  const report = await verifyStore(await openStore(requiredValue(line, "store")), signal);
  process.stdout.write(`${JSON.stringify(report, undefined, 2)}\n`);
  const { damages } = report;
  const message = `${report.blobs} blobs and ${report.models} models were read, ${damages.length} damages found`;
  return damages.length === 0
    ? { message }
    : {
        message,
        failure: new AppError("DigestMismatch", `${message}; remove what is named and pull the models again`),
      };
}

async function runGc(line: Command): Promise<Result> {
  const minimumAgeMs = numberValue(line, "minimum-age", { min: 0, max: 1e9 }) * 1000;
  const report = await collectGarbage(
    await openStore(requiredValue(line, "store")),
    minimumAgeMs,
    Date.now(),
  );
  process.stdout.write(`${JSON.stringify(report)}\n`);
  return { message: `${report.removedBlobs} blobs and ${report.removedPartials} partial files removed` };
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

/** Runs the command and returns the exit code. */
async function main(args: readonly string[]): Promise<number> {
  const stop = new AbortController();
  const progress = new ProgressTracker(flagValue(args, "--reference") ?? "");
  let line: CommandLine;
  let log = pino({ level: "info", base: null }, pino.destination({ dest: 2, sync: true }));
  let signals = 0;
  for (const name of ["SIGTERM", "SIGINT"] as const) {
    process.on(name, () => {
      signals += 1;
      if (signals > 1) process.exit(143);
      stop.abort(new AppError("Interrupted", `ended by ${name}; what was fetched is kept`));
      setTimeout(() => process.exit(143), signalGraceMs).unref();
    });
  }
  try {
    line = parseCommandLine(args, process.env);
  } catch (error) {
    const failure = asAppError(error);
    process.stderr.write(`puller: ${failure.message}\n`);
    const file = flagValue(args, "--termination-log") ?? process.env["OCIMODEL_TERMINATION_LOG"];
    if (file !== undefined && file !== "") {
      const { code, message } = failure;
      writeTermination(file, {
        v: contractVersion,
        command: args[0] === "inspect" ? "inspect" : "pull",
        code,
        retryable: false,
        message,
      });
    }
    return failure.exitCode;
  }
  if (line.kind === "help") {
    process.stdout.write(line.text);
    return 0;
  }
  if (line.kind === "version") {
    process.stdout.write(`puller ${version()}\n`);
    return 0;
  }
  log.level = line.values("log-level")[0] ?? "info";
  log = log.child({ command: line.command });
  const [reference] = line.values("reference");
  let result: Result;
  try {
    switch (line.command) {
      case "pull":
        result = await runPull(line, log, stop.signal, progress);
        break;
      case "inspect":
        result = await runInspect(line, log, stop.signal);
        break;
      case "verify":
        result = await runVerify(line, stop.signal);
        break;
      case "gc":
        result = await runGc(line);
        break;
    }
  } catch (error) {
    // Whatever broke because of the signal, the signal is the reason.
    const failure = stop.signal.aborted ? asAppError(stop.signal.reason) : asAppError(error);
    result = { message: failure.message, failure };
    progress.enter("failed");
  }
  const { failure, ...facts } = result;
  const isPull = line.command === "pull";
  const message: TerminationMessage = {
    v: contractVersion,
    command: line.command,
    retryable: failure !== undefined && isRetryable(failure.code),
    ...(reference === undefined ? {} : { reference }),
    ...(isPull ? { bytesDone: progress.completedBytes, bytesTotal: progress.totalBytes } : {}),
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
      { code: failure.code, retryable: message.retryable, ...failure.context, ...cause },
      failure.message,
    );
  }
  const [file] = line.values("termination-log");
  const unwritten = file === undefined ? undefined : writeTermination(file, message);
  if (unwritten !== undefined) log.error(unwritten);
  return failure?.exitCode ?? 0;
}

/** A flag's value as it was given, before the command line is checked. */
function flagValue(args: readonly string[], flag: string): string | undefined {
  const index = args.findIndex((each) => each === flag || each.startsWith(`${flag}=`));
  if (index === -1) return undefined;
  const found = args[index];
  return found?.includes("=") === true ? found.slice(flag.length + 1) : args[index + 1];
}

// A reader that went away is no reason to fail, and no reason to hang.
for (const stream of [process.stdout, process.stderr]) stream.on("error", () => undefined);
const exitCode = await main(process.argv.slice(2));
// Buffered output of a pipe is written before the process ends.
process.stdout.write("", () => {
  process.exit(exitCode);
});
