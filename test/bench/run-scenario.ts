// Runs a scenario: every variant in a fresh process, in turn, a warm-up round first.

import { loadavg } from "node:os";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { join } from "node:path";
import { runCommand } from "../cluster/run-command.ts";
import type { Bench } from "./bench.ts";
import { measure } from "./measure.ts";
import type { Figures, Scenario, Series, Variant } from "./scenario.ts";
import { judge, roundOrder, unknownVariants, type VariantRuns, type Verdict } from "./statistics.ts";

export type SeriesResult = {
  readonly name: string;
  readonly contentBytes?: number;
  readonly variants: readonly VariantRuns[];
  readonly verdicts: readonly Verdict[];
};

export type ScenarioResult = {
  readonly id: string;
  readonly title: string;
  readonly method: string;
  /** Counted runs of each variant. */
  readonly rounds: number;
  readonly series: readonly SeriesResult[];
  readonly leftOut: readonly string[];
  /** Of the last minute before it began. */
  readonly loadAverage: number;
};

export type RunOptions = {
  /** Compiled measure.c. */
  readonly program: string;
  /** Counted rounds. */
  readonly rounds: number;
  /** No warm-up round; every run is checked thoroughly. */
  readonly isTiny: boolean;
  readonly tell: (line: string) => void;
};

export async function runScenario(
  scenario: Scenario,
  bench: Bench,
  options: RunOptions,
): Promise<ScenarioResult> {
  const loadAverage = loadavg()[0] ?? 0;
  bench.takeLeftOut();
  try {
    const series: SeriesResult[] = [];
    for (const each of await scenario.prepare(bench)) {
      options.tell(`${scenario.id} ${each.name}`);
      series.push(await runSeries(each, options));
    }
    const { id, title, method } = scenario;
    const leftOut = bench.takeLeftOut();
    return { id, title, method, rounds: options.rounds, series, leftOut, loadAverage };
  } finally {
    await bench.endScenario();
  }
}

async function runSeries(series: Series, options: RunOptions): Promise<SeriesResult> {
  const unknown = unknownVariants(series);
  if (unknown.length > 0) throw new Error(`goals of "${series.name}" name no variant: ${unknown.join(", ")}`);
  const runs = new Map<string, Figures[]>(series.variants.map(({ name }) => [name, []]));
  for (let round = options.isTiny ? 1 : 0; round <= options.rounds; round += 1) {
    for (const variant of roundOrder(series.variants, round)) {
      const isThorough = round === 0 || options.isTiny;
      const figures = await runVariant(variant, series.directory, options, isThorough);
      const wall = figures["wallSeconds"] ?? 0;
      options.tell(`  ${round === 0 ? "warm-up" : `round ${round}`}  ${variant.name}  ${wall.toFixed(3)} s`);
      if (round > 0) runs.get(variant.name)?.push(figures);
    }
  }
  const variants = [...runs].map(([name, figures]) => ({ name, runs: figures }));
  const { name, contentBytes } = series;
  return {
    name,
    ...(contentBytes === undefined ? {} : { contentBytes }),
    variants,
    verdicts: series.goals.flatMap((goal) => judge(goal, variants) ?? []),
  };
}

async function runVariant(
  variant: Variant,
  parent: string,
  { program, isTiny }: RunOptions,
  isThorough: boolean,
): Promise<Figures> {
  const directory = mkdtempSync(join(parent, "run-"));
  const [place, logs] = [join(directory, "place"), join(directory, "logs")];
  mkdirSync(place);
  mkdirSync(logs);
  try {
    await variant.before?.(place);
    const command = await variant.command(place);
    // What earlier runs left to be written back is not this one's.
    if (!isTiny) await runCommand("sync", ["-f", place]);
    const run = await measure(program, command, logs);
    const more = await variant.after(place, run, isThorough);
    const { wallSeconds, userSeconds, systemSeconds, peakRssBytes, readBytes } = run;
    const cpuSeconds = userSeconds + systemSeconds;
    return { wallSeconds, cpuSeconds, peakRssBytes, readBytes, ...more };
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}
