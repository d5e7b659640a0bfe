import { describe, expect, test } from "vitest";
import type { ModelSpec } from "../../../operator/api/model.ts";
import { configurationSchema } from "../../../operator/configuration.ts";
import { withDefaultRequests } from "../../../operator/desired/default-requests.ts";
import { workloadDeployment } from "../../../operator/desired/deployment.ts";
import { podAmounts } from "../../../operator/desired/requested.ts";
import { withFreeCapacity } from "../../../operator/hardware/free-capacity.ts";
import { nodeHardware } from "../../../operator/hardware/node-hardware.ts";
import { podRequests, type PodSpecRequests } from "../../../operator/hardware/pod-requests.ts";
import { chooseVariant } from "../../../operator/selection/choose-variant.ts";
import type { Candidate } from "../../../operator/selection/types.ts";

const mebibyte = 2 ** 20;
const gibibyte = 2 ** 30;
const configuration = configurationSchema.parse({
  pullerImage: "puller:1",
  runtimes: { engine: { image: "engine:1", formats: ["gguf"], cpu: true, port: 8080 } },
});
const definition = configuration.runtimes["engine"];
if (definition === undefined) throw new Error("unreachable");
const candidate: Candidate = {
  variant: { name: "v" },
  artifact: {
    reference: "registry.example.com/m:1",
    digest: `sha256:${"0".repeat(64)}`,
    packaging: "docker",
    format: "gguf",
    sizeBytes: gibibyte,
    weightBytes: gibibyte,
  },
  runtime: { name: "engine", definition },
};
/** The model and what the store needs beside it. */
const onDisk = { "ephemeral-storage": gibibyte + 64 * mebibyte };
const source = { reference: "registry.example.com/m:1" };

const specs: readonly (readonly [
  what: string,
  spec: Omit<ModelSpec, "source">,
  cpuMillis: number,
  memoryBytes: number,
  /** As always: the disk that a volume of the node takes. */
  others: Readonly<Record<string, number>> | "as always",
])[] = [
  ["the puller alone states CPU, and the estimate RAM", {}, 100, 4 * gibibyte, "as always"],
  [
    "the runtime's CPU",
    { runtime: { resources: { requests: { cpu: "2" } } } },
    2000,
    4 * gibibyte,
    "as always",
  ],
  [
    "a limit is the request",
    { runtime: { resources: { limits: { cpu: "3", memory: "6Gi" } } } },
    3000,
    6 * gibibyte,
    "as always",
  ],
  [
    "the puller, where it asks for more",
    { puller: { resources: { requests: { cpu: "4", memory: "8Gi" } } } },
    4000,
    8 * gibibyte,
    "as always",
  ],
  [
    "less than the estimate",
    { runtime: { resources: { requests: { memory: "1Gi" } } } },
    100,
    gibibyte,
    "as always",
  ],
  [
    "a container that the template adds",
    {
      template: {
        spec: {
          containers: [{ name: "side", image: "s", resources: { requests: { cpu: "500m", memory: "1Gi" } } }],
        },
      },
    },
    500,
    5 * gibibyte,
    "as always",
  ],
  [
    "a limit of the pod as a whole, beside what the puller requests",
    { template: { spec: { resources: { limits: { cpu: "64" } } } } },
    100,
    4 * gibibyte,
    "as always",
  ],
  [
    "a limit of the pod as a whole where no container states CPU",
    {
      template: {
        spec: {
          resources: { limits: { cpu: "5" } },
          initContainers: [{ name: "pull", resources: { requests: { cpu: null } } }],
        },
      },
    },
    5000,
    4 * gibibyte,
    "as always",
  ],
  [
    "a volume in RAM",
    { storage: { type: "Ephemeral", medium: "Memory", size: "2Gi" } },
    100,
    6 * gibibyte,
    {},
  ],
  [
    "a volume of a stated size",
    { storage: { type: "Ephemeral", size: "7Gi" } },
    100,
    4 * gibibyte,
    { "ephemeral-storage": 7 * gibibyte },
  ],
  [
    "a claim, which is no part of the node",
    { storage: { type: "PersistentVolumeClaim" } },
    100,
    4 * gibibyte,
    {},
  ],
  [
    "extended resources, huge pages and disk that the template and the runtime ask for",
    {
      runtime: { resources: { limits: { "hugepages-2Mi": "64Mi", "example.com/fpga": "2" } } },
      template: {
        spec: {
          containers: [
            {
              name: "side",
              image: "s",
              resources: { requests: { "ephemeral-storage": "3Gi" }, limits: { "example.com/fpga": "1" } },
            },
          ],
        },
      },
    },
    100,
    4 * gibibyte,
    { "ephemeral-storage": 3 * gibibyte, "hugepages-2Mi": 64 * mebibyte, "example.com/fpga": 3 },
  ],
];

