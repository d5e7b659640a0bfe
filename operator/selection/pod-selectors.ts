// What a pod's spec of any shape says of nodes, read as the API server reads it. Pure.

import { z } from "zod";
import type { Json, NodeSelectorTerm } from "../api/model.ts";
import { integer64 } from "./node-selector.ts";

type Operator = "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt";

/** By operator, the values that the API server takes beside it. */
const takes: Readonly<
  Record<Operator, { readonly isTaken: (values: readonly string[]) => boolean; readonly what: string }>
> = {
  In: { isTaken: ({ length }) => length > 0, what: "a list with values" },
  NotIn: { isTaken: ({ length }) => length > 0, what: "a list with values" },
  Exists: { isTaken: ({ length }) => length === 0, what: "left out" },
  DoesNotExist: { isTaken: ({ length }) => length === 0, what: "left out" },
  Gt: { isTaken: isOneInteger, what: "a list of one integer as text" },
  Lt: { isTaken: isOneInteger, what: "a list of one integer as text" },
};

function isOneInteger(values: readonly string[]): boolean {
  return values.length === 1 && integer64(values[0]) !== undefined;
}

/** As the API server, which takes null for what is absent. */
const text = z.string("a text");
const list = <T extends z.ZodType>(item: T) => z.array(item, "a list").nullish();
const map = <T extends z.core.$ZodLooseShape>(shape: T) => z.object(shape, "a map");

const requirement = map({
  key: text,
  operator: z.enum(Object.keys(takes) as Operator[], `one of ${Object.keys(takes).join(", ")}`),
  values: list(text).transform((values) => values ?? []),
}).check(({ value: { operator, values }, issues }) => {
  const { isTaken, what } = takes[operator];
  if (!isTaken(values)) issues.push({ code: "custom", input: values, path: ["values"], message: what });
});
const requirements = list(requirement).transform((all) => all ?? []);

const podSelectors = z.object({
  nodeSelector: z.record(z.string(), text.nullable(), "a map").nullish(),
  nodeName: text.nullish(),
  affinity: map({
    nodeAffinity: map({
      requiredDuringSchedulingIgnoredDuringExecution: map({
        nodeSelectorTerms: list(map({ matchExpressions: requirements, matchFields: requirements })),
      }).nullish(),
    }).nullish(),
  }).nullish(),
});

/**
 * The lists of terms of a pod's spec, all of which must hold, and of which one term must: its node selector, its required node affinity
 * and a node's name. Or why the API server refuses the spec.
 */
export function readPodSelectors(
  spec: Json | undefined,
): { readonly lists: readonly (readonly NodeSelectorTerm[])[] } | { readonly refusal: string } {
  // A template without a spec adds nothing to the pod.
  if (typeof spec !== "object" || spec === null || Array.isArray(spec)) return { lists: [] };
  const { data, error } = podSelectors.safeParse(spec);
  if (data === undefined) return { refusal: refusalOf(spec, error.issues[0]) };
  const { nodeSelector, nodeName, affinity } = data;
  const labels = Object.entries(nodeSelector ?? {}).flatMap(([key, value]) =>
    value === null ? [] : [{ key, operator: "In" as const, values: [value] }],
  );
  const terms =
    affinity?.nodeAffinity?.requiredDuringSchedulingIgnoredDuringExecution?.nodeSelectorTerms ?? [];
  return {
    lists: [
      ...(labels.length === 0 ? [] : [[{ matchExpressions: labels }]]),
      ...(terms.length === 0 ? [] : [terms]),
      ...((nodeName ?? "") === ""
        ? []
        : [[{ matchFields: [{ key: "metadata.name", operator: "In" as const, values: [nodeName ?? ""] }] }]]),
    ],
  };
}

const longestShown = 60;

/** "pool is 1, not a text". */
function refusalOf(spec: Json, issue: z.core.$ZodIssue | undefined): string {
  let value: unknown = spec;
  for (const key of issue?.path ?? []) value = (value as Record<PropertyKey, unknown> | undefined)?.[key];
  const name = issue?.path.findLast((key) => typeof key === "string") ?? "it";
  const shown = value === undefined ? "absent" : JSON.stringify(value).slice(0, longestShown);
  return `${name} is ${shown}, not ${issue?.message ?? "readable"}`;
}
