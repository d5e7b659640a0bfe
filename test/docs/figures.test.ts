// Figures that the README quotes are those of the last measurement, and reports are what their data gives.

import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { renderChart } from "../bench/chart.ts";
import { formatNumber } from "../bench/format.ts";
import { renderReport } from "../bench/report.ts";
import { readResults } from "../bench/results.ts";

const root = join(import.meta.dirname, "../..");
const directory = join(root, "docs/benchmarks");
const areas = readdirSync(directory)
  .filter((file) => file.endsWith(".json"))
  .map((file) => file.replace(/\.json$/, ""));

function median(area: string, id: string, series: string, goal: string): number {
  const verdict = readResults(directory, area)
    .results.find((result) => result.id === id)
    ?.series.find(({ name }) => name === series)
    ?.verdicts.find(({ goal: { text } }) => text === goal);
  if (verdict === undefined) throw new Error(`${area}.json has no ${id}, ${series}: ${goal}`);
  return verdict.figure.median;
}

test.each([
  [
    "T3",
    "nginx, tmpfs",
    "wall, against curl + openssl dgst",
    "× the time of `curl` followed by `openssl dgst`",
  ],
  ["T7", "nginx, tmpfs", "speed-up over one connection", "× the speed of one"],
])("the README quotes %s as it was measured", (id, series, goal, words) => {
  const readme = readFileSync(join(root, "README.md"), "utf8").replaceAll(/\s+/g, " ");
  expect(readme).toContain(`${formatNumber(median("pull", id, series, goal))}${words}`);
});

test.each(areas)("the report %s is what its data gives", (area) => {
  const saved = readResults(directory, area);
  expect(readFileSync(join(directory, `${area}.md`), "utf8")).toBe(renderReport(saved));
  expect(readFileSync(join(directory, `${area}.svg`), "utf8")).toBe(renderChart(saved));
});
