// Renders the chart with real Helm. For tests.

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseAllDocuments, stringify } from "yaml";
import { ensureKubernetesTools } from "../cluster/binary.ts";
import { runCommand, type CommandResult } from "../cluster/run-command.ts";

export const chartDirectory = join(import.meta.dirname, "../../charts/ocimodel");

export type Manifest = {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly namespace?: string };
  readonly [field: string]: unknown;
};

/** Runs Helm with its caches in a folder of its own; values, where given, as a file. */
export async function helm(
  args: readonly string[],
  options: { readonly values?: unknown; readonly allowFailure?: boolean } = {},
): Promise<CommandResult> {
  const tools = await ensureKubernetesTools();
  const directory = mkdtempSync(join(tmpdir(), "ocimodel-helm-"));
  try {
    const file = join(directory, "values.yaml");
    if (options.values !== undefined) writeFileSync(file, stringify(options.values));
    return await runCommand(
      tools.helm,
      [...args, ...(options.values === undefined ? [] : ["--values", file])],
      {
        allowFailure: options.allowFailure === true,
        env: {
          HELM_CACHE_HOME: join(directory, "cache"),
          HELM_CONFIG_HOME: join(directory, "config"),
          HELM_DATA_HOME: join(directory, "data"),
        },
      },
    );
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

/** The documents of a rendered chart, in Helm's order. */
export function manifests(text: string): readonly Manifest[] {
  return parseAllDocuments(text)
    .map((document) => document.toJS() as Manifest | null)
    .filter((document) => document !== null);
}

/** The chart rendered as release `ocimodel` in namespace `ocimodel-system`. */
export async function template(values: unknown): Promise<string> {
  const { stdout } = await helm(["template", "ocimodel", chartDirectory, "--namespace", "ocimodel-system"], {
    values,
  });
  return stdout;
}
