// Variants that nobody typed, through the pure loop: decisions on simulated inspect pods, statuses fed back.

import { describe, expect, test } from "vitest";

import type { Discovery, InspectFacts, InspectResult, TerminationMessage } from "../../../puller/contract.ts";
import type { Model, ModelSpec, ModelStatus } from "../../../operator/api/model.ts";
import { configurationSchema } from "../../../operator/configuration.ts";
import { nodeHardware, type Node } from "../../../operator/hardware/node-hardware.ts";
import { decide, type Decision } from "../../../operator/reconcile/decide.ts";
import type { Observed } from "../../../operator/reconcile/observed.ts";
import { modelStatus } from "../../../operator/reconcile/status.ts";
import type { Pod } from "../../../operator/reconcile/workload-types.ts";

const reference = "r.example.com/ai/qwen:all";
const indexDigest = `sha256:${"1".repeat(64)}`;
const movedDigest = `sha256:${"2".repeat(64)}`;
const digest = (number: number): string => `sha256:${number.toString(16).padStart(64, "a")}`;

const configuration = configurationSchema.parse({
  pullerImage: "puller:1",
  runtimes: { "llama.cpp": { image: "llama:1", formats: ["gguf"], cpu: true, port: 8080 } },
});
const node: Node = {
  apiVersion: "v1",
  kind: "Node",
  metadata: { name: "a" },
  status: { allocatable: { memory: "64Gi", cpu: "8", pods: "110", "ephemeral-storage": "100Gi" } },
};

const facts = (number: number, more: Partial<InspectFacts> = {}): InspectFacts => ({
  reference: `r.example.com/ai/qwen@${digest(number)}`,
  digest: digest(number),
  packaging: "modelpack",
  format: "gguf",
  quantization: `Q${number}`,
  sizeBytes: 2 ** 30,
  weightBytes: 2 ** 30,
  entry: "model.gguf",
  ...more,
});
const listed = (...numbers: readonly number[]): Discovery["variants"] =>
  numbers.map((number) => ({ name: `q${number}`, reference: `@${digest(number)}` }));

/** One Model with its pods, over which time goes by. */
class World {
  model: Model;
  pods: Pod[] = [];
  nowMs = Date.parse("2026-01-01T00:00:00Z");
  decision: Decision | undefined;

  constructor(spec: Partial<ModelSpec>) {
    this.model = {
      apiVersion: "ocimodel.dev/v1alpha1",
      kind: "Model",
      metadata: { name: "qwen", namespace: "ai", uid: "u", generation: 1 },
      spec: { source: { reference }, ...spec },
    };
  }

  /** One reconcile; gives the arguments of the pods that were created, without what all of them have. */
  step(): readonly (readonly string[])[] {
    this.nowMs += 1000;
    const observed: Observed = {
      model: this.model,
      configuration,
      nodes: [nodeHardware(node)],
      deployments: [],
      service: undefined,
      claim: undefined,
      ownedClaims: [],
      workloadPods: [],
      claimPods: [],
      claimModels: [],
      collectPods: [],
      prefetchPods: [],
      inspectPods: this.pods,
      progress: new Map(),
      nowMs: this.nowMs,
    };
    const decision = decide(observed);
    this.decision = decision;
    this.model = { ...this.model, status: modelStatus(observed, decision, undefined) };
    const removed = new Set(decision.remove.map(({ metadata }) => metadata.name));
    this.pods = this.pods.filter(({ metadata }) => !removed.has(metadata.name));
    const created = decision.create.filter(({ kind }) => kind === "Pod") as readonly Pod[];
    this.pods.push(...created);
    return created.map((pod) =>
      argumentsOf(pod).filter((each) => !/^(?:inspect$|--output|--termination-log)/.test(each)),
    );
  }

  /** Ends the pods that still run, each as `answer` says. */
  end(answer: (args: readonly string[]) => Partial<TerminationMessage>): void {
    this.pods = this.pods.map((pod): Pod => {
      if (pod.status !== undefined) return pod;
      const report = {
        v: 1,
        command: "inspect",
        code: "Ready",
        retryable: false,
        message: "",
        ...answer(argumentsOf(pod)),
      };
      const isGood = report.code === "Ready";
      const state = {
        terminated: {
          exitCode: isGood ? 0 : 69,
          message: JSON.stringify(report),
          finishedAt: new Date(this.nowMs).toISOString(),
        },
      };
      return {
        ...pod,
        status: { phase: isGood ? "Succeeded" : "Failed", containerStatuses: [{ name: "inspect", state }] },
      };
    });
  }

