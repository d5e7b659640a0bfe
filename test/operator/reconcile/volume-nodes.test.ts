import { describe, expect, test } from "vitest";
import type { Model } from "../../../operator/api/model.ts";
import type { Claim } from "../../../operator/desired/claim.ts";
import { nodeHardware } from "../../../operator/hardware/node-hardware.ts";
import { volumeSelectors } from "../../../operator/reconcile/volume-nodes.ts";
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

  test("a Model without a claim is not asked", () => {
    const ephemeral = { ...model, spec: { source: { reference: "r" } } } as Model;
    expect(
      volumeSelectors({ model: ephemeral, claim: claim("pv"), claimVolume: volume, claimPods: [] }),
    ).toEqual([]);
  });
});
