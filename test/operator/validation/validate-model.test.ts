import { readFileSync } from "node:fs";
import { join } from "node:path";
import { V1ObjectMeta } from "@kubernetes/client-node";
import { describe, expect, test } from "vitest";
import { modelDefinition } from "../../../operator/validation/definition.ts";
import { jsonSchema } from "../../../operator/validation/json-schema.ts";
import { objectMetaSchema } from "../../../operator/validation/object-meta.ts";
import { compileRule, rulesOf } from "../../../operator/validation/rules.ts";
import type { StructuralSchema } from "../../../operator/validation/structural-schema.ts";
import { modelValidator, type Judged } from "../../../operator/validation/validate-model.ts";
import {
  bad,
  badModels,
  badNames,
  documentedSpecs,
  good,
  goodModels,
  source,
  type Fields,
} from "../../crds/model-table.ts";
import { root } from "../../crds/schema.ts";

const definition = modelDefinition();
const validate = modelValidator(definition);
const judge = (spec: unknown, name = "qwen"): Judged =>
  validate({ apiVersion: "ocimodel.dev/v1alpha1", kind: "Model", metadata: { name }, spec });
const words = ({ problems }: Judged): readonly string[] =>
  problems.map(({ path, message }) => `${path}: ${message}`);

function schemasOf(schema: StructuralSchema): readonly StructuralSchema[] {
  return [
    schema,
    ...Object.values(schema.properties ?? {}).flatMap(schemasOf),
    ...(schema.items === undefined ? [] : schemasOf(schema.items)),
  ];
}
const ruleMessages = schemasOf(definition).flatMap((schema) =>
  (schema["x-kubernetes-validations"] ?? []).map(({ message = "" }) => message),
);

test.each(good)("takes %s", (_name, spec) => {
  expect(words(judge(spec))).toEqual([]);
});
test.each(documentedSpecs())("takes the example of %s", (_where, spec) => {
  expect(words(judge(spec))).toEqual([]);
});
test.each(goodModels)("takes a Model with %s", (_name, model) => {
  expect(words(validate(model))).toEqual([]);
});

test.each(bad)("refuses %s", (_name, spec, message) => {
  const found = words(judge(spec));
  expect(found.length).toBeGreaterThan(0);
  // A rule has one message, whoever tells it.
  if (ruleMessages.some((each) => each.includes(message))) expect(found.join("\n")).toContain(message);
});
test.each(badNames)("refuses the name %s", (name, message) => {
  expect(words(judge({ source }, name)).join("\n")).toContain(message);
});
test.each(badModels)("refuses a Model with %s", (_name, model) => {
  expect(words(validate(model)).length).toBeGreaterThan(0);
});

test("every refusal in its words", async () => {
  const refusals = [
    ...bad.map(([name, spec]) => [name, words(judge(spec))] as const),
    ...badModels.map(([name, model]) => [name, words(validate(model))] as const),
  ];
  const text = refusals.map(([name, lines]) => `${name}\n${lines.map((line) => `  ${line}\n`).join("")}`);
  await expect(text.join("\n")).toMatchFileSnapshot(join(root, "test/golden/validation/refusals.txt"));
});

test("everything that is wrong is told, not only the first", () => {
  const paths = judge({
    source: { reference: "https://x/y" },
    replicas: -1,
    storage: { medium: "Memory", type: "NodeCache" },
    acelerator: {},
  }).problems.map(({ path }) => path);
  expect(paths.sort()).toEqual(["spec.acelerator", "spec.replicas", "spec.source.reference", "spec.storage"]);
});

test.each([
  [{ url: "oci://registry.example/llm" }, "spec.url: unknown field; did you mean spec.source.reference?"],
  [{ source: { url: "registry.example/llm" } }, "spec.source.url: unknown field; did you mean reference?"],
  [
    { source, variants: [{ name: "a", modelURI: "x" }] },
    "spec.variants[0].modelURI: unknown field; did you mean reference?",
  ],
  [{ source: "registry.example/llm" }, "spec.source: is a text, and must be a map with reference, "],
])("what other operators call the place of a model is understood: %j", (spec, told) => {
  expect(words(judge(spec)).join("\n")).toContain(told);
});

test("no message holds the password of an address", () => {
  const spec = { source: { ...source, mirrors: [{ host: "h", url: "https://user:hunter2@mirror" }] } };
  expect(words(judge(spec)).join()).not.toContain("hunter2");
});

