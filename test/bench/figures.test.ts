// From runs to verdicts, reports and choices: all that is pure.

import fc from "fast-check";
import { expect, test } from "vitest";
import { positionOf } from "./chart.ts";
import { columnOf, formatLimit, formatNumber } from "./format.ts";
import { chooseScenarios, compareIds } from "./load-scenarios.ts";
import { imageStart } from "../images/image-start.ts";
import { renderReport, verdictText } from "./report.ts";
import { mergeResult, type SavedResult, type SavedResults } from "./results.ts";
import { comparison, type Goal, type Scenario, type Variant } from "./scenario.ts";
import { pace, requestedRange } from "./servers/origin.ts";
import { judge, roundOrder, spreadOf, unknownVariants } from "./statistics.ts";

const wall = (variant: string): { variant: string; figure: string } => ({ variant, figure: "wallSeconds" });
const goal: Goal = { text: "wall", of: wall("a"), against: wall("b"), unit: "x", atMost: 0.5 };
const runs = (name: string, ...values: readonly number[]): Parameters<typeof judge>[1][number] => ({
  name,
  runs: values.map((wallSeconds) => ({ wallSeconds })),
});

test.each([
  [[3], { min: 3, median: 3, max: 3 }],
  [[3, 1, 2], { min: 1, median: 2, max: 3 }],
  [[4, 1, 2, 3], { min: 1, median: 2.5, max: 4 }],
])("the spread of %j", (values, spread) => {
  expect(spreadOf(values)).toEqual(spread);
});

test("a ratio is taken within each round, so a slow stretch that hits both changes nothing", () => {
  const verdict = judge(goal, [runs("a", 1, 10, 1), runs("b", 2, 20, 4)]);
  expect(verdict).toMatchObject({ figure: { min: 0.25, median: 0.5, max: 0.5 }, isMet: true });
});

test.each([
  [{ atMost: 0.49 }, false],
  [{ atMost: 0.5 }, true],
  [{ atLeast: 0.51 }, false],
  [{ atLeast: 0.5 }, true],
])("the limit %j is judged by the median", (limit, isMet) => {
  const { atMost: _, ...rest } = goal;
  expect(judge({ ...rest, ...limit }, [runs("a", 1), runs("b", 2)])?.isMet).toBe(isMet);
});

test("a figure alone is judged in its unit; one that is missing is a mistake, a variant that is missing is none", () => {
  const own: Goal = { text: "wall", of: wall("a"), unit: "ms", unitSize: 0.001, atMost: 150 };
  expect(judge(own, [runs("a", 0.1, 0.2, 0.14)])).toMatchObject({ figure: { median: 140 }, isMet: true });
  expect(() => judge({ ...own, of: { variant: "a", figure: "x" } }, [runs("a", 1)])).toThrow(/has no x/);
  expect(judge(goal, [runs("a", 1)])).toBeUndefined();
});

test.each([
  // Goal 0.5: what cannot be avoided takes 0.6 of the peer.
  ["within the goal", 1, 0.8, "met"],
  ["beyond the goal, which is within reach", 1.5, 0.8, "**missed** (limit 0.40×)"],
  ["beyond the goal, which nobody can reach", 1.5, 1.2, "out of reach here (limit 0.60×)"],
])("a verdict says in words what stands between: %s", (_what, own, floor, words) => {
  const verdict = judge({ ...goal, limit: wall("floor") }, [
    runs("a", own),
    runs("b", 2),
    runs("floor", floor),
  ]);
  expect(verdict && verdictText(verdict)).toBe(words);
});

test("a limit in parts is their sum, taken within each round", () => {
  const limit = [wall("start"), wall("floor")];
  const verdict = judge({ ...goal, limit }, [
    runs("a", 9, 9, 9),
    runs("b", 1, 2, 4),
    runs("start", 0.25, 0.5, 1),
    runs("floor", 0.5, 1, 2),
  ]);
  expect(verdict?.limit).toBe(0.75);
});

test("every round runs all variants, and each of them comes first in some round", () => {
  const items = ["a", "b", "c"];
  const firsts = new Set<string | undefined>();
  for (let round = 0; round < 6; round += 1) {
    const order = roundOrder(items, round);
    expect([...order].sort()).toEqual(items);
    firsts.add(order[0]);
  }
  expect(firsts).toEqual(new Set(items));
});

