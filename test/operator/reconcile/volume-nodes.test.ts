import { describe, expect, test } from "vitest";
import type { Model } from "../../../operator/api/model.ts";
import type { Claim } from "../../../operator/desired/claim.ts";
import { nodeHardware } from "../../../operator/hardware/node-hardware.ts";
import { stripPersistentVolume, volumeSelectors } from "../../../operator/reconcile/volume-nodes.ts";
import type { Pod } from "../../../operator/reconcile/workload-types.ts";
import { admittedNodes } from "../../../operator/selection/node-selector.ts";

const nodes = ["a", "b"].map((name) =>
  nodeHardware({
    apiVersion: "v1",
    kind: "Node",
    metadata: { name, labels: { "topology.kubernetes.io/zone": `zone-${name}` } },
  }),
);
const model = {
  metadata: { name: "m", namespace: "team", uid: "u" },
  spec: { source: { reference: "r" }, storage: { type: "PersistentVolumeClaim", claimName: "disk" } },
} as unknown as Model;
const claim = (volumeName?: string, mode = "ReadWriteOnce"): Claim => ({
  apiVersion: "v1",
  kind: "PersistentVolumeClaim",
  metadata: { name: "disk" },
  spec: { accessModes: [mode], ...(volumeName === undefined ? {} : { volumeName }) },
});
const inZone = (zone: string) => ({
  key: "topology.kubernetes.io/zone",
  operator: "In" as const,
  values: [zone],
});
const volume = {
  apiVersion: "v1",
  kind: "PersistentVolume",
  metadata: { name: "pv" },
  spec: { nodeAffinity: { required: { nodeSelectorTerms: [{ matchExpressions: [inZone("zone-b")] }] } } },
};
const claimClass = {
  apiVersion: "storage.k8s.io/v1",
  kind: "StorageClass",
  metadata: { name: "zonal" },
  allowedTopologies: [
    { matchLabelExpressions: [{ key: "topology.kubernetes.io/zone", values: ["zone-a"] }] },
  ],
};
const pod = (of: string, nodeName: string, phase = "Running"): Pod =>
  ({
    metadata: { name: of, labels: { "ocimodel.dev/model": of, "app.kubernetes.io/component": "server" } },
    spec: { nodeName },
    status: { phase },
  }) as unknown as Pod;

type Given = Partial<Parameters<typeof volumeSelectors>[0]>;
const left = (given: Given): unknown => {
  const selectors = volumeSelectors({ model, claim: undefined, claimPods: [], ...given });
  const { nodes: admitted, excluded } = admittedNodes(nodes, selectors);
  return [
    admitted.map(({ name }) => name).join(),
    excluded.flatMap(({ lacks }) => lacks.map(({ what }) => what)).join(),
  ];
};

describe("nodes that the volume leaves", () => {
  test.each<[string, Given, string, string]>([
    ["no claim yet", {}, "a,b", ""],
    [
      "a bound claim: its volume's",
      { claim: claim("pv"), claimVolume: volume, claimClass },
      "b",
      "the volume of claim disk cannot be mounted there",
    ],
    [
      "a volume that any node can mount",
      { claim: claim("pv"), claimVolume: { ...volume, spec: {} } },
      "a,b",
      "",
    ],
    [
      "an unbound claim: its class's",
      { claim: claim(), claimClass },
      "a",
      "the class of claim disk makes no volume there",
    ],
    [
      "a disk that another Model has",
      { claim: claim("pv"), claimPods: [pod("other", "a")] },
      "a",
      "claim disk is for one node, and a has it",
    ],
    ["a disk that the Model has itself", { claim: claim("pv"), claimPods: [pod("m", "a")] }, "a,b", ""],
    ["a pod that has ended", { claim: claim("pv"), claimPods: [pod("other", "a", "Succeeded")] }, "a,b", ""],
    [
      "a volume for many nodes",
      { claim: claim("pv", "ReadWriteMany"), claimPods: [pod("other", "a")] },
      "a,b",
      "",
    ],
  ])("%s", (_name, given, names, why) => {
    expect(left(given)).toEqual([names, why]);
  });

  test.each<[string, Readonly<Record<string, string>>, string]>([
    ["one zone", { "topology.kubernetes.io/zone": "zone-b" }, "b,unlabelled"],
    ["several zones", { "topology.kubernetes.io/zone": "zone-b__zone-a" }, "a,b,unlabelled"],
    [
      "a region that no node states",
      { "topology.kubernetes.io/zone": "zone-b", "topology.kubernetes.io/region": "r" },
      "unlabelled",
    ],
    [
      "the old label, which new nodes have under the new name",
      { "failure-domain.beta.kubernetes.io/zone": "zone-a" },
      "a,old,unlabelled",
    ],
    [
      "no zone in the label: the scheduler leaves it out",
      { "topology.kubernetes.io/zone": "" },
      "a,b,old,unlabelled",
    ],
    ["labels of no zone", { zone: "zone-b" }, "a,b,old,unlabelled"],
  ])("a bound volume without node affinity, but labels: %s", (_name, labels, names) => {
    const more: Readonly<Record<string, string>>[] = [
      { "topology.kubernetes.io/zone": "zone-a" },
      { "topology.kubernetes.io/zone": "zone-b" },
      { "failure-domain.beta.kubernetes.io/zone": "zone-a" },
      {},
    ];
    const all = ["a", "b", "old", "unlabelled"].map((name, index) =>
      nodeHardware({
        apiVersion: "v1",
        kind: "Node",
        metadata: { name, labels: { "kubernetes.io/hostname": name, ...more[index] } },
      }),
    );
    const selectors = volumeSelectors({
      model,
      claim: claim("pv"),
      claimVolume: stripPersistentVolume({
        ...volume,
        metadata: { name: "pv", labels: { ...labels, app: "x" } },
        spec: {},
      }),
      claimPods: [],
    });
    expect(
      admittedNodes(all, selectors)
        .nodes.map(({ name }) => name)
        .join(),
    ).toBe(names);
  });

  test("a Model without a claim is not asked", () => {
    const ephemeral = { ...model, spec: { source: { reference: "r" } } } as Model;
    expect(
      volumeSelectors({ model: ephemeral, claim: claim("pv"), claimVolume: volume, claimPods: [] }),
    ).toEqual([]);
  });
});
