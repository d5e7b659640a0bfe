// When type Auto comes to ImageVolume: the table of the page on storage, and that what runs is not restarted.

import { expect, test } from "vitest";
import type { Packaging } from "../../../puller/contract.ts";
import type { Model, ModelSpec, ModelStatus, StorageType } from "../../../operator/api/model.ts";
import { configurationSchema } from "../../../operator/configuration.ts";
import type { Claim } from "../../../operator/desired/claim.ts";
import {
  chooseStorage,
  possibleStorage,
  withResolvedStorage,
} from "../../../operator/desired/resolve-storage.ts";
import { nodeHardware } from "../../../operator/hardware/node-hardware.ts";
import type { NodeHardware } from "../../../operator/hardware/types.ts";
import { decide } from "../../../operator/reconcile/decide.ts";
import type { Observed } from "../../../operator/reconcile/observed.ts";
import { settleStorage } from "../../../operator/reconcile/settle-storage.ts";
import { modelStatus } from "../../../operator/reconcile/status.ts";

const reference = "registry.example.com/images/qwen:q4";
const digest = `sha256:${"a".repeat(64)}`;
const uid = "5b1f3a0e-8f0f-4e0a-9a53-1d8a5b1c2d3e";

const node = (name: string, containerRuntimeVersion: string, labels = {}): NodeHardware =>
  nodeHardware({
    apiVersion: "v1",
    kind: "Node",
    metadata: { name, labels: { "kubernetes.io/arch": "amd64", ...labels } },
    status: {
      allocatable: { cpu: "8", memory: "64Gi", pods: "110", "ephemeral-storage": "100Gi" },
      nodeInfo: { kubeletVersion: "v1.36.3", containerRuntimeVersion },
    },
  });
const mounting = node("mounting", "containerd://2.2.9");
const old = node("old", "containerd://1.7.0");
const oldElsewhere = node("old-elsewhere", "containerd://1.7.0", { pool: "other" });

const cache: Claim = {
  apiVersion: "v1",
  kind: "PersistentVolumeClaim",
  metadata: { name: "cache", namespace: "ai", labels: { "ocimodel.dev/node-cache": "true" } },
  spec: { accessModes: ["ReadWriteMany"] },
  status: { phase: "Bound" },
};

/** A status that knows the one artifact, and of which `before` is what Auto came to for pods that are there. */
function known(packaging: Packaging, before: StorageType | undefined): ModelStatus {
  const facts = { digest, packaging, format: "gguf", sizeBytes: 1_000_000, weightBytes: 900_000 };
  return {
    observedGeneration: 1,
    variants: [{ name: "default", verdict: "Pending", message: "", reference, ...facts }],
    ...(before === undefined
      ? {}
      : {
          storage: { type: before, reason: "before" },
          selected: { variant: "default", digest, accelerator: "none", reason: "fits" },
        }),
  } as unknown as ModelStatus;
}

function observed(
  status: ModelStatus,
  more: {
    readonly spec?: Partial<ModelSpec>;
    readonly nodes?: readonly NodeHardware[];
    readonly claims?: readonly Claim[];
  } = {},
): Observed {
  const { spec = {}, nodes = [mounting], claims = [] } = more;
  const stated: Model = {
    apiVersion: "ocimodel.dev/v1alpha1",
    kind: "Model",
    metadata: { name: "qwen", namespace: "ai", uid, generation: 1 },
    spec: { source: { reference }, storage: { type: "Auto", size: "auto" }, ...spec },
    status,
  };
  const possible = possibleStorage(stated, claims);
  const chosen = chooseStorage(stated, possible);
  return {
    model: withResolvedStorage(stated, claims),
    configuration: configurationSchema.parse({
      pullerImage: "puller:1",
      runtimes: { engine: { image: "engine:1", formats: ["gguf"], cpu: true, port: 8080 } },
    }),
    nodes,
    deployments: [],
    service: undefined,
    claim: claims[0],
    ...(chosen === undefined ? {} : { autoStorage: { chosen, possible } }),
    ownedClaims: [],
    workloadPods: [],
    inspectPods: [],
    claimPods: [],
    claimModels: [],
    collectPods: [],
    prefetchPods: [],
    progress: new Map(),
    nowMs: 0,
  };
}

