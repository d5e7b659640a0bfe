// Every reason of the closed set, from a snapshot that brings it about, and that a status fed back changes nothing.

import { describe, expect, test } from "vitest";
import { operatorReasons, type ConditionType } from "../../../operator/api/conditions.ts";
import type { Model, ModelSpec, ModelStatus } from "../../../operator/api/model.ts";
import { configurationSchema } from "../../../operator/configuration.ts";
import type { Claim } from "../../../operator/desired/claim.ts";
import { nodeHardware, type Node } from "../../../operator/hardware/node-hardware.ts";
import { decide } from "../../../operator/reconcile/decide.ts";
import { transitions } from "../../../operator/reconcile/events.ts";
import type { Observed } from "../../../operator/reconcile/observed.ts";
import { modelStatus, type ActFailure } from "../../../operator/reconcile/status.ts";
import type { ContainerStatus, Deployment, Pod } from "../../../operator/reconcile/workload-types.ts";
import {
  failureExitCodes,
  isRetryable,
  type FailureCode,
  type TerminationMessage,
} from "../../../puller/contract.ts";

const uid = "6f1d2c3b-0000-4000-8000-000000000001";
const digest = `sha256:${"a".repeat(64)}`;
const reference = "registry.example.com/m:1";
const nowMs = Date.parse("2026-01-01T12:00:00Z");
const configuration = configurationSchema.parse({
  pullerImage: "puller:1",
  runtimes: { engine: { image: "engine:1", formats: ["gguf"], cpu: true, port: 8080 } },
});
const node: Node = {
  apiVersion: "v1",
  kind: "Node",
  metadata: { name: "n", labels: { "kubernetes.io/arch": "amd64" } },
  status: {
    allocatable: { cpu: "8", memory: "64Gi", pods: "110", "ephemeral-storage": "100Gi" },
    conditions: [{ type: "Ready", status: "True" }],
  },
} as Node;

function model(spec: Partial<ModelSpec>, status?: ModelStatus): Model {
  return {
    apiVersion: "ocimodel.dev/v1alpha1",
    kind: "Model",
    metadata: { name: "m", namespace: "ns", uid, generation: 3, resourceVersion: "7" },
    spec: { source: { reference }, ...spec },
    ...(status === undefined ? {} : { status }),
  };
}

const facts = {
  reference,
  digest,
  packaging: "docker",
  format: "gguf",
  sizeBytes: 1_000_000_000,
  weightBytes: 900_000_000,
  entry: "model.gguf",
} as const;

/** A status that knows what the reference holds. */
const known = {
  observedGeneration: 3,
  source: { digest, resolvedAt: "2026-01-01T11:00:00Z" },
  variants: [{ name: "default", verdict: "Pending", message: "", ...facts }],
} as unknown as ModelStatus;

/** A node that mounts images, and a status that knows an image. */
const mounting = nodeHardware({
  ...node,
  status: {
    ...node.status,
    nodeInfo: { kubeletVersion: "v1.36.3", containerRuntimeVersion: "containerd://2.2.0" },
  },
});
const knownImage = {
  ...known,
  variants: [{ name: "default", verdict: "Pending", message: "", ...facts, packaging: "image" }],
} as unknown as ModelStatus;

/** The inspect pod of the Model as decided, ended with what it tells of its references. */
function inspected(
  spec: Partial<ModelSpec>,
  report: Partial<TerminationMessage> | undefined,
  more: object = {},
): Pod {
  const [pod] = decide(snapshot(spec, {})).create;
  if (pod === undefined) throw new Error("no inspect pod is made");
  const message =
    report && JSON.stringify({ v: 1, command: "inspect", retryable: false, message: "", ...report });
  const terminated = {
    exitCode: report?.code === "Ready" ? 0 : 66,
    finishedAt: "2026-01-01T11:59:59Z",
    message,
  };
  return {
    ...pod,
    metadata: { ...pod.metadata, uid: "inspect" },
    status: {
      phase: report === undefined ? "Pending" : "Succeeded",
      ...(report === undefined ? {} : { containerStatuses: [{ name: "inspect", state: { terminated } }] }),
      ...more,
    },
  } as Pod;
}

