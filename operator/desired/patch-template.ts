// Lays a user's patch over a pod template as a strategic merge would. Pure.

import type { Json, JsonObject } from "../api/model.ts";
import { pullContainerName } from "./names.ts";

/** Lists whose items are merged by the named field; all other lists are replaced, but `tolerations`, which are added to. */
const mergeKeys: Readonly<Record<string, string>> = {
  containers: "name",
  initContainers: "name",
  volumes: "name",
  env: "name",
  volumeMounts: "mountPath",
  ports: "containerPort",
  imagePullSecrets: "name",
  hostAliases: "ip",
};

/** Fields of the puller's container that a patch may not touch: they decide what the runtime sees. */
const fixedPullFields = ["image", "command", "args", "volumeMounts", "securityContext"] as const;

function isObject(value: Json | undefined): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function mergeLists(base: readonly Json[], patch: readonly Json[], key: string): readonly Json[] {
  const result = [...base];
  for (const item of patch) {
    if (!isObject(item)) continue;
    const index = result.findIndex((each) => isObject(each) && each[key] === item[key]);
    const found = result[index];
    if (item["$patch"] === "delete") {
      if (index !== -1) result.splice(index, 1);
    } else if (isObject(found)) {
      result[index] = mergeObjects(found, item);
    } else {
      result.push(item);
    }
  }
  return result;
}

function mergeObjects(base: JsonObject, patch: JsonObject): JsonObject {
  const result: Record<string, Json> = { ...base };
  for (const [key, value] of Object.entries(patch)) {
    const before = result[key];
    if (value === null) delete result[key];
    else if (isObject(value)) result[key] = mergeObjects(isObject(before) ? before : {}, value);
    else if (Array.isArray(value) && Array.isArray(before)) {
      const mergeKey = mergeKeys[key];
      if (key === "tolerations") result[key] = [...before, ...(value as readonly Json[])];
      else
        result[key] =
          mergeKey === undefined
            ? value
            : mergeLists(before as readonly Json[], value as readonly Json[], mergeKey);
    } else result[key] = value;
  }
  return result;
}

/** A patch without what it may not change: the puller's container, and containers it would add in its name. */
function allowed(patch: JsonObject): JsonObject {
  const spec = patch["spec"];
  if (!isObject(spec) || !Array.isArray(spec["initContainers"])) return patch;
  const initContainers = (spec["initContainers"] as readonly Json[]).map((container) => {
    if (!isObject(container) || container["name"] !== pullContainerName) return container;
    return Object.fromEntries(
      Object.entries(container).filter(
        ([key]) => key !== "$patch" && !fixedPullFields.some((each) => each === key),
      ),
    );
  });
  return { ...patch, spec: { ...spec, initContainers } };
}

/**
 * Lays `patch` (metadata and spec) over a pod template. Maps are merged, `null` deletes, named lists are merged by name
 * (`$patch: delete` removes an item), tolerations are added, other lists are replaced. The puller's image, arguments,
 * mounts and security context stay as they are.
 */
export function patchTemplate(template: JsonObject, patch: JsonObject | undefined): JsonObject {
  return patch === undefined ? template : mergeObjects(template, allowed(patch));
}
