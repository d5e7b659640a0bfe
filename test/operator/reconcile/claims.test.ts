import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { InspectFacts } from "../../../puller/contract.ts";
import type { Model, StorageSpec } from "../../../operator/api/model.ts";
import { configurationSchema } from "../../../operator/configuration.ts";
import {
  claimBytes,
  claimLabelValue,
  modelClaim,
  sharingOf,
  type Claim,
  type StorageClass,
} from "../../../operator/desired/claim.ts";
import { parseQuantity } from "../../../operator/kube/quantity.ts";
import {
  canMount,
  claimShortage,
  desiredClaim,
  storageState,
  unusedClaims,
} from "../../../operator/reconcile/claims.ts";
import type { Observed } from "../../../operator/reconcile/observed.ts";
import type { Pod } from "../../../operator/reconcile/workload-types.ts";

const gibibyte = 2 ** 30;
const uid = "5b1f3a0e-8f0f-4e0a-9a53-1d8a5b1c2d3e";
const owner = { apiVersion: "ocimodel.dev/v1alpha1", kind: "Model", name: "qwen", uid };

function model(storage: StorageSpec | undefined, replicas = 1): Model {
  return {
    apiVersion: "ocimodel.dev/v1alpha1",
    kind: "Model",
    metadata: { name: "qwen", namespace: "ai", uid },
    spec: {
      source: { reference: "r.example.com/q" },
      replicas,
      ...(storage === undefined ? {} : { storage }),
    },
  };
}

const artifact: InspectFacts = {
  reference: "r.example.com/q",
  digest: `sha256:${"a".repeat(64)}`,
  packaging: "docker",
  format: "gguf",
  sizeBytes: 5 * gibibyte,
  weightBytes: 5 * gibibyte,
};

type ClaimFacts = {
  readonly name?: string;
  readonly modes?: readonly string[];
  readonly size?: string;
  readonly phase?: string;
  readonly owners?: Claim["metadata"]["ownerReferences"];
  readonly labels?: Claim["metadata"]["labels"];
  readonly more?: Claim["spec"];
  readonly deleting?: boolean;
  readonly conditions?: NonNullable<Claim["status"]>["conditions"];
};

function claim(facts: ClaimFacts = {}): Claim {
  const {
    name = "qwen-store",
    modes = ["ReadWriteOnce"],
    size = "6Gi",
    phase = "Bound",
    owners = [owner],
  } = facts;
  return {
    apiVersion: "v1",
    kind: "PersistentVolumeClaim",
    metadata: {
      name,
      namespace: "ai",
      ownerReferences: owners,
      ...(facts.labels === undefined ? {} : { labels: facts.labels }),
      ...(facts.deleting === true ? { deletionTimestamp: "2026-01-01T00:00:00Z" } : {}),
    },
    spec: { accessModes: modes, resources: { requests: { storage: size } }, ...facts.more },
    status: {
      phase,
      ...(phase === "Bound" ? { capacity: { storage: size } } : {}),
      ...(facts.conditions === undefined ? {} : { conditions: facts.conditions }),
    },
  };
}

function observed(of: Model, there: Claim | undefined, more: Partial<Observed> = {}): Observed {
  return {
    model: of,
    configuration: configurationSchema.parse({ pullerImage: "p", runtimes: {} }),
    nodes: [],
    deployments: [],
    service: undefined,
    claim: there,
    ownedClaims: there === undefined ? [] : [there],
    workloadPods: [],
    inspectPods: [],
    claimPods: [],
    claimModels: [],
    collectPods: [],
    prefetchPods: [],
    progress: new Map(),
    nowMs: 0,
    ...more,
  };
}

const made: StorageSpec = { type: "PersistentVolumeClaim", size: "auto" };
const named: StorageSpec = { ...made, claimName: "weights" };
const cached: StorageSpec = { type: "NodeCache", claimName: "cache" };
const many = { name: "cache", modes: ["ReadWriteMany"], owners: [] };

