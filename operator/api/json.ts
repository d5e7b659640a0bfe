// JSON whose shape nobody has checked: values, and what stands at a place in them. Pure.

export type Json = string | number | boolean | null | readonly Json[] | { readonly [key: string]: Json };
export type JsonObject = { readonly [key: string]: Json };

/** Whether it is a map, and neither null nor a list. */
export function isMap(value: Json | undefined): value is JsonObject;
export function isMap(value: unknown): value is { readonly [key: string]: unknown };
export function isMap(value: unknown): boolean {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** What stands at a path in a value of any shape. */
export function at(value: Json | undefined, ...keys: readonly string[]): Json | undefined {
  let found = value;
  for (const key of keys) found = isMap(found) ? found[key] : undefined;
  return found;
}

/** The map there; empty where there is none. */
export function mapAt(value: Json | undefined, ...keys: readonly string[]): JsonObject {
  const found = at(value, ...keys);
  return isMap(found) ? found : {};
}

/** The list there; empty where there is none. */
export function listAt(value: Json | undefined, ...keys: readonly string[]): readonly Json[] {
  const found = at(value, ...keys);
  return Array.isArray(found) ? (found as readonly Json[]) : [];
}
