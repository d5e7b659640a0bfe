import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { parse, stringify } from "yaml";
import type { Model } from "../../../operator/api/model.ts";
import { planAll } from "../../../operator/plan/plan-all.ts";
import { defaultRuntimes } from "../../../operator/plan/default-runtimes.ts";
import { nodeBinary } from "../../images/app-context.ts";
import { nodesOf } from "../selection/golden-cases.ts";
import { exampleModel as model, facts, givenFiles, nodes, planDirectory } from "./run-plan.ts";

const root = join(import.meta.dirname, "../../..");

describe("ocimodel plan", () => {
  const { file, plan } = planDirectory();
  let given: readonly string[] = [];
  beforeAll(() => {
    given = givenFiles(file);
  });

  test("says what is chosen, where, and why not the others", () => {
    const { code, out } = plan(["-f", file("model.yaml", model), ...given]);
    expect(code).toBe(0);
    expect(out).toContain("qwen3: f16 on nvidia GPUs: the first choice fits");
    expect(out).toMatch(
      /^f16 +Selected +16\.9 GiB +8192 +1 +needs 16\.9 GiB on one GPU; fits 1 of 2 nodes$/m,
    );
    expect(out).toMatch(/^q4 +Fits +6\.3 GiB +8192 +2 /m);
    expect(out).toMatch(/^f16 +nvidia +1 +8192 +l4-gfd$/m);
  });

  test("counts the nodes of all files that are given", () => {
    const apart = nodes.flatMap((node, index) => ["--nodes", file(`node-${index}.yaml`, node)]);
    expect(nodes.length).toBeGreaterThan(1);
    const { code, out } = plan(["-f", file("model.yaml", model), ...apart, ...given.slice(2)]);
    expect(code).toBe(0);
    expect(out).toBe(plan(["-f", file("model.yaml", model), ...given]).out);
  });

  test("tells pipelines the same as JSON, several Models of a GitOps file in one run", () => {
    const other = {
      ...model,
      metadata: { name: "other" },
      spec: { ...model.spec, selection: { policy: "BestFit" } },
    };
    const text = `${stringify(model)}---\nkind: ConfigMap\n---\n${stringify(other)}`;
    const { code, out } = plan(["-f", "-", ...given, "--output", "json"], text);
    expect(code).toBe(0);
    expect(JSON.parse(out)).toMatchObject([
      { model: "qwen3", isPlaced: true, placements: [{ variant: "f16", nodes: ["l4-gfd"] }] },
      { model: "other", isPlaced: true },
    ]);
  });

  test("ends with 1 when nothing fits", () => {
    const strict = {
      ...model,
      spec: { ...model.spec, selection: { contextLength: 4_000_000, cpuFallback: false } },
    };
    const large = plan(["-f", file("strict.yaml", strict), ...given]);
    expect(large.code).toBe(1);
    expect(large.out).toContain("nothing is chosen (NoVariantFits)");
    expect(large.out).toContain("TooLarge");
  });

  test("ends with 2 while facts are missing, for which the operator waits too, and says what would follow", () => {
    const path = file("model.yaml", model);
    const none = plan(["-f", path, ...given.slice(0, 2)]);
    expect(none.code).toBe(2);
    expect(none.out).toContain("qwen3: undecided: no facts are given");
    expect(none.out).toContain(
      "plan again with --facts qwen3-facts.json:\n  puller inspect --reference=registry.example/llm:8b-f16 --reference=registry.example/llm:8b-q4 --output=json > qwen3-facts.json\n",
    );
    const [second] = [...facts.values()].filter(({ reference }) => reference.endsWith(":8b-q4"));
    const some = [...given.slice(0, 2), "--facts", file("some.json", [second], true)];
    const { code, out } = plan(["-f", path, ...some]);
    expect(code).toBe(2);
    expect(out).toContain(
      "qwen3: undecided: facts are missing, for which the operator would wait; from what is known: q4 on CPUs",
    );
    expect(out).toMatch(/^PROVISIONAL .*\nq4 /m);
    expect(out).not.toContain("=registry.example/llm:8b-q4");
    const [json] = JSON.parse(plan(["-f", path, ...some, "--output", "json"]).out) as unknown[];
    expect(json).toMatchObject({
      isPlaced: false,
      reason: "Undecided",
      missing: [
        {
          reference: "registry.example/llm:8b-f16",
          command: "puller inspect --reference=registry.example/llm:8b-f16 --output=json",
          needs: [],
        },
      ],
      placements: [{ variant: "q4" }],
    });
    const secret = {
      ...model,
      spec: { ...model.spec, source: { ...model.spec.source, pullSecrets: [{ name: "cred" }] } },
    };
    const { out: needy } = plan(["-f", file("secret.yaml", secret), ...some, "--output", "json"]);
    expect(JSON.parse(needy)).toMatchObject([
      { missing: [{ needs: ["--docker-config FILE with the credentials of Secret cred"] }] },
    ]);
    // What does not fit whatever is told goes before.
    const strict = {
      ...model,
      metadata: { name: "strict" },
      spec: { ...model.spec, variants: [model.spec.variants[1]], selection: { contextLength: 4_000_000 } },
    };
    expect(plan(["-f", path, "-f", file("strict.yaml", strict), ...some]).code).toBe(1);
  });

  test("says where the model is kept, and refuses with 1 what that storage refuses", () => {
    const kept = (storage: object, name = "kept"): object => ({
      ...model,
      metadata: { name },
      spec: { ...model.spec, storage },
    });
    const image = plan(["-f", file("image.yaml", kept({ type: "ImageVolume" })), ...given]);
    expect(image.code).toBe(1);
    expect(image.out).toContain("kept: refused (NotAnImage): ");
    const auto = plan(["-f", file("auto.yaml", kept({ type: "Auto" })), ...given]);
    expect(auto.code).toBe(0);
    expect(auto.out).toMatch(/^Storage: Ephemeral \(Auto, unless the namespace has a node cache/m);
    const images = file(
      "images.json",
      [...facts.values()].map((each) => ({ ...each, packaging: "image" })),
      true,
    );
    const mounting = nodes.map((node) => ({
      ...node,
      status: {
        ...node.status,
        nodeInfo: { kubeletVersion: "v1.36.0", containerRuntimeVersion: "containerd://2.2.1" },
      },
    }));
    const path = file("mounting.yaml", { kind: "List", items: mounting });
    const found = plan(["-f", file("auto.yaml", kept({ type: "Auto" })), "--nodes", path, "--facts", images]);
    expect(found.out).toMatch(/^Storage: ImageVolume \(the selected variant is an image/m);
    const old = plan([
      "-f",
      file("image.yaml", kept({ type: "ImageVolume" })),
      ...given.slice(0, 2),
      "--facts",
      images,
    ]);
    expect(old.out).toContain("kept: refused (ImageVolumeUnsupported): ");
    expect(old.code).toBe(1);
  });

  test("its JSON has the fields that the documentation lists, and no others", () => {
    const text = readFileSync(join(root, "docs/selection.md"), "utf8");
    const listed = [...text.matchAll(/^\| `\[\]\.(\S+)` /gm)].map(([, path = ""]) => path);
    const pathsOf = (value: unknown, path: string): readonly string[] =>
      Array.isArray(value)
        ? value.flatMap((each) => pathsOf(each, `${path}[]`))
        : typeof value === "object" && value !== null && !path.endsWith("footprint")
          ? Object.entries(value).flatMap(([key, child]) => [
              path === "" ? key : `${path}.${key}`,
              ...pathsOf(child, path === "" ? key : `${path}.${key}`),
            ])
          : [];
    const large = {
      ...model,
      spec: {
        ...model.spec,
        variants: [
          { name: "70b", reference: ":70b-q4", requirements: { accelerator: { vendor: "nvidia" } } },
          ...model.spec.variants,
          { name: "x", reference: ":x" },
        ],
      },
    };
    const { out } = plan(["-f", file("all.yaml", large), ...given, "--output", "json"]);
    const image = { ...model, spec: { ...model.spec, storage: { type: "ImageVolume" } } };
    const { out: refused } = plan(["-f", file("image.yaml", image), ...given, "--output", "json"]);
    const found = [
      ...pathsOf((JSON.parse(out) as unknown[])[0], ""),
      ...pathsOf((JSON.parse(refused) as unknown[])[0], ""),
    ];
    expect([...new Set(found.map((each) => each.replace(/\[\]$/, "")))].sort()).toEqual(listed.sort());
  });

  test("says how to tell it the variants of a Model that finds them", () => {
    const findsBy = (variantsFrom: object): object => ({
      ...model,
      spec: { source: model.spec.source, variantsFrom },
    });
    const index = plan(["-f", file("index.yaml", findsBy({ index: true })), ...given]);
    expect(index.code).toBe(2);
    expect(index.out).toContain("puller inspect --index=registry.example/llm --output=json");
    const tags = plan(["-f", file("tags.yaml", findsBy({ tags: { pattern: "8b-*" } })), ...given]);
    expect(tags.out).toContain("puller inspect --reference=registry.example/llm '--tags=8b-*' --output=json");
    const named = {
      ...model,
      spec: { ...model.spec, variants: [{ name: "q4" }], variantsFrom: { index: true } },
    };
    const one = plan(["-f", file("named.yaml", named), ...given]);
    expect(one.out).toMatch(/^q4 +Pending .*no facts of it are given$/m);
    expect(one.out).toContain(
      "  puller inspect --index=registry.example/llm --output=json > qwen3-facts.json\n",
    );
  });

  test("names the nodes that come nearest to what none takes, and what each lacks", () => {
    const large = {
      ...model,
      spec: {
        ...model.spec,
        selection: { contextLength: 40_000 },
        variants: [
          { name: "70b", reference: ":70b-q4", requirements: { accelerator: { vendor: "nvidia" } } },
          { name: "q4", reference: ":8b-q4" },
        ],
      },
    };
    const path = file("large.yaml", large);
    const { out } = plan(["-f", path, ...given]);
    expect(out).toMatch(/^VARIANT +NEAREST NODE +LACKS$/m);
    expect(out).toMatch(/^70b +l4-gfd +\d+\.\d GiB of GPU memory short$/m);
    const { out: json } = plan(["-f", path, ...given, "--output", "json"]);
    const [planned] = JSON.parse(json) as [{ variants: { footprint: { perDeviceBytes: number } }[] }];
    const perDeviceBytes = planned.variants[0]?.footprint.perDeviceBytes ?? 0;
    expect(planned.variants).toMatchObject([
      {
        name: "70b",
        verdict: "TooLarge",
        nearMisses: [{ node: "l4-gfd", missingBytes: Math.ceil(perDeviceBytes - 23_034 * 2 ** 20) }],
      },
      { name: "q4", nearMisses: [] },
    ]);
  });

  test("counts pods and DRA devices where the file has them, as kubectl prints them together", () => {
    const pod = (name: string, labels: object = {}): object => ({
      apiVersion: "v1",
      kind: "Pod",
      metadata: { name, namespace: "ai", labels },
      spec: {
        nodeName: "l4-gfd",
        containers: [{ name: "c", resources: { requests: { "nvidia.com/gpu": "1" } } }],
      },
      status: { phase: "Running" },
    });
    const claimable = nodesOf({ nodes: [{ is: "cpu-256", name: "dra" }] });
    const slice = {
      apiVersion: "resource.k8s.io/v1",
      kind: "ResourceSlice",
      metadata: { name: "dra-gpu" },
      spec: {
        driver: "gpu.nvidia.com",
        nodeName: "dra",
        pool: { name: "dra", generation: 1, resourceSliceCount: 1 },
        devices: [
          {
            name: "gpu-0",
            attributes: { type: { string: "gpu" }, productName: { string: "NVIDIA L4" } },
            capacity: { memory: { value: "23034Mi" } },
          },
        ],
      },
    };
    const within = (items: readonly unknown[]): string => {
      const namespaced = { ...model, metadata: { name: "qwen3", namespace: "ai" } };
      const path = file("cluster.yaml", { apiVersion: "v1", kind: "List", items });
      return plan(["-f", file("namespaced.yaml", namespaced), "--nodes", path, ...given.slice(2)]).out;
    };
    const taken = within([...nodes, pod("other")]);
    expect(taken).toMatch(/^f16 +NoFreeCapacity .*none has room now: 1 whose GPUs are taken$/m);
    expect(taken).toMatch(/^f16 +l4-gfd +1 of its 1 GPUs are taken$/m);
    // A Model's own pods are not in its way.
    expect(within([...nodes, pod("own", { "ocimodel.dev/model": "qwen3" })])).toMatch(/^f16 +Selected /m);
    expect(within([...nodes, ...claimable, slice, pod("other")])).toMatch(/^f16 +nvidia +1 +8192 +dra$/m);
  });

  test("with --require-capacity ends with 1 where no node has room now, and refuses what it cannot tell", () => {
    const pod = (devices: string): object => ({
      apiVersion: "v1",
      kind: "Pod",
      metadata: { name: "other", namespace: "ai" },
      spec: {
        nodeName: "l4-gfd",
        containers: [{ name: "c", resources: { requests: { "nvidia.com/gpu": devices } } }],
      },
    });
    const gpuOnly = { ...model, spec: { ...model.spec, variants: [model.spec.variants[0]] } };
    const path = file("gpu.yaml", gpuOnly);
    const run = (devices: string, ...more: readonly string[]) => {
      const cluster = file("full.yaml", { kind: "List", items: [...nodes, pod(devices)] });
      return plan(["-f", path, "--nodes", cluster, ...given.slice(2), ...more]);
    };
    expect(run("1").code).toBe(0);
    const full = run("1", "--require-capacity");
    expect(full.code).toBe(1);
    expect(full.err).toBe('ocimodel: no node that fits Model "qwen3" has room now\n');
    expect(run("0", "--require-capacity").code).toBe(0);
    const untold = plan(["-f", path, ...given, "--require-capacity"]);
    expect(untold.code).toBe(64);
    expect(untold.err).toContain("since no pods are told");
  });

  test("takes -n for the namespace of Models that state none, and no other one beside it", () => {
    const own = {
      kind: "Pod",
      metadata: { name: "own", namespace: "ai", labels: { "ocimodel.dev/model": "qwen3" } },
      spec: {
        nodeName: "l4-gfd",
        containers: [{ name: "c", resources: { requests: { "nvidia.com/gpu": "1" } } }],
      },
    };
    const cluster = file("own.yaml", { kind: "List", items: [...nodes, own] });
    const args = ["-f", file("model.yaml", model), "--nodes", cluster, ...given.slice(2)];
    expect(plan(args).out).toMatch(/^f16 +NoFreeCapacity /m);
    expect(plan([...args, "-n", "ai"]).out).toMatch(/^f16 +Selected /m);
    const stated = { ...model, metadata: { name: "qwen3", namespace: "other" } };
    const { code, err } = plan(["-f", file("stated.yaml", stated), ...given, "-n", "ai"]);
    expect(code).toBe(64);
    expect(err).toContain('Model "qwen3" is of namespace other, and --namespace says ai');
  });

  test("ties a Model to the nodes where its volume can be mounted, where the file tells claims and volumes", () => {
    const zoned = nodesOf({
      nodes: ["a", "b"].map((zone) => ({
        is: "cpu-32",
        name: zone,
        labels: { "topology.kubernetes.io/zone": zone },
      })),
    });
    const topology = (zone: string): object => ({
      allowedTopologies: [
        { matchLabelExpressions: [{ key: "topology.kubernetes.io/zone", values: [zone] }] },
      ],
    });
    const storageClass = {
      kind: "StorageClass",
      metadata: { name: "zonal", annotations: { "storageclass.kubernetes.io/is-default-class": "true" } },
      ...topology("a"),
    };
    const claim = {
      kind: "PersistentVolumeClaim",
      metadata: { name: "disk", namespace: "default" },
      spec: { volumeName: "v", accessModes: ["ReadWriteOnce"] },
      status: { phase: "Bound", capacity: { storage: "10Gi" } },
    };
    const volume = {
      kind: "PersistentVolume",
      metadata: { name: "v", labels: { "topology.kubernetes.io/zone": "b" } },
    };
    const placed = (storage: object, ...more: readonly object[]): string => {
      const spec = { ...model.spec, variants: [model.spec.variants[1]], storage };
      const cluster = file("zoned.yaml", { kind: "List", items: [...zoned, ...more] });
      return plan(["-f", file("kept.yaml", { ...model, spec }), "--nodes", cluster, ...given.slice(2)]).out;
    };
    const type = "PersistentVolumeClaim";
    expect(placed({ type })).toMatch(/^q4 .* fits 2 of 2 nodes$/m);
    expect(placed({ type })).toContain("no storage classes are told");
    expect(placed({ type }, storageClass)).toMatch(/^q4 +CPUs +1 +8192 +a-0$/m);
    expect(placed({ type, claimName: "disk" }, storageClass, claim, volume)).toMatch(
      /^q4 +CPUs +1 +8192 +b-0$/m,
    );
    expect(placed({ type, claimName: "disk" }, storageClass, claim, volume)).toContain(
      'Storage: PersistentVolumeClaim (claim "disk", 10Gi, for pods on one node)',
    );
  });

  test("names the item of a file that is not as expected", () => {
    const broken = [...facts.values()].map((each, index) =>
      index === 2 ? { ...each, sizeBytes: "x" } : each,
    );
    const path = file("model.yaml", model);
    const wrong = plan(["-f", path, ...given.slice(0, 2), "--facts", file("broken.json", broken, true)]);
    expect(wrong.code).toBe(64);
    expect(wrong.err).toMatch(/broken[.]json: sizeBytes of item 3 [(]registry[.]example[/]llm:\S+[)] is not/);
    const cluster = file("odd.yaml", {
      kind: "List",
      items: [...nodes, { kind: "Pod", metadata: { name: "p" }, spec: {} }],
    });
    const odd = plan(["-f", path, "--nodes", cluster, ...given.slice(2)]);
    expect(odd.err).toMatch(/odd[.]yaml: spec[.]containers of item 3 [(]Pod p[)] is not as expected/);
  });

  test("a failure of its own names the Model and the file, and is none of the cluster", () => {
    const failing = (): never => {
      throw new TypeError("x is not iterable");
    };
    const models = [
      {
        model: { ...model, metadata: { name: "qwen3", namespace: "ai" } } as unknown as Model,
        file: "a.yaml",
      },
    ];
    const common = { nodes: [], facts: new Map(), runtimes: defaultRuntimes };
    expect(() => planAll(models, common, failing)).toThrow(
      expect.objectContaining({
        name: "PlanDefect",
        message: expect.stringMatching(
          /^Model "qwen3" of a[.]yaml cannot be planned.*x is not iterable/,
        ) as string,
      }),
    );
  });

  test("has a version, as the operator and the puller have", () => {
    const { version } = JSON.parse(readFileSync(join(root, "operator/package.json"), "utf8")) as {
      version: string;
    };
    for (const [program, name] of [
      ["operator/ocimodel.ts", "ocimodel"],
      ["operator/main.ts", "operator"],
      ["puller/main.ts", "puller"],
    ] as const) {
      const { status, stdout } = spawnSync(nodeBinary, [join(root, program), "--version"], {
        encoding: "utf8",
      });
      expect({ status, stdout }).toEqual({ status: 0, stdout: `${name} ${version}\n` });
    }
  });

  test("takes a failure that inspect told for what it is", () => {
    const failure = {
      reference: "registry.example/llm:8b-f16",
      code: "ManifestNotFound",
      message: "no such tag",
    };
    const { out, code } = plan([
      "-f",
      file("model.yaml", model),
      ...given,
      "--facts",
      file("failure.json", [failure], true),
    ]);
    expect(code).toBe(0);
    expect(out).toMatch(/^f16 +Unresolvable .*ManifestNotFound: no such tag/m);
    expect(out).toContain("q4 on CPUs");
  });

  test("takes facts from the status of a Model that runs", () => {
    const [artifact] = [...facts.values()].filter(({ reference }) => reference.endsWith(":8b-q4"));
    const running = {
      ...model,
      status: { variants: [{ ...artifact, name: "q4", verdict: "Selected", message: "" }] },
    };
    const { out, code } = plan(["-f", file("running.yaml", running), ...given.slice(0, 2)]);
    // Of f16 the operator has read nothing yet.
    expect(code).toBe(2);
    expect(out).toMatch(/^q4 +Selected/m);
  });

  test("reads YAML as kubectl does", () => {
    const text = stringify(model).replace("source:", "source:\n    tls: { plainHTTP: yes }");
    expect(plan(["-f", "-", ...given], text)).toMatchObject({ code: 0, err: "" });
  });

  test("takes Models as kubectl get prints them, in a List too", () => {
    const stored = {
      ...model,
      metadata: {
        ...model.metadata,
        namespace: "ai",
        uid: "1",
        resourceVersion: "2",
        generation: 1,
        creationTimestamp: "2026-01-01T00:00:00Z",
        managedFields: [{ manager: "kubectl" }],
      },
      status: { phase: "Ready", ofAnotherVersion: true },
    };
    const list = stringify({
      apiVersion: "v1",
      kind: "List",
      metadata: { resourceVersion: "" },
      items: [stored],
    });
    expect(plan(["-f", "-", ...given], list)).toMatchObject({ code: 0, err: "" });
  });

  test("not compiled, as a checkout runs it, it judges and chooses the same", () => {
    const fromSource = (text: string): { status: number | null; stdout: string; stderr: string } =>
      spawnSync(nodeBinary, [join(root, "operator/ocimodel.ts"), "plan", "-f", "-", ...given], {
        input: text,
        encoding: "utf8",
      });
    expect(fromSource(stringify(model))).toMatchObject({ status: 0, stderr: "" });
    expect(fromSource(stringify(model)).stdout).toBe(plan(["-f", "-", ...given], stringify(model)).out);
    const refused = fromSource(stringify({ ...model, spec: { ...model.spec, replicas: -1 } }));
    expect(refused.stderr).toContain("spec.replicas: -1 is less than 0");
    expect(refused.status).toBe(64);
  });

  test("the runtimes it takes without a configuration are the chart's, as far as a choice goes", () => {
    const values = parse(readFileSync(join(root, "charts/ocimodel/values.yaml"), "utf8")) as {
      runtimes: Record<string, { formats: string[]; cpu: boolean; memory?: unknown }>;
    };
    const essence = (
      runtimes: Readonly<Record<string, { formats: string[]; cpu: boolean; memory?: unknown }>>,
    ) => Object.entries(runtimes).map(([name, { formats, cpu, memory }]) => ({ name, formats, cpu, memory }));
    expect(essence(defaultRuntimes as never)).toEqual(essence(values.runtimes));
  });
});
