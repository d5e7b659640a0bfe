// What a plan says of the volume of a Model: a claim that is there or not, that can be used or not, and will be bound or not.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { parseAllDocuments, stringify } from "yaml";
import { defaultRuntimes } from "../../../operator/plan/default-runtimes.ts";
import { planModel, type Plan } from "../../../operator/plan/plan.ts";
import { readApplied, readCluster, readModels } from "../../../operator/plan/read-input.ts";
import { modelDefinition } from "../../../operator/validation/definition.ts";
import { modelValidator } from "../../../operator/validation/validate-model.ts";
import { inputOf } from "../selection/golden-cases.ts";
import { planDirectory } from "./run-plan.ts";

const validate = modelValidator(modelDefinition());
const { facts, nodes } = inputOf({ nodes: [{ is: "cpu-32" }] });

const model = (storage: object, more: object = {}): object => ({
  apiVersion: "ocimodel.dev/v1alpha1",
  kind: "Model",
  metadata: { name: "llm", namespace: "ai" },
  spec: { source: { reference: "registry.example/llm:8b-q4" }, storage, ...more },
});
const storageClass = (name: string, more: object = {}): object => ({
  kind: "StorageClass",
  metadata: { name },
  provisioner: "csi.example",
  ...more,
});
const standard = storageClass("standard", {
  metadata: {
    name: "standard",
    annotations: { "storageclass.kubernetes.io/is-default-class": "true" },
  },
});
const claim = (name: string, more: object = {}, spec: object = {}): object => ({
  kind: "PersistentVolumeClaim",
  metadata: { name, namespace: "ai" },
  spec: { accessModes: ["ReadWriteMany"], volumeName: "v", ...spec },
  status: { phase: "Bound", capacity: { storage: "10Gi" } },
  ...more,
});
const ownedClaim = (owner: object): object =>
  claim(
    "llm-store",
    { metadata: { name: "llm-store", namespace: "ai", ownerReferences: [owner] } },
    { accessModes: ["ReadWriteOnce"] },
  );

const otherClaim = claim("other");
const otherVolume = {
  kind: "PersistentVolume",
  metadata: { name: "other" },
  spec: { storageClassName: "other", claimRef: { name: "other", namespace: "ai" } },
};

/** A plan on a cluster with these objects besides a node. */
function planned(asked: object, others: readonly object[], beside: readonly object[] = []): Plan {
  const text = [asked, ...beside].map((each) => JSON.stringify(each)).join("\n---\n");
  const [read] = readModels(text, "model.yaml", validate);
  if (read === undefined) throw new Error("no Model was read");
  const items = [...nodes, ...others];
  const cluster = readCluster([{ text: JSON.stringify({ kind: "List", items }), file: "nodes.yaml" }]);
  return planModel({
    ...cluster,
    applied: readApplied(text, "model.yaml"),
    name: "llm",
    namespace: "ai",
    spec: read.spec,
    facts,
    runtimes: defaultRuntimes,
  });
}

function expectPlaced(plan: Plan, message: string): void {
  expect(plan.storage?.refusal).toBeUndefined();
  expect(plan).toMatchObject({
    isPlaced: true,
    storage: { message: expect.stringContaining(message) as string },
  });
}

const type = "PersistentVolumeClaim";

