import { readFileSync, statSync } from "node:fs";
import { expect, test } from "vitest";
import { specTree, statusTree } from "./model-tree.ts";
import { chartCrdFile, crdFile, fieldsOf, modelSchema, rulesOf, type Schema } from "./schema.ts";

const schema = modelSchema();
const spec = schema.properties?.["spec"] ?? {};
const status = schema.properties?.["status"] ?? {};

test("the chart's copy is the definition, byte for byte (npm run golden writes it)", async () => {
  await expect(readFileSync(crdFile, "utf8")).toMatchFileSnapshot(chartCrdFile);
});

test("the definition fits into the annotation of a client-side apply", () => {
  expect(statSync(crdFile).size).toBeLessThan(256 * 1024);
});

test("every field has a description that is a sentence", () => {
  const fields = [...fieldsOf(spec, "spec"), ...fieldsOf(status, "status")];
  expect(fields.length).toBeGreaterThan(120);
  expect(fields.filter(({ schema: { description = "" } }) => !/^[^ ].{3,}[.)]$/s.test(description))).toEqual(
    [],
  );
});

test("every CEL rule has a message", () => {
  const rules = rulesOf(schema);
  expect(rules.length).toBeGreaterThan(20);
  expect(rules.filter(({ message }) => message === undefined)).toEqual([]);
});

type Node = string | { readonly [key: string]: Node | true };
const kinds: Readonly<Record<string, string>> = { integer: "number", boolean: "boolean", string: "string" };

/** Where schema and tree differ, one line each. `isSpec`: enumerations and what is optional are compared too. */
function differences(part: Schema, tree: Node, path: string, isSpec: boolean): readonly string[] {
  if (tree === "object") return part.type === "object" ? [] : [`${path}: ${part.type}, not object`];
  if (typeof tree === "string") {
    const isOpen = !isSpec || part.enum === undefined;
    return kinds[part.type ?? ""] === tree && isOpen ? [] : [`${path}: ${part.type}, not ${tree}`];
  }
  if (tree["items"] !== undefined && part.type === "array") {
    return differences(part.items ?? {}, tree["items"] as Node, `${path}[]`, isSpec);
  }
  const values = tree["enum"];
  if (typeof values === "object") {
    const here = [...(part.enum ?? [])].sort().join(", ");
    const there = Object.keys(values).sort().join(", ");
    return here === there ? [] : [`${path}: ${here} in one, ${there} in the other`];
  }
  const fields = new Map(Object.entries(tree).map(([key, child]) => [key.replace("?", ""), { key, child }]));
  const names = new Set([...fields.keys(), ...Object.keys(part.properties ?? {})]);
  return [...names].flatMap((name) => {
    const inSchema = part.properties?.[name];
    const inTree = fields.get(name);
    const here = `${path}.${name}`;
    if (inSchema === undefined) return [`${here}: not in the schema`];
    if (inTree === undefined) return [`${here}: not in the TypeScript type`];
    const isRequired = part.required?.includes(name) === true;
    const isOptionalInTree = inTree.key.endsWith("?");
    const isOdd = isSpec && inSchema.default === undefined && isRequired === isOptionalInTree;
    return [
      ...(isOdd ? [`${here}: required in one, optional in the other`] : []),
      ...differences(inSchema, inTree.child as Node, here, isSpec),
    ];
  });
}

test("the schema of the spec is the TypeScript type", () => {
  expect(differences(spec, specTree as unknown as Node, "spec", true)).toEqual([]);
});

test("the schema of the status is the TypeScript type", () => {
  expect(differences(status, statusTree as unknown as Node, "status", false)).toEqual([]);
});

test("the comparison finds what differs", () => {
  const part: Schema = {
    type: "object",
    required: ["a"],
    properties: { a: { type: "string" }, b: { type: "integer" }, c: { type: "string", enum: ["x"] } },
  };
  expect(differences(part, { a: "string", "b?": "number", "c?": { enum: { x: true } } }, "", true)).toEqual(
    [],
  );
  expect(
    differences(part, { "a?": "string", b: "number", "c?": { enum: { y: true } }, d: "string" }, "", true),
  ).toHaveLength(4);
});
