import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Json, JsonObject, Model, ModelSpec, RuntimeSpec } from "../../../operator/api/model.ts";
import { configurationSchema } from "../../../operator/configuration.ts";
import { workloadDeployment } from "../../../operator/desired/deployment.ts";
import { inspectPod } from "../../../operator/desired/inspect-pod.ts";
import { patchTemplate } from "../../../operator/desired/patch-template.ts";
import type { WorkloadInput } from "../../../operator/desired/types.ts";
import { needsApply } from "../../../operator/kube/needs-apply.ts";
import { ownViolations, podSpecOf, restrictedViolations } from "./restricted.ts";

const label = fc.stringMatching(/^[a-z]([-a-z0-9]{0,50}[a-z0-9])?$/);
const digest = fc.stringMatching(/^[0-9a-f]{64}$/).map((hex) => `sha256:${hex}`);
const reference = fc.stringMatching(
  /^[a-z]{1,9}\.example\.com(:[1-9][0-9]{3})?\/[a-z0-9]{1,9}(:[a-z0-9]{1,9})?$/,
);
const bytes = fc.integer({ min: 0, max: 2 ** 45 });
const quantity = fc.stringMatching(/^[1-9][0-9]{0,3}(m|Mi|Gi)?$/);
const resources = fc.dictionary(
  fc.constantFrom("requests", "limits"),
  fc.dictionary(fc.constantFrom("cpu", "memory"), quantity),
);
const optional = <T>(value: fc.Arbitrary<T>): fc.Arbitrary<T | undefined> =>
  fc.option(value, { nil: undefined });

/** Leaves out what is undefined, as JSON does. */
function stated<T>(value: T): T {
  return JSON.parse(JSON.stringify(value)) as T;
}

const runtime: fc.Arbitrary<RuntimeSpec> = fc
  .record({
    name: optional(fc.constantFrom("one", "two")),
    image: optional(fc.constant("registry.example.com/own:1")),
    args: optional(fc.array(fc.string(), { maxLength: 3 })),
    env: optional(
      fc.array(fc.record({ name: fc.constantFrom("A", "B", "HOME", "MODEL_PATH"), value: fc.string() }), {
        maxLength: 4,
      }),
    ),
    port: optional(fc.integer({ min: 1, max: 65535 })),
    resources: optional(resources),
    tolerations: optional(
      fc.array(fc.record({ key: label, operator: fc.constant("Exists") }), { maxLength: 2 }),
    ),
    mountPath: optional(fc.constantFrom("/models", "/data/x")),
  })
  .map((value) => stated(value) as RuntimeSpec);

const storage = fc.oneof(
  fc.record({
    type: fc.constant("Ephemeral" as const),
    size: fc.constantFrom("auto", "20Gi"),
    medium: optional(fc.constantFrom("Disk" as const, "Memory" as const)),
  }),
  fc.record({
    type: fc.constant("PersistentVolumeClaim" as const),
    accessModes: optional(
      fc
        .constantFrom("ReadWriteOnce" as const, "ReadWriteMany" as const, "ReadWriteOncePod" as const)
        .map((mode) => [mode]),
    ),
    claimName: optional(label),
  }),
);

const spec: fc.Arbitrary<ModelSpec> = fc
  .record({
    source: fc.record({
      reference,
      pullSecrets: optional(fc.array(fc.record({ name: label }), { maxLength: 3 })),
      tls: optional(
        fc.constantFrom({ plainHTTP: true }, { caBundle: { configMap: { name: "ca", key: "ca.crt" } } }),
      ),
      mirrors: optional(fc.constant([{ host: "docker.io", url: "https://mirror.example.com" }])),
    }),
    variants: fc
      .record({ name: fc.constant("chosen"), runtime: optional(runtime) })
      .map((variant) => [variant]),
    selection: optional(fc.record({ parallel: fc.integer({ min: 1, max: 4096 }) })),
    puller: optional(
      fc.record({
        resources: optional(resources),
        include: optional(fc.array(fc.string({ minLength: 1 }), { maxLength: 2 })),
        exclude: optional(fc.array(fc.string({ minLength: 1 }), { maxLength: 2 })),
      }),
    ),
    runtime: optional(runtime),
    storage: optional(storage),
    replicas: optional(fc.nat(100)),
  })
  .map((value) => stated(value) as ModelSpec);

