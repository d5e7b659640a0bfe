import { describe, expect, test } from "vitest";
import type { ResourceClaim } from "../../../operator/hardware/allocated-devices.ts";
import type { ResourceSlice } from "../../../operator/hardware/dra.ts";
import type { Node } from "../../../operator/hardware/node-hardware.ts";
import type { ObjectCache } from "../../../operator/kube/types.ts";
import { ClusterHardware } from "../../../operator/reconcile/cluster-hardware.ts";
import {
  stripResourceClaim,
  stripScheduledPod,
  type ScheduledPod,
} from "../../../operator/reconcile/taken-capacity.ts";

const gpuNode: Node = {
  apiVersion: "v1",
  kind: "Node",
  metadata: {
    name: "gpu-a",
    resourceVersion: "1",
    labels: { "nvidia.com/gpu.product": "NVIDIA-L4", "nvidia.com/gpu.memory": "23034" },
  },
  spec: {},
  status: { allocatable: { cpu: "8", memory: "32Gi", pods: "110", "nvidia.com/gpu": "2" } },
};

function pod(name: string, changes: Partial<ScheduledPod> = {}, model?: string): ScheduledPod {
  return stripScheduledPod({
    apiVersion: "v1",
    kind: "Pod",
    metadata: {
      name,
      namespace: "team",
      ...(model === undefined ? {} : { labels: { "ocimodel.dev/model": model } }),
    },
    spec: {
      nodeName: "gpu-a",
      containers: [{ resources: { requests: { cpu: "500m", memory: "1Gi", "nvidia.com/gpu": "1" } } }],
    },
    status: { phase: "Running" },
    ...changes,
  });
}

function cluster(countsPods = true) {
  let nodes: readonly Node[] = [];
  const told = { hardware: 0, capacity: 0 };
  const cache: ObjectCache<Node> = {
    hasSynced: true,
    get: ({ name }) => nodes.find(({ metadata }) => metadata.name === name),
    list: () => nodes,
  };
  const hardware = new ClusterHardware({
    onHardware: () => {
      told.hardware += 1;
    },
    onCapacity: () => {
      told.capacity += 1;
    },
  });
  hardware.attach(cache, countsPods, true);
  const set = (after: Node): void => {
    const before = nodes.find(({ metadata }) => metadata.name === after.metadata.name);
    nodes = [...nodes.filter(({ metadata }) => metadata.name !== after.metadata.name), after];
    hardware.changeNode({ ...(before === undefined ? {} : { before }), after });
  };
  return { hardware, set, told };
}

describe("what wakes Models", () => {
  test("a heartbeat that changes no hardware fact causes no work", () => {
    const { set, told } = cluster();
    set(gpuNode);
    expect(told).toEqual({ hardware: 1, capacity: 0 });
    for (let beat = 0; beat < 50; beat += 1) {
      // What kubelets and discovery write again and again: conditions, images, order of labels.
      const labels = Object.entries(gpuNode.metadata.labels ?? {});
      set({
        ...gpuNode,
        metadata: {
          ...gpuNode.metadata,
          resourceVersion: String(beat + 2),
          annotations: { "volumes.kubernetes.io/controller-managed-attach-detach": String(beat) },
          labels: Object.fromEntries(beat % 2 === 0 ? labels : labels.reverse()),
        },
        status: {
          ...gpuNode.status,
          conditions: [
            { type: "Ready", status: "True", lastHeartbeatTime: `2026-01-01T00:00:${10 + beat}Z` },
          ],
        } as NonNullable<Node["status"]>,
      });
    }
    expect(told).toEqual({ hardware: 1, capacity: 0 });
  });

  test.each<[string, (node: Node) => Node]>([
    [
      "a label",
      (node) => ({ ...node, metadata: { ...node.metadata, labels: { "nvidia.com/gpu.memory": "1" } } }),
    ],
    ["a cordon", (node) => ({ ...node, spec: { unschedulable: true } })],
    ["a taint", (node) => ({ ...node, spec: { taints: [{ key: "a", effect: "NoSchedule" }] } })],
    [
      "a device less",
      (node) => ({
        ...node,
        status: { allocatable: { ...node.status?.allocatable, "nvidia.com/gpu": "1" } },
      }),
    ],
  ])("%s does", (_what, change) => {
    const { set, told } = cluster();
    set(gpuNode);
    set(change(gpuNode));
    expect(told.hardware).toBe(2);
  });

  test("a pod counts when it takes or frees something, not while its status changes", () => {
    const { hardware, told } = cluster();
    const running = pod("p");
    hardware.changePod({ after: running });
    hardware.changePod({ before: running, after: pod("p", { status: { phase: "Running" } }) });
    expect(told.capacity).toBe(1);
    hardware.changePod({ before: running, after: pod("p", { status: { phase: "Succeeded" } }) });
    expect(told.capacity).toBe(2);
    hardware.changePod({ after: pod("unscheduled", { spec: {} }) });
    expect(told.capacity).toBe(2);
  });
});