const variant = (name: string): Variant => ({
  name,
  command: () => ({ argv: ["true"] }),
  after: async () => undefined,
});

test("a contestant that cannot be had takes its goals along", () => {
  const series = comparison("s", { directory: "/" }, 1, [
    { variant: variant("puller") },
    { variant: undefined, goals: [{ text: "wall", figure: "wallSeconds", atMost: 1 }] },
    { variant: variant("oras"), goals: [{ text: "wall", figure: "wallSeconds", atMost: 0.5 }] },
  ]);
  expect(series.variants.map(({ name }) => name)).toEqual(["puller", "oras"]);
  expect(series.goals).toEqual([
    {
      text: "wall",
      of: wall("puller"),
      against: wall("oras"),
      unit: "x",
      atMost: 0.5,
    },
  ]);
});

test("a goal that names no variant of its series is found", () => {
  const series = { name: "s", directory: "/", variants: [variant("a")], goals: [goal] };
  expect(unknownVariants(series)).toEqual(["b"]);
});

const saved = (id: string, median: number): SavedResult => ({
  id,
  title: `title of ${id}`,
  method: "by hand",
  rounds: 1,
  loadAverage: 0,
  leftOut: id === "T10" ? ["oras: not on this machine"] : [],
  measuredAt: "2026-01-01T00:00:00Z",
  machine: {
    processor: "P",
    cpus: 2,
    memoryGibibytes: 4,
    kernel: "6.1",
    system: "Debian",
    storages: ["tmpfs"],
    versions: { oras: "1.3.6" },
  },
  series: [
    {
      name: "nginx",
      contentBytes: 2 ** 30,
      variants: [
        {
          name: "a",
          runs: [
            {
              wallSeconds: median,
              cpuSeconds: 2,
              peakRssBytes: 2 ** 20,
              readBytes: 0,
              fetchedBytes: 7 * 2 ** 20,
            },
          ],
        },
        { name: "b", runs: [{ wallSeconds: 1, cpuSeconds: 1, peakRssBytes: 2 ** 21, readBytes: 0 }] },
      ],
      verdicts: [{ goal, figure: { min: median, median, max: median }, isMet: median <= 0.5 }],
    },
  ],
});

test("a partial run replaces its own rows only, and scenarios stand by number", () => {
  const empty: SavedResults = { v: 1, area: "pull", results: [] };
  const first = ["T10", "T2", "T1"].reduce((all, id) => mergeResult(all, saved(id, 0.4)), empty);
  const { results } = mergeResult(first, saved("T2", 0.6));
  expect(results.map(({ id, series }) => [id, series[0]?.verdicts[0]?.isMet])).toEqual([
    ["T1", true],
    ["T2", false],
    ["T10", true],
  ]);
});

test("the report has goals with verdicts, all variants, versions, the machine once and what was left out", () => {
  const report = renderReport({ v: 1, area: "pull", results: [saved("T1", 0.4), saved("T10", 0.6)] });
  const rows = report.split("\n").filter((line) => line.startsWith("| "));
  expect(rows).toContain("| T1: title of T1 (nginx): wall | ≤ 0.5× | 0.40× | 0.40–0.40 | met |");
  expect(rows).toContain("| T10: title of T10 (nginx): wall | ≤ 0.5× | 0.60× | 0.60–0.60 | **missed** |");
  expect(rows).toContain(
    "| variant | wall, s | MiB/s | CPU, s | CPU, s/GiB | peak RSS, MiB | fetched, MiB |",
  );
  expect(rows).toContain(
    "| b | **1.00** (1.00–1.00) | 1024 | **1.00** (1.00–1.00) | 1.00 | **2.00** (2.00–2.00) |  |",
  );
  expect(report.match(/oras 1\.3\.6/g)).toHaveLength(1);
  expect(report).toContain("Left out: oras: not on this machine.");
});

test("the chart puts a speed-up on the axis of ratios, and an absolute figure against its limit", () => {
  const figure = { min: 5, median: 8, max: 10 };
  const { atMost: _, ...speedUp } = goal;
  expect(positionOf({ goal: { ...speedUp, atLeast: 4 }, figure, isMet: true })).toEqual({
    min: 0.1,
    median: 0.125,
    max: 0.2,
    limit: 0.25,
  });
  const { against: __, ...alone } = goal;
  expect(positionOf({ goal: { ...alone, atMost: 10 }, figure, isMet: true })).toEqual({
    min: 0.5,
    median: 0.8,
    max: 1,
    limit: 1,
  });
});

