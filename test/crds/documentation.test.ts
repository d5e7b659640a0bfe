import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { parseAllDocuments } from "yaml";
import { conditionTypes, operatorReasons } from "../../operator/api/conditions.ts";
import { failureExitCodes, isRetryable, type FailureCode } from "../../puller/contract.ts";
import { fieldsOf, modelSchema, root, type Field, type Schema } from "./schema.ts";

const read = (name: string): string => readFileSync(join(root, "docs", name), "utf8");

/** The cells of all table rows under a heading, without back quotes around the first. */
function rows(text: string, heading: string): readonly (readonly string[])[] {
  const section = text.split(/^## /m).find((each) => each.startsWith(`${heading}\n`)) ?? "";
  return section
    .split("\n")
    .filter((line) => line.startsWith("| `"))
    .map((line) =>
      line
        .slice(1, -1)
        .split(/(?<!\\)\|/)
        .map((cell) => cell.trim()),
    )
    .map(([first = "", ...others]) => [first.replaceAll("`", ""), ...others]);
}

describe("docs/conditions.md", () => {
  const text = read("conditions.md");

  test("lists the condition types with the sentences of the code, in its order", () => {
    expect(rows(text, "Types").map(([type, when]) => [type, when])).toEqual(Object.entries(conditionTypes));
  });

  test("lists the operator's reasons with the sentences of the code, each with a remedy", () => {
    const listed = rows(text, "Reasons of the operator");
    expect(listed.map(([reason, meaning]) => [reason, meaning])).toEqual(Object.entries(operatorReasons));
    expect(listed.filter(([, , remedy = ""]) => !/^[A-Z`].{3,}[.?]$/.test(remedy))).toEqual([]);
  });

  test("lists the puller's reasons with exit code and whether they are tried again, each with meaning and remedy", () => {
    const listed = rows(text, "Reasons of the puller");
    expect(listed.map(([code, exit]) => [code, exit])).toEqual(
      Object.entries(failureExitCodes).map(([code, exit]) => [
        code,
        isRetryable(code as FailureCode) ? `${exit}, again` : String(exit),
      ]),
    );
    expect(
      listed.filter(([, , meaning = "", remedy = ""]) => meaning.length < 10 || remedy.length < 10),
    ).toEqual([]);
  });

  test("says of the puller's reasons what the contract says", () => {
    const contract = readFileSync(join(root, "puller/contract.ts"), "utf8");
    for (const [code = "", , meaning] of rows(text, "Reasons of the puller")) {
      expect(contract).toContain(`/** ${meaning} */\n  ${code}:`);
    }
  });
});

describe("docs/model-reference.md", () => {
  const text = read("model-reference.md");
  const schema = modelSchema();
  const fields = ["spec", "status"].flatMap((part) => fieldsOf(schema.properties?.[part] ?? {}, part));
  const rowOf = (path: string): string | undefined =>
    text.split("\n").find((line) => line.startsWith(`| \`${path}\` `));

  test("has a row for every field, and for no other", () => {
    expect(fields.filter(({ path }) => rowOf(path) === undefined).map(({ path }) => path)).toEqual([]);
    const paths = new Set(fields.map(({ path }) => path));
    const listed = [...text.matchAll(/^\| `((?:spec|status)[^`]*)` /gm)].map(([, path = ""]) => path);
    expect(listed.filter((path) => !paths.has(path))).toEqual([]);
    expect(new Set(listed).size).toBe(listed.length);
  });

  test("says of each field what the schema says, with its default and its values", () => {
    const wrong = fields.filter(
      ({ path, schema: { description = "", default: preset, enum: values = [] } }: Field) => {
        const row = (rowOf(path) ?? "").replaceAll("\\", "");
        const hasDefault =
          preset === undefined || row.includes(`default \`${JSON.stringify(preset)?.replaceAll('"', "")}\``);
        return (
          !row.includes(description.replaceAll(/\s+/g, " ")) ||
          !hasDefault ||
          !values.every((value) => row.includes(`\`${value}\``))
        );
      },
    );
    expect(wrong.map(({ path }) => path)).toEqual([]);
  });

  /** Fields of an example that the schema does not know. */
  function unknownFields(value: unknown, part: Schema | undefined, path: string): readonly string[] {
    if (part === undefined) return [path];
    if (typeof value !== "object" || value === null) return [];
    if (Array.isArray(value)) {
      return value.flatMap((item, index) => unknownFields(item, part.items, `${path}[${index}]`));
    }
    const isFree = "x-kubernetes-preserve-unknown-fields" in part || part.additionalProperties !== undefined;
    return Object.entries(value).flatMap(([key, child]) =>
      isFree && part.properties?.[key] === undefined
        ? []
        : unknownFields(child, part.properties?.[key], `${path}.${key}`),
    );
  }

  test("every example is one that the schema knows", () => {
    const examples = [...text.matchAll(/```yaml\n(.*?)```/gs)].map(([, yaml = ""]) => yaml);
    expect(examples.length).toBeGreaterThan(9);
    for (const example of examples) {
      const [document] = parseAllDocuments(example);
      expect(document?.errors).toEqual([]);
      const value = document?.toJS() as Record<string, unknown>;
      const isWhole = "kind" in value;
      const isStatus = "status" in value;
      const part =
        isWhole || isStatus
          ? {
              ...schema,
              properties: {
                ...schema.properties,
                metadata: { "x-kubernetes-preserve-unknown-fields": true } as Schema,
              },
            }
          : schema.properties?.["spec"];
      expect(unknownFields(value, part, "")).toEqual([]);
    }
  });
});
