// puller verify: reads everything in a store and tells what is damaged.

import { requiredValue } from "../command-line.ts";
import { AppError } from "../oci/errors.ts";
import { openExistingStore } from "../store/open-store.ts";
import { verifyStore } from "../store/verify.ts";
import type { Command, Result, World } from "./command.ts";

export async function runVerify(line: Command, world: World, signal: AbortSignal): Promise<Result> {
  const report = await verifyStore(await openExistingStore(requiredValue(line, "store")), signal);
  world.stdout.write(`${JSON.stringify(report, undefined, 2)}\n`);
  const { damages } = report;
  const message = `${report.blobs} blobs and ${report.models} models were read, ${damages.length} damages found`;
  return damages.length === 0
    ? { message }
    : {
        message,
        failure: new AppError(
          "DigestMismatch",
          `${message}; puller repair mends what can be mended here, and the next pull the rest`,
        ),
      };
}