describe("a volume that pods could not have is refused", () => {
  test.each<[string, object, readonly object[], string, string]>([
    [
      "a claim that is not there",
      { type, claimName: "disk" },
      [standard],
      "PVCPending",
      'no claim "disk" in',
    ],
    [
      "a claim of another namespace",
      { type, claimName: "disk" },
      [standard, claim("disk", { metadata: { name: "disk", namespace: "default" } })],
      "PVCPending",
      'no claim "disk" in namespace ai',
    ],
    [
      "a claim that is going",
      { type, claimName: "disk" },
      [
        claim("disk", {
          metadata: { name: "disk", namespace: "ai", deletionTimestamp: "2026-01-01T00:00:00Z" },
        }),
      ],
      "PVCPending",
      "is being deleted",
    ],
    [
      "a claim that has lost its volume",
      { type, claimName: "disk" },
      [claim("disk", { status: { phase: "Lost" } })],
      "PVCPending",
      "has lost its volume",
    ],
    [
      "a raw device",
      { type, claimName: "disk" },
      [claim("disk", {}, { volumeMode: "Block" })],
      "ClaimMismatch",
      "raw block device",
    ],
    ["a node cache that is not there", { type: "NodeCache" }, [standard], "PVCPending", "has the label"],
    [
      "a claim of the operator's name that is somebody else's",
      { type },
      [ownedClaim({ apiVersion: "apps/v1", kind: "StatefulSet", name: "llm", uid: "1" })],
      "ClaimMismatch",
      "belongs to something else",
    ],
    [
      "a claim of a Model of the same name, of another group",
      { type },
      [ownedClaim({ apiVersion: "ml.example/v1", kind: "Model", name: "llm", uid: "1" })],
      "ClaimMismatch",
      "belongs to something else",
    ],
    [
      "a class that is not there",
      { type, storageClassName: "fast" },
      [standard],
      "PVCPending",
      '"fast" (there is standard)',
    ],
    [
      "no class where none is the default",
      { type },
      [storageClass("a")],
      "PVCPending",
      "none is the default (there is a)",
    ],
    [
      "a class that makes nothing",
      { type, storageClassName: "local" },
      [storageClass("local", { provisioner: "kubernetes.io/no-provisioner" })],
      "PVCPending",
      '"local" makes no volumes',
    ],
    [
      "a claim that waits for a class that is not there",
      { type, claimName: "disk" },
      [
        standard,
        claim("disk", { status: { phase: "Pending" } }, { volumeName: "", storageClassName: "fast" }),
      ],
      "PVCPending",
      "storageClassName of the claim",
    ],
  ])("%s", (_name, storage, others, reason, message) => {
    const {
      isPlaced,
      reason: told,
      message: why,
      storage: kept,
    } = planned(model(storage), [...others, otherClaim, otherVolume]);
    expect({ isPlaced, told, refusal: kept?.refusal }).toEqual({
      isPlaced: false,
      told: reason,
      refusal: reason,
    });
    expect(why).toContain(message);
  });
});

describe("a volume that pods would have is not", () => {
  const volume = (spec: object): object => ({ kind: "PersistentVolume", metadata: { name: "v" }, spec });
  test.each<[string, object, readonly object[], string]>([
    [
      "a claim that is bound",
      { type, claimName: "disk" },
      [claim("disk")],
      'claim "disk", 10Gi, for pods on any node',
    ],
    [
      "a claim that waits for its first pod",
      { type, claimName: "disk" },
      [
        standard,
        claim("disk", { status: { phase: "Pending" } }, { volumeName: "", storageClassName: "standard" }),
      ],
      'claim "disk" is Pending',
    ],
    ["one that the operator makes", { type }, [standard], 'the operator makes claim "llm-store"'],
    [
      "one that it has made for the Model, of whose file nobody knows the uid",
      { type },
      [ownedClaim({ apiVersion: "ocimodel.dev/v1", kind: "Model", name: "llm", uid: "3f2a" })],
      'claim "llm-store", 10Gi',
    ],
    [
      "a volume that waits without a class that makes it",
      { type, storageClassName: "manual" },
      [standard, volume({ storageClassName: "manual" })],
      "the operator makes claim",
    ],
    [
      "a volume that is kept for it",
      { type, storageClassName: "manual" },
      [standard, volume({ storageClassName: "", claimRef: { name: "llm-store", namespace: "ai" } })],
      "the operator makes claim",
    ],
    [
      "a node cache",
      { type: "Auto" },
      [
        claim("cache", {
          metadata: { name: "cache", namespace: "ai", labels: { "ocimodel.dev/node-cache": "true" } },
        }),
      ],
      'claim "cache" is the namespace\'s node cache; claim "cache", 10Gi, one copy on each node',
    ],
  ])("%s", (_name, storage, others, message) => {
    expectPlaced(planned(model(storage), others), message);
  });

  test("a volume that is another claim's is none", () => {
    const taken = volume({ storageClassName: "manual", claimRef: { name: "other", namespace: "ai" } });
    expect(planned(model({ type, storageClassName: "manual" }), [standard, taken]).reason).toBe("PVCPending");
  });

  test("a claim that is applied with the Model, unless it can never be bound", () => {
    const asked = model({ type, claimName: "disk" });
    const beside = claim(
      "disk",
      { status: undefined },
      { volumeName: undefined, storageClassName: "standard" },
    );
    expect(planned(asked, [standard], [beside]).storage?.message).toContain("is applied with the Model");
    expect(planned(asked, [storageClass("fast"), otherVolume], [beside]).reason).toBe("PVCPending");
    // Also where nobody tells what the cluster has.
    expect(planned(asked, [], [beside])).toMatchObject({ isPlaced: true });
  });
});

