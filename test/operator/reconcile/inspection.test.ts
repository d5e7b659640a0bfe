// Inspect pods and their ends as a cluster really shows them: wrong clocks, pods that never ran, answers that repeat no password.

import { describe, expect, test } from "vitest";
import type { Model, ModelSpec } from "../../../operator/api/model.ts";
import { configurationSchema } from "../../../operator/configuration.ts";
import { nodeHardware, type Node } from "../../../operator/hardware/node-hardware.ts";
import { decide } from "../../../operator/reconcile/decide.ts";
import type { Observed } from "../../../operator/reconcile/observed.ts";
import { modelStatus } from "../../../operator/reconcile/status.ts";
import type { Pod } from "../../../operator/reconcile/workload-types.ts";
import type { InspectResult } from "../../../puller/contract.ts";

const nowMs = Date.parse("2026-01-01T12:00:00Z");
const at = (seconds: number): string => `${new Date(nowMs + seconds * 1000).toISOString().slice(0, 19)}Z`;
const day = 24 * 3600;
const digest = `sha256:${"a".repeat(64)}`;

class Case {
  model: Model;
  pod: Pod | undefined;
  readonly reference: string;

  constructor(reference = "r.example.com/m:1") {
    this.reference = reference;
    this.model = {
      apiVersion: "ocimodel.dev/v1alpha1",
      kind: "Model",
      metadata: { name: "m", namespace: "ns", uid: "u", generation: 1, resourceVersion: "7" },
      spec: { source: { reference, refresh: { policy: "OnChange", interval: "1h" } } },
    };
  }

  observed(): Observed {
    return {
      model: this.model,
      configuration: configurationSchema.parse({
        pullerImage: "puller:1",
        runtimes: { engine: { image: "engine:1", formats: ["gguf"], cpu: true, port: 8080 } },
      }),
      nodes: [],
      deployments: [],
      service: undefined,
      claim: undefined,
      ownedClaims: [],
      workloadPods: [],
      inspectPods: this.pod === undefined ? [] : [this.pod],
      claimPods: [],
      claimModels: [],
      collectPods: [],
      prefetchPods: [],
      progress: new Map(),
      nowMs,
    };
  }

  /** The inspect pod of the Model, made `madeSeconds` from now and ended with this status. */
  ended(madeSeconds: number, status: Pod["status"]): void {
    const [pod] = decide(this.observed()).create;
    if (pod === undefined) throw new Error("no inspect pod is made");
    const metadata = { ...pod.metadata, uid: "p", creationTimestamp: at(madeSeconds) };
    this.pod = { ...pod, metadata, ...(status === undefined ? {} : { status }) } as Pod;
  }

  told(result: InspectResult, finishedSeconds: number): Pod["status"] {
    const isFailed = "code" in result;
    const message = JSON.stringify({
      v: 1,
      command: "inspect",
      code: isFailed ? result.code : "Ready",
      retryable: false,
      message: "",
      inspected: [result],
    });
    const terminated = { exitCode: isFailed ? 66 : 0, finishedAt: at(finishedSeconds), message };
    return {
      phase: isFailed ? "Failed" : "Succeeded",
      containerStatuses: [{ name: "inspect", state: { terminated } }],
    };
  }

  /** Reconciles until something is created, or for good; what is. */
  settle(): readonly string[] {
    for (let round = 0; ; round += 1) {
      const observed = this.observed();
      const decision = decide(observed);
      if (decision.create.length > 0 || round === 5)
        return decision.create.map(({ metadata }) => metadata.name);
      if (decision.inspection.remove.length > 0) this.pod = undefined;
      this.model = { ...this.model, status: modelStatus(observed, decision, undefined) };
    }
  }
}

const failure = (reference: string): InspectResult => ({
  reference,
  code: "ManifestNotFound",
  message: "not there",
});
const facts = (reference: string): InspectResult => ({
  reference,
  digest,
  packaging: "docker",
  format: "gguf",
  sizeBytes: 1,
  weightBytes: 1,
  entry: "m.gguf",
});

