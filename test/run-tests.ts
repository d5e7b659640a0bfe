// Runs every check of the project one after the other and closes with "N passed, N failed". What `make test` calls.

import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { performance } from "node:perf_hooks";

/** Runs a command with the terminal's output; resolves to its exit code. */
async function run(command: string, args: readonly string[]): Promise<number> {
  const child = spawn(command, args, { stdio: "inherit" });
  return new Promise((resolve) => {
    child.on("error", (error) => {
      console.error(`${command}: ${error.message}`);
      resolve(127);
    });
    child.on("exit", (code, signal) => {
      resolve(code ?? (signal === null ? 1 : 128));
    });
  });
}

function treeState(): string {
  return spawnSync("git", ["status", "--porcelain"], { encoding: "utf8" }).stdout;
}

const before = treeState();
const directory = mkdtempSync(join(tmpdir(), "ocimodel-test-"));
const report = join(directory, "report.json");
let passed = 0;
let failed = 0;
let skipped = 0;

const count = (name: string, isGood: boolean): void => {
  console.log(`${isGood ? "passed" : "FAILED"}: ${name}`);
  if (isGood) passed += 1;
  else failed += 1;
};

const filters = process.argv.slice(2);
if (filters.length === 0) {
  count("format (prettier)", (await run("prettier", ["--check", "--log-level", "warn", "."])) === 0);
  count("lint (oxlint, type-aware)", (await run("oxlint", ["--type-aware", "--deny-warnings"])) === 0);
  count("types (tsc)", (await run("tsc", ["-p", "tsconfig.json", "--noEmit"])) === 0);
}
const started = performance.now();
const exitCode = await run("vitest", [
  "run",
  "--reporter=default",
  "--reporter=json",
  `--outputFile.json=${report}`,
  ...filters,
]);
try {
  const result = JSON.parse(readFileSync(report, "utf8")) as {
    numPassedTests: number;
    numFailedTests: number;
    numPendingTests: number;
  };
  passed += result.numPassedTests;
  failed += result.numFailedTests;
  skipped += result.numPendingTests;
  // A suite that breaks before its first test counts as one failure.
  if (exitCode !== 0 && result.numFailedTests === 0) failed += 1;
} catch {
  count("suites (vitest wrote no report)", false);
}
rmSync(directory, { recursive: true, force: true });
if (filters.length === 0) count("the working tree is as it was", treeState() === before);
console.log(`suites took ${Math.round((performance.now() - started) / 1000)} s`);
console.log(`${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ""}`);
process.exitCode = failed > 0 || exitCode !== 0 ? 1 : 0;
