// Runs a program to its end and gives back what it printed. For short-lived programs; servers are started elsewhere.

import { spawn } from "node:child_process";
import { text } from "node:stream/consumers";

export type CommandOptions = {
  readonly cwd?: string;
  /** Added to this process's environment; undefined removes a variable. */
  readonly env?: Readonly<Record<string, string | undefined>>;
  readonly signal?: AbortSignal;
};

// Some programs say what went wrong first and print their usage after it, others the other way round.
function shortened(text: string): string {
  return text.length <= 2000 ? text : `${text.slice(0, 1000)}\n...\n${text.slice(-1000)}`;
}

/** The program ended with another status than 0; the message holds the first and last of what it printed to stderr. */
export class CommandError extends Error {
  override name = "CommandError";
  readonly exitCode: number | null;
  readonly stderr: string;

  constructor(command: string, exitCode: number | null, stderr: string) {
    super(`${command} ended with ${exitCode ?? "a signal"}: ${shortened(stderr.trim())}`);
    this.exitCode = exitCode;
    this.stderr = stderr;
  }
}

/** Resolves with stdout; rejects with CommandError, or with the spawn error when there is no such program. */
export async function runCommand(
  command: string,
  args: readonly string[],
  options: CommandOptions = {},
): Promise<string> {
  const child = spawn(command, args, {
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...process.env, ...options.env },
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    ...(options.signal === undefined ? {} : { signal: options.signal }),
  });
  const ended = new Promise<number | null>((resolve, reject) => {
    child.once("error", reject);
    child.once("close", resolve);
  });
  const [exitCode, stdout, stderr] = await Promise.all([ended, text(child.stdout), text(child.stderr)]);
  if (exitCode !== 0) throw new CommandError(`${command} ${args[0] ?? ""}`.trim(), exitCode, stderr);
  return stdout;
}