describe("what is free", () => {
  const gpus = (hardware: ClusterHardware, except?: string) => {
    const [node] = hardware.list(except);
    const { requested: _requested, ...free } = node?.free ?? { requested: {} };
    return { gpus: node?.accelerators[0]?.freeCount, ...free };
  };

  test("is what pods leave, but the Model's own pods are not in its way", () => {
    const { hardware, set } = cluster();
    set(gpuNode);
    expect(gpus(hardware)).toEqual({ gpus: 2, cpuMillis: 8000, memoryBytes: 32 * 2 ** 30, pods: 110 });
    hardware.changePod({ after: pod("mine", {}, "llm") });
    hardware.changePod({ after: pod("other") });
    expect(gpus(hardware)).toEqual({ gpus: 0, cpuMillis: 7000, memoryBytes: 30 * 2 ** 30, pods: 108 });
    expect(gpus(hardware, "team/llm")).toEqual({
      gpus: 1,
      cpuMillis: 7500,
      memoryBytes: 31 * 2 ** 30,
      pods: 109,
    });
    // A Model of the same name elsewhere owns none of it.
    expect(gpus(hardware, "elsewhere/llm")).toMatchObject({ gpus: 0 });
    hardware.changePod({ before: pod("mine", {}, "llm") });
    hardware.changePod({ before: pod("other") });
    expect(gpus(hardware)).toMatchObject({ gpus: 2, pods: 110 });
  });

  test("is told afresh after each pod, and the same object while nothing of the node changes", () => {
    const { hardware, set } = cluster();
    set(gpuNode);
    const free = (): number | undefined => hardware.list()[0]?.accelerators[0]?.freeCount;
    const seen = [free()];
    for (const name of ["one", "two"]) {
      hardware.changePod({ after: pod(name) });
      seen.push(free());
    }
    hardware.changePod({ before: pod("one") });
    seen.push(free());
    expect(seen).toEqual([2, 1, 0, 1]);
    expect(hardware.list()[0]).toBe(hardware.list()[0]);
  });

  test("is unknown, not all, where pods of other namespaces may not be seen", () => {
    const { hardware, set } = cluster(false);
    set(gpuNode);
    expect(gpus(hardware)).toEqual({ gpus: undefined });
  });
});

