// When a choice changes and when it does not, on a real API server with the real controllers and the real scheduler. Kubelets are
// played, and waiting is not waited for: times that the operator reads from the API server are set back.

import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import type { Model, ModelSpec } from "../../../operator/api/model.ts";
import type { KubeObject } from "../../../operator/kube/types.ts";
import { claimResource, deploymentResource, podResource } from "../../../operator/reconcile/resources.ts";
import type { Deployment, Pod } from "../../../operator/reconcile/workload-types.ts";
import { waitFor } from "../../cluster/run-command.ts";
import { describeCluster } from "../../cluster/suites.ts";
import { Rig, type Operator } from "./rig.ts";

const never = new AbortController().signal;
const gpu = { accelerator: { vendor: "nvidia" as const } };
const variants: ModelSpec["variants"] = [
  { name: "f16", reference: ":f16", requirements: gpu },
  { name: "q4", reference: ":q4" },
];
const gibibyte = 2 ** 30;
const longAgo = (): string => `${new Date(Date.now() - 3_600_000 / 2).toISOString().slice(0, 19)}Z`;

describeCluster("a choice that was made", () => {
  let rig: Rig;
  beforeAll(async () => {
    rig = await Rig.start({ isScheduled: true });
    rig.inspect = (reference) => {
      const isLarge = reference.endsWith("f16");
      const bytes = (isLarge ? 16 : 5) * gibibyte;
      return {
        reference,
        digest: `sha256:${(isLarge ? "f" : "4").repeat(64)}`,
        packaging: "docker",
        format: "gguf",
        sizeBytes: bytes,
        weightBytes: bytes,
        entry: "model.gguf",
      };
    };
  }, 120_000);
  afterAll(async () => {
    await rig?.stop();
  });
  afterEach(async () => {
    await rig.stopOperators();
  });

  const addGpu = async (name: string): Promise<void> =>
    rig.addNode(name, { "nvidia.com/gpu.memory": "23034" }, { "nvidia.com/gpu": "1" });
  const servers = async (namespace: string): Promise<readonly Pod[]> =>
    (await rig.list<Pod>(podResource, namespace)).filter(
      ({ metadata }) =>
        metadata.labels?.["ocimodel.dev/model"] !== undefined &&
        metadata.labels["app.kubernetes.io/component"] === "server" &&
        metadata.deletionTimestamp === undefined,
    );
  const isServing = (model: Model, variant: string): boolean =>
    model.status?.selected?.variant === variant &&
    model.status.conditions?.some(({ type, status }) => type === "Ready" && status === "True") === true;
  const template = async (namespace: string): Promise<string> =>
    JSON.stringify(
      (await rig.get<Deployment>(deploymentResource, { namespace, name: "m" }))?.spec?.template ?? {},
    );

  /** Changes a node, and waits until the operator has judged it: whatever it wanted to do then, it has done. */
  let marks = 0;
  const judged = async ({ metrics, controller }: Operator): Promise<void> => {
    const reconciles = async (): Promise<number> =>
      (await metrics.reconciles.get()).values.reduce((sum, { value }) => sum + value, 0);
    const before = await reconciles();
    marks += 1;
    await rig.controlPlane.kubectl(["label", "node", "n", "--overwrite", `example.com/marker=${marks}`]);
    await waitFor(
      "the mark to be judged",
      async () => (await reconciles()) > before && controller.depth === 0,
    );
  };

  /** Looks on until the test is over: variants in the order in which they were chosen, and the fewest pods that served since the first. */
  const watch = (namespace: string): { readonly chosen: string[]; stop(): Promise<number> } => {
    const chosen: string[] = [];
    let least = Number.POSITIVE_INFINITY;
    let isOver = false;
    let hasServed = false;
    const look = async (): Promise<void> => {
      const model = await rig.get<Model>(
        { group: "ocimodel.dev", version: "v1alpha1", kind: "Model", plural: "models", namespaced: true },
        { namespace, name: "m" },
      );
      const variant = model?.status?.selected?.variant;
      if (variant !== undefined && chosen.at(-1) !== variant) chosen.push(variant);
      const ready = (await servers(namespace)).filter(({ status }) => status?.phase === "Running").length;
      hasServed ||= ready > 0;
      if (hasServed) least = Math.min(least, ready);
    };
    const looking = (async (): Promise<void> => {
      while (!isOver) {
        await look();
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
    })();
    // A failure of it is that of the test, when it stops.
    looking.catch(() => undefined);
    return {
      chosen,
      stop: async () => {
        isOver = true;
        await looking;
        return least;
      },
    };
  };

  const changes = async (namespace: string): Promise<readonly string[]> => {
    type Told = KubeObject & { readonly message?: string };
    const resource = { group: "", version: "v1", kind: "Event", plural: "events", namespaced: true };
    return (await rig.list<Told>(resource, namespace)).flatMap(({ message = "" }) =>
      message.startsWith("changed from") ? [message.replaceAll(/sha256:\w+/g, "…")] : [],
    );
  };

  /** Another's pod on the only device, which an operator of one namespace cannot see. */
  const holdDevice = async (node: string): Promise<() => Promise<void>> => {
    const others = await rig.namespace();
    const holder = {
      apiVersion: "v1",
      kind: "Pod",
      // Played as a server, or it would be taken for one that inspects.
      metadata: { name: "holder", namespace: others, labels: { "app.kubernetes.io/component": "server" } },
      spec: {
        containers: [{ name: "c", image: "i", resources: { limits: { "nvidia.com/gpu": "1" } } }],
      },
    };
    await rig.client.create(podResource, holder as KubeObject, never);
    await waitFor("the device to be taken", async () =>
      (await rig.list<Pod>(podResource, others)).some(({ spec }) => spec?.nodeName === node),
    );
    return async () => {
      await rig.controlPlane.kubectl([
        "delete",
        "pod",
        "holder",
        "-n",
        others,
        "--force",
        "--grace-period=0",
      ]);
    };
  };
  /** Waits until the scheduler finds no node for a pod, and sets back since when. */
  const waitedLong = async (namespace: string): Promise<void> => {
    const conditions = [{ type: "PodScheduled", lastTransitionTime: longAgo() }];
    const patch = JSON.stringify({ status: { conditions } });
    const name = (await unschedulable(namespace)).metadata.name;
    const of = ["pod", name, "-n", namespace, "--subresource=status"];
    await rig.controlPlane.kubectl(["patch", ...of, "--type=strategic", "-p", patch]);
  };
  const unschedulable = async (namespace: string): Promise<Pod> =>
    waitFor("the scheduler to find no node", async () =>
      (await servers(namespace)).find(({ status }) =>
        status?.conditions?.some(({ reason }) => reason === "Unschedulable"),
      ),
    );

  test("PerHardware, WhenUnschedulable: the replica of a class goes to another one after unschedulableAfter, and stays there", async () => {
    await addGpu("gpu");
    const release = await holdDevice("gpu");
    const namespace = await rig.namespace();
    const operator = rig.operator(namespace);
    const parts = ({ status }: Model): string =>
      (status?.placements ?? [])
        .filter(({ replicas, readyReplicas }) => replicas > 0 || readyReplicas > 0)
        .map(({ variant, replicas, readyReplicas }) => `${variant} ${readyReplicas}/${replicas}`)
        .join(", ");
    const deployments = async (): Promise<string> =>
      JSON.stringify(
        (await rig.list<Deployment>(deploymentResource, namespace)).map(({ metadata, spec }) => [
          metadata.name,
          spec,
        ]),
      );
    await rig.model(namespace, { variants, selection: { cpuFallback: false, placement: "PerHardware" } });
    await rig.until(
      namespace,
      "the best class to be given the replica",
      (model) => parts(model) === "f16 0/1",
    );
    await unschedulable(namespace);
    await judged(operator);
    expect((await servers(namespace)).map(({ spec }) => spec?.nodeName)).toEqual([undefined]);
    await waitedLong(namespace);
    const moved = await rig.until(
      namespace,
      "the other class to serve",
      (model) => parts(model) === "q4 1/1",
    );
    expect(moved.status?.reselection?.passedOver).toMatchObject([{ variant: "f16", accelerator: "nvidia" }]);
    expect((await servers(namespace)).map(({ spec }) => spec?.nodeName)).toEqual(["n"]);
    // The device is free again: what was passed over is not taken back, however often nodes change.
    await release();
    const before = await deployments();
    for (let round = 0; round < 3; round += 1) await judged(operator);
    expect(await deployments()).toBe(before);
    await rig.removeNode("gpu");
  }, 120_000);

  test("a claim whose volume one node alone can mount: only what fits there is chosen, and its pod runs", async () => {
    await addGpu("gpu");
    const namespace = await rig.namespace();
    rig.operator(namespace);
    const core = { group: "", version: "v1" };
    const capacity = { storage: "100Gi" };
    const accessModes = ["ReadWriteMany"];
    const terms = [{ matchExpressions: [{ key: "kubernetes.io/hostname", operator: "In", values: ["n"] }] }];
    await rig.client.create(
      { ...core, kind: "PersistentVolume", plural: "persistentvolumes", namespaced: false },
      {
        apiVersion: "v1",
        kind: "PersistentVolume",
        metadata: { name: "local" },
        spec: {
          capacity,
          accessModes,
          local: { path: "/disk" },
          nodeAffinity: { required: { nodeSelectorTerms: terms } },
        },
      } as KubeObject,
      never,
    );
    await rig.client.create(
      claimResource,
      {
        apiVersion: "v1",
        kind: "PersistentVolumeClaim",
        metadata: { name: "disk", namespace },
        spec: { accessModes, storageClassName: "", volumeName: "local", resources: { requests: capacity } },
      } as KubeObject,
      never,
    );
    await rig.model(namespace, {
      variants,
      selection: { cpuFallback: false },
      storage: { type: "PersistentVolumeClaim", claimName: "disk" },
    });
    const model = await rig.until(namespace, "what fits there to serve", (each) => isServing(each, "q4"));
    expect(model.status?.variants?.[0]).toMatchObject({
      verdict: "NoMatchingNode",
      nearMisses: [{ node: "gpu", lacks: "the volume of claim disk cannot be mounted there" }],
    });
    expect((await servers(namespace)).map(({ spec }) => spec?.nodeName)).toEqual(["n"]);
    await rig.removeNode("gpu");
  }, 120_000);

  test("WhenUnschedulable: after unschedulableAfter the next that has room, once, and never back while it serves", async () => {
    await addGpu("gpu");
    const release = await holdDevice("gpu");
    const namespace = await rig.namespace();
    const operator = rig.operator(namespace);
    const seen = watch(namespace);
    await rig.model(namespace, { variants, selection: { cpuFallback: false } });
    await rig.until(namespace, "the first choice", ({ status }) => status?.selected?.variant === "f16");
    await unschedulable(namespace);
    // It waits, and the choice stays: ten minutes are not over.
    await judged(operator);
    expect(seen.chosen).toEqual(["f16"]);
    await waitedLong(namespace);
    await rig.until(namespace, "the next one to serve", (model) => isServing(model, "q4"));
    // The device is free again. What was passed over is not taken back, however often nodes change.
    await release();
    const before = await template(namespace);
    for (let round = 0; round < 3; round += 1) await judged(operator);
    expect(await template(namespace)).toBe(before);
    expect(await seen.stop()).toBe(1);
    expect(seen.chosen).toEqual(["f16", "q4"]);
    await waitFor("the event", async () => (await changes(namespace)).length > 0);
    expect(await changes(namespace)).toEqual(["changed from f16 on nvidia (…) to q4 on CPUs (…)"]);
    await rig.removeNode("gpu");
  }, 120_000);

  test("OnNodeChange: a node that comes and goes moves nothing; one that stays gets the better variant, and one pod always serves", async () => {
    const namespace = await rig.namespace();
    const operator = rig.operator(namespace);
    const seen = watch(namespace);
    await rig.model(namespace, {
      variants,
      selection: { cpuFallback: false, reselect: "OnNodeChange" },
    });
    await rig.until(namespace, "CPUs to serve", (model) => isServing(model, "q4"));
    const better = ({ status }: Model): string | undefined => status?.reselection?.better?.variant;
    const before = await template(namespace);
    for (let round = 0; round < 3; round += 1) {
      await addGpu("late");
      await rig.until(namespace, "the better one to be seen", (model) => better(model) === "f16");
      await rig.removeNode("late");
      await rig.until(namespace, "it to be forgotten", (model) => better(model) === undefined);
    }
    expect(await template(namespace)).toBe(before);
    expect(seen.chosen).toEqual(["q4"]);

    await addGpu("late");
    await waitFor(
      "the switch",
      async () => {
        const model = await rig.until(namespace, "a status", ({ status }) => status !== undefined);
        if (model.status?.selected?.variant === "f16") return true;
        const patch = JSON.stringify({
          status: { reselection: { better: { ...model.status?.reselection?.better, since: longAgo() } } },
        });
        if (better(model) === "f16") {
          const of = ["mdl/m", "-n", namespace, "--subresource=status"];
          await rig.controlPlane.kubectl(["patch", ...of, "--type=merge", "-p", patch]);
        }
        await judged(operator);
        return false;
      },
      { timeoutMs: 60_000 },
    );
    await rig.until(namespace, "the better one to serve", (model) => isServing(model, "f16"));
    await waitFor("the former pod to go", async () => (await servers(namespace)).length === 1);
    expect(await seen.stop()).toBe(1);
    expect(seen.chosen).toEqual(["q4", "f16"]);
    expect((await servers(namespace)).map(({ spec }) => spec?.nodeName)).toEqual(["late"]);
  }, 120_000);

  test("Never: it stays although a better one fits, and although no node can hold it any more", async () => {
    const namespace = await rig.namespace();
    const operator = rig.operator(namespace);
    await rig.model(namespace, { variants, selection: { cpuFallback: false, reselect: "Never" } });
    // The node of the test before is there still; its pod's device is not free, but nobody knows.
    await rig.until(namespace, "a choice", ({ status }) => status?.selected?.variant === "f16");
    const seen = watch(namespace);
    const before = await template(namespace);
    await rig.removeNode("late");
    await judged(operator);
    await addGpu("other");
    await judged(operator);
    expect(await template(namespace)).toBe(before);
    await seen.stop();
    expect(seen.chosen).toEqual(["f16"]);
  }, 120_000);
});
