// The puller as its image holds it: a few files instead of some hundreds. It is started for every pod, and half the processor time
// of a start was spent on finding and reading the modules of its packages.

import { mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import path from "node:path";
import { build } from "esbuild";
import { fillCompileCache } from "./compile-cache.ts";

const projectRoot = path.resolve(import.meta.dirname, "../..");

/** Programs and threads: each is a file that something names. */
const entryPoints = [
  "puller/main.ts",
  "puller/transfer/lane-worker.ts",
  "puller/transfer/hash-worker.ts",
  "puller/transfer/unpack-worker.ts",
];

/** Packages that ask for `require` when they are loaded. */
const banner =
  'import { createRequire as makeRequire } from "node:module"; const require = makeRequire(import.meta.url);';

/**
 * Bundles the puller into a directory, which is emptied first: main.js, the threads beside it, the code they share, package.json
 * with the version, the licences of the packages within, and what V8 compiled of it, so that a start need not do it again.
 */
export async function bundlePuller(directory: string): Promise<void> {
  await rm(directory, { recursive: true, force: true });
  await mkdir(directory, { recursive: true });
  const { metafile } = await build({
    absWorkingDir: projectRoot,
    entryPoints,
    outdir: directory,
    entryNames: "[name]",
    chunkNames: "shared-[hash]",
    bundle: true,
    splitting: true,
    format: "esm",
    platform: "node",
    target: "node24",
    // Names stay: stack traces of users are read by people.
    minify: false,
    legalComments: "inline",
    banner: { js: banner },
    metafile: true,
    logLevel: "warning",
  });
  await writeFile(
    path.join(directory, "package.json"),
    await readFile(path.join(projectRoot, "puller/package.json")),
  );
  await writeFile(path.join(directory, "LICENSES.txt"), await licences(Object.keys(metafile.inputs)));
  await fillCompileCache(
    directory,
    entryPoints.map((each) => `${path.basename(each, ".ts")}.js`),
  );
}

/** The licence texts of all packages that files come from. */
async function licences(files: readonly string[]): Promise<string> {
  const packages = new Set(
    files.flatMap((file) => /^(?:.*\/)?node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(file)?.[1] ?? []),
  );
  const texts = await Promise.all(
    [...packages].sort().map(async (name) => {
      const folder = path.join(projectRoot, "node_modules", name);
      const file = (await readdir(folder)).find((each) => /^licen[cs]e/i.test(each));
      if (file === undefined) throw new Error(`package ${name} has no licence file`);
      return `${name}\n\n${await readFile(path.join(folder, file), "utf8")}`;
    }),
  );
  return texts.join(`\n${"-".repeat(80)}\n\n`);
}
