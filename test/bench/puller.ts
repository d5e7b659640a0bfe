// The puller as its image runs it: compiled, on the Node of the lock file, by the line of the Dockerfile. Start included.

import { existsSync, mkdirSync, mkdtempSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { bundlePuller } from "../images/bundle-puller.ts";
import { imageStart } from "../images/image-start.ts";

const root = join(import.meta.dirname, "../..");
const node = join(root, "node_modules/node/bin/node");
/** Below the checkout, so that its packages are found. */
const parent = join(root, "build/bench");

export type Puller = {
  readonly argv: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  /** The Node of the lock file, for programs that are compared with it. */
  readonly node: string;
  /** Folder of the compiled files. */
  readonly compiled: string;
};

/** Compiles the checkout's puller into a folder of its own, which later changes do not touch, and tells how to start it. */
export async function compilePuller(): Promise<Puller> {
  mkdirSync(parent, { recursive: true });
  const compiled = mkdtempSync(join(parent, "dist-"));
  await bundlePuller(join(compiled, "puller"));
  const { entrypoint, env: stated } = imageStart(readFileSync(join(root, "Dockerfile"), "utf8"), "puller");
  const placed = (word: string): string =>
    word === "/usr/local/bin/node" ? node : word.replace(/^\/app\//, `${compiled}/`);
  const argv = entrypoint.map(placed);
  const env = Object.fromEntries(Object.entries(stated).map(([name, value]) => [name, placed(value)]));
  const main = argv.find((word) => word.endsWith("/main.js"));
  if (main === undefined || !existsSync(main)) throw new Error(`${argv.join(" ")} does not start the puller`);
  return { argv, env, node, compiled };
}
