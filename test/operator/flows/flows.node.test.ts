// Every flow of a Model's life on a real node, on one cluster: starting one costs more than most flows.

import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { deploymentResource, podResource } from "../../../operator/reconcile/resources.ts";
import type { Deployment, Pod } from "../../../operator/reconcile/workload-types.ts";
import { cgroupNames } from "../../cluster/node-cleanup.ts";
import { waitFor } from "../../cluster/run-command.ts";
import { describeNode } from "../../cluster/suites.ts";
import { sentences, systemNamespace } from "../../demo/demo.ts";
import { imageReference } from "../../images/image-archives.ts";
import { ggufBytes } from "../../models/gguf-writer.ts";
import { tinyModel } from "../../models/tiny-model.ts";
import { startFaultProxy } from "../../registry/fault-proxy.ts";
import { publishDockerModel, publishLayout } from "../../registry/publish.ts";
import { condition, namespace, startFlowGround, type FlowGround } from "./flow-ground.ts";

/** Small contexts: the engine's memory and start are not what is tested. */
const selection = { contextLength: 128 };

/** Processes of this node whose command line has the text: id and resident memory, MiB. */
function processesOfNode(text: string): readonly { readonly pid: number; readonly residentMiB: number }[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .flatMap((name) => {
      try {
        const command = readFileSync(`/proc/${name}/cmdline`, "utf8").replaceAll("\0", " ");
        const isOurs = readFileSync(`/proc/${name}/cgroup`, "utf8").includes(cgroupNames[0]);
        if (!isOurs || !command.includes(text)) return [];
        const resident = /VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${name}/status`, "utf8"));
        return [{ pid: Number(name), residentMiB: Math.round(Number(resident?.[1] ?? 0) / 1024) }];
      } catch {
        // It has ended meanwhile.
        return [];
      }
    });
}

/** Every file below a folder, as text. */
function textsBelow(directory: string): string {
  return readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => readFileSync(join(entry.parentPath, entry.name), "latin1"))
    .join("\n");
}

describeNode("flows on a real node", () => {
  let ground: FlowGround;
  /** What pods of the locked Model logged and hold, as long as they are there. */
  let lockedTraces = "";
  beforeAll(async () => {
    ground = await startFlowGround({ auditLog: true });
  });
  afterAll(async () => {
    await ground?.stop();
  });

  const open = (tag: string): object => ({
    reference: `${ground.open.host}/ai/tiny:${tag}`,
    tls: { plainHTTP: true },
  });

  test("create: the first status says that work goes on; then it serves", async () => {
    const { apply, until, ready, answer, kubectl, pods } = ground;
    const appliedMs = performance.now();
    await apply("create", { source: open("Q4_K_M"), selection });
    const first = await until("create", "has conditions", (status) => (status.conditions?.length ?? 0) > 0);
    expect(first.observedGeneration).toBe(1);
    const status = await ready("create");
    console.log(`apply to Ready: ${((performance.now() - appliedMs) / 1000).toFixed(1)} s`);
    expect(await answer("create")).toBe(sentences.Q4_K_M.sentence);
    expect(status).toMatchObject({
      phase: "Ready",
      ready: "1/1",
      pull: { percent: "100%", pods: { done: 1 } },
      selected: { variant: "default", accelerator: "none", nodes: 1 },
      variants: [
        {
          format: "gguf",
          quantization: "Q4_K_M",
          facts: { architecture: "llama", layers: 2 },
          verdict: "Selected",
        },
      ],
    });
    expect(condition(status, "Reconciling")).toBeUndefined();
    expect(condition(status, "Stalled")).toBeUndefined();
    const columns = await kubectl("get", "models", "create");
    expect(columns.split("\n")[0]).toMatch(/NAME +VARIANT +PULLED +READY +STATUS +AGE/);
    expect(columns).toMatch(/create +default +100% +1\/1 +Ready/);
    // The inspect pod has told all it knew.
    await waitFor("the inspect pod to go", async () => (await pods("create")).length === 1);
  });

  test("scale by the subresource, to three and to none and back", async () => {
    const { kubectl, until, ready } = ground;
    await kubectl("scale", "model", "create", "--replicas=3");
    await until("create", "three ready", (status) => status.ready === "3/3");
    await kubectl("scale", "model", "create", "--replicas=0");
    const idle = await until("create", "none", (status) => status.ready === "0/0" && status.replicas === 0);
    expect(condition(idle, "Ready")).toMatchObject({ status: "True", reason: "ScaledToZero" });
    await kubectl("scale", "model", "create", "--replicas=1");
    await ready("create");
  });

  test("runtime edited, template patched: an ordinary rollout; of the puller nothing can be patched", async () => {
    const { patch, until, ready, answer, list } = ground;
    const template = { metadata: { labels: { team: "a" } }, spec: { terminationGracePeriodSeconds: 1 } };
    await expect(
      patch("create", {
        template: { ...template, spec: { initContainers: [{ name: "pull", image: "evil" }] } },
      }),
    ).rejects.toThrow("of the init container pull only resources and imagePullPolicy can be changed");
    await patch("create", { runtime: { env: [{ name: "MARK", value: "edited" }] }, template });
    type RunningPod = Pod & {
      readonly spec: {
        readonly containers: readonly { readonly env: readonly { name: string; value?: string }[] }[];
        readonly initContainers: readonly { readonly image: string }[];
      };
    };
    const pod = await waitFor(
      "the new pod alone",
      async () => {
        const items = await list<RunningPod>(podResource, "ocimodel.dev/model=create,team=a");
        const isReady = items[0]?.status?.conditions?.some(
          ({ type, status }) => type === "Ready" && status === "True",
        );
        return isReady === true && items.length === 1 && items[0];
      },
      { timeoutMs: 120_000 },
    );
    expect(pod.spec.containers[0]?.env).toContainEqual({ name: "MARK", value: "edited" });
    expect(pod.spec.initContainers[0]?.image).toBe(imageReference("puller"));
    await patch("create", { runtime: { image: "localhost/ocimodel/missing:1" } });
    const failing = await until(
      "create",
      "says that the image is missing",
      (status) => condition(status, "WorkloadAvailable")?.reason === "ImagePullFailed",
    );
    // The replica of before serves on.
    expect(failing.readyReplicas).toBe(1);
    expect(await answer("create")).toBe(sentences.Q4_K_M.sentence);
    await patch("create", { runtime: { image: null } });
    await ready("create");
  });

  test("suspended, nothing is changed; resumed, the spec holds again", async () => {
    const { kubectl, patch, until, ready } = ground;
    await patch("create", { suspend: true, replicas: 2 });
    const suspended = await until(
      "create",
      "suspended",
      (status) => condition(status, "Ready")?.reason === "Suspended",
    );
    expect(suspended.phase).toBe("Suspended");
    expect(await kubectl("get", "deployment", "create", "-o", "jsonpath={.spec.replicas}")).toBe("1");
    await patch("create", { suspend: false });
    await until("create", "two ready", (status) => status.ready === "2/2");
    await patch("create", { replicas: 1 });
    await until("create", "one", (status) => status.ready === "1/1" && status.replicas === 1);
    await ready("create");
  });

  test("a foreign edit of the Deployment is undone", async () => {
    const { kubectl, ready, read } = ground;
    await kubectl("scale", "deployment", "create", "--replicas=2");
    await waitFor(
      "one replica again",
      async () => (await read<Deployment>(deploymentResource, "create"))?.spec?.replicas === 1,
    );
    await ready("create");
  });

  test("steady state writes nothing: ten forced resyncs", async () => {
    const { cluster, kubectl, until, writes, metric } = ground;
    await until(
      "create",
      "settled",
      (status) => condition(status, "Ready")?.status === "True" && status.replicas === 1,
    );
    await waitFor(
      "the last write to be over",
      async () => {
        const before = writes().length;
        await new Promise((resolve) => setTimeout(resolve, 1_500));
        return writes().length === before;
      },
      { timeoutMs: 60_000 },
    );
    const before = writes().length;
    expect(before).toBeGreaterThan(5);
    for (let round = 0; round < 10; round += 1) {
      const reconciles = await metric("ocimodel_reconciles_total");
      // Changes that no decision depends on: of the Model, which wakes it, and of the node, which is not even that.
      await kubectl("annotate", "node", cluster.node.name, `round=${round}`, "--overwrite");
      await kubectl("annotate", "model", "create", `round=${round}`, "--overwrite");
      await waitFor("a reconcile", async () => (await metric("ocimodel_reconciles_total")) >= reconciles + 1);
    }
    await waitFor("the queue to be empty", async () => (await metric("ocimodel_queue_depth")) === 0);
    expect(writes().slice(before)).toEqual([]);
    const resident = processesOfNode("/app/operator/main.js").map(({ residentMiB }) => residentMiB);
    console.log(`resident memory of the operator's replicas: ${resident.join(", ")} MiB`);
    expect(resident).toHaveLength(2);
    // The limit that the chart sets is 512 MiB.
    expect(Math.max(...resident)).toBeLessThan(200);
  });

  describe.concurrent("side by side", () => {
    test("wrong reference: the reason within seconds, stalled; edited, it serves", async () => {
      const { apply, until, ready, gone } = ground;
      await apply("wrong", { source: open("nope"), selection });
      const status = await until("wrong", "stalled", (each) => condition(each, "Stalled")?.status === "True");
      expect(condition(status, "SourceResolved")).toMatchObject({
        status: "False",
        reason: "ManifestNotFound",
      });
      expect(status.variants).toMatchObject([
        { verdict: "Unresolvable", failure: { code: "ManifestNotFound" } },
      ]);
      await apply("wrong", { source: open("Q4_K_M"), selection });
      const healed = await ready("wrong");
      expect(condition(healed, "Stalled")).toBeUndefined();
      await gone("wrong");
    });

    test("wrong credentials: no secret, a missing one, the wrong password, the right one", async () => {
      const { locked, apply, applyObject, until, ready, answers, gone, kubectl, pods, cluster } = ground;
      const source = { reference: `${locked.host}/ai/tiny:Q4_K_M`, tls: { plainHTTP: true } };
      const secret = async (name: string, config: string): Promise<void> =>
        applyObject({
          apiVersion: "v1",
          kind: "Secret",
          metadata: { name, namespace },
          type: "kubernetes.io/dockerconfigjson",
          stringData: { ".dockerconfigjson": config, other: ground.canary },
        });
      await apply("locked", { source, selection });
      const without = await until(
        "locked",
        "stalled",
        (each) => condition(each, "Stalled")?.status === "True",
      );
      expect(condition(without, "SourceResolved")?.reason).toBe("RegistryUnauthorized");
      await apply("locked", { source: { ...source, pullSecrets: [{ name: "absent" }] }, selection });
      const missing = await until(
        "locked",
        "misses its secret",
        (each) => condition(each, "SourceResolved")?.reason === "InvalidConfiguration",
      );
      expect(condition(missing, "SourceResolved")?.message).toContain("Secret");
      const guessed = { username: locked.username, password: "not-the-password" };
      await secret("wrong", JSON.stringify({ auths: { [locked.host]: guessed } }));
      await apply("locked", { source: { ...source, pullSecrets: [{ name: "wrong" }] }, selection });
      await until(
        "locked",
        "is refused",
        (each) =>
          each.observedGeneration === 3 &&
          condition(each, "SourceResolved")?.reason === "RegistryUnauthorized",
      );
      await secret("registry", locked.dockerConfig());
      await apply("locked", { source: { ...source, pullSecrets: [{ name: "registry" }] }, selection });
      await ready("locked");
      await answers("locked", sentences.Q4_K_M.sentence);
      const [pod = ""] = await pods("locked");
      lockedTraces = await kubectl("logs", pod, "--all-containers");
      const uid = await kubectl("get", pod, "-o", "jsonpath={.metadata.uid}");
      const volumes = join(cluster.node.directory, "kubelet/pods", uid, "volumes/kubernetes.io~empty-dir");
      lockedTraces += textsBelow(volumes);
      await gone("locked");
    });

    test("a tag that moves is followed with OnChange, and not otherwise", async () => {
      const { open: registry, apply, until, ready, answers, statusOf, gone } = ground;
      const publish = async (sentence: string): Promise<string> =>
        (
          await publishDockerModel(registry, {
            repository: "ai/moving",
            tag: "latest",
            files: [{ name: "m.gguf", content: ggufBytes(tinyModel({ sentence })) }],
          })
        ).digest;
      const first = await publish("First words of a tag.");
      const source = { reference: `${registry.host}/ai/moving`, tls: { plainHTTP: true } };
      await apply("moving", {
        source: { ...source, refresh: { policy: "OnChange", interval: "10s" } },
        selection,
      });
      await apply("fixed", { source, selection });
      expect((await ready("moving")).selected?.digest).toBe(first);
      await ready("fixed");
      const second = await publish("Second words, same tag.");
      expect(second).not.toBe(first);
      await until("moving", "follows", (each) => each.selected?.digest === second);
      await answers("moving", "Second words, same tag.");
      expect((await statusOf("fixed")).selected?.digest).toBe(first);
      await answers("fixed", "First words of a tag.");
      await gone("moving", "fixed");
    });

    test("a pull that fails for good: the reason within ten seconds", async () => {
      const { open: registry, apply, until, gone, cluster } = ground;
      const published = await publishDockerModel(registry, {
        repository: "ai/broken",
        tag: "x",
        version: "v0.2",
        files: [
          { name: "m.gguf", content: ggufBytes(tinyModel()) },
          { name: "lost.txt", content: Buffer.from("soon gone") },
        ],
      });
      // The manifest and its header facts are there; a licence blob is not.
      const response = await fetch(`${registry.url}/v2/ai/broken/blobs/${published.layerDigests[1] ?? ""}`, {
        method: "DELETE",
      });
      expect(response.status).toBe(202);
      const source = { reference: `${registry.host}/ai/broken:x`, tls: { plainHTTP: true } };
      await apply("broken", { source, selection });
      const status = await until(
        "broken",
        "stalled",
        (each) => condition(each, "Stalled")?.status === "True",
      );
      expect(condition(status, "ArtifactPulled")).toMatchObject({ status: "False", reason: "BlobNotFound" });
      const { lastFailure } = status.pull ?? {};
      expect(lastFailure).toMatchObject({ reason: "BlobNotFound", exitCode: 66, node: cluster.node.name });
      const toldMs = Date.parse(condition(status, "Stalled")?.lastTransitionTime ?? "");
      expect(toldMs - Date.parse(lastFailure?.at ?? "")).toBeLessThanOrEqual(10_000);
      await gone("broken");
    });

    test("every packaging is served with the layout its README states", async () => {
      const { open: registry, apply, ready, kubectl, gone, cluster } = ground;
      const layout = join(import.meta.dirname, "../../fixtures/layout");
      const tags = ["tiny-docker", "tiny-cncf"];
      for (const tag of [...tags, "tinyst-docker"]) await publishLayout(registry, layout, tag, "ai/fixtures");
      const source = (tag: string): object => ({
        reference: `${registry.host}/ai/fixtures:${tag}`,
        tls: { plainHTTP: true },
      });
      for (const tag of tags) await apply(tag, { source: source(tag), selection });
      // Safetensors: a runtime of the Model's own that lists what it sees.
      const script =
        "const fs=require('fs');console.log(JSON.stringify(fs.readdirSync('/models',{recursive:true,withFileTypes:true}).filter(e=>e.isFile()).map(e=>(e.parentPath+'/'+e.name).replace('/models/','')).sort()));require('http').createServer((q,s)=>s.end('ok')).listen(8080)";
      await apply("tinyst", {
        source: source("tinyst-docker"),
        runtime: { image: imageReference("engine"), args: ["-e", script] },
        template: { spec: { containers: [{ name: "runtime", command: ["/usr/local/bin/node"] }] } },
      });
      let seen = "";
      const listed = await waitFor(
        "the list of files",
        async () => {
          const { stdout, stderr } = await cluster.kubectl(
            ["-n", namespace, "logs", "deployment/tinyst", "-c", "runtime"],
            { allowFailure: true },
          );
          seen = stdout + stderr;
          return stdout.startsWith("[") && (JSON.parse(stdout) as string[]);
        },
        { timeoutMs: 120_000, describe: () => seen },
      );
      expect(listed).toEqual([
        "LICENSE",
        "chat_template.jinja",
        "config.json",
        "extra/notes.txt",
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
        "model.safetensors.index.json",
        "tokenizer.json",
      ]);
      for (const tag of tags) {
        await ready(tag);
        const path = 'jsonpath={.spec.template.spec.containers[0].env[?(@.name=="MODEL_PATH")].value}';
        const entry = await kubectl("get", "deployment", tag, "-o", path);
        expect(entry).toBe(tag === "tiny-docker" ? "/models/model.gguf" : "/models/tiny-F16.gguf");
      }
      await gone(...tags, "tinyst");
    });

    test("deleted while it pulls: progress until then, nothing left afterwards", async () => {
      const { open: registry, cluster, apply, until, gone, pods } = ground;
      const { layerDigests } = await publishDockerModel(registry, {
        repository: "ai/slow",
        tag: "x",
        files: [{ name: "m.gguf", content: ggufBytes(tinyModel(), 64 * 2 ** 20) }],
      });
      const proxy = await startFaultProxy({
        target: registry.url,
        address: cluster.node.podGateway,
        // Inspection reads the head of the file in ranges; the pull is what comes without end.
        faults: [
          {
            when: { path: new RegExp(`/blobs/${layerDigests[0]}`), times: 1_000 },
            do: { kind: "drip", bytesPerSecond: 2 * 2 ** 20 },
          },
        ],
      });
      try {
        const reference = `${proxy.host}/ai/slow:x`;
        // Credentials for another registry are at hand and must not be sent to this one.
        await waitFor(
          "the Secret of the other flow",
          async () =>
            (await cluster.kubectl(["-n", namespace, "get", "secret", "registry"], { allowFailure: true }))
              .exitCode === 0,
          { timeoutMs: 120_000 },
        );
        const source = { reference, tls: { plainHTTP: true }, pullSecrets: [{ name: "registry" }] };
        await apply("slow", { source, selection });
        const status = await until(
          "slow",
          "pulls",
          (each) => each.pull?.pods.pulling === 1 && (each.pull.completedBytes ?? 0) > 0,
        );
        expect(condition(status, "ArtifactPulled")?.reason).toBe("Pulling");
        expect(status.pull?.completedBytes).toBeLessThan(status.pull?.totalBytes ?? 0);
        expect(status.pull?.bytesPerSecond).toBeGreaterThan(0);
        const [puller] = processesOfNode("puller/main.js");
        console.log(`resident memory of a puller: ${puller?.residentMiB} MiB`);
        expect(puller?.residentMiB).toBeLessThan(128);
        await gone("slow");
        expect(await pods("slow")).toEqual([]);
        expect(proxy.requests.length).toBeGreaterThan(2);
        expect(proxy.requests.filter(({ headers }) => headers["authorization"] !== undefined)).toEqual([]);
      } finally {
        await proxy.stop();
      }
    });
  });

  test("no node fits; a node appears; it is relabelled; a variant is edited", async () => {
    const { cluster, kubectl, apply, applyObject, until, ready, answers, gone } = ground;
    await apply("picky", {
      source: open("Q4_K_M"),
      selection: { ...selection, cpuFallback: false },
      variants: [
        {
          name: "gpu",
          reference: ":F16",
          requirements: { accelerator: { vendor: "nvidia", memoryPerDevice: "20Gi" } },
        },
        {
          name: "cpu",
          reference: ":Q4_K_M",
          requirements: {
            nodeSelectorTerms: [{ matchExpressions: [{ key: "tier", operator: "In", values: ["model"] }] }],
          },
        },
      ],
    });
    const waiting = await until(
      "picky",
      "waits",
      (each) => condition(each, "VariantSelected")?.reason === "NoVariantFits",
    );
    expect(condition(waiting, "Stalled")).toBeUndefined();
    expect(waiting.variants?.[0]?.message).toBe(
      "needs 20.0 GiB on one GPU; fits 0 of 1 nodes: 1 without such a GPU",
    );
    expect(waiting.variants?.[1]?.message).toContain("1 outside nodeSelectorTerms");
    // A node without a kubelet: enough for the choice, and no pod will run there.
    await applyObject({
      apiVersion: "v1",
      kind: "Node",
      metadata: {
        name: "gpu-b",
        labels: {
          "kubernetes.io/arch": "amd64",
          "nvidia.com/gpu.memory": "15360",
          "nvidia.com/gpu.replicas": "1",
        },
      },
    });
    const resources = {
      cpu: "8",
      memory: "64Gi",
      pods: "10",
      "ephemeral-storage": "100Gi",
      "nvidia.com/gpu": "1",
    };
    await kubectl(
      "patch",
      "node",
      "gpu-b",
      "--subresource=status",
      "-p",
      JSON.stringify({ status: { capacity: resources, allocatable: resources } }),
    );
    await until(
      "picky",
      "names the new node",
      (each) =>
        each.variants?.[0]?.message ===
        "needs 20.0 GiB on one GPU; best node gpu-b has 15.0 GiB; fits 0 of 2 nodes: 1 with too little GPU memory, 1 without such a GPU",
    );
    await kubectl("label", "node", "gpu-b", "nvidia.com/gpu.memory=23034", "--overwrite");
    const chosen = await until("picky", "chooses the GPU", (each) => each.selected?.variant === "gpu");
    expect(chosen.selected?.accelerator).toBe("nvidia");
    await kubectl("delete", "node", "gpu-b");
    // As its kubelet would have done: those who collect what lost nodes leave wait for forty seconds.
    const ofLost = ["--field-selector=spec.nodeName=gpu-b", "--force", "--grace-period=0", "--wait=false"];
    await kubectl("delete", "pods", ...ofLost);
    await until(
      "picky",
      "has none again",
      (each) => condition(each, "VariantSelected")?.reason === "NoVariantFits",
    );
    await kubectl("label", "node", cluster.node.name, "tier=model");
    expect((await ready("picky")).selected?.variant).toBe("cpu");
    await answers("picky", sentences.Q4_K_M.sentence);
    // Another digest is an ordinary rollout.
    await kubectl(
      "patch",
      "model",
      "picky",
      "--type=json",
      "-p",
      '[{"op":"replace","path":"/spec/variants/1/reference","value":":Q8_0"}]',
    );
    await answers("picky", sentences.Q8_0.sentence);
    await gone("picky");
  });

  test("the operator killed while Models are at different stages: whoever leads next goes on", async () => {
    const { apply, ready, gone, answers, cluster } = ground;
    const names = ["kill-pulled", "kill-resolving", "kill-new"];
    for (const [index, name] of names.entries()) {
      await apply(name, { source: open("Q4_K_M"), selection });
      if (index < 2) await new Promise((resolve) => setTimeout(resolve, 1_500));
    }
    const replicas = processesOfNode("/app/operator/main.js");
    expect(replicas).toHaveLength(2);
    for (const { pid } of replicas) process.kill(pid, "SIGKILL");
    for (const name of names) await ready(name);
    await answers("kill-new", sentences.Q4_K_M.sentence);
    await gone(...names);
    // An end in good order, while work is under way, passes the lease on at once.
    await apply("moved", { source: open("Q4_K_M"), selection });
    await cluster.kubectl(["delete", "pods", "-n", systemNamespace, "--all", "--wait=false"]);
    await ready("moved");
    await gone("moved");
  });

  test("two operators without a leader do no harm", async () => {
    const { cluster, kubectl, apply, until, ready, gone, metric } = ground;
    const deployment = JSON.parse(
      (await cluster.kubectl(["get", "deployment", "ocimodel", "-n", systemNamespace, "-o", "json"])).stdout,
    ) as { spec: { template: { spec: { containers: { args: string[] }[] } } } };
    const args = deployment.spec.template.spec.containers[0]?.args ?? [];
    const electing = args.findIndex((argument) => argument.startsWith("--leader-election-namespace="));
    expect(electing).toBeGreaterThanOrEqual(0);
    const path = `/spec/template/spec/containers/0/args/${electing}`;
    const change = JSON.stringify([{ op: "remove", path }]);
    await cluster.kubectl([
      "patch",
      "deployment",
      "ocimodel",
      "-n",
      systemNamespace,
      "--type=json",
      "-p",
      change,
    ]);
    const rollout = ["rollout", "status", "deployment/ocimodel", "-n", systemNamespace, "--timeout=120s"];
    await cluster.kubectl(rollout);
    await waitFor("two of them at work", async () => (await metric("ocimodel_leader").catch(() => 0)) === 2, {
      timeoutMs: 60_000,
    });
    await apply("both", { source: open("Q4_K_M"), selection });
    await ready("both");
    const generation = "jsonpath={.metadata.generation}";
    expect(await kubectl("get", "deployment", "both", "-o", generation)).toBe("1");
    await kubectl("scale", "model", "both", "--replicas=2");
    await until("both", "two ready", (status) => status.ready === "2/2");
    expect(await kubectl("get", "deployment", "both", "-o", generation)).toBe("2");
    expect((await ground.pods("both")).length).toBe(2);
    await gone("both");
  });

  test("no secret anywhere but at its registry", async () => {
    const { cluster, kubectl, audited, locked, canary } = ground;
    await kubectl("delete", "secret", "registry", "wrong");
    const logs = [
      "logs",
      "-n",
      systemNamespace,
      "-l",
      "app.kubernetes.io/name=ocimodel-operator",
      "--tail=-1",
    ];
    const kinds = "models,deployments,replicasets,services,pods,events,configmaps";
    const objects = await cluster.kubectl(["get", kinds, "-A", "-o", "json"]);
    // What was sent to the API server and what it answered, whole, but for the Secrets themselves.
    const written = readFileSync(cluster.auditLogPath ?? "", "utf8")
      .split("\n")
      .filter((line) => !line.includes('"resource":"secrets"'))
      .join("\n");
    const authorization = Buffer.from(`${locked.username}:${locked.password}`).toString("base64");
    expect(lockedTraces).toContain("GGUF");
    for (const secret of [canary, locked.password ?? "", authorization]) {
      expect(secret.length).toBeGreaterThan(10);
      for (const text of [(await cluster.kubectl(logs)).stdout, objects.stdout, written, lockedTraces])
        expect(text.includes(secret)).toBe(false);
    }
    // And the operator asked for no Secret, nor for anything that it may not.
    const asked = audited();
    expect(asked.length).toBeGreaterThan(50);
    expect(asked.filter(({ objectRef }) => objectRef?.resource === "secrets")).toEqual([]);
    expect(asked.filter(({ responseStatus }) => responseStatus?.code === 403)).toEqual([]);
  });
});
