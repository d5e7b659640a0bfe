// Runs `ocimodel plan` on files of a directory of its own. For tests.

import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll } from "vitest";
import { stringify } from "yaml";
import { compiledProgram, compiledProgramEnvironment } from "../../compiled/compiled-puller.ts";
import { nodeBinary } from "../../images/app-context.ts";
import { inputOf } from "../selection/golden-cases.ts";

/** A node with a GPU and one without, and what is known of the variants of `exampleModel`. */
export const { nodes, facts } = inputOf({ nodes: [{ is: "l4-gfd" }, { is: "cpu-32" }] });

/** A Model that prefers GPUs. */
export const exampleModel = {
  apiVersion: "ocimodel.dev/v1alpha1",
  kind: "Model",
  metadata: { name: "qwen3" },
  spec: {
    source: { reference: "registry.example/llm" },
    variants: [
      { name: "f16", reference: ":8b-f16", requirements: { accelerator: { vendor: "nvidia" } } },
      { name: "q4", reference: ":8b-q4" },
    ],
  },
};

export type PlanRun = { readonly code: number | null; readonly out: string; readonly err: string };

export type PlanDirectory = {
  readonly path: () => string;
  /** Writes a file there, a value as YAML or JSON; returns its path. */
  readonly file: (name: string, value: unknown, asJson?: boolean) => string;
  readonly plan: (args: readonly string[], input?: string) => PlanRun;
};

/** The directory of a suite. It is made before the first of its tests that runs, so that a suite of which none does leaves nothing behind. */
export function planDirectory(): PlanDirectory {
  let path = "";
  beforeAll(() => {
    path = mkdtempSync(join(tmpdir(), "ocimodel-plan-"));
  });
  afterAll(() => {
    if (path !== "") rmSync(path, { recursive: true, force: true });
  });
  return {
    path: () => path,
    file: (name, value, asJson = false) => {
      const text = typeof value === "string" ? value : asJson ? JSON.stringify(value) : stringify(value);
      writeFileSync(join(path, name), text);
      return join(path, name);
    },
    plan: (args, input = "") => {
      const { status, stdout, stderr } = spawnSync(
        nodeBinary,
        // Compiled, as users run it.
        [compiledProgram("operator/ocimodel.ts"), "plan", ...args],
        {
          input,
          encoding: "utf8",
          env: {
            PATH: process.env["PATH"],
            KUBECONFIG: join(path, "none"),
            ...compiledProgramEnvironment(),
          },
        },
      );
      return { code: status, out: stdout, err: stderr };
    },
  };
}

/** Flags that give the nodes and the facts, in files as kubectl and the puller print them. */
export function givenFiles(file: PlanDirectory["file"]): readonly string[] {
  return [
    "--nodes",
    file("nodes.yaml", { apiVersion: "v1", kind: "List", items: nodes }),
    "--facts",
    file("facts.json", [...facts.values()], true),
  ];
}
