// A structural schema as a JSON Schema that ajv takes: unknown fields are errors, as kubectl's strict validation has it. Pure.

import { fromRe2 } from "./regular-expression.ts";
import type { StructuralSchema } from "./structural-schema.ts";

type JsonSchema = Readonly<Record<string, unknown>>;

/** Keywords that mean the same to ajv. */
const equal: ReadonlySet<string> = new Set([
  "type",
  "description",
  "default",
  "enum",
  "nullable",
  "required",
  "pattern",
  "minimum",
  "maximum",
  "exclusiveMinimum",
  "exclusiveMaximum",
  "multipleOf",
  "minLength",
  "maxLength",
  "minItems",
  "maxItems",
  "uniqueItems",
  "minProperties",
  "maxProperties",
]);
/** Keywords that are seen to below, or by those who walk the schema themselves. */
const handled: ReadonlySet<string> = new Set([
  "properties",
  "additionalProperties",
  "items",
  "x-kubernetes-validations",
  "x-kubernetes-list-type",
  "x-kubernetes-list-map-keys",
  "x-kubernetes-int-or-string",
  "x-kubernetes-preserve-unknown-fields",
]);

/** Throws for a keyword that is not known: it would refuse on the API server what is taken here. */
export function jsonSchema(schema: StructuralSchema): JsonSchema {
  const unknown = Object.keys(schema).find((key) => !equal.has(key) && !handled.has(key));
  if (unknown !== undefined) throw new Error(`keyword ${unknown} of the schema cannot be judged`);
  const { properties, additionalProperties, items } = schema;
  const isOpen = schema["x-kubernetes-preserve-unknown-fields"] === true || additionalProperties === true;
  return {
    ...Object.fromEntries(Object.entries(schema).filter(([key]) => equal.has(key))),
    ...(schema["x-kubernetes-int-or-string"] === true ? { type: ["integer", "string"] } : {}),
    ...(properties === undefined
      ? {}
      : {
          properties: Object.fromEntries(
            Object.entries(properties).map(([name, each]) => [name, jsonSchema(each)]),
          ),
        }),
    ...(items === undefined ? {} : { items: jsonSchema(items) }),
    ...(schema.type !== "object" || isOpen
      ? {}
      : {
          additionalProperties:
            typeof additionalProperties === "object" ? jsonSchema(additionalProperties) : false,
        }),
  };
}

/** For ajv, which asks for the source of what it calls. */
export const regularExpressions = Object.assign((pattern: string) => fromRe2(pattern), { code: "fromRe2" });
