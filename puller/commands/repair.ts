// puller repair: mends what can be mended without a registry.

import { requiredValue } from "../command-line.ts";
import { openExistingStore } from "../store/open-store.ts";
import { repairStore } from "../store/repair.ts";
import type { Command, Result, World } from "./command.ts";

export async function runRepair(line: Command, world: World, signal: AbortSignal): Promise<Result> {
  const report = await repairStore(await openExistingStore(requiredValue(line, "store")), signal);
  world.stdout.write(`${JSON.stringify(report, undefined, 2)}\n`);
  const left = report.repairs.filter(({ outcome }) => outcome === "left").length;
  return {
    message: `${report.repairs.length} damages found; ${left} of them are mended by the next pull of the models`,
  };
}
