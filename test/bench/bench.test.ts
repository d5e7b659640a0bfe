// The benchmarks themselves, at tiny sizes: every variant that needs nothing installed runs once and its bytes are checked.
// Nothing is asserted on time.

import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { findProgram } from "../cluster/packages.ts";
import { describeUnless } from "../cluster/suites.ts";
import { Bench } from "./bench.ts";
import { checkFiles } from "./clients.ts";
import { ContentStore } from "./content.ts";
import { loadScenarios } from "./load-scenarios.ts";
import { machineFacts } from "./machine.ts";
import { ensureMeasure, measure } from "./measure.ts";
import { saveResult, type SavedResults } from "./results.ts";
import { runScenario } from "./run-scenario.ts";

const unavailable =
  process.platform !== "linux"
    ? `benchmarks need Linux, this is ${process.platform}`
    : findProgram("cc") === undefined && process.getuid?.() !== 0
      ? "a C compiler is missing"
      : undefined;
const scenarios = await loadScenarios();

describeUnless(unavailable, "benchmarks at tiny sizes", () => {
  let directory = "";
  let program = "";
  let bench: Bench;

  beforeAll(async () => {
    directory = mkdtempSync(join(tmpdir(), "ocimodel-bench-test-"));
    program = await ensureMeasure();
    bench = await Bench.open({
      contentDirectory: join(directory, "content"),
      diskDirectory: join(directory, "disk"),
      isTiny: true,
    });
  });
  afterAll(async () => {
    await bench.close();
    rmSync(directory, { recursive: true, force: true });
  });

  test.each(scenarios.map((scenario) => [scenario.id, scenario.title, scenario] as const))(
    "%s: %s",
    async (id, _title, scenario) => {
      const output = join(directory, "reports");
      const result = await runScenario(scenario, bench, {
        program,
        rounds: 1,
        isTiny: true,
        tell: () => undefined,
      });
      expect(result.series.length).toBeGreaterThan(0);
      for (const { variants, verdicts, name } of result.series) {
        expect(variants.length, name).toBeGreaterThan(0);
        for (const { runs, name: variant } of variants) {
          expect(runs, variant).toHaveLength(1);
          expect(runs[0]?.["wallSeconds"], variant).toBeGreaterThan(0);
          expect(runs[0]?.["peakRssBytes"], variant).toBeGreaterThan(500_000);
        }
        for (const { figure, goal } of verdicts) {
          expect(Number.isFinite(figure.median), goal.text).toBe(true);
          // Else the chart cuts it.
          expect(`${name}: ${goal.text}`.length, `${name}: ${goal.text}`).toBeLessThanOrEqual(62);
        }
      }
      for (const reason of result.leftOut) console.warn(`${id}: left out: ${reason}`);

      saveResult(output, scenario.area, result, await machineFacts(bench));
      const read = (suffix: string): string =>
        readFileSync(join(output, `${scenario.area}.${suffix}`), "utf8");
      const saved = JSON.parse(read("json")) as SavedResults;
      expect(saved.results.map((each) => each.id)).toContain(id);
      expect(read("md")).toContain(`## ${id}: ${scenario.title}`);
      expect(read("md") + read("svg")).not.toMatch(/undefined|NaN|\[object/);
      expect(read("svg")).toMatch(/^<svg [^]*<\/svg>\n$/);
    },
  );

  test("a client that leaves wrong bytes behind is found out", async () => {
    const store = new ContentStore(join(directory, "wrong"));
    const content = await store.random("a", 1000);
    const place = mkdtempSync(join(directory, "place-"));
    const file = join(place, "a");
    expect(() => checkFiles(place, [content], false)).toThrow(/no file of a/);
    const bytes = readFileSync(content.path);
    writeFileSync(file, bytes);
    checkFiles(place, [content], true);
    bytes[999] = (bytes[999] ?? 0) ^ 1;
    writeFileSync(file, bytes);
    expect(() => checkFiles(place, [content], true)).toThrow(/no file of a/);
  });

  test("a command is charged with its own memory, not with ours", async () => {
    const ours = Buffer.alloc(200 * 2 ** 20, 1);
    const run = await measure(program, { argv: ["true"] }, mkdtempSync(join(directory, "logs-")));
    expect(ours.length).toBeGreaterThan(0);
    expect(run.peakRssBytes).toBeLessThan(16 * 2 ** 20);
  });

  test("all that a command starts is counted, and what it leaves running is ended", async () => {
    const logs = mkdtempSync(join(directory, "logs-"));
    const script = "sleep 60 & echo $!; head -c 4000000 /dev/zero | od -An -tx1 -v | tail -c 1 >/dev/null";
    const run = await measure(program, { argv: ["sh", "-c", script] }, logs);
    expect(run.userSeconds + run.systemSeconds).toBeGreaterThan(0.02);
    expect(run.wallSeconds).toBeLessThan(50);
    expect(existsSync(`/proc/${run.stdout.trim()}`)).toBe(false);
  });

  test("a command that fails is an error with what it said; one that is stopped as asked is none", async () => {
    const logs = mkdtempSync(join(directory, "logs-"));
    await expect(measure(program, { argv: ["sh", "-c", "echo why >&2; exit 3"] }, logs)).rejects.toThrow(
      /ended with code 3[^]*why/,
    );
    await expect(measure(program, { argv: ["/no/such/program"] }, logs)).rejects.toThrow(/code 127/);
    const stopped = await measure(program, { argv: ["sleep", "60"], stopAfterSeconds: 0.2 }, logs);
    expect(stopped.wallSeconds).toBeLessThan(30);
  });
});
