// What a snapshot takes from the local copies.

import { expect, test } from "vitest";
import type { Model } from "../../../operator/api/model.ts";
import { configurationSchema } from "../../../operator/configuration.ts";
import type { Claim, StorageClass } from "../../../operator/desired/claim.ts";
import type { KubeObject, ObjectCache } from "../../../operator/kube/types.ts";
import { observe } from "../../../operator/reconcile/observe.ts";
import { volumeSelectors } from "../../../operator/reconcile/volume-nodes.ts";

function cache<T extends KubeObject>(...objects: readonly T[]): ObjectCache<T> {
  return {
    hasSynced: true,
    get: ({ name }) => objects.find(({ metadata }) => metadata.name === name),
    list: () => objects,
  };
}

const zonal = (name: string): StorageClass => ({
  apiVersion: "storage.k8s.io/v1",
  kind: "StorageClass",
  metadata: { name },
  allowedTopologies: [
    { matchLabelExpressions: [{ key: "topology.kubernetes.io/zone", values: [`zone-of-${name}`] }] },
  ],
});

function asDefault(name: string, hour: number): StorageClass {
  const found = zonal(name);
  const annotations = { "storageclass.kubernetes.io/is-default-class": "true" };
  const creationTimestamp = `2026-01-01T0${hour}:00:00Z`;
  return { ...found, metadata: { ...found.metadata, annotations, creationTimestamp } };
}

/** Zones that a Model of this storage is tied to. */
function zones(storage: NonNullable<Model["spec"]["storage"]>, ...claims: readonly Claim[]): unknown {
  const model: Model = {
    apiVersion: "ocimodel.dev/v1alpha1",
    kind: "Model",
    metadata: { name: "m", namespace: "team", uid: "u", generation: 1 },
    spec: { source: { reference: "r.example.com/m:1" }, storage },
  };
  const observed = observe(
    { namespace: "team", name: "m" },
    {
      configuration: configurationSchema.parse({ pullerImage: "puller:1", runtimes: {} }),
      models: cache(model),
      hardware: () => [],
      deployments: cache(),
      claimTemplates: cache(),
      services: cache(),
      pods: cache(),
      claims: cache(...claims),
      volumes: cache(),
      storageClasses: cache(zonal("stated"), zonal("of-claim"), asDefault("older", 1), asDefault("newer", 2)),
      daemonSets: cache(),
      progress: () => undefined,
      nowMs: () => 0,
    },
  );
  if (observed === undefined) throw new Error("the Model is there");
  return volumeSelectors(observed).flatMap(({ terms }) =>
    terms.flatMap(({ matchExpressions = [] }) => matchExpressions.flatMap(({ values = [] }) => values)),
  );
}

const claim = (name: string): Claim => ({
  apiVersion: "v1",
  kind: "PersistentVolumeClaim",
  metadata: { name, namespace: "team" },
  spec: { storageClassName: "of-claim" },
});
const type = "PersistentVolumeClaim";
const storageClassName = "stated";

test.each<[string, Parameters<typeof zones>[0], readonly Claim[], readonly string[]]>([
  [
    "a claim still to be made: the class that it will state",
    { type, storageClassName },
    [],
    ["zone-of-stated"],
  ],
  [
    "the same where Auto comes to it",
    { type: "Auto", storageClassName, accessModes: ["ReadWriteMany"] },
    [],
    ["zone-of-stated"],
  ],
  ["Auto that comes to no claim", { type: "Auto", storageClassName }, [], []],
  ["a class that is not there", { type, storageClassName: "missing" }, [], []],
  ["no class stated: the default one, of several the newest", { type }, [], ["zone-of-newer"]],
  ["no class wanted", { type, storageClassName: "" }, [], []],
  [
    "a claim without a class that the API server has not given one yet",
    { type, claimName: "disk" },
    [{ ...claim("disk"), spec: {} }],
    ["zone-of-newer"],
  ],
  [
    "a claim that is there: its own class",
    { type, claimName: "disk" },
    [claim("disk")],
    ["zone-of-of-claim"],
  ],
])("%s", (_what, storage, claims, expected) => {
  expect(zones(storage, ...claims)).toEqual(expected);
});