  /** As the API server gives it back. */
  get status(): ModelStatus {
    return this.model.status ?? {};
  }

  condition(type: string): string {
    const found = this.status.conditions?.find((each) => each.type === type);
    return `${found?.status ?? "absent"} ${found?.reason ?? ""}: ${found?.message ?? ""}`;
  }
}

function argumentsOf(pod: object): readonly string[] {
  const { spec } = pod as { spec: { containers: readonly { args: readonly string[] }[] } };
  return spec.containers[0]?.args ?? [];
}

/** Answers for the references that a pod was asked for. */
function inspected(args: readonly string[], more: Partial<InspectFacts> = {}): readonly InspectResult[] {
  return args.flatMap((each) => {
    const match = /^--reference=.*@(sha256:\w+)$/.exec(each);
    return match === null
      ? []
      : [facts(Number.parseInt((match[1] ?? "").slice(-2).replace(/^a/, ""), 16), more)];
  });
}

describe("variants from an index", () => {
  const found = (answer: Partial<TerminationMessage> = {}): Partial<TerminationMessage> => ({
    digest: indexDigest,
    discovered: { variants: listed(8, 6, 5, 4, 3), leftOut: "left out: sha256:c: it is no model" },
    inspected: [facts(8), facts(6)],
    ...answer,
  });

  test("are found by one pod, the rest of the facts by further ones, and in the end nothing is left of them", () => {
    const world = new World({ variantsFrom: { index: true } });
    expect(world.step()).toEqual([[`--index=${reference}`]]);
    expect(world.condition("SourceResolved")).toBe(
      `Unknown Resolving: looking for variants: index ${reference}`,
    );
    expect(world.step()).toEqual([]);
    world.end(() => found());
    const index = `--index=r.example.com/ai/qwen@${indexDigest}`;
    expect(world.step()).toEqual([
      [...[5, 4, 3].map((number) => `--reference=r.example.com/ai/qwen@${digest(number)}`), index],
    ]);
    expect(world.status.discovery).toMatchObject({
      question: `index ${reference}`,
      digest: indexDigest,
      variants: listed(8, 6, 5, 4, 3),
    });
    expect(world.pods).toHaveLength(2);
    expect(world.decision?.choice).toBeUndefined();
    expect(world.step()).toEqual([]);
    expect(world.pods).toHaveLength(1);
    world.end((args) => ({ digest: indexDigest, inspected: inspected(args) }));
    expect(world.step()).toEqual([]);
    expect(world.status.variants?.map(({ name, verdict }) => `${name} ${verdict}`)).toEqual([
      "q8 Selected",
      "q6 Fits",
      "q5 Fits",
      "q4 Fits",
      "q3 Fits",
    ]);
    expect(world.status.selected).toMatchObject({ variant: "q8", digest: digest(8) });
    expect(world.condition("SourceResolved")).toBe(
      "True Resolved: all 5 references were read; left out: sha256:c: it is no model",
    );
    world.step();
    expect(world.pods).toEqual([]);
    const before = world.status;
    expect(world.step()).toEqual([]);
    expect(world.status).toEqual(before);
  });

  test("an operator that dies after any step goes on where the cluster is", () => {
    for (const lost of [1, 2, 3, 4, 5]) {
      const world = new World({ variantsFrom: { index: true } });
      for (let step = 1; step < 12; step += 1) {
        const { model } = world;
        world.step();
        // The pods were made, the status was not written.
        if (step === lost) world.model = model;
        world.end((args) =>
          args.includes(`--index=${reference}`)
            ? found()
            : { digest: indexDigest, inspected: inspected(args) },
        );
      }
      expect(world.status.selected?.variant, `lost at ${lost}`).toBe("q8");
      expect(world.pods).toEqual([]);
    }
  });

  test("listed ones go first, complete found ones of their name, and add others", () => {
    const world = new World({
      variantsFrom: { index: true, requirements: { memory: "1Gi", architectures: ["amd64"] } },
      variants: [
        { name: "q4", requirements: { cpuFeatures: ["AVX2"] }, runtime: { port: 9000 } },
        { name: "own", reference: ":other" },
        { name: "q9" },
      ],
    });
    expect(world.step()).toEqual([[`--index=${reference}`], ["--reference=r.example.com/ai/qwen:other"]]);
    world.end((args) =>
      args.includes(`--index=${reference}`)
        ? found({
            inspected: [8, 6, 5, 4, 3].map((number) => facts(number, { requirements: { memory: "2Gi" } })),
          })
        : { inspected: [facts(7, { reference: "r.example.com/ai/qwen:other" })] },
    );
    expect(world.step()).toEqual([]);
    expect(world.decision?.variants.map(({ variant }) => variant)).toEqual([
      {
        name: "q4",
        requirements: { memory: "2Gi", architectures: ["amd64"], cpuFeatures: ["AVX2"] },
        runtime: { port: 9000 },
      },
      { name: "own", reference: ":other" },
      { name: "q9" },
      ...[8, 6, 5, 3].map((number) => ({
        name: `q${number}`,
        requirements: { memory: "2Gi", architectures: ["amd64"] },
      })),
    ]);
    expect(world.status.variants?.[2]).toMatchObject({
      name: "q9",
      verdict: "Unresolvable",
      message:
        "no variant q9 was found there; give it a reference, or the name of one that was: q8, q6, q5, q4, q3",
      failure: { code: "ManifestNotFound" },
    });
    // Needs are in the status: they outlive the pods.
    world.step();
    world.step();
    expect(world.pods).toEqual([]);
    expect(world.decision?.variants[0]?.variant.requirements).toMatchObject({ memory: "2Gi" });
  });

  test("more than 16 with the listed ones: the last of the found ones give way", () => {
    const numbers = Array.from({ length: 16 }, (_, index) => 32 - index);
    const world = new World({
      variantsFrom: { index: true },
      variants: [
        { name: "own-1", reference: ":a" },
        { name: "own-2", reference: ":b" },
      ],
    });
    world.step();
    world.end(() => found({ discovered: { variants: listed(...numbers) } }));
    world.step();
    expect(world.decision?.variants.map(({ variant }) => variant.name)).toEqual([
      "own-1",
      "own-2",
      ...numbers.slice(0, 14).map((number) => `q${number}`),
    ]);
  });

  test("an index that moves is read anew, while what runs is left alone", () => {
    const world = new World({
      source: { reference, refresh: { policy: "OnChange", interval: "1h" } },
      variantsFrom: { index: true },
    });
    world.step();
    world.end(() => found({ discovered: { variants: listed(6, 5) }, inspected: [facts(6), facts(5)] }));
    world.step();
    world.step();
    world.step();
    expect(world.status.selected?.variant).toBe("q6");
    expect(world.decision?.inspection.recheckAfterMs).toBeGreaterThan(3_500_000);
    world.nowMs += 3_600_000;
    expect(world.step()).toEqual([[`--index=${reference}`]]);
    expect(world.status.selected?.variant).toBe("q6");
    // The same child is described anew: its entry may say other needs now.
    world.end(() =>
      found({ digest: movedDigest, discovered: { variants: listed(8, 6) }, inspected: [facts(8)] }),
    );
    expect(world.step()).toEqual([
      [`--reference=r.example.com/ai/qwen@${digest(6)}`, `--index=r.example.com/ai/qwen@${movedDigest}`],
    ]);
    expect(world.decision?.apply).toEqual([]);
    expect(world.condition("VariantSelected")).toMatch(/^True Selected: /);
    world.end((args) => ({
      digest: movedDigest,
      inspected: inspected(args, { requirements: { cpuFeatures: ["AMXTILE"] } }),
    }));
    world.step();
    expect(world.status.variants?.map(({ name, verdict }) => `${name} ${verdict}`)).toEqual([
      "q8 Selected",
      "q6 NoMatchingNode",
    ]);
    expect(world.status.variants?.[1]?.requirements).toEqual({ cpuFeatures: ["AMXTILE"] });
  });

  test("a refresh that finds the same writes the time alone, and one that fails keeps what is known", () => {
    const world = new World({
      source: { reference, refresh: { policy: "OnChange", interval: "1h" } },
      variantsFrom: { index: true },
    });
    world.step();
    const same = found({ discovered: { variants: listed(6) }, inspected: [facts(6)] });
    world.end(() => same);
    for (let step = 0; step < 3; step += 1) world.step();
    const before = world.status;
    world.nowMs += 3_600_000;
    world.step();
    world.end(() => ({ code: "RegistryUnreachable", retryable: true, message: "r.example.com is away" }));
    expect(world.step()).toEqual([]);
    expect(world.status).toEqual(before);
    world.nowMs += 10_000;
    expect(world.step()).toEqual([[`--index=${reference}`]]);
    world.end(() => same);
    world.step();
    const { discovery, source, ...rest } = world.status;
    const { discovery: discoveryBefore, source: sourceBefore, ...restBefore } = before;
    expect(rest).toEqual(restBefore);
    expect(discovery).toEqual({ ...discoveryBefore, resolvedAt: discovery?.resolvedAt });
    expect(Date.parse(source?.resolvedAt ?? "")).toBeGreaterThan(Date.parse(sourceBefore?.resolvedAt ?? ""));
    world.step();
    expect(world.pods).toEqual([]);
  });

  test("that cannot be read is told with its reason, and listed variants serve meanwhile", () => {
    const failed: Partial<TerminationMessage> = {
      code: "UnsupportedArtifact",
      message: `${reference} is one manifest, not an image index, so there are no variants in it`,
    };
    const alone = new World({ variantsFrom: { index: true } });
    alone.step();
    alone.end(() => failed);
    alone.step();
    expect(alone.condition("SourceResolved")).toBe(
      `False UnsupportedArtifact: index ${reference}: ${failed.message ?? ""}`,
    );
    expect(alone.condition("Stalled")).toMatch(/^True UnsupportedArtifact/);
    // The failure stands while it is tried again.
    alone.nowMs += 31_000;
    expect(alone.step()).toEqual([[`--index=${reference}`]]);
    expect(alone.condition("Stalled")).toMatch(/^True UnsupportedArtifact/);

    const both = new World({
      variantsFrom: { index: true },
      variants: [{ name: "own", reference: ":own" }, { name: "q4" }],
    });
    both.step();
    both.end((args) =>
      args.includes(`--index=${reference}`)
        ? failed
        : { inspected: [facts(7, { reference: "r.example.com/ai/qwen:own" })] },
    );
    both.step();
    expect(both.status.selected?.variant).toBe("own");
    expect(both.condition("SourceResolved")).toContain(
      "True PartlyResolved: 1 of 2 variants were read; index",
    );
    expect(both.status.variants?.[1]).toMatchObject({ name: "q4", verdict: "Unresolvable" });
  });
});