type Row = readonly [what: string, given: Observed, type: StorageType];
const rows: readonly Row[] = [
  ["an image that every node mounts", observed(known("image", undefined)), "ImageVolume"],
  [
    "the same, before a node cache: the image was made to be mounted",
    observed(known("image", undefined), { claims: [cache] }),
    "ImageVolume",
  ],
  [
    "the node cache, where the model is to be brought to nodes beforehand",
    observed(known("image", undefined), {
      claims: [cache],
      spec: { storage: { type: "Auto", prefetch: {} } },
    }),
    "NodeCache",
  ],
  ["no artifact of Docker", observed(known("docker", undefined)), "Ephemeral"],
  ["no artifact of ModelPack", observed(known("modelpack", undefined)), "Ephemeral"],
  [
    "no image where one fitting node mounts none",
    observed(known("image", undefined), { nodes: [mounting, old] }),
    "Ephemeral",
  ],
  [
    "an image where only nodes mount none that the model does not fit",
    observed(known("image", undefined), {
      nodes: [mounting, oldElsewhere],
      spec: {
        variants: [
          {
            name: "default",
            requirements: {
              nodeSelectorTerms: [{ matchExpressions: [{ key: "pool", operator: "DoesNotExist" }] }],
            },
          },
        ],
      },
    }),
    "ImageVolume",
  ],
  [
    "no image of which files are left out",
    observed(known("image", undefined), { spec: { puller: { exclude: ["*.md"] } } }),
    "Ephemeral",
  ],
  [
    "what pods have already, though an image is possible by now",
    observed(known("image", "Ephemeral")),
    "Ephemeral",
  ],
  [
    "the image while no pods are wanted",
    observed(known("image", "Ephemeral"), { spec: { replicas: 0 } }),
    "ImageVolume",
  ],
  ["the image that pods have already", observed(known("image", "ImageVolume")), "ImageVolume"],
  [
    "another where a node that mounts none has come",
    observed(known("image", "ImageVolume"), { nodes: [mounting, old] }),
    "Ephemeral",
  ],
  [
    "the image that pods have, while no node is there",
    observed(known("image", "ImageVolume"), { nodes: [] }),
    "ImageVolume",
  ],
  [
    "the image that pods have, while references are read again",
    observed({ ...known("image", "ImageVolume"), variants: [] }),
    "ImageVolume",
  ],
  [
    "nothing for good, while references are read for the first time",
    observed({ observedGeneration: 1 }),
    "Ephemeral",
  ],
];

test.each(rows)("Auto takes %s", (_what, given, type) => {
  const settled = settleStorage(given);
  expect(settled.model.spec.storage?.type).toBe(type);
  expect(settled.autoStorage?.chosen.type).toBe(type);
  // Told, and asked again, it is the same.
  const decision = decide(settled);
  const status = modelStatus(settled, decision, undefined);
  expect(status.storage).toMatchObject({ type, reason: settled.autoStorage?.chosen.reason });
  const again = settleStorage({ ...given, model: { ...given.model, status } });
  expect(again.model.spec.storage?.type).toBe(type);
  expect(decide(again).apply).toEqual(decision.apply);
  // Nothing of a claim is left to be mounted, held or cleared.
  if (type === "ImageVolume") {
    expect([settled.claim, settled.claimPods, settled.claimModels]).toEqual([undefined, [], []]);
    const pods = JSON.stringify(decision.apply);
    if (decision.choice?.kind === "selected") expect(pods).toContain('"subPath":"models"');
    expect(pods).not.toContain("initContainers");
  }
});

test("a stated type is what it is", () => {
  for (const type of ["Ephemeral", "ImageVolume"] as const) {
    const given = observed(known("image", undefined), { spec: { storage: { type } } });
    expect(settleStorage(given)).toBe(given);
  }
});

test("pods keep their image volume while the runtime of a node, starting again, tells no version", () => {
  const starting = { ...mounting, name: "starting", containerRuntime: "containerd://Unknown" };
  const nodes = [mounting, starting];
  const settled = settleStorage(observed(known("image", "ImageVolume"), { nodes }));
  expect(settled.autoStorage?.chosen.type).toBe("ImageVolume");
  // Nor is anything rolled out meanwhile.
  expect(decide(settled).apply).toEqual([]);
  // What has no pods yet does not begin so, and a version that is told counts.
  expect(settleStorage(observed(known("image", undefined), { nodes })).autoStorage?.chosen.type).toBe(
    "Ephemeral",
  );
  expect(
    settleStorage(observed(known("image", "ImageVolume"), { nodes: [...nodes, old] })).autoStorage?.chosen
      .type,
  ).toBe("Ephemeral");
});
