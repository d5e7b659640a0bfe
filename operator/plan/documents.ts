// Texts that `plan` is given as values: YAML or JSON, one document or several, or a kubectl List; and what is told where one is not as expected. Pure.

import { parseAllDocuments, type CollectionTag, type ScalarTag } from "yaml";
import { z } from "zod";

/** A file that is not what it should be; the message names it and says what to do. */
export class PlanInputError extends Error {
  override name = "PlanInputError";
}

/** The parts of an object that tell what it is. */
export const object = z.looseObject({
  apiVersion: z.string().optional().catch(undefined),
  kind: z.string().optional().catch(undefined),
  metadata: z.unknown().optional(),
  items: z.array(z.unknown()).optional().catch(undefined),
});

/** Times and numbers with a base of 60 are of YAML 1.1, but texts to kubectl. */
function isOtherTag(tag: ScalarTag | CollectionTag): boolean {
  return tag.tag === "tag:yaml.org,2002:timestamp" || ("format" in tag && tag.format === "TIME");
}

/** The first line of an error's message, without the colon before a picture of the place. */
export const firstLine = (error: unknown): string =>
  (error instanceof Error ? error.message : "unknown failure").split("\n", 1)[0]?.replace(/:$/, "") ?? "";

/** What programs print for people: a line of headings, two spaces apart at least. */
const isTable = (text: string): boolean =>
  /^[A-Z][A-Z()-]*(?: {2,}[A-Z][A-Z()-]*)+ *\r?$/m.test(text.split("\n", 1)[0] ?? "");

/** All documents of a text, read as kubectl does, which takes YAML 1.1 (`yes` is true); lists of kubectl are taken apart. */
export function documents(text: string, file: string): readonly unknown[] {
  if (isTable(text))
    throw new PlanInputError(
      `${file} is a table for people; "puller inspect" prints what is expected with --output json, kubectl with -o yaml`,
    );
  const parsed = parseAllDocuments(text, {
    version: "1.1",
    customTags: (tags) => tags.filter((tag) => typeof tag === "string" || !isOtherTag(tag)),
  });
  const found = (Array.isArray(parsed) ? parsed : []).flatMap((document) => {
    const [problem] = document.errors;
    if (problem !== undefined)
      throw new PlanInputError(`${file} is neither YAML nor JSON: ${firstLine(problem)}`);
    const value = contentOf(document, file);
    return value === null ? [] : [value];
  });
  // What a command that failed leaves behind a redirection; no nodes are a list without items.
  if (found.length === 0) throw new PlanInputError(`${file} is empty`);
  return found.flatMap((value) => {
    const { kind, items } = object.safeParse(value).data ?? {};
    if (kind?.endsWith("List") !== true || items === undefined) return [value];
    // The API server names the kind once, for all items of a PodList.
    const itemKind = kind.slice(0, -"List".length);
    return itemKind === "" ? items : items.map((item) => withKind(item, itemKind));
  });
}

/** What a document says, its aliases followed. */
function contentOf(document: { readonly toJS: () => unknown }, file: string): unknown {
  try {
    return document.toJS();
  } catch (error) {
    // An alias of nothing, or so many that they would fill the memory.
    throw new PlanInputError(
      `${file} is no usable YAML: ${error instanceof Error ? error.message : "unknown failure"}`,
      { cause: error },
    );
  }
}

function withKind(item: unknown, kind: string): unknown {
  return typeof item === "object" && item !== null && !("kind" in item) ? { ...item, kind } : item;
}

const named = z.looseObject({ name: z.string().min(1) });

/** Which of the items of a file it is: "item 3 (Pod web)", or by the reference that it tells facts of. */
export function itemName(value: unknown, index: number): string {
  const { kind, metadata } = object.safeParse(value).data ?? {};
  const name =
    named.safeParse(metadata).data?.name ??
    z.looseObject({ reference: z.string() }).safeParse(value).data?.reference;
  const shown = [kind, name].filter((each) => each !== undefined).join(" ");
  return `item ${index + 1}${shown === "" ? "" : ` (${shown.slice(0, 200)})`}`;
}

/** The value where it is as the schema has it; else the file, the item and the field are told. */
export function checked<T>(schema: z.ZodType<T>, value: unknown, file: string, index: number): T {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  const where = issue?.path.join(".") ?? "";
  throw new PlanInputError(
    `${file}: ${where === "" ? "" : `${where} of `}${itemName(value, index)} is not as expected: ${issue?.message.replace(/^Invalid input: /, "") ?? ""}`,
  );
}