const failure = (code: FailureCode): object => ({ reference, code, message: `of ${code}` });

type Facts = Partial<Observed> & {
  readonly status?: ModelStatus;
  /** What the API server refused in this round. */
  readonly failed?: ActFailure;
};

function snapshot(spec: Partial<ModelSpec>, { status, failed: _failed, ...observed }: Facts): Observed {
  return {
    model: model(spec, status),
    configuration,
    nodes: [nodeHardware(node)],
    deployments: [],
    service: undefined,
    claim: undefined,
    ownedClaims: [],
    workloadPods: [],
    inspectPods: [],
    claimPods: [],
    claimModels: [],
    collectPods: [],
    prefetchPods: [],
    progress: new Map(),
    nowMs,
    ...observed,
  };
}

function pod(
  pull: Partial<ContainerStatus> | undefined,
  runtime?: Partial<ContainerStatus>,
  more: object = {},
): Pod {
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name: "m-1", namespace: "ns", uid: "p", annotations: { "ocimodel.dev/digest": digest } },
    spec: { nodeName: "n" },
    status: {
      phase: "Pending",
      ...(pull === undefined ? {} : { initContainerStatuses: [{ name: "pull", ...pull }] }),
      ...(runtime === undefined ? {} : { containerStatuses: [{ name: "runtime", ...runtime }] }),
      ...more,
    },
  };
}

const pulled = { state: { terminated: { exitCode: 0 } } };
const running = { state: { running: {} } };
const pullFailed = (code: FailureCode): Partial<ContainerStatus> => ({
  state: {
    terminated: {
      exitCode: failureExitCodes[code],
      finishedAt: "2026-01-01T11:59:58Z",
      message: JSON.stringify({
        v: 1,
        command: "pull",
        code,
        retryable: isRetryable(code),
        message: `of ${code}`,
      }),
    },
  },
});

function deployment(
  available: number,
  conditions: NonNullable<Deployment["status"]>["conditions"] = [],
): Deployment {
  return {
    apiVersion: "apps/v1",
    kind: "Deployment",
    metadata: { name: "m", namespace: "ns", generation: 1 },
    spec: { replicas: 1 },
    status: {
      observedGeneration: 1,
      replicas: 1,
      updatedReplicas: 1,
      readyReplicas: available,
      availableReplicas: available,
      conditions,
    },
  };
}

/** A Deployment that serves, with this volume for the model. */
const mounts = (volume: object): Deployment => ({
  ...deployment(1),
  spec: { replicas: 1, template: { spec: { volumes: [{ name: "model", ...volume }] } } },
});

const claim = (phase: string, more: object = {}): Claim =>
  ({
    apiVersion: "v1",
    kind: "PersistentVolumeClaim",
    metadata: { name: "weights", namespace: "ns" },
    spec: { accessModes: ["ReadWriteMany"], resources: { requests: { storage: "10Gi" } }, ...more },
    status: { phase, capacity: { storage: "10Gi" } },
  }) as Claim;
const onClaim: Partial<ModelSpec> = {
  storage: { type: "PersistentVolumeClaim", size: "auto", claimName: "weights" },
};

type Expected = Partial<Record<ConditionType, string | undefined>>;
type Row = readonly [name: string, spec: Partial<ModelSpec>, facts: Facts, expected: Expected];

const gpuOnly: Partial<ModelSpec> = {
  variants: [{ name: "gpu", requirements: { accelerator: { vendor: "nvidia" } } }],
  selection: { cpuFallback: false },
};
const two: Partial<ModelSpec> = { variants: [{ name: "a" }, { name: "b", reference: ":2" }] };
const ready = { deployments: [deployment(1)], workloadPods: [pod(pulled, { ready: true, ...running })] };

