import { spawnSync } from "node:child_process";
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

const root = join(import.meta.dirname, "../..");

/** Each file breaks one rule of the layout; the linter must name it. */
const violations: readonly [file: string, text: string, message: string][] = [
  ["puller/a.ts", 'import { x } from "../operator/x.ts";\nexport const y = x;\n', "the puller knows neither"],
  [
    "puller/pull/b.ts",
    'import { x } from "@kubernetes/client-node";\nexport const y = x;\n',
    "the puller knows neither",
  ],
  [
    "operator/reconcile/c.ts",
    'import { x } from "../../puller/pull/pull.ts";\nexport const y = x;\n',
    "cross to the operator",
  ],
  [
    "operator/reconcile/d.ts",
    'import { x } from "../../puller/oci/transport.ts";\nexport const y = x;\n',
    "cross to the operator",
  ],
  [
    "operator/selection/e.ts",
    'import { request } from "undici";\nexport const y = request;\n',
    "decisions are pure: no I/O",
  ],
  [
    "operator/desired/f.ts",
    'import { readFileSync } from "node:fs";\nexport const y = readFileSync;\n',
    "decisions are pure: no I/O",
  ],
  [
    "operator/hardware/g.ts",
    'import { x } from "../kube/client.ts";\nexport const y = x;\n',
    "no transport, no loop",
  ],
  [
    "operator/kube/h.ts",
    'import { x } from "../api/model.ts";\nexport const y = x;\n',
    "the transport knows no Model",
  ],
  [
    "operator/server/i.ts",
    'import { x } from "../../test/x.ts";\nexport const y = x;\n',
    "never imports its tests",
  ],
];
const allowed: readonly [file: string, text: string][] = [
  ["operator/reconcile/ok.ts", 'import { x } from "../../puller/contract.ts";\nexport const y = x;\n'],
  ["operator/desired/ok.ts", 'import { x } from "../kube/types.ts";\nexport const y = x;\n'],
  ["puller/pull/ok.ts", 'import { request } from "undici";\nexport const y = request;\n'],
];

describe("import directions", () => {
  let directory = "";
  let output = "";
  beforeAll(() => {
    directory = mkdtempSync(join(tmpdir(), "ocimodel-imports-"));
    copyFileSync(join(root, ".oxlintrc.json"), join(directory, ".oxlintrc.json"));
    for (const [file, text] of [...violations, ...allowed]) {
      mkdirSync(dirname(join(directory, file)), { recursive: true });
      writeFileSync(join(directory, file), text);
    }
    const result = spawnSync(join(root, "node_modules/.bin/oxlint"), ["--format", "json"], {
      cwd: directory,
      encoding: "utf8",
    });
    output = result.stdout;
  });
  afterAll(() => {
    rmSync(directory, { recursive: true, force: true });
  });

  const reported = (): readonly { filename: string; message: string; help?: string }[] =>
    (JSON.parse(output) as { diagnostics: { filename: string; message: string; help?: string }[] })
      .diagnostics;

  test.each(violations)("%s is refused", (file, _text, message) => {
    const mine = reported().filter(({ filename }) => filename.endsWith(file));
    expect(mine.map((each) => `${each.message} ${each.help ?? ""}`).join("\n")).toContain(message);
  });

  test.each(allowed)("%s is allowed", (file) => {
    expect(reported().filter(({ filename }) => filename.endsWith(file))).toEqual([]);
  });
});
