// Says what is wrong with a field, and what to do, in words of the schema. Shows values only where they are no secret. Pure.

import type { ErrorObject } from "ajv";
import { isMap } from "../api/json.ts";
import { fromRe2 } from "./regular-expression.ts";
import { formatPath, type Path, type StructuralSchema } from "./structural-schema.ts";

/** The first sentence: what the field is. */
function remedy(schema: StructuralSchema | undefined): string {
  const [first = ""] = /^.*?(?:[.](?=\s|$)|$)/s.exec(schema?.description ?? "") ?? [];
  return first === "" ? "" : ` (${first.replace(/[.]$/, "")})`;
}

/** A value, cut, and of an address the scheme alone: users, passwords and tokens stand anywhere in the rest. */
function shown(value: unknown): string {
  const text = JSON.stringify(value) ?? "nothing";
  const safe = text.replace(/\/\/[^"]*/g, "//***");
  return safe.length > 80 ? `${safe.slice(0, 80)}…` : safe;
}

function kindOf(value: unknown): string {
  if (value === null) return "null";
  if (Array.isArray(value)) return "a list";
  return { object: "a map", string: "a text", number: "a number", boolean: "a boolean" }[
    typeof value as "object"
  ];
}

const kinds: Readonly<Record<string, string>> = {
  object: "a map",
  array: "a list",
  string: "a text",
  integer: "a whole number",
  number: "a number",
  boolean: "true or false",
};

function wrongType(expected: string, value: unknown, schema: StructuralSchema): string {
  const wanted = expected
    .split(",")
    .map((each) => kinds[each] ?? each)
    .join(" or ");
  const fields = Object.keys(schema.properties ?? {});
  const inside =
    fields.length === 0 ? "" : ` with ${fields.slice(0, 4).join(", ")}${fields.length > 4 ? ", …" : ""}`;
  const isScalar = ["number", "boolean"].includes(typeof value);
  const isQuoted =
    typeof value === "string" && expected !== "string" && /^(-?[0-9.]+|true|false)$/.test(value);
  const what = isScalar || isQuoted ? `${shown(value)}, ${kindOf(value)}` : kindOf(value);
  const advice =
    expected === "string" && isScalar
      ? "; put it in quotes"
      : isQuoted && (expected === "boolean") === /^[tf]/.test(value)
        ? "; leave the quotes out"
        : expected === "array" && value !== null
          ? "; begin each item with -"
          : "";
  return `is ${what}, and must be ${wanted}${inside}${advice}`;
}

function distance(one: string, other: string): number {
  let previous = Array.from({ length: other.length + 1 }, (_, index) => index);
  for (let row = 0; row < one.length; row += 1) {
    const next = [row + 1];
    for (let column = 0; column < other.length; column += 1)
      next.push(
        Math.min(
          (previous[column + 1] ?? 0) + 1,
          (next[column] ?? 0) + 1,
          (previous[column] ?? 0) + (other[column] === one[row] ? 0 : 1),
        ),
      );
    previous = next;
  }
  return previous.at(-1) ?? 0;
}

/** Lengths that differ by more than a third are further apart than any mistake, so that a name of a megabyte costs nothing. */
const isComparable = (one: string, other: string): boolean =>
  Math.abs(one.length - other.length) <= Math.max(1, Math.floor(Math.min(one.length, other.length) / 3));

function nearest(name: string, known: readonly string[]): string | undefined {
  const [best] = known
    .filter((each) => isComparable(name, each))
    .map((each) => ({ each, apart: distance(name.toLowerCase(), each.toLowerCase()) }))
    .filter(({ each, apart }) => apart <= Math.max(1, Math.floor(Math.min(name.length, each.length) / 3)))
    .sort((one, other) => one.apart - other.apart);
  return best?.each;
}

/** Where else the schema has a field of that name. */
function places(schema: StructuralSchema, name: string, path: string): readonly string[] {
  return [
    ...Object.entries(schema.properties ?? {}).flatMap(([key, child]) => {
      const here = path === "" ? key : `${path}.${key}`;
      return [...(key === name && path !== "" ? [path] : []), ...places(child, name, here)];
    }),
    ...(schema.items === undefined ? [] : places(schema.items, name, `${path}[]`)),
  ];
}

/** All names of fields of a schema. */
function fieldNames(schema: StructuralSchema): readonly string[] {
  return [
    ...Object.entries(schema.properties ?? {}).flatMap(([name, child]) => [name, ...fieldNames(child)]),
    ...(schema.items === undefined ? [] : fieldNames(schema.items)),
  ];
}

/** What was meant by a text that does not match: the same in lower case, without a unit's B, without spaces, with - for _. */
function meant(value: unknown, pattern: string): string {
  if (typeof value !== "string") return "";
  const changes = [
    (text: string) => text.replace(/(?<=[KMGTPi])[Bb]$/, ""),
    (text: string) => text.replaceAll(/\s/g, ""),
    (text: string) => text.toLowerCase(),
    (text: string) => text.toUpperCase(),
    (text: string) => text.toLowerCase().replaceAll("_", "-"),
  ];
  const expression = fromRe2(pattern);
  const found = changes.map((change) => change(value)).find((text) => expression.test(text));
  return found === undefined ? "" : `; did you mean ${found}?`;
}

/** What the place of a model is called elsewhere. */
const referenceNames: ReadonlySet<string> = new Set([
  "url",
  "uri",
  "model",
  "modelurl",
  "modeluri",
  "repository",
  "registry",
]);

function unknownField(name: string, schema: StructuralSchema, spec: StructuralSchema): string {
  const known = Object.keys(schema.properties ?? {});
  if (referenceNames.has(name.toLowerCase())) {
    if (known.includes("reference")) return "unknown field; did you mean reference?";
    if (known.includes("source")) return "unknown field; did you mean spec.source.reference?";
  }
  const close = nearest(name, known);
  if (close !== undefined) return `unknown field; did you mean ${close}?`;
  const likely = nearest(name, fieldNames(spec));
  const elsewhere = likely === undefined ? [] : places(spec, likely, "spec");
  if (likely !== undefined && elsewhere.length > 0)
    return `unknown field here; ${likely === name ? "it" : likely} belongs into ${elsewhere.slice(0, 2).join(" or ")}`;
  return known.length === 0 || known.length > 16
    ? "unknown field"
    : `unknown field; there are ${known.join(", ")}`;
}

function plural(count: number, one: string, many: string): string {
  return `${count} ${count === 1 ? one : many}`;
}

/** One error of ajv as a path and a message. `spec` is the schema that misplaced fields are looked for in. */
export function worded(
  error: ErrorObject,
  at: Path,
  spec: StructuralSchema,
): { readonly path: string; readonly message: string } {
  const { keyword, data } = error;
  const params = error.params as Readonly<Record<string, unknown>>;
  const schema = (error.parentSchema ?? {}) as StructuralSchema;
  const text = (key: string): string => {
    const value = params[key];
    return Array.isArray(value) ? value.join(",") : typeof value === "string" ? value : "";
  };
  const name = text("missingProperty") + text("additionalProperty");
  const path = formatPath(name === "" ? at : [...at, name]);
  const say = (message: string): { readonly path: string; readonly message: string } => ({ path, message });
  const limit = Number(params["limit"]);
  switch (keyword) {
    case "required":
      return say(`is missing${remedy(schema.properties?.[name])}`);
    case "additionalProperties":
      return say(unknownField(name, schema, spec));
    case "type":
      return say(wrongType(text("type"), data, schema) + remedy(schema));
    case "enum": {
      const values = (params["allowedValues"] as readonly unknown[]).map(String);
      const close = typeof data === "string" ? nearest(data, values) : undefined;
      return say(
        `${shown(data)} is none of ${values.join(", ")}${close === undefined ? "" : `; did you mean ${close}?`}`,
      );
    }
    case "pattern":
      return say(
        `${shown(data)} does not match ${text("pattern")}${remedy(schema)}${meant(data, text("pattern"))}`,
      );
    case "minimum":
    case "maximum":
      return say(
        `${shown(data)} is ${keyword === "minimum" ? "less" : "more"} than ${limit}${remedy(schema)}`,
      );
    case "minLength":
      return say(`is empty${remedy(schema)}`);
    case "maxLength":
      return say(`is longer than ${plural(limit, "character", "characters")}`);
    case "minItems":
      return say(`has fewer than ${plural(limit, "item", "items")}; leave it out, or fill it`);
    case "maxItems":
      return say(
        `has ${plural(Array.isArray(data) ? data.length : 0, "item", "items")}, of ${limit} at most`,
      );
    case "maxProperties":
      return say(
        `has ${plural(isMap(data) ? Object.keys(data).length : 0, "key", "keys")}, of ${limit} at most`,
      );
    default:
      return say(error.message ?? keyword);
  }
}
