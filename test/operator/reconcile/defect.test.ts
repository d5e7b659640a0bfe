// A defect of the operator's own: the one thing that a real API server cannot be made to show.

import { expect, test } from "vitest";
import type { Model, ModelStatus } from "../../../operator/api/model.ts";
import { configurationSchema } from "../../../operator/configuration.ts";
import type { World } from "../../../operator/reconcile/observe.ts";
import { reconcileModel } from "../../../operator/reconcile/reconcile-model.ts";
import type { Kube, KubeObject } from "../../../operator/kube/types.ts";

test("a decision that throws is told in the status, once, and tried again", async () => {
  let model: Model = {
    apiVersion: "ocimodel.dev/v1alpha1",
    kind: "Model",
    metadata: { name: "m", namespace: "ns", uid: "u", generation: 2, resourceVersion: "7" },
    spec: { source: { reference: "r.example.com/m:1" } },
  };
  const none = { hasSynced: true, get: () => undefined, list: () => [] };
  const world: World = {
    configuration: configurationSchema.parse({ pullerImage: "puller:1", runtimes: {} }),
    models: { hasSynced: true, get: () => model, list: () => [model] },
    hardware: () => [],
    deployments: none,
    claimTemplates: none,
    services: none,
    // Nothing of the operator expects that.
    pods: {
      ...none,
      list: () => [
        {
          metadata: {
            name: 7,
            labels: { "ocimodel.dev/model": "m", "app.kubernetes.io/component": "inspect" },
            ownerReferences: [{ uid: "u" }],
          },
        } as never,
      ],
    },
    claims: none,
    volumes: none,
    storageClasses: none,
    daemonSets: none,
    progress: () => undefined,
    nowMs: () => Date.parse("2026-01-01T12:00:00Z"),
  };
  const statuses: ModelStatus[] = [];
  const kube = {
    applyStatus: (_resource: unknown, object: KubeObject & { status: ModelStatus }) => {
      statuses.push(object.status);
      model = { ...model, status: object.status };
      return Promise.resolve(object);
    },
  } as unknown as Kube;
  const deps = {
    kube,
    world,
    onTransition: () => undefined,
    onFailure: () => undefined,
    hold: () => Promise.resolve(),
  };
  for (let round = 0; round < 3; round += 1) {
    await expect(
      reconcileModel({ namespace: "ns", name: "m" }, deps, new AbortController().signal),
    ).rejects.toThrow(TypeError);
  }
  expect(statuses).toHaveLength(1);
  expect(statuses[0]).toMatchObject({
    observedGeneration: 2,
    conditions: [
      { type: "Ready", status: "Unknown", reason: "InternalError", observedGeneration: 2 },
      { type: "Reconciling", status: "True", reason: "InternalError" },
    ],
  });
  expect(statuses[0]?.conditions?.[0]?.message).toMatch(/^a defect of the operator [(]TypeError[)]/);
});
