// Lays a user's patch over a pod template as a strategic merge would. Pure.

import { isMap, listAt, type Json, type JsonObject } from "../api/json.ts";
import { pullContainerName } from "./names.ts";

/** Lists whose items are merged by the named field; all other lists are replaced, but those below and node selector terms. */
const mergeKeys: Readonly<Record<string, string>> = {
  containers: "name",
  initContainers: "name",
  volumes: "name",
  env: "name",
  volumeMounts: "mountPath",
  ports: "containerPort",
  imagePullSecrets: "name",
  hostAliases: "ip",
  // Both say which devices the pod claims.
  resourceClaims: "name",
  claims: "name",
};

const required = "requiredDuringSchedulingIgnoredDuringExecution";
const preferred = "preferredDuringSchedulingIgnoredDuringExecution";

/** Lists that a patch adds to. Without the operator's own, pods would go where no verdict says, or not to where copies are. */
const addedLists: ReadonlySet<string> = new Set(["tolerations", required, preferred]);

const affinities: ReadonlySet<string> = new Set([
  "affinity",
  "nodeAffinity",
  "podAffinity",
  "podAntiAffinity",
]);

/** What is left of a field that a patch deletes: of affinity what is required, since the verdicts rely on it. */
function leftOf(key: string, before: Json | undefined): Json | undefined {
  if (key === required || key === "nodeSelectorTerms" || key === "tolerations") return before;
  if (!affinities.has(key) || !isMap(before)) return undefined;
  const left = Object.entries(before).flatMap(([name, value]) => {
    const kept = leftOf(name, value);
    return kept === undefined ? [] : [[name, kept] as const];
  });
  return left.length === 0 ? undefined : Object.fromEntries(left);
}

/**
 * The only fields of the puller's container that a patch may set. All others decide what it runs, what it trusts and
 * what the runtime sees; its flags have environment variables too. The schema of the Model refuses what is common.
 */
const allowedPullFields: ReadonlySet<string> = new Set(["name", "resources", "imagePullPolicy"]);

function mergeLists(base: readonly Json[], patch: readonly Json[], key: string): readonly Json[] {
  const result = [...base];
  for (const item of patch) {
    // Not of the shape that it should have: the API server says so better.
    if (!isMap(item)) {
      result.push(item);
      continue;
    }
    const index = result.findIndex((each) => isMap(each) && each[key] === item[key]);
    const found = result[index];
    if (item["$patch"] === "delete") {
      if (index !== -1) result.splice(index, 1);
    } else if (isMap(found)) {
      result[index] = mergeObjects(found, item);
    } else {
      result.push(mergeObjects({}, item));
    }
  }
  return result;
}

/**
 * Terms of a node affinity are ORed, so that others beside or instead of the operator's would let pods onto nodes that no verdict
 * named: all pairs are made, of which both must hold.
 */
function pairTerms(base: readonly Json[], patch: readonly Json[]): readonly Json[] {
  const keys = ["matchExpressions", "matchFields"];
  // A term without requirements matches nothing, and so would a pair with it.
  const terms = patch
    .filter((each) => isMap(each))
    .filter((term) => keys.some((key) => listAt(term, key).length > 0));
  if (terms.length === 0 || !patch.every((each) => isMap(each))) return patch;
  return base
    .filter((each) => isMap(each))
    .flatMap((one) =>
      terms.map((other) => {
        const pair = keys.map((key) => [key, [...listAt(one, key), ...listAt(other, key)]] as const);
        return Object.fromEntries(pair.filter(([, list]) => list.length > 0));
      }),
    );
}

function mergeObjects(base: JsonObject, patch: JsonObject): JsonObject {
  const result: Record<string, Json> = { ...base };
  for (const [key, value] of Object.entries(patch)) {
    const before = result[key];
    if (value === null) {
      const left = leftOf(key, before);
      if (left === undefined) delete result[key];
      else result[key] = left;
    } else if (isMap(value)) result[key] = mergeObjects(isMap(before) ? before : {}, value);
    else if (Array.isArray(value) && Array.isArray(before)) {
      const mergeKey = mergeKeys[key];
      if (addedLists.has(key)) result[key] = [...before, ...(value as readonly Json[])];
      else if (key === "nodeSelectorTerms")
        result[key] = pairTerms(before as readonly Json[], value as readonly Json[]);
      else
        result[key] =
          mergeKey === undefined
            ? value
            : mergeLists(before as readonly Json[], value as readonly Json[], mergeKey);
    } else result[key] = value;
  }
  return result;
}

/** A patch without what it may not change: the puller's container, and that there is one at all. */
function allowed(patch: JsonObject): JsonObject {
  const { spec, ...others } = patch;
  // The schema lets nothing else through; null would take the whole pod away.
  if (!isMap(spec)) return others;
  const { initContainers, ...otherFields } = spec;
  // Without its puller the runtime would see an empty directory.
  if (!Array.isArray(initContainers)) return { ...others, spec: otherFields };
  const items = (initContainers as readonly Json[]).map((container) => {
    if (!isMap(container) || container["name"] !== pullContainerName) return container;
    return Object.fromEntries(Object.entries(container).filter(([key]) => allowedPullFields.has(key)));
  });
  return { ...others, spec: { ...otherFields, initContainers: items } };
}

/**
 * Lays `patch` (metadata and spec) over a pod template. Maps are merged, `null` deletes, named lists are merged by name
 * (`$patch: delete` removes an item), tolerations and terms of affinity are added, node selector terms hold besides the operator's, other
 * lists are replaced. What the operator requires of nodes, and its tolerations, stay whatever the patch says. Of the puller's container
 * only resources and image pull policy can be changed.
 */
export function patchTemplate(template: JsonObject, patch: JsonObject | undefined): JsonObject {
  return patch === undefined ? template : mergeObjects(template, allowed(patch));
}