const model: fc.Arbitrary<Model> = fc.record({ name: label, spec }).map(({ name, spec: own }) => ({
  apiVersion: "ocimodel.dev/v1alpha1",
  kind: "Model",
  metadata: { name, namespace: "ai", uid: "5b1f3a0e-8f0f-4e0a-9a53-1d8a5b1c2d3e" },
  spec: own,
}));

const configuration = configurationSchema.parse({
  pullerImage: "puller:1",
  runtimes: {
    one: {
      image: "one:1",
      acceleratorImage: "one:gpu",
      formats: ["gguf"],
      cpu: true,
      port: 8080,
      healthPath: "/health",
    },
    two: {
      image: "two:1",
      formats: ["gguf"],
      cpu: true,
      port: 8000,
      sharedMemory: true,
      env: [{ name: "HOME", value: "/x" }],
    },
  },
});

const input: fc.Arbitrary<WorkloadInput> = fc
  .record({
    model,
    digest,
    sizeBytes: bytes,
    weightBytes: bytes,
    packaging: fc.constantFrom("docker" as const, "modelpack" as const),
    entry: optional(fc.constantFrom("model.gguf", "a/b-00001-of-00002.gguf")),
    devices: fc.integer({ min: 0, max: 8 }),
    memoryBytes: bytes,
    runtimeName: fc.constantFrom("one" as const, "two" as const),
  })
  .map(({ model: own, devices, memoryBytes, runtimeName, entry, ...artifact }) => {
    const definition = configuration.runtimes[runtimeName];
    if (definition === undefined) throw new Error("unreachable");
    return {
      model: own,
      configuration,
      variantName: "chosen",
      artifact: {
        ...artifact,
        reference: own.spec.source.reference,
        format: "gguf",
        ...(entry === undefined ? {} : { entry }),
      },
      runtime: { name: runtimeName, definition },
      placement: {
        accelerator: devices > 0 ? "nvidia" : "none",
        ...(devices > 0 ? { deviceResource: { name: "nvidia.com/gpu", count: devices } } : {}),
        memoryBytes,
        footprint: {
          weightBytes: 0,
          projectorBytes: 0,
          adapterBytes: 0,
          cacheBytes: 0,
          stateBytes: 0,
          computeBytes: 0,
          overheadBytes: 0,
          totalBytes: 0,
          devices,
          utilization: 1,
          perDeviceBytes: 1,
          contextLength: 8192,
          parallel: 1,
          assumed: [],
        },
        nodeSelectorTerms: [],
        matchingNodes: [],
        freeNodes: [],
        isCpuFallback: false,
      },
    };
  });

/** Every list of `env` in an object. */
function environments(value: unknown): readonly (readonly { readonly name: string }[])[] {
  if (typeof value !== "object" || value === null) return [];
  return Object.entries(value).flatMap(([key, child]) =>
    key === "env" ? [child as { name: string }[]] : environments(child),
  );
}

