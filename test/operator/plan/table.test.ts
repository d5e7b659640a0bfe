// The table of a plan: what is estimated beside what is stated, what is not judged, and commands that can be pasted.

import { spawnSync } from "node:child_process";
import { describe, expect, test } from "vitest";
import type { ModelSpec } from "../../../operator/api/model.ts";
import { defaultRuntimes } from "../../../operator/plan/default-runtimes.ts";
import { shellWord } from "../../../operator/plan/inspect-command.ts";
import { planModel } from "../../../operator/plan/plan.ts";
import { readCluster } from "../../../operator/plan/read-input.ts";
import { planTable } from "../../../operator/plan/table.ts";
import { parseCommandLine } from "../../../puller/command-line.ts";
import { inputOf } from "../selection/golden-cases.ts";

const { facts, nodes } = inputOf({ nodes: [{ is: "l4-gfd" }, { is: "cpu-32" }] });
const source = { reference: "registry.example/llm" };

function tableOf(
  spec: ModelSpec,
  { others = [], known = facts }: { others?: readonly object[]; known?: typeof facts } = {},
): string {
  const text = JSON.stringify({ kind: "List", items: [...nodes, ...others] });
  const cluster = readCluster([{ text, file: "nodes.yaml" }]);
  const input = { ...cluster, name: "llm", namespace: "ai", spec, facts: known, runtimes: defaultRuntimes };
  return planTable(planModel(input), spec);
}

describe("memory", () => {
  test("that is estimated is called so, and has a place of its own beside what is stated", () => {
    const variants = [
      {
        name: "f16",
        reference: ":8b-f16",
        requirements: { accelerator: { vendor: "nvidia", memoryPerDevice: "20Gi" } },
      },
    ] as const;
    const table = tableOf({ source, variants });
    expect(table).toMatch(/^VARIANT +VERDICT +ESTIMATE +CONTEXT +NODES +WHY$/m);
    expect(table).toMatch(/^f16 +Selected +16\.9 GiB .* needs 20\.0 GiB on one GPU/m);
  });

  test("of several devices is that of each, as in the verdict", () => {
    const requirements = { accelerator: { vendor: "nvidia", count: 2 } } as const;
    const variants = [{ name: "f16", reference: ":8b-f16", requirements }];
    const table = tableOf({ source, variants, selection: { cpuFallback: false } });
    const [, estimate] = /^f16 +\w+ +2 x (\S+ GiB)/m.exec(table) ?? [];
    expect(estimate).toBeDefined();
    expect(table).toContain(`needs ${estimate} on each of 2 GPUs`);
  });
});

test("the first line tells a namespace that is not the default one, and what there is beyond the variants", () => {
  const input = { facts, nodes: [], runtimes: defaultRuntimes, name: "llm", spec: { source } };
  const first = (namespace: string): string =>
    planTable(planModel({ ...input, namespace }), input.spec).split("\n")[0] ?? "";
  expect(first("ai")).toMatch(/^ai\/llm: /);
  expect(first("default")).toMatch(/^llm: /);
  const spec = { source: { reference: "registry.example/llm:8b-q4" } };
  expect(planTable(planModel({ ...input, spec }), spec)).toMatch(
    /^llm: nothing is chosen \(NoNodesYet\): the cluster has no node yet; /,
  );
});

test("a Model that is suspended is planned, and says so", () => {
  const spec: ModelSpec = { source, variants: [{ name: "q4", reference: ":8b-q4" }] };
  const line = /^Suspended: spec[.]suspend is true/m;
  expect(tableOf({ ...spec, suspend: true })).toMatch(line);
  expect(tableOf({ ...spec, suspend: true }, { known: new Map() })).toMatch(line);
  expect(tableOf({ ...spec, suspend: false })).not.toMatch(line);
});

