// puller gc: removes what nobody needs.

import { numberValue, requiredValue } from "../command-line.ts";
import { isModelDirectoryName } from "../contract.ts";
import { AppError } from "../oci/errors.ts";
import { collectGarbage, type GcOptions } from "../store/gc.ts";
import { openExistingStore } from "../store/open-store.ts";
import type { Command, Result, World } from "./command.ts";

export async function runGc(line: Command, world: World): Promise<Result> {
  const [limit] = line.values("size-limit");
  const keep = line.values("keep");
  const wrong = keep.find((name) => !isModelDirectoryName(name));
  if (wrong !== undefined) {
    // A misspelt name would keep nothing.
    throw new AppError(
      "InvalidUsage",
      `--keep ${JSON.stringify(wrong.slice(0, 150))} is no name of a directory under models: 64 hex digits, and with globs - and 8 more`,
    );
  }
  const options: GcOptions = {
    minimumAgeMs: numberValue(line, "minimum-age", { min: 0, max: 1e9 }) * 1000,
    keep: new Set(keep),
    unusedModels: line.values("unused-models")[0] === "remove" ? "remove" : "keep",
    ...(limit === undefined
      ? {}
      : { sizeLimitBytes: numberValue(line, "size-limit", { min: 0, max: 2 ** 53 - 1, isWhole: true }) }),
  };
  const report = await collectGarbage(await openExistingStore(requiredValue(line, "store")), options);
  world.stdout.write(`${JSON.stringify(report)}\n`);
  return {
    message: `${report.removedModels.length} models, ${report.removedBlobs} blobs and ${report.removedPartials} partial files removed, ${report.freedBytes} bytes freed`,
  };
}
