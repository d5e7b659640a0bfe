import { describe, expect, test } from "vitest";
import type { Model, StorageStatus } from "../../../operator/api/model.ts";
import { configurationSchema } from "../../../operator/configuration.ts";
import type { Claim } from "../../../operator/desired/claim.ts";
import { modelsInUse, planCollection } from "../../../operator/reconcile/collection.ts";
import type { Observed } from "../../../operator/reconcile/observed.ts";
import type { Pod } from "../../../operator/reconcile/workload-types.ts";
import { ownViolations, podSpecOf, restrictedViolations } from "../desired/restricted.ts";

const uid = "5b1f3a0e-8f0f-4e0a-9a53-1d8a5b1c2d3e";
const [oldHex, newHex] = ["a".repeat(64), "b".repeat(64)];
const nowMs = Date.parse("2026-01-02T03:04:05Z");
const now = "2026-01-02T03:04:05Z";
const hourAgo = "2026-01-02T02:04:05Z";
const justNow = "2026-01-02T03:03:05Z";

function model(storage: StorageStatus | undefined, digest = newHex): Model {
  return {
    apiVersion: "ocimodel.dev/v1alpha1",
    kind: "Model",
    metadata: { name: "qwen", namespace: "ai", uid },
    spec: {
      source: { reference: "r.example.com/q" },
      storage: { type: "PersistentVolumeClaim", size: "auto" },
    },
    status: {
      selected: {
        variant: "default",
        digest: `sha256:${digest}`,
        sizeBytes: 1,
        requiredBytes: 1,
        reason: "fits",
        accelerator: "none",
        nodes: 1,
      },
      ...(storage === undefined ? {} : { storage }),
    },
  };
}

const claim: Claim = {
  apiVersion: "v1",
  kind: "PersistentVolumeClaim",
  metadata: {
    name: "qwen-store",
    namespace: "ai",
    ownerReferences: [{ apiVersion: "ocimodel.dev/v1alpha1", kind: "Model", name: "qwen", uid }],
  },
  spec: { accessModes: ["ReadWriteOnce"] },
  status: { phase: "Bound" },
};

const server = (directory: string): Pod => ({
  apiVersion: "v1",
  kind: "Pod",
  metadata: { name: directory, annotations: { "ocimodel.dev/model-directory": directory } },
});
const collector = (phase: string, createdAt = justNow): Pod => ({
  apiVersion: "v1",
  kind: "Pod",
  metadata: { name: "qwen-collect-12345678-0", creationTimestamp: createdAt },
  status: { phase },
});

function observed(of: Model, more: Partial<Observed> = {}): Observed {
  return {
    model: of,
    configuration: configurationSchema.parse({ pullerImage: "p", runtimes: {} }),
    nodes: [],
    deployments: [],
    service: undefined,
    claim,
    ownedClaims: [claim],
    workloadPods: [],
    inspectPods: [],
    claimPods: [],
    claimModels: [of],
    collectPods: [],
    prefetchPods: [],
    progress: new Map(),
    nowMs,
    ...more,
  };
}