describe("what the API server adds to pods", () => {
  const limits = (namespace: string): object => ({
    kind: "LimitRange",
    metadata: { name: `of-${namespace}`, namespace },
  });
  const priority = (name: string, more: object): object => ({
    kind: "PriorityClass",
    metadata: { name },
    value: 1000,
    ...more,
  });
  const spec: ModelSpec = { source, variants: [{ name: "q4", reference: ":8b-q4" }] };

  test("is named as not judged", () => {
    const others = [
      limits("ai"),
      limits("other"),
      priority("usual", { globalDefault: true }),
      priority("rare", {}),
    ];
    expect(tableOf(spec, { others })).toMatch(
      /^Not judged: LimitRange of-ai of namespace ai \(requests and limits that it adds or refuses\), PriorityClass usual, the default of the cluster \(pods that it evicts\)$/m,
    );
  });

  test.each<[string, ModelSpec, readonly object[]]>([
    ["nothing is there", spec, [limits("other"), priority("rare", {})]],
    ["it evicts nothing", spec, [priority("usual", { globalDefault: true, preemptionPolicy: "Never" })]],
    [
      "the Model states another",
      { ...spec, template: { spec: { priorityClassName: "rare" } } },
      [priority("usual", { globalDefault: true })],
    ],
  ])("is not, where %s", (_name, given, others) => {
    expect(tableOf(given, { others })).not.toContain("Not judged:");
  });
});

describe("the command for missing facts", () => {
  /** What the puller is given where a shell runs the line. */
  const pasted = (table: string): readonly string[] => {
    const [, line = ""] = /^ {2}puller (.*) > \S+$/m.exec(table) ?? [];
    const { stdout } = spawnSync("sh", ["-c", `printf '%s\\n' ${line}`], { encoding: "utf8" });
    return stdout.trimEnd().split("\n");
  };

  test("reaches the registries as the Model does, and names the files that it needs", () => {
    const table = tableOf(
      {
        source: {
          ...source,
          mirrors: [{ host: "registry.example", url: "https://mirror.example/a?b&c" }],
          pullSecrets: [{ name: "cred" }],
          tls: { plainHTTP: true, caBundle: { configMap: { name: "ca", key: "ca.crt" } } },
        },
        variants: [
          { name: "q4", reference: ":8b-q4" },
          { name: "q8", reference: "other.example:5000/llm:q8" },
        ],
      },
      { known: new Map() },
    );
    const args = pasted(table);
    expect(args).toEqual([
      "inspect",
      "--reference=registry.example/llm:8b-q4",
      "--reference=other.example:5000/llm:q8",
      "--plain-http=registry.example",
      "--plain-http=other.example:5000",
      "--mirror=registry.example=https://mirror.example/a?b&c",
      "--output=json",
    ]);
    expect(parseCommandLine(args, {})).toMatchObject({ kind: "command", command: "inspect" });
    expect(table).toContain(
      "To each add --docker-config FILE with the credentials of Secret cred, and --ca-file FILE with ca.crt of ConfigMap ca",
    );
  });

  test("is one for what finds variants, and one for those that are listed, each with a file of its own", () => {
    const table = tableOf(
      {
        source,
        variantsFrom: { tags: { pattern: "8b-*" } },
        variants: [{ name: "own", reference: "registry.example/own:q4" }],
      },
      { known: new Map() },
    );
    expect(table).toContain("with --facts ai_llm-facts.json --facts ai_llm-facts-2.json:");
    expect(pasted(table)).toEqual([
      "inspect",
      "--reference=registry.example/llm",
      "--tags=8b-*",
      "--output=json",
    ]);
    expect(table).toContain("--reference=registry.example/own:q4 --output=json > ai_llm-facts-2.json");
  });

  test("writes into a file that no Model of another namespace has", () => {
    const input = { facts: new Map(), nodes: [], runtimes: defaultRuntimes, name: "llm", spec: { source } };
    const files = ["a", "b", "default"].map(
      (namespace) => / > (\S+)$/m.exec(planTable(planModel({ ...input, namespace }), input.spec))?.[1],
    );
    expect(files).toEqual(["a_llm-facts.json", "b_llm-facts.json", "llm-facts.json"]);
  });

  test.each(["plain", "two words", "it's", '$HOME `id` "x" \\', "8b-*", ""])(
    "quotes %j for a shell",
    (text) => {
      const { stdout } = spawnSync("sh", ["-c", `printf '%s' ${shellWord(text)}`], { encoding: "utf8" });
      expect(stdout).toBe(text);
    },
  );
});
