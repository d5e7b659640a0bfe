// What users meet who run a program of a checkout too early, or with a Node.js that is too old.

import { spawnSync } from "node:child_process";
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { nodeBinary } from "../images/app-context.ts";

const root = join(import.meta.dirname, "../..");
const { engines, scripts } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as {
  engines: { node: string };
  scripts: Record<string, string>;
};

describe("run.js", () => {
  let directory = "";
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), "ocimodel-run-"));
    copyFileSync(join(root, "run.js"), join(directory, "run.js"));
    writeFileSync(
      join(directory, "program.ts"),
      "process.stdout.write(process.argv.slice(2).join() as string);",
    );
  });
  afterEach(() => {
    rmSync(directory, { recursive: true, force: true });
  });
  const run = (
    node: string,
    mark = ".package-lock.json",
  ): { status: number | null; out: string; err: string } => {
    writeFileSync(join(directory, "package.json"), JSON.stringify({ type: "module", engines: { node } }));
    if (mark !== "") {
      mkdirSync(join(directory, "node_modules"));
      writeFileSync(join(directory, "node_modules", mark), "");
    }
    const args = [join(directory, "run.js"), "program.ts", "plan", "--version"];
    const { status, stdout, stderr } = spawnSync(nodeBinary, args, { encoding: "utf8" });
    return { status, out: stdout, err: stderr };
  };

  test("is what the scripts of package.json begin with", () => {
    for (const name of ["puller", "operator", "ocimodel"])
      expect(scripts[name]).toMatch(new RegExp(`^node run[.]js (puller|operator)/\\w+[.]ts$`));
  });

  test.each([
    ["npm", ".package-lock.json"],
    ["pnpm", ".modules.yaml"],
    ["Yarn", ".yarn-state.yml"],
    ["Yarn 1", ".yarn-integrity"],
  ])("runs the program with its arguments after an installation by %s", (_name, mark) => {
    expect(run(engines.node, mark)).toEqual({ status: 0, out: "plan,--version", err: "" });
  });

  test("says what to do before anything is installed", () => {
    const { status, err } = run(engines.node, "");
    expect(status).toBe(70);
    expect(err).toBe(
      `ocimodel: nothing is installed in ${directory}/ yet; run "npm install" there, which brings the Node.js that is needed too (${engines.node.slice(2)} or newer; this one is ${process.versions.node})\n`,
    );
  });

  const [major] = process.versions.node.split(".");
  test.each([">=99.0", `>=${major}.1000`])("says which Node.js is needed: %s", (node) => {
    const { status, err } = run(node);
    expect(status).toBe(70);
    expect(err).toContain(
      `Node.js ${node.slice(2)} or newer is needed, and this one is ${process.versions.node}; "npm run" takes`,
    );
  });
});