describe("ResourceSlices", () => {
  const slice = (devices: ResourceSlice["spec"]["devices"]): ResourceSlice => ({
    apiVersion: "resource.k8s.io/v1",
    kind: "ResourceSlice",
    metadata: { name: "s" },
    spec: {
      driver: "gpu.nvidia.com",
      nodeName: "gpu-a",
      pool: { name: "gpu-a", generation: 1, resourceSliceCount: 1 },
      ...(devices === undefined ? {} : { devices }),
    },
  });
  const device = {
    name: "gpu-0",
    attributes: {
      type: { string: "gpu" },
      productName: { string: "NVIDIA L4" },
      cudaComputeCapability: { version: "8.9.0" },
    },
    capacity: { memory: { value: "23034Mi" } },
  };

  test("are devices of their node only where no plugin offers them, and wake Models when they change", () => {
    const { hardware, set, told } = cluster();
    const { "nvidia.com/gpu": _gpu, ...withoutGpus } = gpuNode.status?.allocatable ?? {};
    set({ ...gpuNode, status: { allocatable: withoutGpus } });
    hardware.changeSlice({ after: slice([device, { ...device, name: "gpu-1" }]) });
    expect(told.hardware).toBe(2);
    expect(hardware.list()[0]?.accelerators).toMatchObject([
      { access: { kind: "claim" }, count: 2, memoryBytes: 23034 * 2 ** 20, memorySource: "dra" },
    ]);
    set(gpuNode);
    expect(hardware.list()[0]?.accelerators).toMatchObject([{ access: { kind: "resource" } }]);
    hardware.changeSlice({ before: slice([device]) });
    expect(hardware.list()[0]?.accelerators).toHaveLength(1);
  });

  test("that claims hold are taken, but for the Model's own, for parts and for who only looks; and given back", () => {
    const { hardware, set, told } = cluster();
    const { "nvidia.com/gpu": _gpu, ...withoutGpus } = gpuNode.status?.allocatable ?? {};
    set({ ...gpuNode, status: { allocatable: withoutGpus } });
    hardware.changeSlice({
      after: slice([device, { ...device, name: "gpu-1" }, { ...device, name: "gpu-2" }]),
    });
    const { driver, pool } = slice([device]).spec;
    const claim = (name: string, devices: readonly object[], model?: string): ResourceClaim =>
      stripResourceClaim({
        apiVersion: "resource.k8s.io/v1",
        kind: "ResourceClaim",
        metadata: {
          name,
          namespace: "team",
          ...(model === undefined ? {} : { labels: { "ocimodel.dev/model": model } }),
        },
        status: {
          allocation: {
            devices: {
              results: devices.map((each) => ({ driver, pool: pool.name, device: "gpu-0", ...each })),
            },
          },
        },
      });
    const free = (model?: string): number | undefined => hardware.list(model)[0]?.accelerators[0]?.freeCount;
    expect(free()).toBe(3);
    const theirs = claim("theirs", [
      {},
      { device: "gpu-2", adminAccess: true },
      { device: "gpu-2", shareID: "s" },
    ]);
    hardware.changeClaim({ after: theirs });
    const own = claim("own", [{ device: "gpu-1" }], "llm");
    hardware.changeClaim({ after: own });
    // Each answer the same in whichever order Models are asked for, and from what was kept.
    for (const _again of [1, 2])
      expect([free("team/llm"), free(), free("other/llm"), free("team/llm")]).toEqual([2, 1, 1, 2]);
    expect(hardware.list("other/llm")[0]).toBe(hardware.list()[0]);
    expect(told.capacity).toBe(2);
    hardware.changeClaim({ before: own, after: own });
    expect(told.capacity).toBe(2);
    // After a list, the next one is told before the former is gone.
    const next = claim("next", [{}]);
    hardware.changeClaim({ after: next });
    hardware.changeClaim({ before: theirs });
    expect(free()).toBe(1);
    hardware.changeClaim({ before: next });
    // Another device for the one that is given back: as many are free, and a Model that has none any more sees what others do.
    hardware.changeClaim({ before: own, after: claim("own", [{ device: "gpu-2" }], "llm") });
    expect([free(), free("team/llm")]).toEqual([2, 3]);
    hardware.changeClaim({ before: claim("own", [{ device: "gpu-2" }], "llm") });
    expect([free(), free("team/llm")]).toEqual([3, 3]);
    expect(hardware.list("team/llm")[0]).toBe(hardware.list()[0]);
  });

  test("have the last word on memory that labels overstate", () => {
    const { hardware, set } = cluster();
    set(gpuNode);
    hardware.changeSlice({ after: slice([{ ...device, capacity: { memory: { value: "15360Mi" } } }]) });
    const [node] = hardware.list();
    expect(node?.accelerators[0]).not.toHaveProperty("memoryBytes");
    expect(node?.accelerators[0]).toMatchObject({ labelsOverstate: true });
    expect(node?.notes).toEqual(["its labels state 23034 MiB, its DRA driver 15360 MiB"]);
  });
});
