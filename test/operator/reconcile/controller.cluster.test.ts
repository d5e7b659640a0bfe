// The loop on a real API server: killed at each of its writes, refused, raced by another operator, and met by objects of others.

import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { modelResource, type Model } from "../../../operator/api/model.ts";
import { componentLabel, modelNameLabel } from "../../../operator/desired/names.ts";
import { KubeError } from "../../../operator/kube/errors.ts";
import type { KubeObject } from "../../../operator/kube/types.ts";
import { deploymentResource, podResource, serviceResource } from "../../../operator/reconcile/resources.ts";
import { waitFor } from "../../cluster/run-command.ts";
import { describeCluster } from "../../cluster/suites.ts";
import { Rig, type Intercept } from "./rig.ts";

const never = new AbortController().signal;

describeCluster("the loop", () => {
  let rig: Rig;
  /** Writes of an undisturbed run, and what it leaves. */
  const writes: string[] = [];
  let reference: unknown;
  beforeAll(async () => {
    rig = await Rig.start();
    const namespace = await rig.namespace();
    const operator = rig.operator(namespace, async (verb, what, send) => {
      writes.push(`${verb} ${what.replace(/m-inspect-.*/, "m-inspect")}`);
      return send();
    });
    await rig.model(namespace);
    await rig.ready(namespace);
    await settled(namespace);
    reference = await rig.endState(namespace);
    await operator.stop();
  });
  afterAll(async () => {
    await rig?.stop();
  });
  afterEach(async () => {
    await rig.stopOperators();
  });

  /** Waits until the inspect pod is gone, which is the last write. */
  const settled = async (namespace: string): Promise<void> => {
    await waitFor(
      "the last write",
      async () => {
        const state = JSON.stringify(await rig.endState(namespace));
        return !state.includes('"m-inspect-') && state.includes('"Available"');
      },
      { intervalMs: 20 },
    );
  };
  const condition = ({ status }: Model, type: string): string =>
    status?.conditions?.find((each) => each.type === type)?.reason ?? "";

  test("the writes of an undisturbed run: few, and of the status one for each reconcile", () => {
    expect(writes.filter((each) => !each.startsWith("status"))).toEqual([
      "create Pod/m-inspect",
      "apply Deployment/m",
      "apply Service/m",
      "delete Pod/m-inspect",
    ]);
    expect(writes[1]).toBe("status Model/m");
    expect(writes.length).toBeLessThanOrEqual(10);
  });

  test("killed before each write, and after each with its answer lost: the next operator ends in the same state", async () => {
    // Beyond the last write of the run nothing is met any more.
    for (let at = 0; at < writes.length; at += 1) {
      for (const isSent of [false, true]) {
        const namespace = await rig.namespace();
        let seen = 0;
        const dead = Promise.withResolvers<void>();
        const killing: Intercept = async (_verb, _what, send) => {
          seen += 1;
          if (seen <= at) return send();
          // From here on this operator does nothing any more, as if its process were gone.
          if (isSent && seen === at + 1) await send();
          dead.resolve();
          return new Promise(() => undefined);
        };
        const first = rig.operator(namespace, killing);
        await rig.model(namespace);
        await Promise.race([dead.promise, settled(namespace)]);
        void first;
        rig.operator(namespace);
        await rig.ready(namespace);
        await settled(namespace);
        expect([at, isSent, await rig.endState(namespace)]).toEqual([at, isSent, reference]);
      }
    }
  }, 120_000);

  test.each(["conflict", "throttled", "unavailable"] as const)(
    "each write fails twice (%s): the same end",
    async (kind) => {
      const namespace = await rig.namespace();
      const failures = new Map<string, number>();
      rig.operator(namespace, async (verb, what, send) => {
        const key = `${verb} ${what}`;
        const count = failures.get(key) ?? 0;
        failures.set(key, count + 1);
        if (count < 2) throw new KubeError(kind, "planned", { status: 500, retryAfterMs: 10 });
        return send();
      });
      await rig.model(namespace);
      await rig.ready(namespace);
      await settled(namespace);
      expect(await rig.endState(namespace)).toEqual(reference);
      expect(failures.size).toBeGreaterThanOrEqual(5);
    },
  );

  test("two operators at once: the same end, no quarrel, and then silence", async () => {
    const namespace = await rig.namespace();
    let count = 0;
    const counting: Intercept = async (_verb, _what, send) => {
      count += 1;
      return send();
    };
    const both = [rig.operator(namespace, counting), rig.operator(namespace, counting)];
    await rig.model(namespace);
    await rig.ready(namespace);
    await settled(namespace);
    expect(await rig.endState(namespace)).toEqual(reference);
    expect(count).toBeLessThan(writes.length * 5);
    const reconciles = async (): Promise<readonly number[]> =>
      Promise.all(
        both.map(async ({ metrics }) =>
          (await metrics.reconciles.get()).values.reduce((sum, { value }) => sum + value, 0),
        ),
      );
    const quiet = count;
    for (let round = 0; round < 10; round += 1) {
      const before = await reconciles();
      await rig.controlPlane.kubectl([
        "annotate",
        "model",
        "m",
        "-n",
        namespace,
        `round=${round}`,
        "--overwrite",
      ]);
      await waitFor("both to look", async () =>
        (await reconciles()).every((each, index) => each > (before[index] ?? 0)),
      );
    }
    expect(count).toBe(quiet);
  });

  test("events tell transitions, each once", async () => {
    const namespace = await rig.namespace();
    rig.operator(namespace);
    await rig.model(namespace);
    await rig.ready(namespace);
    await settled(namespace);
    await waitFor("the events", async () => (await rig.events(namespace)).length >= 3);
    expect(await rig.events(namespace)).toEqual(["Normal Resolved", "Normal Selected", "Normal Available"]);
    rig.inspect = (asked) => ({
      reference: asked,
      code: "ManifestNotFound",
      message: "there is no such tag",
    });
    try {
      await rig.model(namespace, { source: { reference: "registry.example.com/other:1" } });
      await rig.until(
        namespace,
        "stalled",
        (model) => condition(model, "SourceResolved") === "ManifestNotFound",
      );
      await waitFor("the event", async () =>
        (await rig.events(namespace)).includes("Warning ManifestNotFound"),
      );
      const told = (await rig.events(namespace)).filter((each) => each === "Warning ManifestNotFound");
      expect(told.length).toBeLessThanOrEqual(2);
    } finally {
      rig.inspect = rig.found;
    }
  });

  test("a Pod of somebody else in the place of an inspect pod is left as it is, and named", async () => {
    const namespace = await rig.namespace();
    let name = "";
    rig.operator(namespace, async (verb, what, send) => {
      if (verb === "create" && name === "" && what.startsWith("Pod/")) {
        name = what.slice(4);
        const container = { name: "theirs", image: "theirs:1", args: [] };
        const pod = {
          apiVersion: "v1",
          kind: "Pod",
          metadata: { name, namespace },
          spec: { containers: [container] },
        };
        await rig.client.create(podResource, pod as KubeObject, never);
      }
      return send();
    });
    await rig.model(namespace);
    const refused = await rig.until(
      namespace,
      "refused",
      (each) => condition(each, "SourceResolved") === "AdmissionDenied",
    );
    expect(refused.status?.conditions?.find(({ type }) => type === "SourceResolved")?.message).toBe(
      `Pod ${name} exists and belongs to something else; rename the Model or delete it`,
    );
    const theirs = await rig.get(podResource, { namespace, name });
    expect(theirs?.metadata.labels).toBeUndefined();
    await rig.client.delete(podResource, { namespace, name }, { uid: theirs?.metadata.uid ?? "" }, never);
    await rig.ready(namespace);
  });

  test("Pods of somebody else with our labels are not removed", async () => {
    const namespace = await rig.namespace();
    const names = ["collect", "prefetch"].map((component) => `theirs-${component}`);
    for (const name of names) {
      const labels = {
        "app.kubernetes.io/managed-by": "ocimodel",
        [modelNameLabel]: "m",
        [componentLabel]: name.slice("theirs-".length),
      };
      const containers = [{ name: "theirs", image: "theirs:1", args: [] }];
      const pod = {
        apiVersion: "v1",
        kind: "Pod",
        metadata: { name, namespace, labels },
        spec: { containers },
      };
      await rig.client.create(podResource, pod as KubeObject, never);
    }
    rig.operator(namespace);
    await rig.model(namespace);
    await rig.ready(namespace);
    await settled(namespace);
    for (const name of names) expect(await rig.get(podResource, { namespace, name })).toBeDefined();
  });

  test("a Service or Deployment of somebody else is left as it is, and named", async () => {
    const namespace = await rig.namespace();
    const service = {
      apiVersion: "v1",
      kind: "Service",
      metadata: { name: "m", namespace },
      spec: { selector: { app: "theirs" }, ports: [{ port: 80 }] },
    };
    await rig.client.create(serviceResource, service as KubeObject, never);
    const before = await rig.get(serviceResource, { namespace, name: "m" });
    const operator = rig.operator(namespace);
    await rig.model(namespace);
    const model = await rig.until(
      namespace,
      "refused",
      (each) => condition(each, "WorkloadAvailable") === "AdmissionDenied",
    );
    expect(model.status?.conditions?.find(({ type }) => type === "WorkloadAvailable")?.message).toBe(
      "Service m exists and belongs to something else; rename the Model or delete it",
    );
    expect(await rig.get(serviceResource, { namespace, name: "m" })).toEqual(before);
    await operator.stop();
    // Ours from the start, but then its owner reference is taken away: reported, not adopted by its name.
    await rig.client.delete(
      serviceResource,
      { namespace, name: "m" },
      { uid: before?.metadata.uid ?? "" },
      never,
    );
    rig.operator(namespace);
    await rig.ready(namespace);
    await rig.controlPlane.kubectl([
      "patch",
      "service",
      "m",
      "-n",
      namespace,
      "--type=json",
      "-p",
      '[{"op":"remove","path":"/metadata/ownerReferences"}]',
    ]);
    await rig.until(namespace, "told", (each) => condition(each, "WorkloadAvailable") === "AdmissionDenied");
    expect(
      (await rig.get(serviceResource, { namespace, name: "m" }))?.metadata.ownerReferences,
    ).toBeUndefined();
  });

  test("what a former Model of the same name left is waited for, not taken", async () => {
    const namespace = await rig.namespace();
    const owner = {
      apiVersion: "ocimodel.dev/v1alpha1",
      kind: "Model",
      name: "m",
      uid: "8d8a3c2e-0000-4000-8000-000000000000",
    };
    const service = {
      apiVersion: "v1",
      kind: "Service",
      metadata: { name: "m", namespace, ownerReferences: [owner], labels: { "ocimodel.dev/model": "m" } },
      spec: { ports: [{ port: 80 }] },
    };
    await rig.client.create(serviceResource, service as KubeObject, never);
    rig.operator(namespace);
    await rig.model(namespace);
    const model = await rig.until(
      namespace,
      "waits",
      (each) => each.status?.conditions?.some(({ message }) => message.includes("former Model")) === true,
    );
    expect(condition(model, "WorkloadAvailable")).toBe("Progressing");
    const there = await rig.get(serviceResource, { namespace, name: "m" });
    expect(there?.metadata.ownerReferences).toEqual([owner]);
    await rig.client.delete(
      serviceResource,
      { namespace, name: "m" },
      { uid: there?.metadata.uid ?? "" },
      never,
    );
    await rig.ready(namespace);
  });

  test("fields and labels: what others add stays, what they change of ours is put back, stripped labels too", async () => {
    const namespace = await rig.namespace();
    rig.operator(namespace);
    await rig.model(namespace);
    await rig.ready(namespace);
    const change = {
      metadata: {
        annotations: { "team.example.com/owner": "a" },
        labels: { "app.kubernetes.io/managed-by": null },
      },
      spec: { minReadySeconds: 3, replicas: 7 },
    };
    await rig.controlPlane.kubectl([
      "patch",
      "deployment",
      "m",
      "-n",
      namespace,
      "--type=merge",
      "-p",
      JSON.stringify(change),
    ]);
    type Live = KubeObject & {
      readonly spec: { readonly replicas: number; readonly minReadySeconds: number };
    };
    const live = await waitFor("ours to be back", async () => {
      const found = await rig.get<Live>(deploymentResource, { namespace, name: "m" });
      return (
        found?.spec.replicas === 1 &&
        found.metadata.labels?.["app.kubernetes.io/managed-by"] === "ocimodel" &&
        found
      );
    });
    expect(live.metadata.annotations?.["team.example.com/owner"]).toBe("a");
    expect(live.spec.minReadySeconds).toBe(3);
  });

  test("an object that admission refuses becomes the reason, with the server's words, and heals", async () => {
    const namespace = await rig.namespace(false);
    const operator = rig.operator(namespace);
    await rig.model(namespace);
    const model = await rig.until(
      namespace,
      "refused",
      (each) => condition(each, "SourceResolved") === "AdmissionDenied",
    );
    const message = model.status?.conditions?.find(({ type }) => type === "SourceResolved")?.message;
    expect(message).toMatch(/^Pod m-inspect-.*serviceaccount "default" not found/);
    const refused = operator.lines.find(({ msg }) => msg === "the API server refused an object");
    expect(refused).toMatchObject({ model: "m", namespace });
    await rig.serviceAccount(namespace);
    await rig.ready(namespace);
  });

  test("deleted and made again with another uid while an operator works: the old one's objects are not the new one's", async () => {
    const namespace = await rig.namespace();
    rig.operator(namespace);
    await rig.model(namespace);
    const first = await rig.ready(namespace);
    await rig.client.delete(
      modelResource,
      { namespace, name: "m" },
      { uid: first.metadata.uid ?? "" },
      never,
    );
    await rig.model(namespace);
    const second = await rig.until(
      namespace,
      "waits for the old objects",
      (each) => each.status?.conditions?.some(({ message }) => message.includes("former Model")) === true,
    );
    expect(second.metadata.uid).not.toBe(first.metadata.uid);
    // The garbage collector is not at work here: the test does its part.
    for (const resource of [deploymentResource, serviceResource]) {
      const old = await rig.get(resource, { namespace, name: "m" });
      expect(old?.metadata.ownerReferences?.[0]?.uid).toBe(first.metadata.uid);
      await rig.client.delete(resource, { namespace, name: "m" }, { uid: old?.metadata.uid ?? "" }, never);
    }
    await rig.ready(namespace);
    const made = await rig.get(deploymentResource, { namespace, name: "m" });
    expect(made?.metadata.ownerReferences?.[0]?.uid).toBe(second.metadata.uid);
  });

  test("logs name model, namespace and reason; metrics count outcomes, models and requests", async () => {
    const namespace = await rig.namespace();
    const operator = rig.operator(namespace);
    await rig.model(namespace);
    await rig.ready(namespace);
    await settled(namespace);
    const transitions = operator.lines.filter(({ reason }) => reason !== undefined);
    expect(transitions.map(({ reason }) => reason)).toEqual(["Resolved", "Selected", "Available"]);
    for (const line of transitions) expect(line).toMatchObject({ model: "m", namespace, level: 30 });
    const text = await operator.metrics.registry.metrics();
    expect(text).toMatch(/^ocimodel_models\{reason="Available"\} 1$/m);
    expect(text).toMatch(/^ocimodel_variants\{verdict="Selected"\} 1$/m);
    expect(text).toMatch(/^ocimodel_reconciles_total\{outcome="done",reason="Ready"\} [1-9]/m);
    expect(text).toMatch(/^ocimodel_relists_total\{resource="models"\} 1$/m);
    expect(text).toMatch(/^ocimodel_queue_depth 0$/m);
    expect(text).toMatch(/^ocimodel_reconcile_duration_seconds_count [1-9]/m);
  });
});