describe("what StorageReady says", () => {
  const rows: readonly (readonly [
    name: string,
    storage: StorageSpec | undefined,
    claim: Claim | undefined,
    status: string,
    reason: string,
    message: RegExp,
    canMount: boolean,
  ])[] = [
    ["no storage stated", undefined, undefined, "True", "EphemeralVolume", /its own volume/, true],
    [
      "a claim that is being made",
      made,
      undefined,
      "False",
      "PVCPending",
      /"qwen-store" is being made/,
      true,
    ],
    [
      "a named claim that is not there",
      named,
      undefined,
      "False",
      "PVCPending",
      /there is no claim "weights" in namespace ai; create it/,
      false,
    ],
    [
      "a claim that waits",
      made,
      claim({ phase: "Pending" }),
      "False",
      "PVCPending",
      /describe pvc qwen-store -n ai/,
      true,
    ],
    ["a lost one", made, claim({ phase: "Lost" }), "False", "PVCPending", /lost its volume; delete/, true],
    ["a bound one", made, claim(), "True", "ClaimBound", /"qwen-store", 6Gi, for pods on one node$/, true],
    [
      "a bound one that grows",
      made,
      claim({ conditions: [{ type: "Resizing", status: "True" }] }),
      "True",
      "ClaimBound",
      /being enlarged to 6Gi/,
      true,
    ],
    [
      "one that goes",
      made,
      claim({ deleting: true }),
      "False",
      "PVCPending",
      /being deleted.*a new one is made then/,
      false,
    ],
    [
      "one of somebody else",
      made,
      claim({ owners: [{ ...owner, uid: "other" }] }),
      "False",
      "ClaimMismatch",
      /belongs to something else; name it in spec\.storage\.claimName/,
      false,
    ],
    [
      "one that a Model of the same name left behind",
      made,
      claim({ owners: [], labels: { "ocimodel.dev/model": "qwen" } }),
      "True",
      "ClaimBound",
      /6Gi/,
      true,
    ],
    [
      "one of another class",
      { ...made, storageClassName: "fast" },
      claim({ more: { storageClassName: "slow", accessModes: ["ReadWriteOnce"] } }),
      "False",
      "ClaimMismatch",
      /of class "slow" and spec\.storage\.storageClassName is "fast"/,
      false,
    ],
    [
      "one of other access modes",
      { ...made, accessModes: ["ReadWriteMany"] },
      claim(),
      "False",
      "ClaimMismatch",
      /has access modes ReadWriteOnce and spec\.storage asks for ReadWriteMany/,
      false,
    ],
    [
      "a named one that is a block device",
      named,
      claim({ name: "weights", more: { accessModes: ["ReadWriteMany"], volumeMode: "Block" } }),
      "False",
      "ClaimMismatch",
      /raw block device; models need volumeMode Filesystem/,
      false,
    ],
    [
      "a named one for many nodes",
      named,
      claim({ name: "weights", modes: ["ReadWriteOnce", "ReadWriteMany"], owners: [] }),
      "True",
      "ClaimBound",
      /for pods on any node/,
      true,
    ],
    [
      "a named one that is read-only",
      named,
      claim({ name: "weights", modes: ["ReadOnlyMany"], owners: [] }),
      "True",
      "ClaimBound",
      /read-only/,
      true,
    ],
    [
      "a node cache that nobody made",
      { type: "NodeCache" },
      undefined,
      "False",
      "PVCPending",
      /^no claim in namespace ai has the label ocimodel\.dev\/node-cache=true; whoever runs the cluster makes one/,
      false,
    ],
    [
      "a named node cache that is not there",
      cached,
      undefined,
      "False",
      "PVCPending",
      /there is no claim "cache" in namespace ai; create it, or leave spec\.storage\.claimName out and the one labelled/,
      false,
    ],
    [
      "a node cache that is not bound",
      cached,
      claim({ ...many, phase: "Pending" }),
      "False",
      "PVCPending",
      /claim "cache" is Pending/,
      true,
    ],
    [
      "a node cache",
      cached,
      claim(many),
      "True",
      "ClaimBound",
      /^claim "cache", 6Gi, one copy on each node$/,
      true,
    ],
    [
      "a node cache on a disk that one node attaches",
      cached,
      claim({ ...many, modes: ["ReadWriteOnce"] }),
      "False",
      "ClaimMismatch",
      /access modes ReadWriteOnce; a node cache needs ReadWriteMany/,
      false,
    ],
  ];
  test.each(rows)("%s", (_name, storage, there, status, reason, message, mounts) => {
    const seen = observed(model(storage), there);
    const state = storageState(seen);
    expect(state).toMatchObject({ status, reason });
    expect(state.message).toMatch(message);
    expect(canMount(seen)).toBe(mounts);
    expect(state.isStalled === true).toBe(reason === "ClaimMismatch" || /lost/.test(state.message));
  });

  test.each<[nodes: number, ready: number, status: string, message: RegExp]>([
    [
      0,
      0,
      "False",
      /^DaemonSet system\/cache, which prepares the cache, is on no node; nodeCache\.nodeSelector/,
    ],
    [3, 0, "False", /is ready on none of 3 nodes; kubectl describe tells why$/],
    [3, 2, "True", /one copy on each node; it is prepared on 2 of 3 nodes$/],
    [3, 3, "True", /one copy on each node$/],
  ])("a cache of the chart on %i nodes, ready on %i", (nodes, ready, status, message) => {
    const nodeCache = { daemonSet: "system/cache", nodes, ready };
    const seen = observed(model(cached), claim(many), { nodeCache });
    expect(storageState(seen)).toMatchObject({
      status,
      reason: ready === 0 ? "NodeCacheNotReady" : "ClaimBound",
      message: expect.stringMatching(message),
    });
    // Pods wait for the directory by themselves.
    expect(canMount(seen)).toBe(true);
  });

  test("a named claim for one pod is refused to several replicas", () => {
    const there = claim({ name: "weights", modes: ["ReadWriteOncePod"], owners: [] });
    expect(storageState(observed(model(named, 2), there))).toMatchObject({
      reason: "ClaimMismatch",
      message: expect.stringContaining("set replicas to 1"),
    });
    expect(storageState(observed(model(named, 1), there)).reason).toBe("ClaimBound");
  });
});

