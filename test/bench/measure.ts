// Runs one command in a fresh process and tells what it cost. The counting is done by measure.c, which says why.

import { spawn, type ChildProcess } from "node:child_process";
import { createHash } from "node:crypto";
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, renameSync } from "node:fs";
import { dirname, join } from "node:path";
import { cacheDirectory } from "../cluster/cache.ts";
import { ensurePackages } from "../cluster/packages.ts";
import { runCommand } from "../cluster/run-command.ts";

/** What is started and measured. */
export type Command = {
  readonly argv: readonly string[];
  /** Added to a small environment without proxies and without Node's options. */
  readonly env?: Readonly<Record<string, string>>;
  /** The only CPU that it may use. */
  readonly cpu?: number;
  /** It gets SIGTERM after this long, and that is no failure. */
  readonly stopAfterSeconds?: number;
};

let running: ChildProcess | undefined;

/** Ends the command that is being measured, and with it what it started, so that its files can be removed. */
export function endMeasured(): void {
  running?.kill("SIGKILL");
}

/** What a command and everything it started cost. */
export type Usage = {
  readonly wallSeconds: number;
  readonly userSeconds: number;
  readonly systemSeconds: number;
  /** Of its largest process, bytes; its own memory, not the page cache. */
  readonly peakRssBytes: number;
  /** Bytes that its processes read, from files and sockets; -1 where the kernel does not tell. */
  readonly readBytes: number;
};

export type Run = Usage & { readonly stdout: string; readonly stderr: string };

/** Path of the compiled measure.c; a second at most, once. */
export async function ensureMeasure(): Promise<string> {
  const source = join(import.meta.dirname, "measure.c");
  const hash = createHash("sha256").update(readFileSync(source)).digest("hex").slice(0, 16);
  const program = join(cacheDirectory, `measure-${hash}`, "measure");
  if (existsSync(program)) return program;
  await ensurePackages(["gcc", "libc6-dev"], ["cc"]);
  mkdirSync(dirname(program), { recursive: true });
  const temporary = `${program}.${process.pid}`;
  await runCommand("cc", ["-O2", "-Wall", "-o", temporary, source]);
  renameSync(temporary, program);
  return program;
}

/** The environment of measured commands: the same for all, and nothing of the user's configuration. */
export function cleanEnvironment(home: string): Readonly<Record<string, string>> {
  return { PATH: process.env["PATH"] ?? "/usr/bin:/bin", HOME: home, LC_ALL: "C.UTF-8", TMPDIR: home };
}

/**
 * Runs a command whose output goes to files in `logDirectory`, so that nobody else wakes up for it. Fails when it ends with
 * another code than 0, unless it was stopped as it was asked to be.
 */
export async function measure(program: string, command: Command, logDirectory: string): Promise<Run> {
  const file = (name: string): string => join(logDirectory, name);
  const [out, error] = [openSync(file("stdout"), "w"), openSync(file("stderr"), "w")];
  const child = spawn(
    program,
    [
      ...(command.cpu === undefined ? [] : ["-c", String(command.cpu)]),
      ...(command.stopAfterSeconds === undefined ? [] : ["-s", String(command.stopAfterSeconds)]),
      "--",
      ...command.argv,
    ],
    {
      stdio: ["ignore", out, error, "pipe"],
      env: { ...cleanEnvironment(logDirectory), ...command.env },
      cwd: logDirectory,
    },
  );
  running = child;
  closeSync(out);
  closeSync(error);
  let report = "";
  child.stdio[3]?.on("data", (chunk: Buffer) => {
    report += chunk.toString("utf8");
  });
  await new Promise<void>((resolve, reject) => {
    child.on("error", reject);
    child.on("close", () => {
      resolve();
    });
  });
  const stdout = readFileSync(file("stdout"), "utf8");
  const stderr = readFileSync(file("stderr"), "utf8");
  if (report === "") throw new Error(`measuring ${command.argv.join(" ")} failed:\n${stderr.slice(-2000)}`);
  const { exitCode, signal, isStopped, ...usage } = JSON.parse(report) as Usage & {
    readonly exitCode: number;
    readonly signal: number;
    readonly isStopped: boolean;
  };
  if (exitCode !== 0 && !isStopped) {
    const how = signal === 0 ? `code ${exitCode}` : `signal ${signal}`;
    throw new Error(
      `${command.argv.join(" ")} ended with ${how}:\n${stderr.slice(-2000)}${stdout.slice(-500)}`,
    );
  }
  return { ...usage, stdout, stderr };
}
