// Placement PerHardware on a real API server with the real controllers and the real scheduler; kubelets alone are played.

import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import type { Model } from "../../../operator/api/model.ts";
import type { KubeObject } from "../../../operator/kube/types.ts";
import { claimResource, deploymentResource, podResource } from "../../../operator/reconcile/resources.ts";
import type { Deployment, Pod } from "../../../operator/reconcile/workload-types.ts";
import { waitFor } from "../../cluster/run-command.ts";
import { describeCluster } from "../../cluster/suites.ts";
import { Rig } from "./rig.ts";

const never = new AbortController().signal;
const gpu = { accelerator: { vendor: "nvidia" as const } };
const variants = [
  { name: "f16", reference: ":f16", requirements: gpu },
  { name: "q4-gpu", reference: ":q4", requirements: gpu },
  { name: "q4", reference: ":q4" },
];
const gibibyte = 2 ** 30;

describeCluster("a Model on several classes of nodes", () => {
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
    await large();
    await rig.addNode("small-a", { "nvidia.com/gpu.memory": "15360" }, { "nvidia.com/gpu": "1" });
    await rig.addNode("small-b", { "nvidia.com/gpu.memory": "15360" }, { "nvidia.com/gpu": "1" });
  }, 120_000);
  afterAll(async () => {
    await rig?.stop();
  });
  afterEach(async () => {
    await rig.stopOperators();
  });

  const large = async (): Promise<void> =>
    rig.addNode("large", { "nvidia.com/gpu.memory": "81559" }, { "nvidia.com/gpu": "2" });
  const live = async (namespace: string): Promise<readonly Pod[]> =>
    (await rig.list<Pod>(podResource, namespace)).filter(
      ({ metadata }) =>
        metadata.labels?.["app.kubernetes.io/component"] === "server" &&
        metadata.deletionTimestamp === undefined,
    );
  /** `variant node` of each pod that serves, sorted. */
  const placed = async (namespace: string): Promise<readonly string[]> =>
    (await live(namespace))
      .filter(({ status }) => status?.phase === "Running")
      .map(({ metadata, spec }) => `${metadata.annotations?.["ocimodel.dev/variant"]} ${spec?.nodeName}`)
      .sort();
  const parts = ({ status }: Model): string =>
    (status?.placements ?? [])
      .filter(({ replicas, readyReplicas }) => replicas > 0 || readyReplicas > 0)
      .map(({ variant, replicas, readyReplicas }) => `${variant} ${readyReplicas}/${replicas}`)
      .join(", ");
  const until = async (namespace: string, wanted: string): Promise<Model> =>
    rig.until(namespace, wanted, (model) => parts(model) === wanted && isReady(model));
  const isReady = ({ status }: Model): boolean =>
    status?.conditions?.some(({ type, status: value }) => type === "Ready" && value === "True") === true;
  const scale = async (namespace: string, replicas: number): Promise<void> => {
    await rig.controlPlane.kubectl(["scale", "mdl/m", "-n", namespace, `--replicas=${replicas}`]);
  };
  /** Leaves the nodes to the next test. */
  const clear = async (namespace: string): Promise<void> => {
    await scale(namespace, 0);
    await waitFor("the pods to be gone", async () =>
      (await rig.list<Pod>(podResource, namespace)).every(
        ({ metadata }) => metadata.labels?.["app.kubernetes.io/component"] !== "server",
      ),
    );
  };

  test("each class serves its variant where it fits; scaling, a class that vanishes, and a heartbeat", async () => {
    const namespace = await rig.namespace();
    const operator = rig.operator(namespace);
    await rig.model(namespace, { variants, selection: { placement: "PerHardware" }, replicas: 5 });
    const model = await until(namespace, "f16 2/2, q4-gpu 2/2, q4 1/1");
    const pods = await placed(namespace);
    expect(pods.slice(0, 2)).toEqual(["f16 large", "f16 large"]);
    expect(pods.slice(3)).toEqual(["q4-gpu small-a", "q4-gpu small-b"]);
    // It prefers the only node without devices.
    expect(pods[2]).toBe("q4 n");
    expect(model.status).toMatchObject({ replicas: 5, ready: "5/5", chosen: "f16=2,q4-gpu=2,q4=1" });
    const table = await rig.controlPlane.kubectl(["get", "mdl", "-n", namespace]);
    expect(table.stdout).toMatch(/m +f16=2,q4-gpu=2,q4=1 +100% +5\/5 +Ready/);

    // One Service over all of them.
    type Slice = KubeObject & { readonly endpoints?: readonly object[] };
    const slices = { group: "discovery.k8s.io", version: "v1", namespaced: true };
    const resource = { ...slices, kind: "EndpointSlice", plural: "endpointslices" };
    await waitFor("the endpoints", async () => {
      const found = await rig.list<Slice>(resource, namespace);
      return found.flatMap(({ endpoints = [] }) => endpoints).length === 5;
    });

    // What a kubelet writes every few seconds is no work.
    const reconciles = async (): Promise<number> =>
      (await operator.metrics.reconciles.get()).values.reduce((sum, { value }) => sum + value, 0);
    let before = -1;
    await waitFor("silence", async () => {
      const now = await reconciles();
      const isSame = now === before;
      before = now;
      return isSame && operator.controller.depth === 0;
    });
    for (const name of ["small-a", "small-b"]) await rig.heartbeat(name);
    // A change of hardware comes after them on the same watch, so they have been seen by then.
    await rig.controlPlane.kubectl(["label", "node", "n", "example.com/marker=1"]);
    await waitFor("the label to be seen", async () => (await reconciles()) > before);
    expect(await reconciles()).toBe(before + 1);

    await scale(namespace, 6);
    await until(namespace, "f16 2/2, q4-gpu 2/2, q4 2/2");
    const read = await rig.controlPlane.kubectl([
      "get",
      "--raw",
      `/apis/ocimodel.dev/v1alpha1/namespaces/${namespace}/models/m/scale`,
    ]);
    expect(JSON.parse(read.stdout)).toMatchObject({
      spec: { replicas: 6 },
      status: { replicas: 6, selector: "ocimodel.dev/model=m,app.kubernetes.io/component=server" },
    });
    await scale(namespace, 3);
    await until(namespace, "f16 2/2, q4-gpu 1/1");

    const kept = (await live(namespace)).map(({ metadata }) => metadata.uid);
    await rig.removeNode("large");
    await rig.until(namespace, "the others", (each) => /^q4-gpu 2\/2, q4 1\/1$/.test(parts(each)));
    const after = await live(namespace);
    expect(after.filter(({ metadata }) => kept.includes(metadata.uid))).toHaveLength(1);
    const names = (await rig.list<Deployment>(deploymentResource, namespace)).map(
      ({ metadata }) => metadata.name,
    );
    expect(names).toHaveLength(2);
    await waitFor(
      "the event",
      async () => (await rig.events(namespace)).filter((each) => each === "Normal Selected").length >= 2,
    );
    await clear(namespace);
    await large();
  }, 180_000);

  test("Uniform and PerHardware change into each other, and what serves is never fewer", async () => {
    const namespace = await rig.namespace();
    rig.operator(namespace);
    await rig.model(namespace, { variants, selection: { placement: "PerHardware" }, replicas: 1 });
    await until(namespace, "f16 1/1");
    let least = Number.POSITIVE_INFINITY;
    const serving = async (): Promise<readonly string[]> => {
      const pods = await placed(namespace);
      least = Math.min(least, pods.length);
      return (await rig.list<Deployment>(deploymentResource, namespace)).map(({ metadata }) => metadata.name);
    };
    await rig.model(namespace, { variants, selection: { placement: "Uniform" }, replicas: 1 });
    await waitFor("one Deployment", async () => (await serving()).join() === "m");
    await rig.until(
      namespace,
      "no placements",
      (each) => each.status?.placements === undefined && isReady(each),
    );
    await rig.model(namespace, { variants, selection: { placement: "PerHardware" }, replicas: 1 });
    await waitFor("one Deployment of a class", async () => /^m-[0-9a-f]{8}$/.test((await serving()).join()));
    expect(least).toBe(1);
    await clear(namespace);
  }, 120_000);

  test("a claim that one node alone can mount is refused, and told why", async () => {
    const namespace = await rig.namespace();
    rig.operator(namespace);
    const claim = {
      apiVersion: "v1",
      kind: "PersistentVolumeClaim",
      metadata: { name: "theirs", namespace },
      spec: { accessModes: ["ReadWriteOnce"], resources: { requests: { storage: "1Gi" } } },
    };
    await rig.client.create(claimResource, claim as KubeObject, never);
    await rig.model(namespace, {
      variants,
      selection: { placement: "PerHardware" },
      storage: { type: "PersistentVolumeClaim", claimName: "theirs" },
    });
    const model = await rig.until(
      namespace,
      "refused",
      ({ status }) => status?.conditions?.some(({ reason }) => reason === "ClaimMismatch") === true,
    );
    expect(model.status?.conditions?.find(({ type }) => type === "StorageReady")).toMatchObject({
      status: "False",
      message:
        'claim "theirs" is ReadWriteOnce, which keeps all pods on one node, and placement PerHardware runs them on several classes of nodes; use a ReadWriteMany claim, storage type Ephemeral, or placement Uniform',
    });
    expect(await live(namespace)).toEqual([]);
  });

  test("devices that only a DRA driver offers are claimed, and the scheduler places pods by the claims", async () => {
    const driver = "gpu.nvidia.com";
    const cluster = { group: "resource.k8s.io", version: "v1", namespaced: false };
    const expression = `device.driver == "${driver}" && device.attributes["${driver}"].type == "gpu"`;
    await rig.client.create(
      { ...cluster, kind: "DeviceClass", plural: "deviceclasses" },
      {
        apiVersion: "resource.k8s.io/v1",
        kind: "DeviceClass",
        metadata: { name: driver },
        spec: { selectors: [{ cel: { expression } }] },
      } as KubeObject,
      never,
    );
    const publish = async (node: string, memory: string): Promise<void> => {
      await rig.addNode(node);
      const device = (name: string): object => ({
        name,
        attributes: {
          type: { string: "gpu" },
          productName: { string: "NVIDIA H100 80GB HBM3" },
          cudaComputeCapability: { version: "9.0.0" },
        },
        capacity: { memory: { value: memory } },
      });
      const pool = { name: node, generation: 1, resourceSliceCount: 1 };
      await rig.client.create(
        { ...cluster, kind: "ResourceSlice", plural: "resourceslices" },
        {
          apiVersion: "resource.k8s.io/v1",
          kind: "ResourceSlice",
          metadata: { name: node },
          // The first one states no memory: a condition that failed on it would keep pods off all nodes.
          spec: {
            driver,
            nodeName: node,
            pool,
            devices: [{ ...device("bare"), capacity: {} }, device("gpu")],
          },
        } as KubeObject,
        never,
      );
    };
    await publish("claimed-small", "8Gi");
    await publish("claimed-large", "200Gi");
    const namespace = await rig.namespace();
    rig.operator(namespace);
    const requirements = {
      accelerator: {
        vendor: "nvidia" as const,
        memoryPerDevice: "150Gi",
        products: ["*H100*"],
        minComputeCapability: "8.9",
      },
    };
    const more = { selection: { cpuFallback: false } };
    await rig.model(namespace, { variants: [{ name: "f16", reference: ":f16", requirements }], ...more });
    await rig.until(namespace, "a pod that serves", isReady);
    expect(await placed(namespace)).toEqual(["f16 claimed-large"]);
    type Claimed = KubeObject & {
      readonly status?: {
        readonly allocation?: { readonly devices: { readonly results: readonly object[] } };
      };
    };
    const resource = { ...cluster, namespaced: true };
    const claims = await rig.list<Claimed>(
      { ...resource, kind: "ResourceClaim", plural: "resourceclaims" },
      namespace,
    );
    expect(claims.map(({ status }) => status?.allocation?.devices.results)).toMatchObject([
      [{ request: "devices", driver, pool: "claimed-large", device: "gpu" }],
    ]);
    const templates = { ...resource, kind: "ResourceClaimTemplate", plural: "resourceclaimtemplates" };
    const [first, ...others] = await rig.list(templates, namespace);
    expect(others).toEqual([]);
    expect(first?.metadata.ownerReferences).toMatchObject([{ kind: "Model", name: "m" }]);

    // Another Model finds the device taken, by the claim of the first one, which has it.
    await rig.stopOperators();
    const elsewhere = await rig.namespace();
    rig.operator(elsewhere, undefined, { namespaces: [] });
    await rig.model(elsewhere, { variants: [{ name: "f16", reference: ":f16", requirements }], ...more });
    const waiting = await rig.until(
      elsewhere,
      "a verdict",
      ({ status }) => (status?.variants ?? []).length > 0 && status?.variants?.[0]?.verdict !== "Pending",
    );
    expect(waiting.status?.variants?.[0]?.message).toMatch(
      /fits 1 of \d nodes; none has room now: 1 whose GPUs are taken$/,
    );
    expect(waiting.status?.variants?.[0]?.nearMisses).toEqual([
      { node: "claimed-large", lacks: "1 of its 1 GPUs are taken" },
    ]);
    const holding = await rig.until(namespace, "a pod that serves", isReady);
    expect(holding.status?.variants?.[0]?.message).not.toContain("room");
    await rig.stopOperators();
    await rig.controlPlane.kubectl(["delete", "mdl", "m", "-n", elsewhere]);
    rig.operator(namespace);

    // Another need is another template; the former one goes when no pod can be made from it any more.
    const less = { accelerator: { ...requirements.accelerator, memoryPerDevice: "120Gi" } };
    await rig.model(namespace, {
      variants: [{ name: "f16", reference: ":f16", requirements: less }],
      ...more,
    });
    await waitFor("the former template to go", async () => {
      const names = (await rig.list(templates, namespace)).map(({ metadata }) => metadata.name);
      return names.length === 1 && names[0] !== first?.metadata.name;
    });
    await rig.until(namespace, "a pod that serves again", isReady);
    await clear(namespace);
  }, 120_000);
});