const rows: readonly Row[] = [
  [
    "a new Model",
    {},
    {},
    {
      SourceResolved: "Unknown Resolving",
      VariantSelected: "Unknown Resolving",
      Ready: "Unknown Progressing",
      Reconciling: "True Resolving",
      Stalled: undefined,
    },
  ],
  [
    "an inspect pod that cannot be scheduled",
    {},
    {
      inspectPods: [
        inspected({}, undefined, {
          conditions: [
            { type: "PodScheduled", status: "False", reason: "Unschedulable", message: "0/1 nodes" },
          ],
        }),
      ],
    },
    { SourceResolved: "False Unschedulable", Stalled: undefined },
  ],
  [
    "an inspect pod without its image",
    {},
    {
      inspectPods: [
        inspected({}, undefined, {
          containerStatuses: [{ name: "inspect", state: { waiting: { reason: "ImagePullBackOff" } } }],
        }),
      ],
    },
    { SourceResolved: "False ImagePullFailed" },
  ],
  [
    "the reference just read",
    {},
    { inspectPods: [inspected({}, { code: "Ready", inspected: [facts] })] },
    {
      SourceResolved: "True Resolved",
      VariantSelected: "True Selected",
      StorageReady: "True EphemeralVolume",
    },
  ],
  [
    "one of two read",
    two,
    {
      inspectPods: [
        inspected(two, {
          code: "ManifestNotFound",
          inspected: [
            facts,
            { reference: "registry.example.com/m:2", code: "ManifestNotFound", message: "" },
          ],
        }),
      ],
    },
    { SourceResolved: "True PartlyResolved", VariantSelected: "True Selected", Stalled: undefined },
  ],
  [
    "no node at all",
    {},
    { status: known, nodes: [] },
    { VariantSelected: "False NoNodesYet", Stalled: undefined, Reconciling: undefined },
  ],
  [
    "no fitting node",
    gpuOnly,
    { status: { ...known, variants: [{ ...known.variants?.[0], name: "gpu" }] } as ModelStatus },
    {
      VariantSelected: "False NoVariantFits",
      Ready: "False NoVariantFits",
      Stalled: undefined,
      Reconciling: undefined,
    },
  ],
  [
    "a runtime nobody knows",
    { runtime: { name: "nope" } },
    { status: known },
    { VariantSelected: "False RuntimeUnknown", Stalled: "True RuntimeUnknown" },
  ],
  [
    "pods that fetch",
    {},
    { status: known, deployments: [deployment(0)], workloadPods: [pod(running)] },
    { ArtifactPulled: "False Pulling", WorkloadAvailable: "False Pulling", Reconciling: "True Pulling" },
  ],
  [
    "a runtime that loads",
    {},
    { status: known, deployments: [deployment(0)], workloadPods: [pod(pulled, running)] },
    { ArtifactPulled: "True Pulled", WorkloadAvailable: "False Starting", Reconciling: "True Starting" },
  ],
  [
    "all available",
    {},
    { status: known, ...ready },
    {
      WorkloadAvailable: "True Available",
      Ready: "True Available",
      Reconciling: undefined,
      Stalled: undefined,
    },
  ],
  [
    "no replica wanted",
    { replicas: 0 },
    { status: known },
    {
      ArtifactPulled: "Unknown ScaledToZero",
      WorkloadAvailable: "True ScaledToZero",
      Ready: "True ScaledToZero",
    },
  ],
  [
    "suspended while serving",
    { suspend: true },
    { status: known, ...ready },
    { Ready: "True Suspended", Reconciling: undefined },
  ],
  ["suspended before anything", { suspend: true }, {}, { Ready: "False Suspended" }],
  [
    "a pod without a node",
    {},
    {
      status: known,
      deployments: [deployment(0)],
      workloadPods: [
        pod(undefined, undefined, {
          conditions: [{ type: "PodScheduled", status: "False", reason: "Unschedulable", message: "0/1" }],
        }),
      ],
    },
    { ArtifactPulled: "False Unschedulable", Stalled: undefined },
  ],
  [
    "a puller out of memory",
    {},
    {
      status: known,
      deployments: [deployment(0)],
      workloadPods: [
        pod({
          lastState: { terminated: { exitCode: 137, reason: "OOMKilled" } },
          state: { waiting: { reason: "CrashLoopBackOff" } },
        }),
      ],
    },
    { ArtifactPulled: "False PullOOMKilled", Stalled: undefined },
  ],
  [
    "an evicted pod",
    {},
    {
      status: known,
      deployments: [deployment(0)],
      workloadPods: [
        pod(undefined, undefined, { phase: "Failed", reason: "Evicted", message: "ephemeral-storage" }),
      ],
    },
    { ArtifactPulled: "False PullEvicted" },
  ],
  [
    "an evicted pod whose successor waits",
    {},
    {
      status: known,
      deployments: [deployment(0)],
      workloadPods: [
        pod(undefined, undefined, { phase: "Failed", reason: "Evicted", message: "ephemeral-storage" }),
        pod(undefined),
      ],
    },
    { ArtifactPulled: "False PullEvicted" },
  ],
  [
    "an evicted pod whose successor fetches",
    {},
    {
      status: known,
      deployments: [deployment(0)],
      workloadPods: [
        pod(undefined, undefined, { phase: "Failed", reason: "Evicted", message: "ephemeral-storage" }),
        pod(running),
      ],
    },
    { ArtifactPulled: "False Pulling", WorkloadAvailable: "False Pulling" },
  ],
  [
    "a pull beyond the deadline",
    {},
    {
      status: known,
      deployments: [
        deployment(0, [{ type: "Progressing", status: "False", reason: "ProgressDeadlineExceeded" }]),
      ],
      workloadPods: [pod(running)],
    },
    { ArtifactPulled: "False PullDeadlineExceeded", Ready: "False PullDeadlineExceeded", Stalled: undefined },
  ],
  [
    "the runtime's image missing",
    {},
    {
      status: known,
      deployments: [deployment(0)],
      workloadPods: [pod(pulled, { state: { waiting: { reason: "ErrImagePull" } } })],
    },
    { ArtifactPulled: "True Pulled", WorkloadAvailable: "False ImagePullFailed" },
  ],
  [
    "the runtime's image missing while the replica of before serves",
    {},
    {
      status: known,
      deployments: [
        { ...deployment(1), status: { ...deployment(1).status, replicas: 2, updatedReplicas: 1 } },
      ],
      workloadPods: [
        pod(pulled, { ready: true, ...running }),
        pod(pulled, { state: { waiting: { reason: "ErrImagePull" } } }),
      ],
    },
    { WorkloadAvailable: "False ImagePullFailed", Ready: "False ImagePullFailed" },
  ],
  [
    "a runtime that crashes",
    {},
    {
      status: known,
      deployments: [deployment(0)],
      workloadPods: [
        pod(pulled, {
          restartCount: 3,
          ready: false,
          state: { waiting: { reason: "CrashLoopBackOff" } },
          lastState: { terminated: { exitCode: 1 } },
        }),
      ],
    },
    { ArtifactPulled: "True Pulled", WorkloadAvailable: "False RuntimeCrashLooping" },
  ],
  [
    "pods that a quota refuses",
    {},
    {
      status: known,
      deployments: [deployment(0, [{ type: "ReplicaFailure", status: "True", message: "exceeded quota" }])],
    },
    {
      ArtifactPulled: "False AdmissionDenied",
      WorkloadAvailable: "False AdmissionDenied",
      Ready: "False AdmissionDenied",
    },
  ],
  [
    "an object that is refused",
    {},
    { status: known, failed: { reason: "AdmissionDenied", message: "Deployment m: no", kind: "Deployment" } },
    {
      ArtifactPulled: "False AdmissionDenied",
      WorkloadAvailable: "False AdmissionDenied",
      Ready: "False AdmissionDenied",
    },
  ],
  [
    "an object of a former Model",
    {},
    {
      status: known,
      failed: { reason: "Progressing", message: "Service m of a former Model", kind: "Service" },
    },
    { WorkloadAvailable: "False Progressing", Stalled: undefined },
  ],
  [
    "a claim that is not there",
    onClaim,
    { status: known },
    {
      StorageReady: "False PVCPending",
      ArtifactPulled: "False PVCPending",
      WorkloadAvailable: "False PVCPending",
      Stalled: undefined,
    },
  ],
  [
    "a claim that is bound",
    onClaim,
    { status: known, claim: claim("Bound") },
    { StorageReady: "True ClaimBound" },
  ],
  [
    "a claim that is too small and cannot grow",
    { ...onClaim, storage: { type: "PersistentVolumeClaim", size: "90Gi" } },
    {
      status: known,
      claim: {
        ...claim("Bound", { accessModes: ["ReadWriteOnce"], storageClassName: "fixed" }),
        metadata: { name: "m-store", ownerReferences: [{ apiVersion: "a", kind: "Model", name: "m", uid }] },
      },
      claimClass: { apiVersion: "storage.k8s.io/v1", kind: "StorageClass", metadata: { name: "fixed" } },
    },
    { StorageReady: "False ClaimTooSmall" },
  ],
  [
    "a node cache that is prepared on no node",
    { storage: { type: "NodeCache", claimName: "c" } },
    {
      status: known,
      claim: claim("Bound", { accessModes: ["ReadWriteMany"] }),
      nodeCache: { daemonSet: "system/cache", nodes: 3, ready: 0 },
    },
    { StorageReady: "False NodeCacheNotReady" },
  ],
  [
    "an image volume of what is no image, while pods with the former volume serve",
    { storage: { type: "ImageVolume" } },
    { status: known, nodes: [mounting], ...ready, deployments: [mounts({ emptyDir: {} })] },
    {
      StorageReady: "False NotAnImage",
      ArtifactPulled: "True Pulled",
      WorkloadAvailable: "True Available",
      Stalled: "True NotAnImage",
      Ready: "False NotAnImage",
    },
  ],
  [
    "a claim that is not there, while pods with another one serve",
    onClaim,
    {
      status: known,
      ...ready,
      deployments: [mounts({ persistentVolumeClaim: { claimName: "former" } })],
    },
    {
      StorageReady: "False PVCPending",
      WorkloadAvailable: "True Available",
      Stalled: undefined,
      Reconciling: "True PVCPending",
      Ready: "False PVCPending",
    },
  ],
  [
    "an image volume that pods have, and a node that came later and mounts none",
    { storage: { type: "ImageVolume" } },
    {
      status: knownImage,
      deployments: [mounts({ image: { reference } })],
      workloadPods: [pod(undefined, { ready: true, ...running }, { phase: "Running" })],
    },
    { StorageReady: "False ImageVolumeUnsupported", Ready: "True Available", Stalled: undefined },
  ],
  [
    "an image volume of what is no image",
    { storage: { type: "ImageVolume" } },
    { status: known, nodes: [mounting] },
    {
      StorageReady: "False NotAnImage",
      ArtifactPulled: "False NotAnImage",
      WorkloadAvailable: "False NotAnImage",
      Stalled: "True NotAnImage",
      Ready: "False NotAnImage",
    },
  ],
  [
    "an image volume on nodes that mount none",
    { storage: { type: "ImageVolume" } },
    { status: knownImage },
    {
      StorageReady: "False ImageVolumeUnsupported",
      ArtifactPulled: "False ImageVolumeUnsupported",
      WorkloadAvailable: "False ImageVolumeUnsupported",
      Stalled: "True ImageVolumeUnsupported",
    },
  ],
  [
    "an image volume that is mounted",
    { storage: { type: "ImageVolume" } },
    {
      status: knownImage,
      nodes: [mounting],
      deployments: [deployment(1)],
      workloadPods: [pod(undefined, { ready: true, ...running }, { phase: "Running" })],
    },
    { StorageReady: "True ImageVolume", ArtifactPulled: "True Pulled", Ready: "True Available" },
  ],
  [
    "an image volume that is being mounted",
    { storage: { type: "ImageVolume" } },
    {
      status: knownImage,
      nodes: [mounting],
      deployments: [deployment(0)],
      workloadPods: [pod(undefined, { state: { waiting: { reason: "ContainerCreating" } } })],
    },
    { StorageReady: "True ImageVolume", ArtifactPulled: "False Pulling", Stalled: undefined },
  ],
  [
    "a claim of raw blocks",
    onClaim,
    { status: known, claim: claim("Bound", { volumeMode: "Block" }) },
    { StorageReady: "False ClaimMismatch", Stalled: "True ClaimMismatch" },
  ],
  ...(Object.keys(failureExitCodes) as FailureCode[]).flatMap((code): Row[] => {
    const stalled = isRetryable(code) ? undefined : `True ${code}`;
    return [
      [
        `the reference cannot be read: ${code}`,
        {},
        {
          inspectPods: [
            inspected({}, { code, inspected: [failure(code)] } as unknown as Partial<TerminationMessage>),
          ],
        },
        { SourceResolved: `False ${code}`, Ready: `False ${code}`, Stalled: stalled },
      ],
      [
        `the pull fails: ${code}`,
        {},
        { status: known, deployments: [deployment(0)], workloadPods: [pod(pullFailed(code))] },
        { ArtifactPulled: `False ${code}`, WorkloadAvailable: `False ${code}`, Stalled: stalled },
      ],
    ];
  }),
];