describe("variants from tags", () => {
  test("are found by the pattern and read with the needs that the registry states", () => {
    const world = new World({
      source: { reference: "r.example.com/ai/qwen", refresh: { policy: "OnChange", interval: "1h" } },
      variantsFrom: { tags: { pattern: "8B-*" } },
    });
    expect(world.step()).toEqual([["--reference=r.example.com/ai/qwen", "--tags=8B-*"]]);
    world.end(() => ({ discovered: { variants: listed(6, 5) }, inspected: [facts(6)] }));
    expect(world.step()).toEqual([[`--reference=r.example.com/ai/qwen@${digest(5)}`, "--requirements"]]);
    world.end((args) => ({ inspected: inspected(args) }));
    world.step();
    world.step();
    expect(world.pods).toEqual([]);
    expect(world.status.variants?.map(({ name, describedBy }) => `${name} ${describedBy}`)).toEqual([
      "q6 tags",
      "q5 tags",
    ]);
    // A tag that was added.
    world.nowMs += 3_600_000;
    expect(world.step()).toEqual([["--reference=r.example.com/ai/qwen", "--tags=8B-*"]]);
    world.end(() => ({ discovered: { variants: listed(8, 6, 5) }, inspected: [facts(8)] }));
    expect(world.step()).toEqual([]);
    expect(world.status.selected?.variant).toBe("q6");
    expect(world.status.variants?.map(({ name, verdict }) => `${name} ${verdict}`)).toEqual([
      "q8 Fits",
      "q6 Selected",
      "q5 Fits",
    ]);
    // Another pattern is another question.
    world.model = {
      ...world.model,
      metadata: { ...world.model.metadata, generation: 2 },
      spec: { ...world.model.spec, variantsFrom: { tags: { pattern: "*" } } },
    };
    expect(world.step()).toEqual([["--reference=r.example.com/ai/qwen", "--tags=*"]]);
    expect(world.condition("SourceResolved")).toMatch(/^Unknown Resolving: looking for variants: tags \* of/);
  });
});
