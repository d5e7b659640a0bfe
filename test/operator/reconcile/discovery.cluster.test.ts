// A Model whose variants nobody typed, on a real control plane with the real operator, puller and registry. Only the kubelet is
// played: inspect pods are run as processes, with their own arguments, and their ends are written into the pods.

import { spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";

import { afterAll, beforeAll, expect, test } from "vitest";

import type { ModelStatus } from "../../../operator/api/model.ts";
import type { Plan } from "../../../operator/plan/plan.ts";
import type { Pod } from "../../../operator/reconcile/workload-types.ts";
import { freePort, startControlPlane, type ControlPlane } from "../../cluster/control-plane.ts";
import { startServer, waitFor, type Server } from "../../cluster/run-command.ts";
import { describeCluster } from "../../cluster/suites.ts";
import { apiRequests } from "../../crds/api-request.ts";
import { crdFile, root } from "../../crds/schema.ts";
import { ggufBytes } from "../../models/gguf-writer.ts";
import { tinyModel } from "../../models/tiny-model.ts";
import { runPuller } from "../../puller/run-puller.ts";
import { publishModelPack, publishRaw, type Published } from "../../registry/publish.ts";
import { registryUnavailable, startRegistry, type TestRegistry } from "../../registry/registry.ts";

const indexType = "application/vnd.oci.image.index.v1+json";
const repository = "ai/found";
const content = ggufBytes(tinyModel());

describeCluster("variants that are found, from the registry to the Deployment", () => {
  if (registryUnavailable() !== undefined) {
    test.skip(`needs a registry: ${registryUnavailable() ?? ""}`, () => undefined);
    return;
  }
  let plane: ControlPlane;
  let registry: TestRegistry;
  let operator: Server | undefined;
  let ask: ReturnType<typeof apiRequests>["ask"];
  let close: () => Promise<void>;
  const ran: (readonly string[])[] = [];

  beforeAll(async () => {
    [plane, registry] = await Promise.all([
      startControlPlane({ controllers: false, scheduler: false }),
      startRegistry(),
    ]);
    ({ ask, close } = apiRequests(plane));
    await plane.kubectl(["create", "namespace", "default"], { allowFailure: true });
    await plane.kubectl(["create", "serviceaccount", "default"], { allowFailure: true });
    await plane.kubectl(["apply", "-f", crdFile]);
    await plane.kubectl(["wait", "--for=condition=Established", "crd/models.ocimodel.dev"]);
    const node = { apiVersion: "v1", kind: "Node", metadata: { name: "a" } };
    await ask("POST", "/api/v1/nodes", node);
    const status = {
      allocatable: { cpu: "8", memory: "64Gi", pods: "110", "ephemeral-storage": "100Gi" },
      conditions: [{ type: "Ready", status: "True" }],
    };
    await ask("PATCH", "/api/v1/nodes/a/status", { status }, "application/merge-patch+json");
    await plane.kubectl(["taint", "nodes", "--all", "node.kubernetes.io/not-ready-"], { allowFailure: true });
    const config = join(plane.directory, "operator.yaml");
    const runtimes = { "llama.cpp": { image: "llama:1", formats: ["gguf"], cpu: true, port: 8080 } };
    writeFileSync(config, JSON.stringify({ pullerImage: "puller:1", runtimes }));
    const addresses = [
      `--health-address=127.0.0.1:${await freePort()}`,
      `--metrics-address=127.0.0.1:${await freePort()}`,
    ];
    operator = startServer(
      process.execPath,
      [join(root, "operator/main.ts"), `--config=${config}`, ...addresses],
      {
        logFile: join(plane.directory, "operator.log"),
        env: { KUBECONFIG: plane.kubeconfig },
      },
    );
  });
  afterAll(async () => {
    await operator?.stop();
    await close?.();
    await plane?.stop();
    await registry?.stop();
  });

  /** Runs the inspect pods that wait, as the kubelet would. */
  const playKubelet = async (): Promise<void> => {
    const { body } = await ask("GET", "/api/v1/namespaces/default/pods");
    const pods = (body["items"] as readonly Pod[]).filter(({ status }) => status?.phase === "Pending");
    for (const pod of pods) {
      const { spec } = pod as unknown as { spec: { containers: { args: string[] }[] } };
      const args = (spec.containers[0]?.args ?? []).filter((each) => !each.startsWith("--termination-log"));
      const { exitCode, termination } = await runPuller(args);
      ran.push(args);
      const terminated = {
        exitCode,
        message: JSON.stringify(termination),
        finishedAt: `${new Date().toISOString().slice(0, 19)}Z`,
      };
      const state = {
        name: "inspect",
        image: "p",
        imageID: "p",
        ready: false,
        restartCount: 0,
        state: { terminated },
      };
      const phase = exitCode === 0 ? "Succeeded" : "Failed";
      await ask(
        "PATCH",
        `/api/v1/namespaces/default/pods/${pod.metadata.name}/status`,
        { status: { phase, containerStatuses: [state] } },
        "application/merge-patch+json",
      );
    }
  };
  const until = async (name: string, isTrue: (status: ModelStatus) => boolean): Promise<ModelStatus> => {
    let last: ModelStatus = {};
    return waitFor(
      `Model ${name}`,
      async () => {
        await playKubelet();
        const { body } = await ask("GET", `/apis/ocimodel.dev/v1alpha1/namespaces/default/models/${name}`);
        last = (body["status"] ?? {}) as ModelStatus;
        return isTrue(last) && last;
      },
      {
        timeoutMs: 60_000,
        intervalMs: 100,
        describe: () => `${JSON.stringify(last, undefined, 1)}\n${operator?.log() ?? ""}`,
      },
    );
  };
  const create = async (name: string, spec: object): Promise<void> => {
    const { status, body } = await ask("POST", "/apis/ocimodel.dev/v1alpha1/namespaces/default/models", {
      apiVersion: "ocimodel.dev/v1alpha1",
      kind: "Model",
      metadata: { name },
      spec,
    });
    expect({ status, message: body.message }).toEqual({ status: 201, message: undefined });
  };
  const model = async (quantization: string): Promise<Published> =>
    publishModelPack(registry, {
      repository,
      tag: `8B-${quantization}`,
      quantization,
      paramSize: "8B",
      files: [{ name: "model.gguf", content }],
    });
  const publishIndex = async (
    entries: readonly (readonly [Published, Record<string, string>])[],
  ): Promise<string> => {
    const manifests = entries.map(([{ digest, manifest }, annotations]) => ({
      mediaType: "application/vnd.oci.image.manifest.v1+json",
      digest,
      size: manifest.length,
      annotations,
    }));
    const bytes = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: indexType, manifests }));
    return publishRaw(registry, repository, "all", indexType, bytes);
  };
  const named = (name: string, more: Record<string, string> = {}): Record<string, string> => ({
    "dev.ocimodel.variant.name": name,
    ...more,
  });

  test("an index: needs are honoured, the best that fits is served by its digest, and a moved index is followed", async () => {
    const big = await model("F16");
    const q8 = await model("Q8_0");
    const q4 = await model("Q4_K_M");
    const digest = await publishIndex([
      [q4, named("q4")],
      [q8, named("q8")],
      [big, named("f16-huge", { "dev.ocimodel.memory": "512Gi" })],
    ]);
    await create("found", {
      source: {
        reference: `${registry.host}/${repository}:all`,
        tls: { plainHTTP: true },
        refresh: { policy: "OnChange", interval: "10s" },
      },
      variantsFrom: { index: true },
    });
    const first = await until("found", ({ selected }) => selected !== undefined);
    expect(first.discovery).toMatchObject({ digest });
    expect(first.variants?.map(({ name, digest: of, verdict }) => [name, of, verdict])).toEqual([
      ["f16-huge", big.digest, "TooLarge"],
      ["q8", q8.digest, "Selected"],
      ["q4", q4.digest, "Fits"],
    ]);
    const { body } = await ask("GET", "/apis/apps/v1/namespaces/default/deployments/found");
    expect(JSON.stringify(body["spec"])).toContain(`${registry.host}/${repository}@${q8.digest}`);

    const q6 = await model("Q6_K");
    const moved = await publishIndex([
      [q6, named("q6")],
      [q4, named("q4", { "dev.ocimodel.cpu.features": "AMXTILE" })],
    ]);
    const second = await until("found", ({ selected }) => selected?.variant === "q6");
    expect(second.discovery?.digest).toBe(moved);
    expect(second.variants?.map(({ name, verdict }) => `${name} ${verdict}`)).toEqual([
      "q6 Selected",
      "q4 NoMatchingNode",
    ]);
  });

  test("tags: more than one answer holds come back by several pods, aliases once", async () => {
    const all = ["F32", "BF16", "Q8_0", "Q6_K", "Q5_K_M", "Q5_K_S", "Q4_K_M", "Q4_K_S", "Q3_K_M", "Q2_K"];
    const published = await Promise.all(all.map(model));
    const [{ manifest } = { manifest: new Uint8Array() }] = published;
    await publishRaw(
      registry,
      repository,
      "8B-alias",
      "application/vnd.oci.image.manifest.v1+json",
      manifest,
    );
    await create("tagged", {
      source: { reference: `${registry.host}/${repository}`, tls: { plainHTTP: true } },
      variantsFrom: { tags: { pattern: "8B-{F32,BF16,Q*,alias}" } },
      variants: [{ name: "8b-q2-k" }],
    });
    const before = ran.length;
    const status = await until("tagged", ({ selected }) => selected !== undefined);
    expect(status.variants?.map(({ name }) => name)).toEqual([
      "8b-q2-k",
      ...all.slice(0, -1).map((each) => `8b-${each.toLowerCase().replaceAll("_", "-")}`),
    ]);
    expect(status.variants?.every(({ digest }) => digest?.startsWith("sha256:"))).toBe(true);
    expect(status.selected).toMatchObject({ variant: "8b-q2-k" });
    expect(ran.length - before).toBeGreaterThan(1);
  });

  test("`ocimodel plan` says the same before anything is applied, from what `puller inspect` tells and the nodes of the cluster", async () => {
    const found = async (name: string): Promise<ModelStatus> => {
      const { body } = await ask("GET", `/apis/ocimodel.dev/v1alpha1/namespaces/default/models/${name}`);
      return body["status"] as ModelStatus;
    };
    const reference = `${registry.host}/${repository}`;
    const plan = async (spec: object, asked: readonly string[]) => {
      const { stdout, exitCode } = await runPuller([
        "inspect",
        ...asked,
        `--plain-http=${registry.host}`,
        "--output=json",
      ]);
      expect(exitCode).toBe(0);
      const files = {
        model: join(plane.directory, "model.json"),
        facts: join(plane.directory, "facts.json"),
      };
      const isIndex = asked.some((each) => each.startsWith("--index="));
      const source = { reference: isIndex ? `${reference}:all` : reference };
      writeFileSync(
        files.model,
        JSON.stringify({
          apiVersion: "ocimodel.dev/v1alpha1",
          kind: "Model",
          metadata: { name: "planned" },
          spec: { source, ...spec },
        }),
      );
      writeFileSync(files.facts, stdout);
      const run = spawnSync(
        process.execPath,
        [
          join(root, "operator/ocimodel.ts"),
          "plan",
          `--filename=${files.model}`,
          `--facts=${files.facts}`,
          `--kubeconfig=${plane.kubeconfig}`,
          "--output=json",
        ],
        { encoding: "utf8", env: { PATH: process.env["PATH"] } },
      );
      expect(run.stderr).toBe("");
      return { code: run.status, plans: JSON.parse(run.stdout) as readonly Plan[] };
    };
    const essence = (variants: readonly { name: string; verdict: string; requiredBytes?: number }[] = []) =>
      variants.map(({ name, verdict, requiredBytes }) => ({ name, verdict, requiredBytes }));

    const index = await plan({ variantsFrom: { index: true } }, [`--index=${reference}:all`]);
    expect(index).toMatchObject({ code: 0, plans: [{ nodes: 1, isPlaced: true }] });
    // The operator keeps what it once chose; the verdicts are the same.
    expect(essence(index.plans[0]?.variants)).toEqual(essence((await found("found")).variants));

    const pattern = "8B-{F32,BF16,Q*,alias}";
    const listed = { variants: [{ name: "8b-q2-k" }] };
    const tags = await plan({ variantsFrom: { tags: { pattern } }, ...listed }, [
      `--reference=${reference}`,
      `--tags=${pattern}`,
    ]);
    expect(tags.code).toBe(0);
    expect(essence(tags.plans[0]?.variants)).toEqual(essence((await found("tagged")).variants));

    // Nothing fits: 1, for pipelines.
    const huge = { requirements: { memory: "1Ti" } };
    const none = await plan({ variantsFrom: { tags: { pattern: "8B-Q4*" }, ...huge } }, [
      `--reference=${reference}`,
      "--tags=8B-Q4*",
    ]);
    expect(none).toMatchObject({ code: 1, plans: [{ isPlaced: false, reason: "NoVariantFits" }] });
    expect(none.plans[0]?.variants[0]?.nearMisses).toMatchObject([
      { node: "a", lacks: "960.0 GiB of RAM short", missingBytes: 960 * 2 ** 30 },
    ]);
  });

  test("a pattern that matches nothing is a clear reason, and a mended one heals", async () => {
    const source = { reference: `${registry.host}/${repository}`, tls: { plainHTTP: true } };
    await create("nothing", { source, variantsFrom: { tags: { pattern: "70B-*" } } });
    const status = await until("nothing", ({ conditions = [] }) =>
      conditions.some(({ type, status: is }) => type === "Stalled" && is === "True"),
    );
    expect(status.conditions?.find(({ type }) => type === "SourceResolved")).toMatchObject({
      status: "False",
      reason: "ManifestNotFound",
      message: expect.stringContaining(`${repository} has no tag that matches "70B-*"; it has`) as string,
    });
    const patch = { spec: { variantsFrom: { tags: { pattern: "8B-Q4*" } } } };
    const path = "/apis/ocimodel.dev/v1alpha1/namespaces/default/models/nothing";
    await ask("PATCH", path, patch, "application/merge-patch+json");
    const healed = await until("nothing", ({ selected }) => selected !== undefined);
    expect(healed.selected?.variant).toBe("8b-q4-k-m");
  });
});
