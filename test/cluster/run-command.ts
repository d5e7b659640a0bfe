// Starts commands: to their end with captured output, or as servers that die with this process. Linux.

import { spawn, type ChildProcess, type SpawnOptions } from "node:child_process";
import { closeSync, openSync, readFileSync } from "node:fs";

export type CommandResult = { readonly stdout: string; readonly stderr: string; readonly exitCode: number };

export type CommandOptions = {
  readonly input?: string;
  readonly cwd?: string;
  readonly env?: Readonly<Record<string, string>>;
  /** Resolve also when the exit code is not 0. */
  readonly allowFailure?: boolean;
  readonly timeoutMs?: number;
  /** Kills the command. */
  readonly signal?: AbortSignal;
};

/** A command that the kernel kills when this process dies, however that happens (parent-death signal). */
export function boundToUs(command: string, args: readonly string[]): [string, readonly string[]] {
  return ["setpriv", ["--pdeathsig", "KILL", "--", command, ...args]];
}

/** Runs a command to its end; rejects with both outputs unless it succeeds. */
export async function runCommand(
  command: string,
  args: readonly string[],
  options: CommandOptions = {},
): Promise<CommandResult> {
  const child = spawn(command, args, {
    stdio: "pipe",
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    env: { ...process.env, ...options.env },
    ...(options.timeoutMs === undefined ? {} : { timeout: options.timeoutMs }),
    ...(options.signal === undefined ? {} : { signal: options.signal }),
  });
  const stdout: Buffer[] = [];
  const stderr: Buffer[] = [];
  child.stdout.on("data", (chunk: Buffer) => stdout.push(chunk));
  child.stderr.on("data", (chunk: Buffer) => stderr.push(chunk));
  // A command may end without reading its input.
  child.stdin.on("error", () => undefined);
  child.stdin.end(options.input ?? "");
  const exitCode = await new Promise<number>((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code) => {
      resolve(code ?? 1);
    });
  });
  const result = {
    stdout: Buffer.concat(stdout).toString("utf8"),
    stderr: Buffer.concat(stderr).toString("utf8"),
    exitCode,
  };
  if (exitCode !== 0 && options.allowFailure !== true) {
    throw new Error(`${command} ${args.join(" ")} ended with ${exitCode}:\n${result.stderr}${result.stdout}`);
  }
  return result;
}

/** A running server process. */
export type Server = {
  readonly child: ChildProcess;
  readonly logFile: string;
  hasEnded(): boolean;
  /** The end of its log, for error messages. */
  log(): string;
  stop(signal?: NodeJS.Signals): Promise<void>;
};

/**
 * Starts a server that logs to a file. Unless `detached` it dies with this process, so a killed run leaves none behind.
 */
export function startServer(
  command: string,
  args: readonly string[],
  options: {
    readonly logFile: string;
    readonly cwd?: string;
    readonly env?: Readonly<Record<string, string>>;
    readonly detached?: boolean;
  },
): Server {
  const log = openSync(options.logFile, "a");
  const spawnOptions: SpawnOptions = {
    stdio: ["ignore", log, log],
    env: { ...process.env, ...options.env },
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    ...(options.detached === true ? { detached: true } : {}),
  };
  const child = spawn(
    ...(options.detached === true ? ([command, args] as const) : boundToUs(command, args)),
    spawnOptions,
  );
  closeSync(log);
  if (options.detached === true) child.unref();
  let isEnded = false;
  const ended = new Promise<void>((resolve) => {
    const end = (): void => {
      isEnded = true;
      resolve();
    };
    child.on("exit", end);
    // It could not be started at all.
    child.on("error", end);
  });
  return {
    child,
    logFile: options.logFile,
    hasEnded: () => isEnded,
    log: () => readFileSync(options.logFile, "utf8").split("\n").slice(-30).join("\n"),
    stop: async (signal = "SIGTERM") => {
      if (isEnded) return;
      child.kill(signal);
      const timer = setTimeout(() => child.kill("SIGKILL"), 10_000);
      await ended;
      clearTimeout(timer);
    },
  };
}

/** Waits until `isTrue` resolves to something truthy; fails with `describe()` after the time. */
export async function waitFor<T>(
  what: string,
  isTrue: () => Promise<T | undefined | false> | T | undefined | false,
  options: {
    readonly timeoutMs?: number;
    readonly intervalMs?: number;
    readonly describe?: () => string;
    readonly signal?: AbortSignal;
  } = {},
): Promise<T> {
  const deadline = performance.now() + (options.timeoutMs ?? 30_000);
  for (;;) {
    options.signal?.throwIfAborted();
    const result = await isTrue();
    if (result !== undefined && result !== false) return result;
    if (performance.now() > deadline) {
      throw new Error(
        `waited ${(options.timeoutMs ?? 30_000) / 1000} s in vain for ${what}\n${options.describe?.() ?? ""}`,
      );
    }
    await new Promise((resolve) => setTimeout(resolve, options.intervalMs ?? 100));
  }
}
