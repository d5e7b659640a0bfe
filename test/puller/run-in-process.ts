// Runs the puller's command line in this process: everything of a run but the process itself, a hundred times in seconds. It is the
// compiled one: the threads of each run would have their types to strip.

import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { maxTerminationMessageBytes, type TerminationMessage } from "../../puller/contract.ts";
import type * as Run from "../../puller/run.ts";
import { importCompiled } from "../compiled/compiled-puller.ts";

const { run } = await importCompiled<typeof Run>("puller/run.ts");

export type InProcessRun = {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
  /** The log: lines of JSON. */
  readonly log: string;
  readonly termination: TerminationMessage;
  /** All that was said, for canaries. */
  readonly said: string;
};

/** Runs `puller ARGS`; `--termination-log` is added. Throws when the termination message is not one line of JSON that fits. */
export async function runInProcess(
  args: readonly string[],
  options: {
    readonly environment?: Readonly<Record<string, string>>;
    readonly signal?: AbortSignal;
  } = {},
): Promise<InProcessRun> {
  const directory = mkdtempSync(join(tmpdir(), "ocimodel-in-process-"));
  const file = join(directory, "termination");
  const [stdout, stderr, log]: [string[], string[], string[]] = [[], [], []];
  const exitCode = await run([...args.slice(0, 1), `--termination-log=${file}`, ...args.slice(1)], {
    environment: options.environment ?? {},
    stdout: { write: (text) => stdout.push(text) },
    stderr: { write: (text) => stderr.push(text) },
    log: { write: (text: string) => void log.push(text) },
    signal: options.signal ?? new AbortController().signal,
  });
  if (!existsSync(file)) throw new Error(`no termination message was written: ${stderr.join("")}`);
  const bytes = readFileSync(file);
  rmSync(directory, { recursive: true, force: true });
  const text = bytes.toString("utf8");
  if (bytes.length > maxTerminationMessageBytes || text.indexOf("\n") !== text.length - 1) {
    throw new Error(`the termination message has ${bytes.length} bytes or more than one line`);
  }
  return {
    exitCode,
    stdout: stdout.join(""),
    stderr: stderr.join(""),
    log: log.join(""),
    termination: JSON.parse(text) as TerminationMessage,
    said: `${stdout.join("")}${stderr.join("")}${log.join("")}${text}`,
  };
}
