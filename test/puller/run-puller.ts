// Runs the puller as users do: a process of its own with arguments; gives its exit code, outputs and termination message.

import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TerminationMessage } from "../../puller/contract.ts";
import { compiledPuller, compiledPullerEnvironment } from "../compiled/compiled-puller.ts";

export type PullerRun = {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
  /** Undefined when none was written. */
  readonly termination: TerminationMessage | undefined;
};

export type PullerOptions = {
  readonly env?: Readonly<Record<string, string>>;
  /** Called with the process, e.g. to send it a signal. */
  readonly onStart?: (child: ReturnType<typeof spawn>) => void;
  /** Put before the command, e.g. setpriv or strace. */
  readonly prefix?: readonly string[];
};

/** Runs `puller ARGS`; `--termination-log` is added. */
export async function runPuller(args: readonly string[], options: PullerOptions = {}): Promise<PullerRun> {
  const directory = mkdtempSync(join(tmpdir(), "ocimodel-run-"));
  const log = join(directory, "termination");
  const line = [
    ...(options.prefix ?? []),
    process.execPath,
    compiledPuller(),
    ...args,
    `--termination-log=${log}`,
  ];
  const child = spawn(line[0] ?? "", line.slice(1), {
    stdio: ["ignore", "pipe", "pipe"],
    env: { PATH: process.env["PATH"] ?? "", ...compiledPullerEnvironment(), ...options.env },
  });
  options.onStart?.(child);
  const stdout: Buffer[] = [];
  const stderr: Buffer[] = [];
  child.stdout.on("data", (chunk: Buffer) => stdout.push(chunk));
  child.stderr.on("data", (chunk: Buffer) => stderr.push(chunk));
  const exitCode = await new Promise<number>((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code, signal) => {
      resolve(code ?? (signal === "SIGKILL" ? 137 : 128));
    });
  });
  let termination: TerminationMessage | undefined;
  try {
    termination = JSON.parse(readFileSync(log, "utf8")) as TerminationMessage;
  } catch {
    termination = undefined;
  }
  rmSync(directory, { recursive: true, force: true });
  return {
    exitCode,
    stdout: Buffer.concat(stdout).toString("utf8"),
    stderr: Buffer.concat(stderr).toString("utf8"),
    termination,
  };
}
