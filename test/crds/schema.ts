// Reads the Model's CustomResourceDefinition and walks its schema. For tests.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { parse } from "yaml";

export const root = join(import.meta.dirname, "../..");
export const crdFile = join(root, "crds/ocimodel.dev_models.yaml");
export const chartCrdFile = join(root, "charts/ocimodel/files/models.yaml");

export type Schema = {
  readonly type?: string;
  readonly description?: string;
  readonly default?: unknown;
  readonly enum?: readonly string[];
  readonly required?: readonly string[];
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly items?: Schema;
  readonly additionalProperties?: Schema;
  readonly "x-kubernetes-validations"?: readonly { readonly rule: string; readonly message?: string }[];
};

type Definition = {
  readonly spec: {
    readonly versions: readonly { readonly schema: { readonly openAPIV3Schema: Schema } }[];
  };
};

/** Schema of the only version. */
export function modelSchema(): Schema {
  const definition = parse(readFileSync(crdFile, "utf8")) as Definition;
  const [version] = definition.spec.versions;
  if (version === undefined) throw new Error("the definition has no version");
  return version.schema.openAPIV3Schema;
}

export type Field = { readonly path: string; readonly schema: Schema };

/** All fields below a schema by path; `[]` stands for the items of a list. */
export function fieldsOf(schema: Schema, path: string): readonly Field[] {
  const children = Object.entries(schema.properties ?? {}).flatMap(([name, child]) => {
    const childPath = path === "" ? name : `${path}.${name}`;
    return [{ path: childPath, schema: child }, ...fieldsOf(child, childPath)];
  });
  const items = schema.items === undefined ? [] : fieldsOf(schema.items, `${path}[]`);
  return [...children, ...items];
}

/** All CEL rules of a schema. */
export function rulesOf(schema: Schema): readonly { readonly rule: string; readonly message?: string }[] {
  return [
    ...(schema["x-kubernetes-validations"] ?? []),
    ...Object.values(schema.properties ?? {}).flatMap(rulesOf),
    ...(schema.items === undefined ? [] : rulesOf(schema.items)),
  ];
}
