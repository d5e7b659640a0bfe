// What the node caches are told to keep, and when.

import { describe, expect, test } from "vitest";
import type { Model } from "../../../operator/api/model.ts";
import type { Claim } from "../../../operator/desired/claim.ts";
import { inUseData, inUseLists } from "../../../operator/reconcile/in-use.ts";
import type { Pod } from "../../../operator/reconcile/workload-types.ts";

const [a, b, c, d] = ["a", "b", "c", "d"].map((letter) => letter.repeat(64)) as [
  string,
  string,
  string,
  string,
];

const claim = (name: string, namespace: string, isCache = true): Claim => ({
  apiVersion: "v1",
  kind: "PersistentVolumeClaim",
  metadata: { name, namespace, ...(isCache ? { labels: { "ocimodel.dev/node-cache": "true" } } : {}) },
});
const pod = (directory: string, of: string, isGoing = false): Pod => ({
  apiVersion: "v1",
  kind: "Pod",
  metadata: {
    name: directory.slice(0, 5),
    namespace: "ai",
    labels: { "ocimodel.dev/claim": of },
    annotations: { "ocimodel.dev/model-directory": directory },
    ...(isGoing ? { deletionTimestamp: "2026-01-01T00:00:00Z" } : {}),
  },
});
const model = (hex: string, storage: Model["spec"]["storage"]): Model => ({
  apiVersion: "ocimodel.dev/v1alpha1",
  kind: "Model",
  metadata: { name: hex.slice(0, 5), namespace: "ai", uid: hex },
  spec: { source: { reference: "r.example.com/q" }, ...(storage === undefined ? {} : { storage }) },
  status: {
    selected: {
      variant: "v",
      digest: `sha256:${hex}`,
      sizeBytes: 1,
      requiredBytes: 1,
      reason: "",
      accelerator: "none",
      nodes: 1,
    },
  },
});
const cache = <T extends { readonly metadata: { readonly namespace?: string } }>(objects: readonly T[]) => ({
  list: (namespace?: string) => objects.filter(({ metadata }) => metadata.namespace === namespace),
});
const lists = (
  {
    claims,
    models = [],
    pods = [],
  }: {
    readonly claims: readonly Claim[];
    readonly models?: readonly Model[];
    readonly pods?: readonly Pod[];
  },
  namespaces = ["ai"],
) =>
  Object.fromEntries(
    inUseLists({ namespaces, claims: cache(claims), models: cache(models), pods: cache(pods) }),
  );

describe("the list of a namespace", () => {
  test("has what pods have mounted from the cache, also those that are going, and what Models selected", () => {
    const pods = [pod(c, "cache"), pod(a, "cache", true), pod(d, "other")];
    const models = [
      model(b, { type: "NodeCache" }),
      // By its name, and through another type.
      model(d, { type: "PersistentVolumeClaim", claimName: "cache" }),
      model("e".repeat(64), { type: "PersistentVolumeClaim", claimName: "other" }),
      model("f".repeat(64), undefined),
    ];
    expect(lists({ claims: [claim("cache", "ai")], models, pods })).toEqual({ ai: [a, b, c, d] });
  });
  test("has what type Auto put there, but not what it has as image volumes meanwhile", () => {
    const inCache = model(a, { type: "Auto" });
    const asImage = model(b, { type: "Auto" });
    const storage = { type: "ImageVolume", reason: "" } as const;
    const models = [inCache, { ...asImage, status: { ...asImage.status, storage } }];
    expect(lists({ claims: [claim("cache", "ai")], models })).toEqual({ ai: [a] });
  });
  test("is empty where nothing uses the cache", () => {
    expect(lists({ claims: [claim("cache", "ai")] })).toEqual({ ai: [] });
  });
  test("is left out where the claim is not known, so that everything stays", () => {
    expect(lists({ claims: [claim("cache", "ai", false)], pods: [pod(a, "cache")] })).toEqual({});
  });
  test("is of the namespaces with a cache alone", () => {
    const claims = [claim("cache", "ai"), claim("cache", "web")];
    expect(lists({ claims }, ["web"])).toEqual({ web: [] });
  });
});

test("what is held is on the list until its time is over", () => {
  const there = new Map([["ai", [b]]]);
  const holds = [
    { namespace: "ai", directory: a, untilMs: 1000 },
    { namespace: "web", directory: c, untilMs: 1000 },
  ];
  expect(inUseData(there, holds, 999)).toEqual({ ai: `${a}\n${b}\n` });
  expect(inUseData(there, holds, 1000)).toEqual({ ai: `${b}\n` });
  expect(inUseData(new Map([["ai", []]]), [], 0)).toEqual({ ai: "" });
});
