// Command line of the benchmarks: what `make bench` calls.
//   node test/bench/main.ts [--scenario=T2,T5] [--pairs=5] [--output=docs/benchmarks]

import { join } from "node:path";
import { parseArgs } from "node:util";
import { cacheDirectory, withLock } from "../cluster/cache.ts";
import { Bench } from "./bench.ts";
import { ensureMeasure } from "./measure.ts";
import { machineFacts } from "./machine.ts";
import { saveResult } from "./results.ts";
import { runScenario } from "./run-scenario.ts";
import { chooseScenarios, loadScenarios } from "./load-scenarios.ts";

const root = join(import.meta.dirname, "../..");

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      scenario: { type: "string", default: "" },
      pairs: { type: "string", default: "5" },
      output: { type: "string", default: join(root, "docs/benchmarks") },
    },
  });
  const rounds = Number(values.pairs);
  if (!Number.isInteger(rounds) || rounds < 1) {
    throw new Error(`--pairs ${JSON.stringify(values.pairs)} is no whole number from 1`);
  }
  const chosen = chooseScenarios(await loadScenarios(), values.scenario);
  const bench = await Bench.open({
    contentDirectory: join(cacheDirectory, "bench"),
    diskDirectory: join(root, "build/bench"),
    isTiny: false,
  });
  const end = (): void => {
    void bench.close().finally(() => process.exit(143));
  };
  process.once("SIGINT", end);
  process.once("SIGTERM", end);
  try {
    const program = await ensureMeasure();
    const tell = (line: string): void => {
      console.error(line);
    };
    for (const scenario of chosen) {
      const result = await runScenario(scenario, bench, { program, rounds, hasWarmUp: true, tell });
      // After each scenario: what was measured is kept if a later one fails.
      saveResult(values.output, scenario.area, result, await machineFacts(bench));
      for (const { name, verdicts } of result.series) {
        for (const { goal, figure, isMet } of verdicts) {
          console.log(
            `${isMet ? "met   " : "MISSED"} ${result.id} ${name}: ${goal.text}: ${figure.median.toFixed(3)} ${goal.unit} (goal ${goal.atMost === undefined ? `>= ${goal.atLeast}` : `<= ${goal.atMost}`})`,
          );
        }
      }
      for (const reason of result.leftOut) console.log(`left out ${result.id} ${reason}`);
    }
  } finally {
    await bench.close();
  }
}

try {
  await withLock("bench", main, { scope: "machine" });
} catch (error) {
  console.error(`bench: ${error instanceof Error ? error.message : String(error)}`);
  process.exitCode = 1;
}