test("where nobody tells claims, only a Model that asks for one hears of it", () => {
  const messageOf = (storage: object): string => planned(model(storage), []).storage?.message ?? "";
  expect(messageOf({ type, claimName: "disk" })).toBe(
    'no claims are told, so whether claim "disk" is there is not known; give them by --nodes',
  );
  expect(messageOf({ type })).toContain("no storage classes are told");
  expect(messageOf({ type: "Ephemeral" })).toBe("as spec.storage states");
  expect(messageOf({ type: "Ephemeral", medium: "Memory" })).toBe(
    "as spec.storage states; in RAM, which counts",
  );
});

describe("what is applied with the Model counts as there", () => {
  const pending = (storageClassName: string): object =>
    claim("disk", { status: undefined }, { volumeName: undefined, storageClassName });
  const volume = (spec: object): object => ({ kind: "PersistentVolume", metadata: { name: "v" }, spec });
  test.each<[string, object, readonly object[], boolean]>([
    ["nothing", { type, storageClassName: "fast" }, [], false],
    ["a class", { type, storageClassName: "fast" }, [storageClass("fast")], true],
    [
      "a class that makes nothing",
      { type, storageClassName: "fast" },
      [storageClass("fast", { provisioner: "kubernetes.io/no-provisioner" })],
      false,
    ],
    ["a volume", { type, storageClassName: "manual" }, [volume({ storageClassName: "manual" })], true],
    [
      "a volume and its claim",
      { type, claimName: "disk" },
      [volume({ storageClassName: "manual" }), pending("manual")],
      true,
    ],
    [
      "a volume that is another claim's",
      { type, claimName: "disk" },
      [volume({ storageClassName: "manual", claimRef: { name: "other" } }), pending("manual")],
      false,
    ],
  ])("%s", (_name, storage, beside, isPlaced) => {
    const plan = planned(model(storage), [standard, otherClaim, otherVolume], beside);
    expect(plan).toMatchObject({ isPlaced, reason: isPlaced ? "Selected" : "PVCPending" });
  });

  test("and ties pods to the nodes that its volume is on", () => {
    const onOther = {
      storageClassName: "manual",
      nodeAffinity: {
        required: {
          nodeSelectorTerms: [
            { matchExpressions: [{ key: "kubernetes.io/hostname", operator: "In", values: ["elsewhere"] }] },
          ],
        },
      },
    };
    const beside = [volume(onOther), claim("disk", { status: undefined }, { storageClassName: "manual" })];
    const { variants } = planned(model({ type, claimName: "disk" }), [], beside);
    expect(variants).toMatchObject([
      { message: expect.stringContaining("out of reach of claim disk") as string },
    ]);
  });
});