function told(status: ModelStatus): Expected {
  return Object.fromEntries(
    (status.conditions ?? []).map(({ type, status: is, reason }) => [type, `${is} ${reason}`]),
  );
}

describe("what a snapshot is told as", () => {
  test.each(rows)("%s", (_name, spec, given, expected) => {
    const observed = snapshot(spec, given);
    const status = modelStatus(observed, decide(observed), given.failed);
    const all = told(status);
    for (const [type, wanted] of Object.entries(expected)) {
      expect([type, all[type as ConditionType]]).toEqual([type, wanted]);
    }
    // kstatus: the observed generation, and never both.
    expect(status.observedGeneration).toBe(3);
    expect(status.conditions?.every(({ observedGeneration }) => observedGeneration === 3)).toBe(true);
    expect(all.Reconciling !== undefined && all.Stalled !== undefined).toBe(false);
    expect(all.Ready).toBeDefined();
    for (const { message } of status.conditions ?? []) expect(message.length).toBeLessThanOrEqual(1024);
  });

  test.each(rows)("fed back, nothing changes: %s", (_name, spec, given) => {
    const observed = snapshot(spec, given);
    const first = modelStatus(observed, decide(observed), given.failed);
    const again = { ...observed, model: { ...observed.model, status: first }, nowMs: nowMs + 1_000 };
    const decision = decide(again);
    expect(modelStatus(again, decision, given.failed)).toEqual(first);
    expect(transitions(first, modelStatus(again, decision, given.failed))).toEqual([]);
    // What is made is the same, so that server-side apply finds nothing to do.
    const made = decide(observed);
    if (made.apply.length > 0) expect(decision.apply).toEqual(made.apply);
  });
});

