// What files for a plan may hold besides what kubectl prints of a tidy cluster.

import { describe, expect, test } from "vitest";
import { planModel } from "../../../operator/plan/plan.ts";
import { defaultRuntimes } from "../../../operator/plan/default-runtimes.ts";
import { factsOfStatus, readCluster, readModels } from "../../../operator/plan/read-input.ts";
import { modelDefinition } from "../../../operator/validation/definition.ts";
import { modelValidator } from "../../../operator/validation/validate-model.ts";
import { inputOf } from "../selection/golden-cases.ts";

const validate = modelValidator(modelDefinition());
const { facts, nodes } = inputOf({ nodes: [{ is: "cpu-32" }] });
const model = {
  apiVersion: "ocimodel.dev/v1alpha1",
  kind: "Model",
  metadata: { name: "llm" },
  spec: { source: { reference: "registry.example/llm:8b-q4" } },
};
const read = (value: unknown) => readModels(JSON.stringify(value), "model.yaml", validate);

describe("nodes, pods and devices", () => {
  const pod = {
    metadata: { name: "a", namespace: "ai" },
    spec: { nodeName: "n", containers: [{ name: "a" }] },
  };

  test("as the API server lists them, which names a kind once for all", () => {
    const lists = [
      { kind: "NodeList", items: [{ metadata: { name: "n" } }] },
      { kind: "PodList", items: [pod] },
    ];
    const found = readCluster([
      { text: lists.map((each) => JSON.stringify(each)).join("\n---\n"), file: "nodes.yaml" },
    ]);
    expect(found.nodes.map(({ metadata }) => metadata.name)).toEqual(["n"]);
    expect(found.pods).toHaveLength(1);
  });

  test("with ResourceClaims: what they have been given is not free, but for the Model's own", () => {
    const node = {
      kind: "Node",
      metadata: { name: "n", labels: { "kubernetes.io/arch": "amd64", "kubernetes.io/os": "linux" } },
      status: { allocatable: { cpu: "32", memory: "128Gi", pods: "110", "ephemeral-storage": "100Gi" } },
    };
    const slice = {
      kind: "ResourceSlice",
      metadata: { name: "s" },
      spec: {
        driver: "gpu.nvidia.com",
        nodeName: "n",
        pool: { name: "n", generation: 1, resourceSliceCount: 1 },
        devices: [
          {
            name: "gpu-0",
            attributes: {
              type: { string: "gpu" },
              productName: { string: "NVIDIA L4" },
              cudaComputeCapability: { version: "8.9.0" },
            },
            capacity: { memory: { value: "23034Mi" } },
          },
        ],
      },
    };
    const claimOf = (owner: string) => ({
      kind: "ResourceClaim",
      metadata: { name: "c", namespace: "ai", labels: { "ocimodel.dev/model": owner } },
      status: {
        allocation: {
          devices: { results: [{ request: "gpu", driver: "gpu.nvidia.com", pool: "n", device: "gpu-0" }] },
        },
      },
    });
    const [asked] = read({
      ...model,
      metadata: { name: "llm", namespace: "ai" },
      spec: {
        ...model.spec,
        variants: [{ name: "q4", reference: ":8b-q4", requirements: { accelerator: { vendor: "nvidia" } } }],
      },
    });
    const verdict = (claims: readonly unknown[]): string | undefined => {
      const items = [node, slice, { ...pod, kind: "Pod" }, ...claims];
      const cluster = readCluster([{ text: JSON.stringify({ kind: "List", items }), file: "nodes.yaml" }]);
      const { spec } = asked ?? { spec: model.spec };
      const input = { ...cluster, name: "llm", namespace: "ai", spec, facts, runtimes: defaultRuntimes };
      return planModel(input).variants[0]?.message;
    };
    expect(verdict([])).toMatch(/fits 1 of 1 nodes$/);
    expect(verdict([claimOf("other")])).toContain("none has room now");
    expect(verdict([claimOf("llm")])).toMatch(/fits 1 of 1 nodes$/);
  });

  test.each([
    ["an alias of nothing", "kind: List\nitems: *nothing\n", "nothing"],
    [
      "aliases of aliases",
      `a0: &a0 [x]\n${Array.from({ length: 12 }, (_, index) => `a${index + 1}: &a${index + 1} [${`*a${index}, `.repeat(9)}]`).join("\n")}`,
      "alias",
    ],
  ])("refused by the name of the file: %s", (_name, text, told) => {
    expect(() => readCluster([{ text, file: "nodes.yaml" }])).toThrow(
      expect.objectContaining({
        name: "PlanInputError",
        message: expect.stringMatching(
          new RegExp(`^nodes[.]yaml is no usable YAML: .*${told}`, "i"),
        ) as string,
      }),
    );
  });
});

describe("a Model", () => {
  test.each([{}, [null], "x"])("whose status is nothing that an operator writes: %j", (variants) => {
    const [read1] = read({ ...model, status: { variants } });
    expect(read1?.status).toBeUndefined();
    expect(read1 === undefined ? undefined : factsOfStatus(read1).size).toBe(0);
  });

  test("with a stray dash among its containers is judged without it", () => {
    const [asked] = read({ ...model, spec: { ...model.spec, template: { spec: { containers: [null] } } } });
    const spec = asked?.spec ?? model.spec;
    expect(planModel({ nodes, name: "llm", spec, facts, runtimes: defaultRuntimes }).reason).toBe("Selected");
  });

  test.each([
    "https://user:ca/nary@mirror.example.com",
    "https://user:c@nary@mirror.example.com",
    "https://mirror.example.com/?token=canary",
  ])("whose address is refused is told without it: %s", (url) => {
    const mirrored = { ...model, spec: { source: { ...model.spec.source, mirrors: [{ url }] } } };
    const problems = JSON.stringify(validate(mirrored).problems);
    expect(problems).toContain("mirrors");
    expect(problems).not.toMatch(/nary|mirror[.]example/);
  });
});