describe("what the cluster was not asked for is not missing there", () => {
  test.each<[string, object, readonly object[], string]>([
    [
      "classes, where claims are told",
      { type },
      [otherClaim],
      'the operator makes claim "llm-store"; no storage classes are told, so whether one provides it is not known; give them by --nodes',
    ],
    [
      "the class that is stated, where claims and volumes are told",
      { type, storageClassName: "fast" },
      [otherClaim, otherVolume],
      'the operator makes claim "llm-store"; no storage classes are told',
    ],
    [
      "claims, where classes are told",
      { type, claimName: "disk" },
      [standard],
      'no claims are told, so whether claim "disk" is there is not known; give them by --nodes',
    ],
    [
      "a node cache, where classes are told",
      { type: "NodeCache" },
      [standard],
      "no claims are told, so whether the namespace has a node cache is not known",
    ],
    [
      "volumes, where classes are told",
      { type, storageClassName: "fast" },
      [standard, otherClaim],
      'the cluster has no storage class "fast" (there is standard), and no volumes are told, so whether one waits for it is not known',
    ],
  ])("%s", (_name, storage, others, message) => {
    expectPlaced(planned(model(storage), others), message);
  });

  test("a class that is applied with the Model is none of those that the cluster has", () => {
    const asked = model({ type, storageClassName: "fast" });
    expect(planned(asked, [], [storageClass("local")])).toMatchObject({
      isPlaced: true,
      storage: { message: expect.stringContaining("no storage classes are told") as string },
    });
  });

  test("how pods share a claim: another Model's pod on it does not keep a plan to its node", () => {
    const pod = {
      kind: "Pod",
      metadata: {
        name: "other-0",
        namespace: "ai",
        labels: {
          "ocimodel.dev/model": "other",
          "ocimodel.dev/claim": "disk",
          "app.kubernetes.io/component": "server",
        },
      },
      spec: { nodeName: "elsewhere", containers: [{ name: "a" }] },
    };
    expect(planned(model({ type, claimName: "disk" }), [standard, pod])).toMatchObject({ isPlaced: true });
  });

  test("but a claim of no class needs none to be told: it is refused where volumes are, and none is free", () => {
    const classless = claim(
      "disk",
      { status: { phase: "Pending" } },
      { volumeName: "", storageClassName: "" },
    );
    const { reason, message } = planned(model({ type, claimName: "disk" }), [otherVolume, classless]);
    expect(reason).toBe("PVCPending");
    expect(message).toContain('its class is "", and no volume without a class is free');
  });
});

describe("of the command", () => {
  const { file, plan } = planDirectory();

  test("a claim that is not there ends with 1, and an example with its claim beside the Models is planned", () => {
    const example = readFileSync(
      join(import.meta.dirname, "../../../docs/examples/shared-claim.yaml"),
      "utf8",
    );
    const [shared, ...models] = parseAllDocuments(example).map((each) => String(each));
    expect(shared).toContain("kind: PersistentVolumeClaim");
    const references = [...example.matchAll(/reference: (\S+)/g)].map(([, reference = ""]) => reference);
    const [artifact] = [...facts.values()].filter(({ reference }) => reference.endsWith(":8b-q4"));
    const files = storageClass("shared-files");
    const given = [
      "--nodes",
      file("nodes.yaml", { kind: "List", items: [...nodes, files, otherClaim] }),
      "--facts",
      file(
        "facts.json",
        references.map((reference) => ({ ...artifact, reference })),
        true,
      ),
    ];
    const without = plan(["-f", "-", ...given], models.join("---\n"));
    expect(without.code).toBe(1);
    expect(without.out).toContain(
      'qwen3: refused (PVCPending): there is no claim "team-models" in namespace default',
    );
    const { code, out } = plan(["-f", "-", ...given], example);
    expect({ code, out }).toMatchObject({
      code: 0,
      out: expect.stringContaining("is applied with the Model") as string,
    });
    const elsewhere = file("elsewhere.yaml", {
      kind: "List",
      items: [...nodes, storageClass("a"), otherClaim, otherVolume],
    });
    const told = ["--nodes", elsewhere, ...given.slice(2)];
    expect(plan(["-f", "-", ...told], example).code).toBe(1);
    expect(plan(["-f", "-", ...told], `${example}---\n${stringify(files)}`).code).toBe(0);
  });
});
