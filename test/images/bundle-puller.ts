// The puller as its image holds it: a few files instead of some hundreds. It is started for every pod, and half the processor time
// of a start was spent on finding and reading the modules of its packages.

import { mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import path from "node:path";
import { build, type Plugin } from "esbuild";
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
 * Node's HTTP/2, which undici loads with the rest although the puller never offers it: it would bring TLS with it, and cost every
 * start that asks a registry by plain HTTP 15 ms. Undici takes it for a Node that was built without.
 */
const withoutHttp2: Plugin = {
  name: "without HTTP/2",
  setup: (bundle) => {
    bundle.onResolve({ filter: /^node:http2$/ }, ({ path: name }) => ({ path: name, namespace: "absent" }));
    bundle.onLoad({ filter: /./, namespace: "absent" }, () => ({
      contents: 'throw new Error("the puller is built without HTTP/2");',
    }));
  },
};

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
    plugins: [withoutHttp2],
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
