// The puller compiled once for all tests that start it, as its image holds it and as modules: without types to strip in its main
// thread and in every other thread, a run costs a fraction of its time. Keyed by the sources, so that nothing stale is ever run.

import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  copyFileSync,
  existsSync,
  globSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { pathToFileURL } from "node:url";
import { definitionName } from "../images/app-context.ts";
import { bundlePuller } from "../images/bundle-puller.ts";

const root = join(import.meta.dirname, "../..");
const compiledRoot = join(root, "build/compiled");

/** What was compiled before this is of no use to anybody, milliseconds. */
const keptMs = 24 * 3_600_000;

function sourceHash(): string {
  const hash = createHash("sha256");
  const sources = globSync(
    [
      "operator/**/*.ts",
      "puller/**/*.ts",
      "tsconfig*.json",
      "package-lock.json",
      "operator/package.json",
      "puller/package.json",
      definitionName,
      "test/images/bundle-puller.ts",
    ],
    {
      cwd: root,
      exclude: ["**/node_modules/**"],
    },
  ).sort();
  for (const name of sources)
    hash
      .update(`${name}\0`)
      .update(readFileSync(join(root, name)))
      .update("\0");
  return hash.digest("hex").slice(0, 16);
}

/** Compiles what is not compiled yet; the directory. Several at once do no harm: each compiles aside, and one rename wins. */
export async function compilePuller(): Promise<string> {
  const directory = join(compiledRoot, sourceHash());
  if (existsSync(directory)) return directory;
  mkdirSync(compiledRoot, { recursive: true });
  for (const name of readdirSync(compiledRoot)) {
    const old = join(compiledRoot, name);
    if (Date.now() - statSync(old).mtimeMs > keptMs) rmSync(old, { recursive: true, force: true });
  }
  const aside = `${directory}.${process.pid}`;
  // Types are for the type check; a test run goes on with what is wrong there, as it does with sources.
  const tsc = spawnSync(
    join(root, "node_modules/.bin/tsc"),
    ["-p", "tsconfig.build.json", "--noCheck", "--outDir", aside],
    { cwd: root, encoding: "utf8" },
  );
  if (tsc.status !== 0) throw new Error(`the puller does not compile:\n${tsc.stdout}${tsc.stderr}`);
  mkdirSync(join(aside, dirname(definitionName)));
  for (const name of ["operator/package.json", "puller/package.json", definitionName])
    copyFileSync(join(root, name), join(aside, name));
  await bundlePuller(join(aside, "image"));
  try {
    renameSync(aside, directory);
  } catch (error) {
    rmSync(aside, { recursive: true, force: true });
    if (!existsSync(directory)) throw error;
  }
  return directory;
}

function compiledDirectory(): string {
  const directory = process.env["OCIMODEL_TEST_COMPILED"];
  if (directory === undefined || !existsSync(directory))
    throw new Error("the puller was not compiled before the tests: see globalSetup in vitest.config.ts");
  return directory;
}

/** The program that `node` runs: the bundle of the image. */
export function compiledPuller(): string {
  return join(compiledDirectory(), "image/main.js");
}

/** A program of the operator's image, compiled. */
export function compiledProgram(source: string): string {
  return join(compiledDirectory(), source.replace(/\.ts$/, ".js"));
}

/** Environment variables with which a program of the operator starts in half the time from its second run on. */
export function compiledProgramEnvironment(): Readonly<Record<string, string>> {
  return { NODE_COMPILE_CACHE: join(compiledDirectory(), "compile-cache") };
}

/** Environment variables that the image sets: a start needs half the time with them, and does the same without. */
export function compiledPullerEnvironment(): Readonly<Record<string, string>> {
  return {
    NODE_COMPILE_CACHE: join(compiledDirectory(), "image/compile-cache"),
    NODE_COMPILE_CACHE_PORTABLE: "1",
  };
}

/** A compiled module ("puller/run.ts"), to be run in this process: its threads start as quickly as users' do. */
export async function importCompiled<T>(source: string): Promise<T> {
  const file = join(compiledDirectory(), source.replace(/\.ts$/, ".js"));
  return (await import(/* @vite-ignore */ pathToFileURL(file).href)) as T;
}
