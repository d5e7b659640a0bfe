// The two commands of a node's cache: prepare makes the tenants' directories, tend collects their garbage again and again.

import { readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import type { Logger } from "pino";
import { parseByteCount } from "./command-line.ts";
import { isModelDirectoryName } from "./contract.ts";
import { AppError } from "./oci/errors.ts";
import { collectGarbage, type GcReport } from "./store/gc.ts";
import { storeLayout } from "./store/layout.ts";
import { openExistingStore } from "./store/open-store.ts";
import { isTenantName, type Tenant } from "./store/tenants.ts";

/** What `tend` is told. */
export type TendOptions = {
  /** Directory of the node's cache; each tenant's store is in the directory of its name. */
  readonly cache: string;
  readonly tenants: readonly Tenant[];
  /** Directory with a file for each tenant that lists the models in use. */
  readonly inUse: string;
  readonly minimumAgeMs: number;
  readonly everyMs: number;
};

/** Reads `NAME` and `NAME=BYTES`. Fails with InvalidUsage, which names the value. */
export function parseTenants(values: readonly string[]): readonly Tenant[] {
  const seen = new Set<string>();
  return values.map((value) => {
    const [name = "", size, ...rest] = value.split("=");
    const sizeLimitBytes = size === undefined ? undefined : parseByteCount(size);
    if (!isTenantName(name) || rest.length > 0 || (size !== undefined && sizeLimitBytes === undefined)) {
      throw new AppError(
        "InvalidUsage",
        `--tenant ${JSON.stringify(value.slice(0, 100))} is not the name of a namespace, or that, = and a number of bytes such as 500Gi`,
      );
    }
    if (seen.has(name)) throw new AppError("InvalidUsage", `--tenant names ${name} twice`);
    seen.add(name);
    return { name, sizeLimitBytes };
  });
}

/**
 * The models that a list names, one on each line; undefined when a line is none, since a list that was not understood keeps
 * nothing. Pure.
 */
export function parseInUse(text: string): ReadonlySet<string> | undefined {
  const lines = text.split("\n").filter((line) => line !== "");
  return lines.every(isModelDirectoryName) ? new Set(lines) : undefined;
}

/** The list of a tenant; undefined when there is none, or none that can be used. */
async function readInUse(file: string, log: Logger): Promise<ReadonlySet<string> | undefined> {
  let text: string;
  try {
    text = await readFile(file, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") log.warn({ file }, "the list cannot be read");
    return undefined;
  }
  const list = parseInUse(text);
  if (list === undefined)
    log.warn({ file }, "the list has a line that is no model directory; nothing is removed");
  return list;
}

/**
 * Collects the garbage of one tenant. Models go only where the list of those in use is there and the store has more bytes than
 * its limit: then those that are not on it, the longest unused first.
 * @returns undefined when nothing was ever pulled
 */
export async function tendTenant(
  { cache, inUse, minimumAgeMs }: Pick<TendOptions, "cache" | "inUse" | "minimumAgeMs">,
  { name, sizeLimitBytes }: Tenant,
  log: Logger,
): Promise<GcReport | undefined> {
  const root = join(cache, name);
  const isStore = await stat(storeLayout(root).versionFile).then(
    () => true,
    () => false,
  );
  if (!isStore) return undefined;
  const keep = await readInUse(join(inUse, name), log);
  return collectGarbage(await openExistingStore(root), {
    minimumAgeMs,
    ...(keep === undefined || sizeLimitBytes === undefined
      ? { unusedModels: "keep", keep: new Set<string>() }
      : { unusedModels: "remove", keep, sizeLimitBytes }),
  });
}

/** Goes over all tenants again and again until the signal. What fails for one is logged and tried again in the next round. */
export async function tend(options: TendOptions, log: Logger, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    for (const tenant of options.tenants) {
      if (signal.aborted) return;
      try {
        const report = await tendTenant(options, tenant, log);
        if (report === undefined) continue;
        const { removedModels, removedBlobs, removedPartials } = report;
        const isIdle = removedModels.length + removedBlobs + removedPartials === 0;
        log[isIdle ? "debug" : "info"]({ tenant: tenant.name, ...report }, "garbage was collected");
        if (tenant.sizeLimitBytes !== undefined && report.storedBytes > tenant.sizeLimitBytes) {
          log.warn(
            { tenant: tenant.name, storedBytes: report.storedBytes, sizeLimitBytes: tenant.sizeLimitBytes },
            "the models in use alone are larger than the limit",
          );
        }
      } catch (error) {
        const code = error instanceof AppError ? error.code : "InternalError";
        log.error({ tenant: tenant.name, code }, error instanceof Error ? error.message : "unknown failure");
      }
    }
    await delay(options.everyMs, undefined, { signal }).catch(() => undefined);
  }
}
