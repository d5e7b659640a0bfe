import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { parse } from "yaml";
import type { Model } from "../../operator/api/model.ts";
import { configurationSchema, type RuntimeDefinition } from "../../operator/configuration.ts";
import { workloadDeployment } from "../../operator/desired/deployment.ts";
import { engineOptions } from "../engine/engine-options.ts";

const root = join(import.meta.dirname, "../..");
const values = parse(readFileSync(join(root, "charts/ocimodel/values.yaml"), "utf8")) as {
  runtimes: unknown;
};
const configuration = configurationSchema.parse({ pullerImage: "puller:1", runtimes: values.runtimes });

type Container = {
  readonly args: readonly string[];
  readonly env: readonly { readonly name: string; readonly value: string }[];
  readonly ports: readonly { readonly containerPort: number }[];
};

/** The runtime's container with the named runtime of the chart, as the kubelet would start it: variables expanded. */
function started(name: string, definition: RuntimeDefinition, devices: number): Container {
  const model: Model = {
    apiVersion: "ocimodel.dev/v1alpha1",
    kind: "Model",
    metadata: { name: "qwen", namespace: "ai", uid: "u" },
    spec: { source: { reference: "r.example.com/x" }, selection: { parallel: 2 }, runtime: { port: 9001 } },
  };
  const deployment = workloadDeployment({
    model,
    configuration,
    variantName: "default",
    artifact: {
      reference: "r.example.com/x",
      digest: `sha256:${"a".repeat(64)}`,
      packaging: "docker",
      format: "gguf",
      sizeBytes: 1,
      weightBytes: 1,
      entry: "model.gguf",
    },
    runtime: { name, definition },
    placement: {
      accelerator: devices > 0 ? "nvidia" : "none",
      ...(devices > 0 ? { deviceResource: { name: "nvidia.com/gpu", count: devices } } : {}),
      memoryBytes: 0,
      footprint: {
        weightBytes: 1,
        projectorBytes: 0,
        adapterBytes: 0,
        cacheBytes: 0,
        stateBytes: 0,
        computeBytes: 0,
        overheadBytes: 0,
        totalBytes: 1,
        devices,
        utilization: 1,
        perDeviceBytes: 1,
        contextLength: 4096,
        parallel: 1,
        assumed: [],
      },
      nodeSelectorTerms: [],
      matchingNodes: [],
      freeNodes: [],
      isCpuFallback: false,
    },
  }) as unknown as { spec: { template: { spec: { containers: Container[] } } } };
  const [container] = deployment.spec.template.spec.containers;
  if (container === undefined) throw new Error("no container");
  const variables = new Map(container.env.map((each) => [each.name, each.value]));
  const expand = (text: string): string =>
    text.replaceAll(/\$\(([A-Z_]+)\)/g, (whole, variable: string) => variables.get(variable) ?? whole);
  return { ...container, args: container.args.map(expand) };
}

describe.each(Object.entries(configuration.runtimes))("the shipped runtime %s", (name, definition) => {
  test.each([0, 4])(
    "uses only variables that are set, and listens where the Service looks (%d devices)",
    (devices) => {
      const { args, ports } = started(name, definition, devices);
      expect(args.filter((argument) => argument.includes("$("))).toEqual([]);
      expect(args[args.indexOf("--port") + 1]).toBe("9001");
      expect(ports).toMatchObject([{ containerPort: 9001 }]);
    },
  );

  test("has pinned images", () => {
    for (const image of [definition.image, definition.acceleratorImage].filter(
      (each) => each !== undefined,
    )) {
      expect(image).toMatch(/:([a-z]+-)*[bv]\d[\w.]*$/);
    }
  });
});

test("llama.cpp is started for the whole cache of all sequences, with flags that llama-server has", () => {
  const definition = configuration.runtimes["llama.cpp"];
  if (definition === undefined) throw new Error("llama.cpp is not shipped");
  expect(engineOptions(started("llama.cpp", definition, 0).args, {})).toMatchObject({
    modelPath: "/models/model.gguf",
    host: "0.0.0.0",
    port: 9001,
    alias: "qwen",
    parallel: 2,
    contextLength: 8192,
  });
  expect(started("llama.cpp", definition, 1).args.slice(-2)).toEqual(["--n-gpu-layers", "999"]);
});
