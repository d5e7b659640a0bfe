// puller prepare and puller tend: the cache of a node.

import { statSync } from "node:fs";
import type { Logger } from "pino";
import { numberValue, requiredValue, requiredValues } from "../command-line.ts";
import { AppError } from "../oci/errors.ts";
import { prepareTenants } from "../store/tenants.ts";
import { parseTenants, tend } from "../tend.ts";
import type { Command, Result } from "./command.ts";

export async function runPrepare(line: Command): Promise<Result> {
  const tenants = parseTenants(requiredValues(line, "tenant"));
  const changed = await prepareTenants(requiredValue(line, "cache"), tenants);
  return { message: `${tenants.length} directories are ready, ${changed.length} were made or changed` };
}

/** A misspelt directory would hold no list, so that nothing were ever removed. */
function existingDirectory(path: string): string {
  if (statSync(path, { throwIfNoEntry: false })?.isDirectory() === true) return path;
  throw new AppError("InvalidUsage", `--in-use ${JSON.stringify(path.slice(0, 200))} is no directory`);
}

export async function runTend(line: Command, log: Logger, signal: AbortSignal): Promise<Result> {
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
