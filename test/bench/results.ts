// Keeps results: <area>.json is what was measured last of each scenario; the report and the chart are made from it.

import { existsSync, mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { writeWhole } from "../cluster/cache.ts";
import { renderChart } from "./chart.ts";
import { compareIds } from "./load-scenarios.ts";
import type { Machine } from "./machine.ts";
import { renderReport } from "./report.ts";
import type { ScenarioResult } from "./run-scenario.ts";

/** A scenario's last result, with when and where. */
export type SavedResult = ScenarioResult & {
  /** RFC 3339. */
  readonly measuredAt: string;
  readonly machine: Machine;
};

export type SavedResults = {
  readonly v: 1;
  readonly area: string;
  readonly results: readonly SavedResult[];
};

/** The results with this one in the place of the former of its scenario. Pure. */
export function mergeResult(former: SavedResults, result: SavedResult): SavedResults {
  const others = former.results.filter(({ id }) => id !== result.id);
  return { ...former, results: [...others, result].sort((one, other) => compareIds(one.id, other.id)) };
}

export function readResults(directory: string, area: string): SavedResults {
  const file = join(directory, `${area}.json`);
  if (!existsSync(file)) return { v: 1, area, results: [] };
  const saved = JSON.parse(readFileSync(file, "utf8")) as SavedResults;
  if (saved.v !== 1) throw new Error(`${file} has version ${String(saved.v)}; remove it to measure anew`);
  return saved;
}

/** Writes what changed: one scenario in the JSON, and the report and chart that follow from it. */
export function saveResult(
  directory: string,
  area: string,
  result: ScenarioResult,
  machine: Machine,
): SavedResults {
  mkdirSync(directory, { recursive: true });
  const saved = mergeResult(readResults(directory, area), {
    ...result,
    measuredAt: `${new Date().toISOString().slice(0, 19)}Z`,
    machine,
  });
  writeWhole(join(directory, `${area}.json`), `${JSON.stringify(saved, undefined, 1)}\n`);
  writeWhole(join(directory, `${area}.md`), renderReport(saved));
  writeWhole(join(directory, `${area}.svg`), renderChart(saved));
  return saved;
}