describe("an inspect pod", () => {
  test.each([
    ["was turned away by the kubelet", { phase: "Failed", message: "Pod was rejected" }],
    ["was evicted", { phase: "Failed", reason: "Evicted", message: "The node was low on resource" }],
  ] as const)("that %s, before any container ran, is tried again", (_what, status) => {
    const each = new Case();
    each.ended(-600, status);
    expect(each.settle()).toEqual([expect.stringMatching(/-1$/)]);
    const young = new Case();
    young.ended(-1, status);
    expect(young.settle()).toEqual([]);
  });

  test.each([day, -day])(
    "that failed on a node whose clock is %d s wrong is tried again in time",
    (wrong) => {
      const each = new Case();
      each.ended(-600, each.told(failure(each.reference), wrong - 590));
      expect(each.settle()).toEqual([expect.stringMatching(/-1$/)]);
      const young = new Case();
      young.ended(-5, young.told(failure(young.reference), wrong));
      expect(young.settle()).toEqual([]);
    },
  );

  test.each([day, -day])(
    "on a node whose clock is %d s wrong: the tag is read again when it is due, not before",
    (wrong) => {
      const each = new Case();
      each.ended(-60, each.told(facts(each.reference), wrong));
      expect(each.settle()).toEqual([]);
      expect(each.model.status?.source?.resolvedAt).toBe(at(-60));
      const old = new Case();
      old.ended(-2 * 3600, old.told(facts(old.reference), wrong));
      expect(old.settle()).toHaveLength(1);
    },
  );

  test("that does not repeat a password tells its failure all the same, and the condition does not show it", () => {
    const each = new Case("user:canary@r.example.com/m:1");
    const refused = {
      reference: "***@r.example.com/m:1",
      code: "InvalidReference",
      message: "a user name",
    } as const;
    each.ended(-5, each.told(refused, -1));
    each.settle();
    const { conditions = [], variants } = each.model.status ?? {};
    expect(conditions.find(({ type }) => type === "SourceResolved")).toMatchObject({
      status: "False",
      reason: "InvalidReference",
      message: "***@r.example.com/m:1: a user name",
    });
    expect(JSON.stringify(conditions)).not.toContain("canary");
    expect(variants).toMatchObject([{ failure: { code: "InvalidReference" } }]);
  });

  test("that is being deleted on a lost node does not hold up the next", () => {
    const each = new Case();
    const [first] = each.settle();
    expect(first).toMatch(/-0$/);
    const observed = { ...each.observed(), leavingPods: [first ?? "", "another-inspect-12345678-7"] };
    expect(decide(observed).create.map(({ metadata }) => metadata.name)).toEqual([first?.replace(/0$/, "1")]);
  });

  test("whose message is cut within a character: the status is what the API server gives back", () => {
    for (const shift of ["", "x"]) {
      const each = new Case();
      const message = `${shift}${"\u{1f600}".repeat(600)}`;
      each.ended(-5, each.told({ reference: each.reference, code: "ManifestNotFound", message }, -1));
      each.settle();
      for (const condition of each.model.status?.conditions ?? [])
        expect(condition.message.isWellFormed()).toBe(true);
    }
  });
});

describe("what the schema leaves open and is of no sense", () => {
  const node: Node = {
    apiVersion: "v1",
    kind: "Node",
    metadata: { name: "n", labels: { "kubernetes.io/arch": "amd64" } },
    status: { allocatable: { cpu: "8", memory: "64Gi", pods: "110", "ephemeral-storage": "100Gi" } },
  };
  const tainted = nodeHardware({ ...node, spec: { taints: [{ key: "a", effect: "NoSchedule" }] } });
  const hostile: readonly (readonly [string, Partial<ModelSpec>])[] = [
    ["tolerations that are none", { template: { spec: { tolerations: [null, "x", [1]] } } }],
    ["a limit that is no text", { runtime: { resources: { limits: { memory: { toString: 1 } } } } }],
    ["a request that is no text", { puller: { resources: { requests: { memory: { toString: 1 } } } } }],
    ["lists as maps", { template: { spec: { containers: { name: "runtime" }, volumes: 7 } } }],
  ];
  test.each(hostile)("%s: a decision is made all the same", (_what, spec) => {
    const each = new Case();
    const storage = { type: "Ephemeral", medium: "Memory" } as const;
    each.model = { ...each.model, spec: { ...each.model.spec, storage, ...spec } };
    each.ended(-5, each.told(facts(each.reference), -1));
    const { choice } = decide({ ...each.observed(), nodes: [tainted] });
    expect(choice?.verdicts).toMatchObject([{ name: "default", matchingNodes: [] }]);
    expect(decide({ ...each.observed(), nodes: [nodeHardware(node)] }).apply.length).toBeGreaterThan(0);
  });
});
