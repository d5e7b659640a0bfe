import { describe, expect, test } from "vitest";
import type { Model, StorageSpec } from "../../../operator/api/model.ts";
import type { Claim } from "../../../operator/desired/claim.ts";
import { withResolvedStorage } from "../../../operator/desired/resolve-storage.ts";

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