describe("for any Model", () => {
  test("the workload passes restricted and the project's own rules, names no variable twice, and is stable", () => {
    fc.assert(
      fc.property(input, (each) => {
        const deployment = workloadDeployment(each);
        const podSpec = podSpecOf(deployment) ?? {};
        expect(restrictedViolations(podSpec)).toEqual([]);
        expect(ownViolations(podSpec, ["pull", "runtime"])).toEqual([]);
        for (const env of environments(deployment)) {
          expect(new Set(env.map(({ name }) => name)).size).toBe(env.length);
        }
        expect(workloadDeployment(each)).toEqual(deployment);
        // What the server would give back, had it no defaults.
        expect(needsApply(stated(deployment), deployment)).toBe(false);
      }),
      { numRuns: 300 },
    );
  });

  test("what the kubelet replaces in arguments and variables comes out as it was meant", () => {
    /** As the kubelet does, for variables that are all there. */
    const expanded = (text: string): string =>
      text.replaceAll(/\$(?:\$|\(([^)]*)\))/g, (found) => (found === "$$" ? "$" : "a secret"));
    fc.assert(
      fc.property(input, fc.array(fc.stringMatching(/^[$()aA*]{1,8}$/), { maxLength: 3 }), (each, globs) => {
        const entry = `${globs.join("")}.gguf`;
        const { containers, initContainers } = podSpecOf(
          workloadDeployment({
            ...each,
            artifact: { ...each.artifact, entry },
            model: {
              ...each.model,
              spec: { source: each.model.spec.source, puller: { include: globs, exclude: globs } },
            },
            runtime: { ...each.runtime, definition: { ...each.runtime.definition, env: [] } },
          }),
        ) as unknown as {
          readonly containers: [
            { readonly env: readonly { readonly name: string; readonly value?: string }[] },
          ];
          readonly initContainers: [{ readonly args: readonly string[] }];
        };
        const args = initContainers[0].args.map(expanded);
        for (const flag of ["include", "exclude"])
          expect(args.filter((arg) => arg.startsWith(`--${flag}=`))).toEqual(
            globs.map((glob) => `--${flag}=${glob}`),
          );
        const path = containers[0].env.find((variable) => variable.name === "MODEL_PATH")?.value ?? "";
        expect(expanded(path)).toSatisfy((text: string) => text.endsWith(`/${entry}`));
      }),
    );
  });

  test("the inspect pod passes restricted and the project's own rules", () => {
    fc.assert(
      fc.property(
        model,
        fc.array(fc.string(), { minLength: 1, maxLength: 4 }),
        fc.nat(99),
        (own, references, attempt) => {
          const pod = inspectPod({ model: own, configuration, references, attempt, round: "r" });
          expect(restrictedViolations(podSpecOf(pod) ?? {})).toEqual([]);
          expect(ownViolations(podSpecOf(pod) ?? {}, ["inspect"])).toEqual([]);
          expect(pod.metadata.name.length).toBeLessThanOrEqual(63);
        },
      ),
      { numRuns: 300 },
    );
  });
});

describe("for any patch", () => {
  const json = fc.jsonValue({ maxDepth: 2 }) as fc.Arbitrary<Json>;
  const container = fc.dictionary(
    fc.constantFrom(
      "name",
      "image",
      "command",
      "args",
      "env",
      "envFrom",
      "volumeMounts",
      "securityContext",
      "resources",
      "$patch",
      "lifecycle",
      "restartPolicy",
      "workingDir",
      "terminationMessagePath",
    ),
    fc.oneof(fc.constantFrom<Json>("pull", "delete", null), json),
  );
  const patch = fc.dictionary(
    fc.constantFrom("metadata", "spec"),
    fc.oneof(
      json,
      fc.dictionary(
        fc.constantFrom("initContainers", "containers", "volumes"),
        fc.oneof(
          json,
          fc.array(
            fc.oneof(
              container,
              container.map((each) => ({ ...each, name: "pull" })),
              json,
            ),
            { maxLength: 4 },
          ),
        ),
      ),
    ),
  ) as fc.Arbitrary<JsonObject>;

  test("the puller is there, first, and runs what it ran", () => {
    const pull = { name: "pull", image: "puller", args: ["pull"], securityContext: {}, volumeMounts: [] };
    const template: JsonObject = {
      metadata: {},
      spec: { initContainers: [{ ...pull, resources: {} }], containers: [], volumes: [] },
    };
    fc.assert(
      fc.property(patch, (each) => {
        const { initContainers } = patchTemplate(template, each)["spec"] as { initContainers: JsonObject[] };
        const { resources: _resources, imagePullPolicy: _policy, ...rest } = initContainers[0] ?? {};
        expect(rest).toEqual(pull);
      }),
      { numRuns: 2000 },
    );
  });
});
