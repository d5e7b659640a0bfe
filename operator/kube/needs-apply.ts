// Whether an object must be applied at all: so that steady state writes nothing, and foreign edits are undone. Pure.

import { createHash } from "node:crypto";
import { parseQuantity } from "./quantity.ts";
import type { KubeObject } from "./types.ts";

/** Names what was applied last; tells fields that were taken out of the desired object. */
export const appliedHashAnnotation = "ocimodel.dev/applied-hash";

/** List items are matched by the first of these fields that they have, as the API server merges them. */
const mergeKeys = ["name", "mountPath", "containerPort", "port", "type", "uid", "key"] as const;

/** The object with an annotation of its own content. */
export function withAppliedHash(object: KubeObject): KubeObject {
  const hash = createHash("sha256").update(JSON.stringify(object)).digest("hex").slice(0, 16);
  return {
    ...object,
    metadata: {
      ...object.metadata,
      annotations: { ...object.metadata.annotations, [appliedHashAnnotation]: hash },
    },
  };
}

/** True unless every field of `desired` stands in `live` and was applied from this very content. */
export function needsApply(live: KubeObject | undefined, desired: KubeObject): boolean {
  return live === undefined || !isContained(desired, live, "");
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isContained(wanted: unknown, has: unknown, path: string): boolean {
  if (Array.isArray(wanted)) {
    if (wanted.length === 0) return has === undefined || (Array.isArray(has) && has.length === 0);
    return Array.isArray(has) && isListContained(wanted, has, path);
  }
  if (isRecord(wanted)) {
    const entries = Object.entries(wanted);
    // The API server drops empty maps.
    if (entries.length === 0) return has === undefined || isRecord(has);
    return isRecord(has) && entries.every(([key, value]) => isContained(value, has[key], `${path}.${key}`));
  }
  if (wanted === has) return true;
  // Defaults such as 0, "" and false are left out of what the server answers.
  if (has === undefined)
    return wanted === undefined || wanted === null || wanted === "" || wanted === false || wanted === 0;
  const isQuantity =
    (typeof wanted === "string" || typeof wanted === "number") &&
    (typeof has === "string" || typeof has === "number");
  return (
    isQuantity &&
    /\.(requests|limits)\.[^.]|sizeLimit$|divisor$/.test(path) &&
    parseQuantity(wanted) === parseQuantity(has)
  );
}

function isListContained(wanted: readonly unknown[], has: readonly unknown[], path: string): boolean {
  const first = wanted[0];
  const key = isRecord(first) ? mergeKeys.find((each) => each in first) : undefined;
  if (key === undefined) {
    return wanted.length === has.length && wanted.every((item, index) => isContained(item, has[index], path));
  }
  // Items beyond the wanted ones are defaults or another manager's.
  return wanted.every((item) => {
    const twin = has.find((each) => isRecord(each) && isRecord(item) && each[key] === item[key]);
    return twin !== undefined && isContained(item, twin, path);
  });
}
