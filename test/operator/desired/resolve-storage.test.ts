import { describe, expect, test } from "vitest";
import type { Model, StorageSpec, StorageType } from "../../../operator/api/model.ts";
import type { Claim } from "../../../operator/desired/claim.ts";
import {
  chooseStorage,
  possibleStorage,
  withResolvedStorage,
  type AutoChoice,
} from "../../../operator/desired/resolve-storage.ts";

const model = (storage?: StorageSpec): Model => ({
  apiVersion: "ocimodel.dev/v1alpha1",
  kind: "Model",
  metadata: { name: "qwen", namespace: "ai", uid: "u" },
  spec: { source: { reference: "r.example.com/q" }, ...(storage === undefined ? {} : { storage }) },
});
const claim = (name: string, label: string | undefined, isGoing = false): Claim => ({
  apiVersion: "v1",
  kind: "PersistentVolumeClaim",
  metadata: {
    name,
    namespace: "ai",
    ...(label === undefined ? {} : { labels: { "ocimodel.dev/node-cache": label } }),
    ...(isGoing ? { deletionTimestamp: "2026-01-01T00:00:00Z" } : {}),
  },
});

describe("the claim of a node cache", () => {
  const claims = [
    claim("z", "true"),
    claim("a", "true", true),
    claim("b", "false"),
    claim("c", undefined),
    claim("d", "true"),
  ];
  const nameOf = (storage: StorageSpec | undefined, of = claims): string | undefined =>
    withResolvedStorage(model(storage), of).spec.storage?.claimName;

  test("is the labelled one, the first by name of those that stay", () => {
    expect(nameOf({ type: "NodeCache" })).toBe("d");
    expect(nameOf({ type: "NodeCache" }, claims.toReversed())).toBe("d");
  });
  test("is the one that the Model names", () => {
    expect(nameOf({ type: "NodeCache", claimName: "own" })).toBe("own");
  });
  test("is none where none is labelled", () => {
    expect(nameOf({ type: "NodeCache" }, claims.slice(1, 4))).toBeUndefined();
  });
  test("is of no concern to other types, and the Model is not changed", () => {
    for (const storage of [undefined, { type: "Ephemeral" }, { type: "PersistentVolumeClaim" }] as const) {
      const given = model(storage);
      expect(withResolvedStorage(given, claims)).toBe(given);
    }
    const given = model({ type: "NodeCache" });
    withResolvedStorage(given, claims);
    expect(given).toEqual(model({ type: "NodeCache" }));
  });
});

const autoStorage = (of: Model, claims: readonly Claim[]): AutoChoice | undefined =>
  chooseStorage(of, possibleStorage(of, claims));

describe("type Auto", () => {
  const shared = { storageClassName: "files", accessModes: ["ReadWriteMany"] } as const;
  const cache = [claim("cache", "true")];
  const auto = (
    stated: Partial<StorageSpec>,
    before: StorageType | undefined,
    replicas: number | undefined,
  ): Model => {
    const made = model({ type: "Auto", size: "auto", ...stated });
    return {
      ...made,
      spec: { ...made.spec, ...(replicas === undefined ? {} : { replicas }) },
      ...(before === undefined
        ? {}
        : { status: { storage: { type: before, reason: "before" }, selected: { variant: "v" } as never } }),
    };
  };
  const rows: readonly (readonly [
    what: string,
    stated: Partial<StorageSpec>,
    claims: readonly Claim[],
    before: StorageType | undefined,
    replicas: number | undefined,
    type: StorageType,
    reason: RegExp,
  ])[] = [
    [
      "the namespace's node cache",
      {},
      cache,
      undefined,
      1,
      "NodeCache",
      /^claim "cache" is the namespace's node cache$/,
    ],
    ["the node cache before a class", shared, cache, undefined, 1, "NodeCache", /node cache/],
    [
      "a class for many nodes",
      shared,
      [],
      undefined,
      1,
      "PersistentVolumeClaim",
      /^class "files" is stated, with ReadWriteMany$/,
    ],
    [
      "no class for one node",
      { storageClassName: "disks" },
      [],
      undefined,
      1,
      "Ephemeral",
      /no node cache, and no storage class/,
    ],
    [
      "no unknown class",
      { accessModes: ["ReadWriteMany"] },
      [],
      undefined,
      1,
      "Ephemeral",
      /no storage class/,
    ],
    ["what there always is", {}, [], undefined, undefined, "Ephemeral", /no node cache/],
    [
      "what was chosen, though there is better by now",
      {},
      cache,
      "Ephemeral",
      1,
      "Ephemeral",
      /no node cache/,
    ],
    [
      "the same, with the default of replicas",
      {},
      cache,
      "Ephemeral",
      undefined,
      "Ephemeral",
      /no node cache/,
    ],
    ["the better while no pods are wanted", {}, cache, "Ephemeral", 0, "NodeCache", /node cache/],
    [
      "the claim that holds the model, while no pods are wanted",
      shared,
      cache,
      "PersistentVolumeClaim",
      0,
      "PersistentVolumeClaim",
      /files/,
    ],
    ["another where what was chosen is gone", shared, [], "NodeCache", 1, "PersistentVolumeClaim", /files/],
    ["another where nothing but that is left", {}, [], "NodeCache", 1, "Ephemeral", /no node cache/],
  ];
  test.each(rows)("takes %s", (_what, stated, claims, before, replicas, type, reason) => {
    const given = auto(stated, before, replicas);
    const chosen = autoStorage(given, claims);
    expect(chosen?.type).toBe(type);
    expect(chosen?.reason).toMatch(reason);
    // Told and asked again, it is the same.
    const again = { ...given, status: { ...given.status, storage: { ...chosen } } } as Model;
    expect(autoStorage(again, claims)).toEqual(chosen);
    expect(withResolvedStorage(given, claims).spec.storage?.type).toBe(type);
  });

  test("keeps nothing for pods that were never made: no variant was selected", () => {
    const given = auto({}, "Ephemeral", 1);
    const unselected = { ...given, status: { storage: given.status?.storage } } as Model;
    expect(autoStorage(unselected, cache)?.type).toBe("NodeCache");
  });

  test("has the fields of what it came to, and no others", () => {
    const prefetch = { parallelism: 3 };
    const all = auto({ ...shared, retention: "Retain", size: "9Gi", prefetch }, undefined, 1);
    expect(withResolvedStorage(all, cache).spec.storage).toEqual({
      type: "NodeCache",
      claimName: "cache",
      prefetch,
    });
    expect(withResolvedStorage(all, []).spec.storage).toEqual({
      type: "PersistentVolumeClaim",
      size: "9Gi",
      retention: "Retain",
      ...shared,
    });
    expect(withResolvedStorage(auto({ size: "9Gi", prefetch }, undefined, 1), []).spec.storage).toEqual({
      type: "Ephemeral",
      size: "9Gi",
    });
  });

  test("no other type is chosen for", () => {
    for (const type of ["Ephemeral", "PersistentVolumeClaim", "NodeCache"] as const)
      expect(autoStorage(model({ type }), cache)).toBeUndefined();
    expect(autoStorage(model(undefined), cache)).toBeUndefined();
  });
});
