// Installs the engine's own packages outside the checkout: the folder that goes into the engine's image and that also runs as it is.

import { cp, readdir, rm } from "node:fs/promises";
import path from "node:path";
import { cachedDirectory, contentKey } from "../images/build-cache.ts";
import { runCommand } from "../cluster/run-command.ts";

const root = path.resolve(import.meta.dirname, "../..");
const sources = [
  "engine-options.ts",
  "engine-server.ts",
  "llama.ts",
  "measure.ts",
  "server.ts",
  "package.json",
  "package-lock.json",
];

/** Why the engine cannot run on this machine; undefined where it can. */
export function engineObstacle(): string | undefined {
  if (process.platform === "linux" && process.arch === "x64") return undefined;
  return `the engine's llama.cpp is for Linux on x64, this is ${process.platform} on ${process.arch}`;
}

/** Directory with `server.ts` and its node_modules, to be run with the project's node; and the hash of all that is in it. */
export async function prepareEngine(): Promise<{ readonly directory: string; readonly key: string }> {
  const recipes = ["test/engine/prepare-engine.ts", ...sources.map((name) => `test/engine/${name}`)];
  const key = await contentKey(root, recipes);
  const directory = await cachedDirectory("engine", key, async (entry) => {
    for (const name of sources) await cp(path.join(root, "test/engine", name), path.join(entry, name));
    await cp(path.join(root, ".npmrc"), path.join(entry, ".npmrc"));
    // Optional packages hold CUDA and Vulkan builds of 670 MB. The lock file names only those that exist for this version, which
    // `npm ci` refuses; `npm install` takes versions and hashes from it all the same. Install scripts would download or compile.
    const flags = ["--no-save", "--prefer-offline", "--omit=optional", "--ignore-scripts"];
    await runCommand("npm", ["install", ...flags], { cwd: entry });
    await rm(path.join(entry, ".npmrc"));
    // llama.cpp's sources, 34 MB, for builds from source.
    await rm(path.join(entry, "node_modules/node-llama-cpp/llama/gitRelease.bundle"));
    await rm(path.join(entry, "node_modules/.bin"), { recursive: true });
    const names = await readdir(path.join(entry, "node_modules"), { recursive: true });
    const declarations = names.filter((name) => /\.d\.[cm]?ts$|\.map$/.test(name));
    await Promise.all(declarations.map((name) => rm(path.join(entry, "node_modules", name))));
    // The cache is for its owner alone; the container's user is another.
    await runCommand("chmod", ["-R", "a+rX,go-w", entry]);
  });
  return { directory, key };
}
