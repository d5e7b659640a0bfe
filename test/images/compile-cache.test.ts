// A start of the image compiles nothing anew: neither the bundle nor the code within Node.

import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { makeArtifact } from "../bench/artifact.ts";
import { ContentStore } from "../bench/content.ts";
import { startOrigin } from "../bench/servers/origin.ts";
import { runCommand } from "../cluster/run-command.ts";
import { bundlePuller } from "./bundle-puller.ts";
import { startOptions } from "./compile-cache.ts";

const node = path.resolve(import.meta.dirname, "../../node_modules/node/bin/node");
const { options, env } = startOptions();

let directory = "";
beforeAll(async () => {
  directory = mkdtempSync(path.join(tmpdir(), "ocimodel-bundle-"));
  await bundlePuller(directory);
});
afterAll(() => {
  rmSync(directory, { recursive: true, force: true });
});

test("the options of the image's start leave V8's compiled code valid, that within Node included", async () => {
  const tag = async (flags: readonly string[]): Promise<string> =>
    (await runCommand(node, [...flags, "-p", "v8.cachedDataVersionTag()"])).stdout;
  expect(await tag(options)).toBe(await tag([]));
});

test("what is kept of the bundle is taken, for the program and what it imports", async () => {
  const { stdout, stderr } = await runCommand(
    node,
    [...options, path.join(directory, "main.js"), "--version"],
    {
      cwd: directory,
      env: {
        ...env,
        PATH: process.env["PATH"] ?? "",
        NODE_COMPILE_CACHE: path.join(directory, "compile-cache"),
        NODE_DEBUG_NATIVE: "COMPILE_CACHE",
      },
    },
  );
  const log = stdout + stderr;
  const scripts = readdirSync(directory).filter((file) => /^(main|shared-.*)\.js$/.test(file));
  expect(scripts.length).toBeGreaterThan(1);
  expect(log).toMatch(/\bmain\.js\b.*accepted/);
  expect(log).not.toMatch(/\bwas rejected\b/);
  // One entry for each file, the threads too, and one for the line that loaded what no pull loads.
  const [version = ""] = readdirSync(path.join(directory, "compile-cache"));
  const entries = readdirSync(path.join(directory, "compile-cache", version));
  const files = readdirSync(directory).filter((file) => file.endsWith(".js"));
  expect(entries).toHaveLength(files.length + 1);
});

test("a start that finds its model loads no registry client and no library for schemas", async () => {
  const scratch = mkdtempSync(path.join(tmpdir(), "ocimodel-warm-"));
  const contents = new ContentStore(path.join(scratch, "contents"));
  const artifact = makeArtifact(contents, "bundle/warm", [await contents.random("model.safetensors", 4096)]);
  const origin = await startOrigin({ artifacts: [artifact] });
  const start = async (more: Readonly<Record<string, string>>) =>
    runCommand(
      node,
      [
        ...options,
        path.join(directory, "main.js"),
        "pull",
        `--reference=${origin.host}/${artifact.repository}@${artifact.digest}`,
        `--store=${path.join(scratch, "store")}`,
        `--plain-http=${origin.host}`,
      ],
      { cwd: directory, env: { PATH: process.env["PATH"] ?? "", ...more } },
    );
  /** Packages within the files that a start has loaded, as the cache's log names them. */
  const loaded = async (): Promise<readonly string[]> => {
    const cache = {
      NODE_COMPILE_CACHE: path.join(directory, "compile-cache"),
      NODE_DEBUG_NATIVE: "COMPILE_CACHE",
    };
    const { stdout, stderr } = await start({ ...env, ...cache });
    const names = new Set((stdout + stderr).match(/\b(?:main|shared-[A-Z0-9]+)\.js\b/g));
    expect(names).toContain("main.js");
    return [...names].flatMap((name) => [
      ...new Set(readFileSync(path.join(directory, name), "utf8").match(/node_modules\/[a-z-]+/g)),
    ]);
  };
  try {
    const cold = await loaded();
    expect(cold).toContain("node_modules/undici");
    expect(cold).toContain("node_modules/zod");
    const warm = await loaded();
    expect(warm).not.toContain("node_modules/undici");
    expect(warm).not.toContain("node_modules/zod");
  } finally {
    await origin.stop();
    rmSync(scratch, { recursive: true, force: true });
  }
});

test("no file imports what loads the fetch within Node, which takes 25 ms and 13 MiB in every thread", () => {
  for (const file of readdirSync(directory).filter((each) => each.endsWith(".js"))) {
    const text = readFileSync(path.join(directory, file), "utf8");
    expect(text.match(/^import .*"(?:node:)?https?";$/gm) ?? [], file).toEqual([]);
  }
});
