// puller inspect: what artifacts are, without pulling them.

import type { Logger } from "pino";
import { requiredValue } from "../command-line.ts";
import { isInspectFailure, maxInspectReferences } from "../contract.ts";
import { discoverIndex, fetchIndex, inspectDescribed } from "../discovery/discover-index.ts";
import { discoverTags } from "../discovery/discover-tags.ts";
import { leftOutMessage } from "../discovery/left-out.ts";
import { inspectTable } from "../inspect-table.ts";
import { inspectReferences, toInspectResult, type InspectionResult } from "../inspect.ts";
import { AppError } from "../oci/errors.ts";
import type { Command, Result, World } from "./command.ts";
import { openRegistry } from "./open-registry.ts";
import { retryPolicy } from "./registry-flags.ts";

/** How often a discovery that takes long tells how far it is, milliseconds. */
const discoveryReportMs = 5_000;

export async function runInspect(
  line: Command,
  world: World,
  log: Logger,
  signal: AbortSignal,
): Promise<Result> {
  const references = line.values("reference");
  const [glob] = line.values("tags");
  const [indexReference] = line.values("index");
  if (references.length === 0 && indexReference === undefined) requiredValue(line, "reference");
  if (glob !== undefined && (references.length > 1 || indexReference !== undefined)) {
    throw new AppError("InvalidUsage", "--tags goes with one --reference and without --index");
  }
  const registry = await openRegistry(line, world, log);
  const policy = retryPolicy(line, world);
  let reportedMs = performance.now();
  const onProgress = (done: number, total: number): void => {
    if (done === total || performance.now() - reportedMs < discoveryReportMs) return;
    reportedMs = performance.now();
    log.info({ done, total }, "reading artifacts");
  };
  const options = { registry, signal, retryPolicy: policy, onProgress };
  const discover =
    glob !== undefined
      ? () => discoverTags(references[0] ?? "", glob, options)
      : references.length === 0
        ? () => discoverIndex(indexReference ?? "", options)
        : undefined;
  try {
    if (discover !== undefined) {
      const found = await discover();
      for (const each of found.leftOut) log.warn(each, "left out");
      printInspections(line, world, found.variants, leftOutMessage(found.leftOut, 2000));
      const leftOut = leftOutMessage(found.leftOut);
      return {
        message: `${found.variants.length} variants found`,
        ...(found.digest === undefined ? {} : { digest: found.digest }),
        discovered: {
          variants: found.variants.map(({ name = "", digest }) => ({ name, reference: `@${digest}` })),
          ...(leftOut === undefined ? {} : { leftOut }),
        },
        inspected: found.variants.map(toInspectResult),
      };
    }
    const index =
      indexReference === undefined ? undefined : await fetchIndex(indexReference, { registry, signal });
    const isDescribed = index !== undefined || line.values("requirements").length > 0;
    const results = await inspectReferences(
      references,
      registry,
      signal,
      policy,
      ...(isDescribed ? [async (reference: string) => inspectDescribed(reference, index, options)] : []),
    );
    printInspections(line, world, results);
    const all = results.map(toInspectResult);
    const failed = all.find(isInspectFailure);
    return {
      message: `${results.length} inspected`,
      ...(index === undefined ? {} : { digest: index.digest }),
      inspected: all.slice(0, maxInspectReferences),
      ...(failed === undefined ? {} : { failure: new AppError(failed.code, failed.message) }),
    };
  } finally {
    await registry.close();
  }
}

function printInspections(
  line: Command,
  world: World,
  results: readonly InspectionResult[],
  note?: string,
): void {
  const text =
    line.values("output")[0] === "json"
      ? `${JSON.stringify(results, undefined, 2)}\n`
      : `${inspectTable(results)}${note === undefined ? "" : `\n${note}`}`;
  world.stdout.write(text.endsWith("\n") ? text : `${text}\n`);
}