test("every reason of the operator and of the puller is brought about by a row", () => {
  const seen = new Set<string>();
  for (const [, spec, given] of rows) {
    const observed = snapshot(spec, given);
    for (const { reason } of modelStatus(observed, decide(observed), given.failed).conditions ?? [])
      seen.add(reason);
  }
  const all = [...Object.keys(operatorReasons), ...Object.keys(failureExitCodes)];
  expect(all.filter((reason) => !seen.has(reason))).toEqual([]);
});

test("suspended, nothing is made, changed or removed", () => {
  for (const [, spec, given] of rows) {
    const { create, apply, remove } = decide(snapshot({ ...spec, suspend: true }, given));
    expect([create, apply, remove]).toEqual([[], [], []]);
  }
});

test("no pod is made that would have an empty image volume, or could not start for it", () => {
  const kinds = (facts: Facts): readonly string[] =>
    decide(snapshot({ storage: { type: "ImageVolume" } }, facts)).apply.map(({ kind }) => kind);
  expect(kinds({ status: known, nodes: [mounting] })).toEqual([]);
  expect(kinds({ status: knownImage })).toEqual([]);
  expect(kinds({ status: knownImage, nodes: [mounting] })).toEqual(["Deployment", "Service"]);
});

test("a pod that was evicted and replaced is no failed pod, and is remembered as the last failure", () => {
  const evicted = pod(undefined, undefined, {
    phase: "Failed",
    reason: "Evicted",
    message: "The node was low on resource: ephemeral-storage",
  });
  const pull = (workloadPods: readonly Pod[]): ModelStatus["pull"] => {
    const observed = snapshot({}, { status: known, deployments: [deployment(1)], workloadPods });
    return modelStatus(observed, decide(observed), undefined).pull;
  };
  expect(pull([evicted])?.pods).toEqual({ pending: 0, pulling: 0, done: 0, failed: 1 });
  const after = pull([evicted, pod(pulled, { ready: true, ...running })]);
  expect(after?.pods).toEqual({ pending: 0, pulling: 0, done: 1, failed: 0 });
  expect(after?.percent).toBe("100%");
  expect(after?.lastFailure).toMatchObject({ reason: "PullEvicted", node: "n" });
});

