// Tables of the pages that are written from the code: options, metrics, values, rights. `npm run golden` brings them up to date.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { MetricObject } from "prom-client";
import { expect, test } from "vitest";
import { isMap, isScalar, parse, parseDocument, type Node, type YAMLMap } from "yaml";
import { createMetrics } from "../../operator/server/metrics.ts";
import { operatorOptions } from "../../operator/command-line.ts";
import { environmentName } from "../../puller/command-line.ts";
import { commandNames, optionHelp, options } from "../../puller/command-options.ts";
import { failureExitCodes, isRetryable, type FailureCode, type PullProgress } from "../../puller/contract.ts";
import { AppError } from "../../puller/oci/errors.ts";
import { ProgressTracker } from "../../puller/pull/progress.ts";
import { partsOf, table, withParts } from "./generated.ts";
import { pages, root } from "./markdown.ts";

function pullerOptions(): string {
  const rows = options.map((option) => {
    const { name, value, isRepeatable, default: preset, commands } = option;
    const help = optionHelp(option);
    return [
      `\`--${name}${value === undefined ? "" : ` ${value}`}\``,
      commands.length === commandNames.length ? "all" : commands.join(", "),
      `\`${environmentName(name)}\``,
      `${help}${preset === undefined ? "" : ` (default ${preset})`}${isRepeatable === true && !help.includes("repeatable") ? "; repeatable" : ""}`,
    ];
  });
  return table(["flag", "commands", "variable", "what"], rows);
}

function exitCodes(): string {
  const byExit = new Map<number, FailureCode[]>();
  for (const [code, exit] of Object.entries(failureExitCodes)) {
    byExit.set(exit, [...(byExit.get(exit) ?? []), code as FailureCode]);
  }
  const rows = [...byExit]
    .sort(([one], [other]) => one - other)
    .map(([exit, codes]) => [
      String(exit),
      codes.map((code) => `\`${code}\``).join(", "),
      codes.every(isRetryable) ? "again" : "",
    ]);
  return table(["exit code", "code", ""], [["0", "`Ready`", ""], ...rows]);
}

const progressMeanings: Readonly<Record<keyof PullProgress, string>> = {
  v: "version of the document",
  phase: "where the pull is",
  reference: "as it was given",
  digest: "of the manifest, once it is known",
  totalBytes: "bytes of all blobs that are wanted",
  completedBytes: "bytes on the volume, of this and of earlier runs",
  bytesPerSecond: "mean of the last ten seconds",
  remainingSeconds: "at that speed; absent while there is none",
  filesTotal: "blobs that are wanted",
  filesCompleted: "blobs that are there",
  lastFailure: "the last failure that is being retried: `code` and `message`",
};

async function progressDocument(): Promise<string> {
  const tracker = new ProgressTracker("registry.example.com/ai/tiny:F16");
  tracker.plan("sha256:4b", 10_000_000, 2);
  tracker.add(1000, "network");
  await new Promise((resolve) => setTimeout(resolve, 300));
  tracker.add(1000, "network");
  tracker.fail(new AppError("RegistryUnreachable", "cut"));
  const keys = Object.keys(tracker.snapshot()) as (keyof PullProgress)[];
  expect([...keys].sort()).toEqual(Object.keys(progressMeanings).sort());
  return table(
    ["field", "what"],
    keys.map((key) => [`\`${key}\``, progressMeanings[key]]),
  );
}

async function metrics(): Promise<string> {
  const { registry } = createMetrics(() => 0);
  const own = registry.getMetricsAsArray().filter(({ name }) => name.startsWith("ocimodel_"));
  const rows = await Promise.all(
    own.map(async (metric) => {
      const { name, type, help } = await (metric as unknown as { get(): Promise<MetricObject> }).get();
      const { labelNames = [] } = metric as unknown as { labelNames?: readonly string[] };
      return [`\`${name}\``, String(type), labelNames.map((label) => `\`${label}\``).join(", "), help];
    }),
  );
  expect(rows.length).toBeGreaterThan(8);
  return table(["metric", "type", "labels", "what"], rows);
}

/** Values that are one thing to a reader; what is in them is told in the chart's values.yaml. */
const wholeValues: ReadonlySet<string> = new Set([
  "pullerResources",
  "runtimes",
  "resources",
  "podSecurityContext",
  "securityContext",
]);

const sentence = (comment: string | null | undefined): string =>
  (comment ?? "")
    .split("\n")
    .map((line) => line.trim())
    .join(" ")
    .trim();

function chartValues(): string {
  const text = readFileSync(join(root, "charts/ocimodel/values.yaml"), "utf8");
  const document = parseDocument(text);
  const rows: string[][] = [];
  const visit = (map: YAMLMap, path: string, inherited: string): void => {
    map.items.forEach((pair, index) => {
      if (!isScalar(pair.key)) throw new Error(`a key of ${path} is no scalar`);
      const name = path === "" ? String(pair.key.value) : `${path}.${String(pair.key.value)}`;
      const value = pair.value as Node;
      // The comment before the first key of a map is the map's own.
      const before = sentence(pair.key.commentBefore ?? (index === 0 ? map.commentBefore : undefined));
      const what = [before, isMap(value) && value.items.length > 0 ? "" : sentence(value.comment)]
        .filter((part) => part !== "")
        .join(" ");
      if (isMap(value) && value.items.length > 0 && !wholeValues.has(name)) {
        visit(value, name, what === "" ? inherited : what);
        return;
      }
      const preset = wholeValues.has(name)
        ? "see values.yaml"
        : `\`${JSON.stringify(value.toJS(document))}\``;
      rows.push([`\`${name}\``, preset, what === "" ? inherited : what]);
    });
  };
  const { contents } = document;
  if (!isMap(contents)) throw new Error("values.yaml is no map");
  visit(contents, "", "");
  expect(rows.filter(([, , what]) => what === "").map(([name]) => name)).toEqual([]);
  return table(["value", "default", "what"], rows);
}

function rights(): string {
  const helpers = readFileSync(join(root, "charts/ocimodel/templates/_helpers.tpl"), "utf8");
  const [, yaml = ""] = /define "ocimodel.rules" -\}\}\n(.*?)\{\{- end/s.exec(helpers) ?? [];
  const rules = parse(yaml) as { apiGroups: string[]; resources: string[]; verbs: string[] }[];
  expect(rules.length).toBeGreaterThan(4);
  return table(
    ["group", "resources", "verbs"],
    rules.map(({ apiGroups: [group = ""], resources, verbs }) => [
      group === "" ? "core" : group,
      resources.join(", "),
      verbs.join(", "),
    ]),
  );
}

function operatorFlags(): string {
  return table(
    ["flag", "default", "what"],
    operatorOptions.map(({ name, value, default: preset = "", help }) => [
      `\`--${name}${value === undefined ? "" : ` ${value}`}\``,
      preset,
      help,
    ]),
  );
}

test("the tables of the pages are what the code says", async () => {
  const parts: Readonly<Record<string, string>> = {
    "puller options": pullerOptions(),
    "exit codes": exitCodes(),
    "progress document": await progressDocument(),
    metrics: await metrics(),
    "chart values": chartValues(),
    rights: rights(),
    "operator options": operatorFlags(),
  };
  const used = pages().filter((page) => partsOf(page).length > 0);
  expect(used.flatMap(partsOf).sort()).toEqual(Object.keys(parts).sort());
  for (const page of used) await expect(await withParts(page, parts)).toMatchFileSnapshot(join(root, page));
});