describe("the definition", () => {
  test("has rules that all can be evaluated, each broken by a Model of the table", () => {
    const schemas = schemasOf(definition);
    const all = schemas.flatMap(rulesOf);
    expect(all.length).toBeGreaterThan(25);
    const told = [
      ...bad.flatMap(([, spec]) => judge(spec).problems),
      ...badNames.flatMap(([name]) => judge({ source }, name).problems),
    ].map(({ message }) => message);
    const silent = all
      .filter(({ isTransition }) => !isTransition)
      .filter(({ message }) => !told.includes(message));
    expect(silent.map(({ message }) => message)).toEqual([]);
    // Rules on a change are not for new Models.
    expect(all.filter(({ isTransition }) => isTransition)).toHaveLength(1);
  });

  test.each([
    ["a function that nobody knows", "isURL(self)"],
    ["a method that nobody knows", "self.a.isSorted()"],
    ["a variable that nobody knows", "request.user == 'x'"],
    ["text that is no CEL", "self ="],
  ])("a rule with %s cannot be compiled", (_name, rule) => {
    expect(() => compileRule(rule)).toThrow(Error);
    const items = { type: "string", "x-kubernetes-validations": [{ rule }] };
    const spec = { type: "object", properties: { list: { type: "array", items } } };
    // Before any Model is judged.
    expect(() => modelValidator({ type: "object", properties: { spec } })).toThrow(Error);
  });
  test("a name of a megabyte, and lists with many items, are judged at once", () => {
    const startedMs = performance.now();
    const long = judge({ source, ["x".repeat(2 ** 20)]: 1 }).problems;
    expect(long).toHaveLength(1);
    const pullSecrets = Array.from({ length: 50_000 }, (_, index) => ({ name: `s${index}` }));
    expect(judge({ source: { ...source, pullSecrets } }).problems.length).toBeGreaterThan(0);
    expect(performance.now() - startedMs).toBeLessThan(5000);
  });
  test("many items that must differ, and do, are judged at once", () => {
    const items = { type: "object", properties: { name: { type: "string" } } };
    const list: StructuralSchema = {
      type: "array",
      "x-kubernetes-list-type": "map",
      "x-kubernetes-list-map-keys": ["name"],
      items,
    };
    const judgeList = modelValidator({
      type: "object",
      properties: { spec: { type: "object", properties: { list } } },
    });
    const spec = { list: Array.from({ length: 100_000 }, (_, index) => ({ name: `n${index}` })) };
    const startedMs = performance.now();
    const { problems } = judgeList({
      apiVersion: "ocimodel.dev/v1alpha1",
      kind: "Model",
      metadata: { name: "a" },
      spec,
    });
    expect(problems).toEqual([]);
    // Ten times what it takes on a tidy machine, and a quarter of what it would, were each compared with all others.
    expect(performance.now() - startedMs).toBeLessThan(10_000);
  });
  test("a rule with keys that nobody knows cannot be compiled", () => {
    const schema = { "x-kubernetes-validations": [{ rule: "true", optionalOldSelf: true }] };
    expect(() => rulesOf(schema)).toThrow("optionalOldSelf");
  });
  test("a keyword that nobody judges is refused", () => {
    expect(() => jsonSchema({ type: "string", format: "ipv4" })).toThrow("format");
  });
  test("a rule that fails to evaluate refuses", () => {
    const schema: StructuralSchema = {
      type: "object",
      properties: {
        spec: {
          type: "object",
          "x-kubernetes-validations": [{ rule: "self.absent == 1", message: "is odd" }],
        },
      },
    };
    const model = { apiVersion: "ocimodel.dev/v1alpha1", kind: "Model", metadata: { name: "a" }, spec: {} };
    expect(words(modelValidator(schema)(model))[0]).toMatch(
      /^spec: is odd \(its rule could not be evaluated/,
    );
  });
});

test("metadata has the fields that Kubernetes has", () => {
  const known = V1ObjectMeta.getAttributeTypeMap().map(({ baseName }) => baseName);
  expect(Object.keys(objectMetaSchema.properties ?? {}).sort()).toEqual(known.sort());
});

test("defaults are filled in as the API server does, for null too", () => {
  const { model } = judge({
    source: { ...source, refresh: {} },
    selection: { policy: null, contextLength: null },
    storage: {},
    variants: [{ name: "a", requirements: { accelerator: { vendor: "nvidia" } } }],
  });
  expect((model as Fields)["spec"]).toEqual({
    source: { ...source, refresh: { policy: "IfNotPresent", interval: "1h" } },
    variants: [{ name: "a", requirements: { accelerator: { vendor: "nvidia", count: 1 } } }],
    selection: {
      policy: "FirstFit",
      parallel: 1,
      cpuFallback: true,
      placement: "Uniform",
      emptyCluster: "Wait",
      reselect: "WhenUnschedulable",
      unschedulableAfter: "10m",
    },
    storage: { type: "Ephemeral", size: "auto" },
    replicas: 1,
    suspend: false,
  });
});

test("null in a template patch stays, and what was given is not changed", () => {
  const given = { source, template: { spec: { nodeSelector: null }, metadata: { labels: { a: null } } } };
  const { model, problems } = judge(given);
  expect(problems).toEqual([]);
  expect((model as { spec: Fields }).spec["template"]).toEqual(given.template);
  expect(given).not.toHaveProperty("replicas");
});

test("an operator that reconciles loads nothing of it", () => {
  const main = readFileSync(join(root, "operator/main.ts"), "utf8");
  expect(main).not.toContain("validation/");
});