test("the widest access mode counts", () => {
  expect(sharingOf(["ReadOnlyMany", "ReadWriteMany"])).toBe("ManyNodes");
  expect(sharingOf(["ReadOnlyMany", "ReadWriteOnce"])).toBe("OneNode");
  expect(sharingOf(["ReadWriteOncePod"])).toBe("OnePod");
  expect(sharingOf(["ReadOnlyMany"])).toBe("ReadOnly");
});

describe("the size of a claim", () => {
  const pod = (digest: string, bytes: string): Pod => ({
    apiVersion: "v1",
    kind: "Pod",
    metadata: {
      name: digest,
      annotations: { "ocimodel.dev/digest": digest, "ocimodel.dev/volume-bytes": bytes },
    },
  });
  const storageOf = (object: unknown): string | undefined =>
    (object as Claim | undefined)?.spec?.resources?.requests?.storage;

  test("has room for what older pods still use, each digest once, and not for the pods of the new one", () => {
    const workloadPods = [
      pod("sha256:old", String(10 * gibibyte)),
      pod("sha256:old", String(10 * gibibyte)),
      pod(artifact.digest, String(99 * gibibyte)),
      pod("sha256:odd", "many"),
    ];
    expect(storageOf(desiredClaim(observed(model(made), undefined, { workloadPods }), artifact))).toBe(
      "17Gi",
    );
    expect(storageOf(desiredClaim(observed(model(made), undefined), artifact))).toBe("6Gi");
  });

  test("is as stated, and never becomes less than what is there", () => {
    const stated = model({ ...made, size: "30Gi" });
    expect(storageOf(desiredClaim(observed(stated, undefined), artifact))).toBe("30Gi");
    expect(storageOf(desiredClaim(observed(stated, claim({ size: "40Gi" })), artifact))).toBe("40Gi");
    expect(storageOf(desiredClaim(observed(stated, claim({ size: "20Gi" })), artifact))).toBe("30Gi");
  });

  test("for any artifact: holds it, is whole GiB, and applying it again changes nothing", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 0, max: 2 ** 42 }),
        fc.integer({ min: 0, max: 2 ** 42 }),
        (sizeBytes, others) => {
          const facts = { ...artifact, sizeBytes, weightBytes: sizeBytes };
          const bytes = claimBytes(model(made), facts, others);
          expect(bytes).toBeGreaterThan(sizeBytes + others);
          expect(bytes % gibibyte).toBe(0);
          const first = modelClaim(model(made), facts, undefined, others);
          expect(parseQuantity(storageOf(first))).toBe(bytes);
          expect(modelClaim(model(made), facts, first as Claim, others)).toEqual(first);
        },
      ),
    );
  });
});