test("what a pod has mounted is told by the names of its objects, wherever it is told", () => {
  const source = {
    reference,
    pullSecrets: [{ name: "first" }, { name: "second" }],
    tls: { caBundle: { configMap: { name: "company-ca", key: "ca.pem" } } },
  };
  const messages = {
    ca: "CA file /var/run/ocimodel/ca/ca.crt cannot be read (ENOENT)",
    secret: "docker config /var/run/ocimodel/docker-config/1/config.json cannot be read (ENOENT)",
  };
  const named = {
    ca: 'CA file "ca.pem" of ConfigMap "company-ca" in namespace ns cannot be read (ENOENT)',
    secret: 'docker config ".dockerconfigjson" of Secret "second" in namespace ns cannot be read (ENOENT)',
  };
  for (const what of ["ca", "secret"] as const) {
    const told = { reference, code: "InvalidConfiguration", message: messages[what] } as const;
    const inspecting = snapshot(
      { source },
      {
        inspectPods: [inspected({ source }, { code: "InvalidConfiguration", inspected: [told] } as never)],
      },
    );
    const read = modelStatus(inspecting, decide(inspecting), undefined);
    expect(read.variants?.[0]?.message).toBe(named[what]);
    expect(read.conditions?.find(({ type }) => type === "SourceResolved")?.message).toContain(named[what]);
    const report = { v: 1, command: "pull", retryable: false, code: "InvalidConfiguration" };
    const terminated = { exitCode: 78, message: JSON.stringify({ ...report, message: messages[what] }) };
    const pulling = snapshot(
      { source },
      { status: known, deployments: [deployment(0)], workloadPods: [pod({ state: { terminated } })] },
    );
    const failed = modelStatus(pulling, decide(pulling), undefined);
    expect(failed.pull?.lastFailure?.message).toBe(named[what]);
    expect(JSON.stringify(failed)).not.toContain("/var/run");
  }
});

test("a claim's status has the pods that found the model there, and what they did not fetch again, as fields", () => {
  const ended = (bytesFetched: number): Pod =>
    pod({
      state: {
        terminated: {
          exitCode: 0,
          message: JSON.stringify({
            v: 1,
            command: "pull",
            code: "Ready",
            retryable: false,
            message: "",
            bytesTotal: 100,
            bytesFetched,
          }),
        },
      },
    });
  const facts = { status: known, claim: claim("Bound"), workloadPods: [ended(0), ended(30)] };
  const storageOf = (spec: Partial<ModelSpec>): unknown => {
    const observed = snapshot(spec, facts);
    return modelStatus(observed, decide(observed), undefined).storage;
  };
  expect(storageOf(onClaim)).toEqual({ pods: 2, warmPods: 1, savedBytes: 170 });
  expect(storageOf({})).toBeUndefined();
});
