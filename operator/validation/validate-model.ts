// Whether the API server would take a Model, judged without one by its CustomResourceDefinition alone. Pure.
// Not judged: the status, which only the operator writes, and what depends on an earlier state of the Model.

import { Ajv } from "ajv";
import { isMap } from "../api/json.ts";
import { modelResource } from "../api/model.ts";
import { jsonSchema, regularExpressions } from "./json-schema.ts";
import { metadataProblems, objectMetaSchema } from "./object-meta.ts";
import { brokenRules, rulesOf } from "./rules.ts";
import {
  formatPath,
  schemasIn,
  walk,
  withoutNulls,
  type Path,
  type StructuralSchema,
} from "./structural-schema.ts";
import { worded } from "./wording.ts";

export type Problem = {
  /** Of the field, such as "spec.variants[0].name"; empty: the Model itself. */
  readonly path: string;
  readonly message: string;
};

export type Judged = {
  /** With the defaults of the schema filled in; to be used only where there is no problem. */
  readonly model: unknown;
  /** All that is wrong, in the order of the schema; empty: the API server takes it. */
  readonly problems: readonly Problem[];
};

/** The path of a JSON pointer; whether a number is an index is told by the value. */
function pathOf(pointer: string, value: unknown): Path {
  let at = value;
  return pointer
    .split("/")
    .slice(1)
    .map((part) => {
      const name = part.replaceAll("~1", "/").replaceAll("~0", "~");
      const isIndex = Array.isArray(at);
      at = isIndex ? (at as unknown[])[Number(name)] : isMap(at) ? at[name] : undefined;
      return isIndex ? Number(name) : name;
    });
}

function isBelow(path: Path, parent: Path): boolean {
  return parent.every((part, index) => path[index] === part);
}

/** Items of a list that must differ, by their keys or as a whole. */
function repeatedItems(
  schema: StructuralSchema,
  object: unknown,
): readonly { readonly path: Path; readonly message: string }[] {
  return [...walk(schema, object)].flatMap(({ schema: part, value, path }) => {
    const listType = part["x-kubernetes-list-type"];
    if (!Array.isArray(value) || (listType !== "map" && listType !== "set")) return [];
    const keys = part["x-kubernetes-list-map-keys"] ?? [];
    const texts = value.map((item: unknown) =>
      JSON.stringify(listType === "set" ? item : keys.map((key) => (isMap(item) ? item[key] : undefined))),
    );
    const firsts = new Map<string, number>();
    for (const [index, text] of texts.entries()) if (!firsts.has(text)) firsts.set(text, index);
    return texts.flatMap((text, index) => {
      const first = firsts.get(text) ?? index;
      const what = listType === "set" ? "value" : keys.join(" and ");
      return first === index
        ? []
        : [
            {
              path: [...path, index],
              message: `has the same ${what} as ${formatPath([...path, first])}; each must be there once`,
            },
          ];
    });
  });
}

/** A function that judges Models by their definition's schema. Throws where the schema has something that cannot be judged. */
export function modelValidator(definition: StructuralSchema): (model: unknown) => Judged {
  const { spec = {} } = definition.properties ?? {};
  const root: StructuralSchema = {
    ...definition,
    required: ["apiVersion", "kind", "metadata", ...((definition["required"] ?? []) as readonly string[])],
    properties: {
      ...definition.properties,
      apiVersion: {
        type: "string",
        enum: [`${modelResource.group}/${modelResource.version}`],
        description: `${modelResource.group}/${modelResource.version}.`,
      },
      kind: { type: "string", enum: [modelResource.kind] },
      metadata: objectMetaSchema,
      status: { "x-kubernetes-preserve-unknown-fields": true },
    },
  };
  const ajv = new Ajv({
    allErrors: true,
    verbose: true,
    useDefaults: true,
    strictTypes: false,
    allowUnionTypes: true,
    code: { regExp: regularExpressions },
  });
  const validate = ajv.compile(jsonSchema(root));
  // What cannot be evaluated is told now, and not with the first Model that has such a field.
  for (const each of schemasIn(root)) rulesOf(each);
  return (given) => {
    const model = withoutNulls(given, root);
    validate(model);
    const errors = (validate.errors ?? []).map((error) => ({ error, at: pathOf(error.instancePath, model) }));
    const isBroken = (path: Path): boolean => errors.some(({ at }) => isBelow(at, path));
    const metadata = isMap(model) && isMap(model["metadata"]) ? model["metadata"] : {};
    const problems: readonly Problem[] = [
      ...errors.map(({ error, at }) => worded(error, at, spec)),
      ...(isBroken(["metadata"]) ? [] : metadataProblems(metadata)).map(({ path, message }) => ({
        path: formatPath(["metadata", ...path]),
        message,
      })),
      ...[...repeatedItems(root, model), ...brokenRules(root, model, isBroken)].map(({ path, message }) => ({
        path: formatPath(path),
        message,
      })),
    ];
    return { model, problems: withoutRepeats(problems) };
  };
}

/** A rule of an item that is listed in several places of a union, or one rule on several paths, is told once each. */
function withoutRepeats(problems: readonly Problem[]): readonly Problem[] {
  const seen = new Map(problems.map((each) => [`${each.path}\n${each.message}`, each]));
  return [...seen.values()];
}
