// Command line of the benchmarks: what `make bench` calls.
//   node test/bench/main.ts [--scenario=T2,T5] [--pairs=5] [--output=docs/benchmarks]

import { join } from "node:path";
import { parseArgs } from "node:util";
import { cacheDirectory, withLock } from "../cluster/cache.ts";
import { Bench } from "./bench.ts";
import { formatLimit, formatNumber, formatUnit } from "./format.ts";
import { endMeasured, ensureMeasure } from "./measure.ts";
import { machineFacts } from "./machine.ts";
import { saveResult } from "./results.ts";
import { runScenario, type ScenarioResult } from "./run-scenario.ts";
import { isOutOfReach } from "./statistics.ts";
import { chooseScenarios, loadScenarios } from "./load-scenarios.ts";

const root = join(import.meta.dirname, "../..");

function verdictLines({ id, series, leftOut }: ScenarioResult): readonly string[] {
  return [
    ...series.flatMap(({ name, verdicts }) =>
      verdicts.map((verdict) => {
        const { goal, figure, isMet, limit } = verdict;
        const word = isMet ? "met   " : isOutOfReach(verdict) ? "LIMIT " : "MISSED";
        const least = limit === undefined ? "" : `, limit ${formatNumber(limit)}${formatUnit(goal)}`;
        return `${word} ${id} ${name}: ${goal.text}: ${formatNumber(figure.median)}${formatUnit(goal)} (goal ${formatLimit(goal)}${least})`;
      }),
    ),
    ...leftOut.map((reason) => `left out of ${id}: ${reason}`),
  ];
}

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
    endMeasured();
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
      try {
        const result = await runScenario(scenario, bench, { program, rounds, isTiny: false, tell });
        // After each scenario: what was measured is kept if a later one fails.
        saveResult(values.output, scenario.area, result, await machineFacts(bench));
        for (const line of verdictLines(result)) console.log(line);
      } catch (error) {
        process.exitCode = 1;
        console.error(`${scenario.id} failed: ${error instanceof Error ? error.message : String(error)}`);
      }
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
