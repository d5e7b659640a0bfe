// Reads the cases of test/golden/selection: a cluster of named nodes, a Model's spec without its source, and what runs already.

import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { parse, stringify } from "yaml";
import type { ModelSpec } from "../../../operator/api/model.ts";
import type { ResourceSlice } from "../../../operator/hardware/dra.ts";
import type { Node } from "../../../operator/hardware/node-hardware.ts";
import { withImageForAll } from "../../../operator/selection/runtime-image.ts";
import { defaultRuntimes } from "../../../operator/plan/default-runtimes.ts";
import { planModel, type Plan, type PlanInput, type PlannedCluster } from "../../../operator/plan/plan.ts";
import type { ScheduledPod } from "../../../operator/reconcile/taken-capacity.ts";
import type { InspectFacts, ModelFormat } from "../../../puller/contract.ts";

export const directory = join(import.meta.dirname, "../../golden/selection");
const read = <T>(name: string): T => parse(readFileSync(join(directory, name), "utf8"), { merge: true }) as T;

type NodeFixture = {
  readonly labels: Readonly<Record<string, string>>;
  readonly allocatable: Readonly<Record<string, string>>;
  readonly taints?: NonNullable<Node["spec"]>["taints"];
  /** What a DRA driver publishes of it. */
  readonly slice?: Pick<ResourceSlice["spec"], "driver" | "devices">;
};
type NodeUse = Partial<NodeFixture> & {
  readonly is: string;
  readonly count?: number;
  readonly name?: string;
  readonly unschedulable?: boolean;
  /** Requests of a pod that is on each of them. */
  readonly taken?: Readonly<Record<string, string>>;
};
type Artifact = {
  readonly format: ModelFormat;
  readonly quantization?: string;
  readonly parameters?: string;
  readonly gibibytes: number;
  readonly facts?: NonNullable<InspectFacts["facts"]>;
};
export type Case = Omit<ModelSpec, "source"> & {
  readonly nodes: readonly NodeUse[];
  readonly current?: PlanInput["current"];
};

const nodeFixtures = read<Record<string, NodeFixture>>("nodes.yaml");
const { artifacts } = read<{ artifacts: Record<string, Artifact> }>("artifacts.yaml");
const repository = "registry.example/llm";

const facts = new Map(
  Object.entries(artifacts).map(([tag, { gibibytes, ...artifact }]) => {
    const bytes = Math.round(gibibytes * 2 ** 30);
    const reference = `${repository}:${tag}`;
    return [
      reference,
      {
        ...artifact,
        reference,
        digest: `sha256:${"0".repeat(64)}`,
        packaging: "docker" as const,
        sizeBytes: bytes,
        weightBytes: bytes,
        entry: "model.gguf",
      },
    ];
  }),
);

/** Nodes of a case; several of a kind are numbered. */
export const nodesOf = (given: Pick<Case, "nodes">): readonly Node[] =>
  machinesOf(given).map(({ node }) => node);

type Machine = { readonly node: Node } & Pick<NodeUse, "slice" | "taken">;

function machinesOf({ nodes }: Pick<Case, "nodes">): readonly Machine[] {
  return nodes.flatMap((use) => {
    const { is, count = 1, name = is, labels, taints, allocatable, unschedulable, taken } = use;
    const fixture = nodeFixtures[is];
    if (fixture === undefined) throw new Error(`test/golden/selection/nodes.yaml has no node ${is}`);
    const { slice } = fixture;
    return Array.from({ length: count }, (_, index): Machine => {
      const own =
        count === 1 && nodes.filter((each) => each.is === is).length === 1 ? name : `${name}-${index}`;
      const unique = labels?.["pool"] === undefined ? own : `${own}-${labels["pool"]}`;
      const node: Node = {
        apiVersion: "v1",
        kind: "Node",
        metadata: {
          name: unique,
          labels: {
            "kubernetes.io/hostname": unique,
            "kubernetes.io/os": "linux",
            ...fixture.labels,
            ...labels,
          },
        },
        spec: {
          ...(unschedulable === undefined ? {} : { unschedulable }),
          taints: [...(fixture.taints ?? []), ...(taints ?? [])],
        },
        status: { allocatable: { "ephemeral-storage": "500Gi", ...fixture.allocatable, ...allocatable } },
      };
      return {
        node,
        ...(slice === undefined ? {} : { slice }),
        ...(taken === undefined ? {} : { taken }),
      };
    });
  });
}

const object = { apiVersion: "v1", kind: "", metadata: { name: "" } };

function clusterOf(given: Pick<Case, "nodes">): PlannedCluster {
  const machines = machinesOf(given);
  const slices = machines.flatMap(({ node: { metadata }, slice }): ResourceSlice[] => {
    const pool = { name: metadata.name, generation: 1, resourceSliceCount: 1 };
    return slice === undefined ? [] : [{ ...object, spec: { ...slice, nodeName: metadata.name, pool } }];
  });
  const pods = machines.flatMap(({ node: { metadata }, taken }): ScheduledPod[] =>
    taken === undefined
      ? []
      : [
          {
            ...object,
            spec: { nodeName: metadata.name, containers: [{ resources: { requests: taken } }] },
          },
        ],
  );
  return {
    nodes: machines.map(({ node }) => node),
    slices,
    // Where no case says what is taken, nobody counted.
    ...(pods.length === 0 ? {} : { pods }),
  };
}

export function inputOf(given: Case): PlanInput {
  const { nodes: _nodes, current, ...spec } = given;
  return {
    name: "llm",
    spec: { ...spec, source: { reference: repository } },
    ...clusterOf(given),
    facts,
    // Images for devices of every vendor, so that the cases are about hardware.
    runtimes: Object.fromEntries(
      Object.entries(defaultRuntimes).map(([name, definition]) => [
        name,
        withImageForAll(definition, `registry.example/${name}`),
      ]),
    ),
    ...(current === undefined ? {} : { current }),
  };
}

/** What a reviewer reads of a plan. */
export function shown(plan: Plan): string {
  const missed = plan.variants.flatMap(({ name, nearMisses }): [string, string][] =>
    nearMisses.length === 0
      ? []
      : [[name, nearMisses.map(({ node, lacks }) => `${node}: ${lacks}`).join("; ")]],
  );
  return stringify(
    {
      [plan.isPlaced ? "selected" : plan.reason]: plan.message,
      ...(plan.placements.length === 0
        ? {}
        : {
            placements: plan.placements.map(({ variant, accelerator, replicas, contextLength, nodes }) => ({
              variant,
              accelerator,
              replicas,
              contextLength,
              nodes: nodes.join(" "),
            })),
          }),
      variants: Object.fromEntries(
        plan.variants.map(({ name, verdict, message }) => [name, `${verdict}: ${message}`]),
      ),
      ...(missed.length === 0 ? {} : { nearest: Object.fromEntries(missed) }),
    },
    { lineWidth: 0 },
  );
}

/** All cases by name. */
export function cases(): ReadonlyMap<string, Case> {
  return new Map(
    readdirSync(directory)
      .filter((name) => name.endsWith(".in.yaml"))
      .sort()
      .map((name) => [name.replace(".in.yaml", ""), read<Case>(name)]),
  );
}

export const planOf = (given: Case): Plan => planModel(inputOf(given));
