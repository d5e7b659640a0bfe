// Which changes make the controller look at which Models again, on an API server that only lists and watches what a test gives it.

import { pino } from "pino";
import { afterEach, expect, test } from "vitest";
import type { Model } from "../../../operator/api/model.ts";
import { configurationSchema } from "../../../operator/configuration.ts";
import type { KubeReader, KubeStream } from "../../../operator/kube/client.ts";
import { EventRecorder } from "../../../operator/kube/events.ts";
import type { Kube, KubeObject } from "../../../operator/kube/types.ts";
import { Controller } from "../../../operator/reconcile/controller.ts";
import { createMetrics } from "../../../operator/server/metrics.ts";
import { waitFor } from "../../cluster/run-command.ts";

const model = (name: string, storage: Model["spec"]["storage"]): Model =>
  ({
    apiVersion: "ocimodel.dev/v1alpha1",
    kind: "Model",
    metadata: { name, namespace: "team", uid: name, resourceVersion: "1", generation: 1 },
    spec: { source: { reference: "r.example.com/m:1" }, ...(storage === undefined ? {} : { storage }) },
  }) as Model;

let stop = new AbortController();
let running: Promise<void> | undefined;

afterEach(async () => {
  stop.abort();
  await running;
  stop = new AbortController();
});

/** A controller over these Models; `tell` sends an event of a watch, `looks` counts the reconciles of a Model so far. */
function start(models: readonly Model[]) {
  const looks = new Map<string, number>();
  const watches = new Map<string, (line: string) => void>();
  const reader: KubeReader = {
    read: async <T>(path: string) =>
      ({
        kind: "List",
        metadata: { resourceVersion: "1" },
        items: path.endsWith("/models") ? models : [],
      }) as T,
    stream: async (path, _query, signal): Promise<KubeStream> => {
      let next = Promise.withResolvers<string | undefined>();
      signal.addEventListener("abort", () => next.resolve(undefined), { once: true });
      watches.set(path.slice(path.lastIndexOf("/") + 1), (line) => next.resolve(line));
      async function* body(): AsyncGenerator<Uint8Array> {
        for (let line = await next.promise; line !== undefined; line = await next.promise) {
          next = Promise.withResolvers();
          yield Buffer.from(`${line}\n`);
        }
      }
      return { body: body(), close: () => undefined };
    },
  };
  const kube: Kube & KubeReader = {
    ...reader,
    get: async () => undefined,
    apply: async <T extends KubeObject>(_resource: unknown, object: KubeObject) => object as T,
    // Every reconcile writes its status, since no watch ever tells that it is written.
    applyStatus: async <T extends KubeObject>(_resource: unknown, object: KubeObject) => {
      looks.set(object.metadata.name, (looks.get(object.metadata.name) ?? 0) + 1);
      return object as T;
    },
    create: async <T extends KubeObject>(_resource: unknown, object: KubeObject) => object as T,
    delete: async () => true,
  };
  const controller: Controller = new Controller({
    kube,
    configuration: configurationSchema.parse({ pullerImage: "puller:1", runtimes: {} }),
    events: new EventRecorder({ kube, component: "ocimodel" }),
    metrics: createMetrics(
      () => controller.depth,
      () => controller.countedModels(),
    ),
    log: pino({ level: "silent" }),
    hasResourceSlices: false,
  });
  running = controller.run(stop.signal);
  return {
    looks,
    isWatched: (plural: string) => watches.has(plural),
    tell: (plural: string, object: KubeObject) =>
      watches.get(plural)?.(JSON.stringify({ type: "ADDED", object })),
  };
}

/** Which of the Models an event of a watch makes the controller look at again; the last of them is the one that it must not. */
async function woken(models: readonly Model[], plural: string, object: KubeObject): Promise<void> {
  const { looks, isWatched, tell } = start(models);
  await waitFor("a first look at each", async () => looks.size === models.length && isWatched(plural), {
    intervalMs: 5,
  });
  const before = new Map(looks);
  tell(plural, object);
  const names = models.map(({ metadata }) => metadata.name);
  await waitFor(
    "a second look",
    async () => names.slice(0, -1).every((name) => (looks.get(name) ?? 0) > (before.get(name) ?? 0)),
    { intervalMs: 5, describe: () => JSON.stringify([...looks]) },
  );
  const other = names.at(-1) ?? "";
  expect(looks.get(other)).toBe(before.get(other));
}

test.each<[string, object]>([
  ["node affinity", { spec: { nodeAffinity: { required: { nodeSelectorTerms: [] } } } }],
  ["a zone label", { labels: { "topology.kubernetes.io/zone": "a" } }],
])(
  "a volume with %s that comes after its claim is bound wakes all whose claim it may be",
  async (_by, by) => {
    await woken(
      [
        model("stated", { type: "PersistentVolumeClaim" }),
        model("cached", { type: "NodeCache" }),
        model("auto", { type: "Auto" }),
        model("none", undefined),
      ],
      "persistentvolumes",
      {
        apiVersion: "v1",
        kind: "PersistentVolume",
        metadata: { name: "pv", uid: "pv", resourceVersion: "2", ...("labels" in by ? by : {}) },
        ...("spec" in by ? by : {}),
      } as KubeObject,
    );
  },
);

test("a class that comes wakes those who state it", async () => {
  await woken(
    [
      model("stated", { type: "PersistentVolumeClaim", storageClassName: "zonal" }),
      model("auto", { type: "Auto", storageClassName: "zonal", accessModes: ["ReadWriteMany"] }),
      model("another", { type: "PersistentVolumeClaim", storageClassName: "other" }),
    ],
    "storageclasses",
    {
      apiVersion: "storage.k8s.io/v1",
      kind: "StorageClass",
      metadata: { name: "zonal", uid: "c", resourceVersion: "2" },
    },
  );
});
