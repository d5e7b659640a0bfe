// A start of the image compiles nothing anew: neither the bundle nor the code within Node.

import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
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

test("no file imports what loads the fetch within Node, which takes 25 ms and 13 MiB in every thread", () => {
  for (const file of readdirSync(directory).filter((each) => each.endsWith(".js"))) {
    const text = readFileSync(path.join(directory, file), "utf8");
    expect(text.match(/^import .*"(?:node:)?https?";$/gm) ?? [], file).toEqual([]);
  }
});
