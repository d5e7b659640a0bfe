// What all commands have in common: what they are given and what they give.

import { readFileSync } from "node:fs";
import type { DestinationStream } from "pino";
import type { CommandLine } from "../command-line.ts";
import type { TerminationMessage } from "../contract.ts";
import type { AppError } from "../oci/errors.ts";
import type { Terminal } from "../pull/progress.ts";

export type Command = Extract<CommandLine, { kind: "command" }>;
/** What a command ends with when it succeeds, besides its text on stdout. */
export type Result = Partial<TerminationMessage> & { readonly message: string; readonly failure?: AppError };

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

/** Of the package: beside the files of a bundle, above those of this directory. */
export function version(): string {
  for (const place of ["package.json", "../package.json"]) {
    try {
      const text = readFileSync(new URL(place, import.meta.url), "utf8");
      return (JSON.parse(text) as { readonly version: string }).version;
    } catch {
      continue;
    }
  }
  return "unknown";
}
