// One run of the puller: from arguments to an exit code, with the process's outputs and signal given. The work is in commands/;
// main.ts is the process around it.

import { setTimeout as delay } from "node:timers/promises";
import { pino, type DestinationStream, type Logger } from "pino";
import { parseCommandLine, type CommandLine } from "./command-line.ts";
import { commandNames } from "./command-options.ts";
import { version, type Command, type Result, type World } from "./commands/command.ts";
import { contractVersion, isRetryable, type TerminationMessage } from "./contract.ts";
import { AppError } from "./oci/errors.ts";
import { shownReference } from "./oci/reference.ts";
import { ProgressTracker } from "./pull/progress.ts";
import { writeTermination } from "./termination.ts";

/** The log of a process: standard error, every line written when it is logged. */
export function logDestination(): DestinationStream {
  const destination = pino.destination({ dest: 2, sync: true });
  // A log that cannot be written (full disk, closed pipe) must not end a pull.
  destination.on("error", () => undefined);
  return destination;
}

/** After a signal a run ends within this time, come what may, milliseconds. */
const signalGraceMs = 1_700;

function asAppError(error: unknown): AppError {
  if (error instanceof AppError) return error;
  const name = error instanceof Error ? error.name : typeof error;
  return new AppError("InternalError", `a defect of the puller (${name}); its log has the details`, {
    cause: error,
  });
}

/** Does what the command line says. Each command is loaded when it is run: a start costs what it needs. */
async function perform(
  line: Command,
  world: World,
  log: Logger,
  signal: AbortSignal,
  progress: ProgressTracker,
): Promise<Result> {
  switch (line.command) {
    case "pull":
      return (await import("./commands/pull.ts")).runPull(line, world, log, signal, progress);
    case "inspect":
      return (await import("./commands/inspect.ts")).runInspect(line, world, log, signal);
    case "repack":
      return (await import("./commands/repack.ts")).runRepack(line, world, log, signal, progress);
    case "verify":
      return (await import("./commands/verify.ts")).runVerify(line, world, signal);
    case "gc":
      return (await import("./commands/gc.ts")).runGc(line, world);
    case "repair":
      return (await import("./commands/repair.ts")).runRepair(line, world, signal);
    case "prepare":
      return (await import("./commands/cache.ts")).runPrepare(line);
    case "tend":
      return (await import("./commands/cache.ts")).runTend(line, log, signal);
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