const both = [oldHex, newHex];
const rows: readonly (readonly [
  name: string,
  before: StorageStatus | undefined,
  more: Partial<Observed>,
  expected: {
    readonly creates: number;
    readonly removes: number;
    readonly storage: StorageStatus | undefined;
    readonly recheckAfterMs?: number;
  },
])[] = [
  [
    "at first there is nothing to remove",
    undefined,
    {},
    { creates: 0, removes: 0, storage: { inUse: [newHex], since: now, isPending: false } },
  ],
  [
    "a model more leaves nothing behind",
    { inUse: [newHex], since: hourAgo, isPending: false },
    { claimPods: [server(oldHex)] },
    { creates: 0, removes: 0, storage: { inUse: both, since: now, isPending: false } },
  ],
  [
    "one less is removed, but not at once",
    { inUse: both, since: hourAgo, isPending: false },
    {},
    {
      creates: 0,
      removes: 0,
      storage: { inUse: [newHex], since: now, isPending: true },
      recheckAfterMs: 3_600_000,
    },
  ],
  [
    "until then it is looked at again in time",
    { inUse: [newHex], since: justNow, isPending: true },
    {},
    {
      creates: 0,
      removes: 0,
      storage: { inUse: [newHex], since: justNow, isPending: true },
      recheckAfterMs: 3_540_000,
    },
  ],
  [
    "an hour later a pod removes it",
    { inUse: [newHex], since: hourAgo, isPending: true },
    {},
    { creates: 1, removes: 0, storage: { inUse: [newHex], since: hourAgo, isPending: true } },
  ],
  [
    "nothing is done twice while the pod runs",
    { inUse: [newHex], since: hourAgo, isPending: true },
    { collectPods: [collector("Running")] },
    {
      creates: 0,
      removes: 0,
      storage: { inUse: [newHex], since: hourAgo, isPending: true },
      recheckAfterMs: 600_000,
    },
  ],
  [
    "when it is done that is written down before the pod goes",
    { inUse: [newHex], since: hourAgo, isPending: true },
    { collectPods: [collector("Succeeded")] },
    { creates: 0, removes: 0, storage: { inUse: [newHex], since: hourAgo, isPending: false } },
  ],
  [
    "and then it goes",
    { inUse: [newHex], since: hourAgo, isPending: false },
    { collectPods: [collector("Succeeded")] },
    { creates: 0, removes: 1, storage: { inUse: [newHex], since: hourAgo, isPending: false } },
  ],
  [
    "a failed one is tried again later, with a fresh list",
    { inUse: [newHex], since: hourAgo, isPending: true },
    { collectPods: [collector("Failed")] },
    { creates: 0, removes: 1, storage: { inUse: [newHex], since: now, isPending: true } },
  ],
  [
    "one that finds no node in time has too old a list",
    { inUse: [newHex], since: hourAgo, isPending: true },
    { collectPods: [collector("Pending", hourAgo)] },
    { creates: 0, removes: 1, storage: { inUse: [newHex], since: now, isPending: true } },
  ],
  [
    "what changed while it ran is left to another",
    { inUse: both, since: hourAgo, isPending: true },
    { collectPods: [collector("Succeeded")] },
    { creates: 0, removes: 1, storage: { inUse: [newHex], since: now, isPending: true }, recheckAfterMs: 0 },
  ],
  [
    "without a bound claim nothing is known",
    { inUse: both, since: hourAgo, isPending: true },
    { claim: { ...claim, status: { phase: "Pending" } } },
    { creates: 0, removes: 0, storage: undefined },
  ],
];

describe("a claim that the operator made", () => {
  test.each(rows)("%s", (_name, before, more, { creates, removes, storage, recheckAfterMs }) => {
    const plan = planCollection(observed(model(before), more));
    expect({ creates: plan.create.length, removes: plan.remove.length, storage: plan.storage }).toEqual({
      creates,
      removes,
      storage,
    });
    expect(plan.recheckAfterMs).toBe(recheckAfterMs);
  });

  test("the pod keeps what is in use, younger than the list and on the node of the disk, and passes restricted", () => {
    const [pod] = planCollection(
      observed(model({ inUse: both, since: hourAgo, isPending: true }), { claimPods: [server(oldHex)] }),
    ).create;
    const spec = podSpecOf(pod ?? {}) as { containers: { args: string[] }[]; affinity: unknown };
    expect(spec.containers[0]?.args).toEqual([
      "gc",
      "--store=/volume",
      "--unused-models=remove",
      "--minimum-age=3600",
      "--termination-log=/dev/termination-log",
      `--keep=${oldHex}`,
      `--keep=${newHex}`,
    ]);
    expect(JSON.stringify(spec.affinity)).toContain('"ocimodel.dev/claim":"qwen-store"');
    expect(restrictedViolations(spec)).toEqual([]);
    expect(ownViolations(spec, ["collect"])).toEqual([]);
  });
});

test("a claim of somebody else is never cleared, whatever is on it", () => {
  const named = model({ inUse: both, since: hourAgo, isPending: true });
  const of = {
    ...named,
    spec: { ...named.spec, storage: { type: "PersistentVolumeClaim", claimName: "weights" } as const },
  };
  expect(planCollection(observed(of))).toMatchObject({ create: [], storage: undefined });
});

test("in use is what pods of any Model have mounted, and what any Model of the claim has selected, with its globs", () => {
  const other = model(undefined, oldHex);
  const globbed = { ...other, spec: { ...other.spec, puller: { include: ["*.gguf"] } } };
  expect(modelsInUse({ claimPods: [server("mounted")], claimModels: [model(undefined), globbed] })).toEqual([
    expect.stringMatching(new RegExp(`^${oldHex}-[0-9a-f]{8}$`)),
    newHex,
    "mounted",
  ]);
});
