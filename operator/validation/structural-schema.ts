// Structural schemas of a CustomResourceDefinition, and walks over values along them. Pure.
// https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#specifying-a-structural-schema

import { isMap } from "../api/json.ts";

export type StructuralSchema = {
  readonly type?: string;
  readonly description?: string;
  readonly default?: unknown;
  readonly nullable?: boolean;
  readonly properties?: Readonly<Record<string, StructuralSchema>>;
  readonly additionalProperties?: StructuralSchema | boolean;
  readonly items?: StructuralSchema;
  readonly "x-kubernetes-validations"?: readonly ValidationRule[];
  readonly "x-kubernetes-list-type"?: string;
  readonly "x-kubernetes-list-map-keys"?: readonly string[];
  readonly "x-kubernetes-int-or-string"?: boolean;
  readonly "x-kubernetes-preserve-unknown-fields"?: boolean;
  readonly [keyword: string]: unknown;
};

export type ValidationRule = { readonly rule: string; readonly message?: string };

export type Path = readonly (string | number)[];

/** The schema of a field of a map; undefined where the schema says nothing of it. */
export function fieldSchema(schema: StructuralSchema, name: string): StructuralSchema | undefined {
  if (schema.properties !== undefined && Object.hasOwn(schema.properties, name))
    return schema.properties[name];
  return typeof schema.additionalProperties === "object" ? schema.additionalProperties : undefined;
}

/** "spec.variants[0].name", as the API server names fields. */
export function formatPath(path: Path): string {
  return path
    .map((part, index) =>
      typeof part === "number"
        ? `[${part}]`
        : /^[A-Za-z_][\w-]*$/.test(part)
          ? `${index === 0 ? "" : "."}${part}`
          : `[${JSON.stringify(part)}]`,
    )
    .join("");
}

/** The schema and all that are in it. */
export function* schemasIn(schema: StructuralSchema): Generator<StructuralSchema> {
  yield schema;
  const { properties = {}, items, additionalProperties } = schema;
  for (const each of Object.values(properties)) yield* schemasIn(each);
  if (items !== undefined) yield* schemasIn(items);
  if (typeof additionalProperties === "object") yield* schemasIn(additionalProperties);
}

/** Every value that a schema speaks of, parents first. */
export function* walk(
  schema: StructuralSchema,
  value: unknown,
  path: Path = [],
): Generator<{ readonly schema: StructuralSchema; readonly value: unknown; readonly path: Path }> {
  yield { schema, value, path };
  if (Array.isArray(value)) {
    if (schema.items === undefined) return;
    for (const [index, item] of value.entries()) yield* walk(schema.items, item, [...path, index]);
  } else if (isMap(value)) {
    for (const [name, field] of Object.entries(value)) {
      const known = fieldSchema(schema, name);
      if (known !== undefined) yield* walk(known, field, [...path, name]);
    }
  }
}

/**
 * A copy without the nulls of fields that may not be null, which the API server drops before it fills in defaults.
 * https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#defaulting-and-nullable
 */
export function withoutNulls(value: unknown, schema: StructuralSchema | undefined): unknown {
  if (Array.isArray(value)) return value.map((item: unknown) => withoutNulls(item, schema?.items));
  if (!isMap(value)) return value;
  return Object.fromEntries(
    Object.entries(value).flatMap(([name, field]) => {
      const known = schema === undefined ? undefined : fieldSchema(schema, name);
      return field === null && known !== undefined && known.nullable !== true
        ? []
        : [[name, withoutNulls(field, known)]];
    }),
  );
}