describe("what a pod requests", () => {
  test.each(specs)("%s", (_what, more, cpuMillis, memoryBytes, others) => {
    const spec: ModelSpec = { source, ...more };
    expect(podAmounts({ spec }, configuration, candidate, { memoryBytes: 4 * gibibyte })).toEqual({
      cpuMillis,
      memoryBytes,
      others: others === "as always" ? onDisk : others,
    });
  });

  test.each(specs)("is what the rendered pod requests: %s", (_what, more) => {
    const spec: ModelSpec = { source, ...more };
    const nodes = [
      {
        apiVersion: "v1",
        kind: "Node",
        metadata: { name: "n" },
        status: {
          allocatable: {
            cpu: "8",
            memory: "64Gi",
            "ephemeral-storage": "100Gi",
            "hugepages-2Mi": "1Gi",
            "example.com/fpga": "4",
          },
        },
      },
    ].map(nodeHardware);
    const choice = chooseVariant({
      candidates: [candidate],
      nodes,
      selection: {},
      tolerations: () => [],
      requested: (each, placement) => podAmounts({ spec }, configuration, each, placement),
      replicas: 1,
    });
    if (choice.kind !== "selected") throw new Error(choice.message);
    const deployment = workloadDeployment({
      model: {
        apiVersion: "ocimodel.dev/v1alpha1",
        kind: "Model",
        metadata: { name: "m", namespace: "ns", uid: "u" },
        spec,
      },
      configuration,
      variantName: "v",
      artifact: candidate.artifact,
      runtime: { name: "engine", definition },
      placement: choice.placement,
    }) as unknown as { spec: { template: { spec: PodSpecRequests } } };
    const rendered = withDefaultRequests(deployment.spec.template.spec);
    const { cpu, memory, ...others } = podRequests(rendered);
    const told = podAmounts({ spec }, configuration, candidate, choice.placement);
    // Quantities are written in whole mebibytes.
    expect(cpu).toBe(told.cpuMillis);
    expect(others).toEqual(told.others);
    expect(Math.abs((memory ?? 0) - told.memoryBytes)).toBeLessThan(mebibyte);
  });
});

describe("a verdict", () => {
  const allocatable = { cpu: "4", memory: "64Gi", pods: "110", "ephemeral-storage": "9Gi" };
  const node = { apiVersion: "v1", kind: "Node", metadata: { name: "n" }, status: { allocatable } };
  const judge = (cpu: string, takenMillis: number): string | undefined => {
    const spec: ModelSpec = { source, runtime: { resources: { requests: { cpu } } } };
    const { verdicts } = chooseVariant({
      candidates: [candidate],
      nodes: [withFreeCapacity(nodeHardware(node), { requests: { cpu: takenMillis }, pods: 1 })],
      selection: {},
      tolerations: () => [],
      requested: (each, placement) => podAmounts({ spec }, configuration, each, placement),
      replicas: 1,
    });
    return verdicts.map(({ verdict, message }) => `${verdict}: ${message}`)[0];
  };

  test("says that CPUs are taken, or that no node has as many", () => {
    expect(judge("3", 0)).toMatch(/^Selected: needs .* of RAM; fits 1 of 1 nodes$/);
    // What is chosen tells in its message that it waits.
    expect(judge("3", 2000)).toMatch(/none has room now: 1 whose CPUs are taken$/);
    expect(judge("5", 0)).toMatch(/^NoMatchingNode: .*fits 0 of 1 nodes: 1 with too few CPUs$/);
  });
});