test.each([
  [0, "0.00"],
  [0.0123, "0.012"],
  [0.5, "0.50"],
  [12.34, "12.3"],
  [1234.5, "1235"],
  [Number.NaN, "–"],
])("%d is shown as %s", (value, shown) => {
  expect(formatNumber(value)).toBe(shown);
});

test.each([
  ["settlingSeconds", "settling, s", 1],
  ["allReadBytes", "all read, MiB", 2 ** 20],
  ["queueLength", "queue length", 1],
])("the figure %s has the head %j", (figure, head, unitSize) => {
  expect(columnOf(figure)).toEqual({ head, unitSize });
});

test("limits are shown with their unit", () => {
  expect(formatLimit({ unit: "x", atMost: 0.48 })).toBe("≤ 0.48×");
  expect(formatLimit({ unit: "ms", atMost: 150 })).toBe("≤ 150 ms");
  expect(formatLimit({ unit: "x", atLeast: 6.5 })).toBe("≥ 6.5×");
});

const scenario = (id: string): Scenario => ({
  id,
  area: "pull",
  title: id,
  method: "",
  prepare: async () => [],
});

test("scenarios are chosen by a list of names; an unknown one is refused with the known ones", () => {
  const all = ["T1", "T2", "T10"].map(scenario);
  expect(chooseScenarios(all, "").map(({ id }) => id)).toEqual(["T1", "T2", "T10"]);
  expect(chooseScenarios(all, "T10, T1").map(({ id }) => id)).toEqual(["T1", "T10"]);
  expect(() => chooseScenarios(all, "T3")).toThrow('no scenario "T3"; there are T1, T2, T10');
  expect(compareIds("T2", "T10")).toBeLessThan(0);
});

test("the puller is started as its image is: the Dockerfile's line and environment", () => {
  const dockerfile = `ARG BASE=x
FROM \${BASE} AS runtime
ENV NODE_ENV=production
ENV A=runtime

FROM runtime AS puller
ENV A=puller
ENTRYPOINT ["/usr/local/bin/node", "--flag", "/app/puller/main.js"]

FROM runtime AS operator
ENTRYPOINT ["/usr/local/bin/node", "/app/operator/main.js"]
`;
  expect(imageStart(dockerfile, "puller")).toEqual({
    entrypoint: ["/usr/local/bin/node", "--flag", "/app/puller/main.js"],
    env: { NODE_ENV: "production", A: "puller" },
  });
  expect(() => imageStart(dockerfile, "runtime")).toThrow(/no ENTRYPOINT/);
});

test("a link gives all who ask its rate together, whatever they ask for, and no more after a pause", () => {
  fc.assert(
    fc.property(
      fc.array(
        fc.record({ bytes: fc.integer({ min: 1, max: 100_000 }), pauseMs: fc.integer({ min: 0, max: 50 }) }),
        { minLength: 1, maxLength: 200 },
      ),
      (asks) => {
        let nowMs = 0;
        let sentAtMs = 0;
        let bytes = 0;
        const wait = pace(1_000_000, () => nowMs);
        for (const ask of asks) {
          nowMs += ask.pauseMs;
          sentAtMs = Math.max(sentAtMs, nowMs + wait(ask.bytes));
          bytes += ask.bytes;
          // The last piece begins at its slot; all before it took their time, but for the burst after a pause.
          expect(bytes - ask.bytes).toBeLessThanOrEqual((sentAtMs + 10) * 1000 + 1);
        }
      },
    ),
  );
  const wait = pace(1_000_000, () => 0);
  expect([wait(100_000), wait(100_000), wait(1)].map(Math.round)).toEqual([0, 100, 200]);
});

test.each([
  [undefined, { first: 0, last: 99, isPartial: false }],
  ["bytes=0-0", { first: 0, last: 0, isPartial: true }],
  ["bytes=10-", { first: 10, last: 99, isPartial: true }],
  ["bytes=10-1000", { first: 10, last: 99, isPartial: true }],
  ["bytes=100-", undefined],
  ["bytes=0-1,5-6", { first: 0, last: 99, isPartial: false }],
])("the range %s of 100 bytes", (header, range) => {
  expect(requestedRange(header, 100)).toEqual(range);
});