describe("a claim that is to grow", () => {
  const old: Pod = {
    apiVersion: "v1",
    kind: "Pod",
    metadata: {
      name: "old",
      annotations: {
        "ocimodel.dev/digest": "sha256:old",
        "ocimodel.dev/volume-bytes": String(10 * gibibyte),
      },
    },
  };
  const storageClass = (allowVolumeExpansion: boolean | undefined): StorageClass => ({
    apiVersion: "storage.k8s.io/v1",
    kind: "StorageClass",
    metadata: { name: "fixed" },
    ...(allowVolumeExpansion === undefined ? {} : { allowVolumeExpansion }),
  });
  const grown = (claimClass: StorageClass | undefined, there = claim()) =>
    observed(model(made), there, {
      workloadPods: [old],
      ...(claimClass === undefined ? {} : { claimClass }),
    });
  const asked = (seen: Observed): string | undefined =>
    (desiredClaim(seen, artifact) as Claim | undefined)?.spec?.resources?.requests?.storage;

  test("grows where its class says so, or is not known", () => {
    for (const claimClass of [storageClass(true), undefined]) {
      expect(asked(grown(claimClass))).toBe("17Gi");
      expect(claimShortage(grown(claimClass), artifact)).toBeUndefined();
    }
  });
  test("is not asked to grow where its class lets none, and it is said what is missing", () => {
    for (const allows of [false, undefined]) {
      const seen = grown(storageClass(allows));
      expect(asked(seen)).toBe("6Gi");
      expect(claimShortage(seen, artifact)).toMatch(
        /^claim "qwen-store" has 6\.0 GiB and 17\.0 GiB are wanted, but its class "fixed" lets no claim grow/,
      );
    }
  });
  test("has enough where its volume is larger than what was asked for", () => {
    const there = claim();
    const large = { ...there, status: { phase: "Bound", capacity: { storage: "20Gi" } } };
    expect(claimShortage(grown(storageClass(false), large), artifact)).toBeUndefined();
    expect(asked(grown(storageClass(false), large))).toBe("6Gi");
  });
  test("is made as large as wanted whatever its class says", () => {
    const seen = observed(model(made), undefined, { workloadPods: [old], claimClass: storageClass(false) });
    expect(asked(seen)).toBe("17Gi");
    expect(claimShortage(seen, artifact)).toBeUndefined();
  });
});

describe("claims that are not used any more", () => {
  test("go when the type changes or another claim is named, but for the one that is used and those that go already", () => {
    const mine = claim();
    const gone = claim({ name: "older", deleting: true });
    const ownedClaims = [mine, gone];
    const names = (storage: StorageSpec | undefined): readonly string[] =>
      unusedClaims(observed(model(storage), undefined, { ownedClaims })).map(({ metadata }) => metadata.name);
    expect(names(undefined)).toEqual(["qwen-store"]);
    expect(names({ type: "Ephemeral" })).toEqual(["qwen-store"]);
    expect(names(named)).toEqual(["qwen-store"]);
    expect(names(made)).toEqual([]);
  });

  test("nothing is made or removed beside a named claim", () => {
    expect(
      desiredClaim(observed(model(named), claim({ name: "weights", owners: [] })), artifact),
    ).toBeUndefined();
    expect(unusedClaims(observed(model(named), undefined, { ownedClaims: [] }))).toEqual([]);
  });
});

test("a retained claim has no owner, a deleted one goes with its Model", () => {
  const ownersOf = (storage: StorageSpec): unknown =>
    modelClaim(model(storage), artifact, undefined, 0).metadata.ownerReferences;
  expect(ownersOf({ ...made, retention: "Retain" })).toBeUndefined();
  expect(ownersOf({ ...made, retention: "Delete" })).toMatchObject([{ uid }]);
  expect(ownersOf(made)).toMatchObject([{ uid }]);
});

test("names of claims become label values that differ", () => {
  const long = "a".repeat(70);
  expect(claimLabelValue("weights")).toBe("weights");
  expect(claimLabelValue(`${long}b`)).toHaveLength(63);
  expect(claimLabelValue(`${long}b`)).not.toBe(claimLabelValue(`${long}c`));
});
