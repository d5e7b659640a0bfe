// The whole way of one Model on this machine: cluster, registry, chart, a model in three variants, and an answer of llama.cpp.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { startCluster, type Cluster } from "../cluster/node.ts";
import { waitFor } from "../cluster/run-command.ts";
import { askCompletion } from "../engine/ask-completion.ts";
import { imageArchive, imageReference } from "../images/image-archives.ts";
import { tinyModel } from "../models/tiny-model.ts";
import { ggufBytes } from "../models/gguf-writer.ts";
import { publishDockerModel } from "../registry/publish.ts";
import { startRegistry, type TestRegistry } from "../registry/registry.ts";

const root = join(import.meta.dirname, "../..");
export const demoNamespace = "demo";
export const systemNamespace = "ocimodel-system";

export type DemoReport = {
  readonly cluster: Cluster;
  readonly registry: TestRegistry;
  /** Text that llama.cpp answered. */
  readonly answer: string;
  readonly verdicts: readonly { readonly name: string; readonly verdict: string; readonly message: string }[];
  /** From `kubectl apply` to the first token, milliseconds. */
  readonly firstTokenMs: number;
};

type Status = {
  readonly phase?: string;
  readonly pull?: { readonly percent?: string };
  readonly ready?: string;
  readonly selected?: { readonly variant?: string };
  readonly variants?: DemoReport["verdicts"];
  readonly conditions?: readonly {
    readonly type: string;
    readonly status: string;
    readonly reason: string;
    readonly message: string;
  }[];
};

/** What the three variants answer: weights that recite a sentence show which file was loaded. */
export const sentences = {
  F16: { sentence: "The variant for large accelerators speaks.", fileType: 1 },
  Q8_0: { sentence: "The variant for large memories speaks.", fileType: 7 },
  Q4_K_M: { sentence: "The variant that fits this node speaks.", fileType: 15 },
} as const;

/** Runs the demo. With `detached` the cluster and the registry stay. `say` gets a line for each step. */
export async function runDemo(options: {
  readonly say: (line: string) => void;
  readonly detached: boolean;
}): Promise<DemoReport> {
  const { say, detached } = options;
  const step = async <T>(name: string, work: () => Promise<T>): Promise<T> => {
    const startedMs = performance.now();
    const result = await work();
    say(`${name} (${((performance.now() - startedMs) / 1000).toFixed(1)} s)`);
    return result;
  };
  const archives = await step("images of operator, puller and engine are built", async () =>
    Promise.all((["operator", "puller", "engine"] as const).map(imageArchive)),
  );
  const cluster = await step("a control plane and a node are up", async () =>
    startCluster({ detached, replaceStanding: true }),
  );
  let registry: TestRegistry | undefined;
  try {
    await step("the images are on the node", async () => {
      await Promise.all(archives.map(async ({ archivePath }) => cluster.node.loadImage(archivePath)));
    });
    const host = await step("a registry is up, in a network of its own beside the pods", async () => {
      const namespace = await cluster.node.attachNamespace("registry");
      registry = await startRegistry({ namespace, detached, directory: cluster.node.directory });
      return registry;
    });
    await step("one model is published as a Docker model artifact in three variants", async () => {
      for (const [tag, { sentence, fileType }] of Object.entries(sentences)) {
        const gguf = ggufBytes(tinyModel({ sentence, fileType }));
        await publishDockerModel(host, {
          repository: "ai/tiny",
          tag,
          files: [{ name: `tiny-${tag}.gguf`, content: gguf }],
          quantization: tag,
          architecture: "llama",
        });
      }
    });
    await step("the chart is installed with Helm", async () => installChart(cluster));
    await cluster.kubectl(["create", "namespace", demoNamespace]);
    await cluster.kubectl([
      "label",
      "namespace",
      demoNamespace,
      "pod-security.kubernetes.io/enforce=restricted",
    ]);
    const manifest = readFileSync(join(root, "docs/examples/quickstart.yaml"), "utf8").replaceAll(
      "registry.example.com",
      host.host,
    );
    say("kubectl apply -f docs/examples/quickstart.yaml");
    const appliedMs = performance.now();
    await cluster.kubectl(["apply", "-n", demoNamespace, "-f", "-"], { input: manifest });
    const status = await waitUntilReady(cluster, "tiny", say);
    const answer = await complete(cluster, "tiny");
    const firstTokenMs = performance.now() - appliedMs;
    return { cluster, registry: host, answer, verdicts: status.variants ?? [], firstTokenMs };
  } catch (error) {
    const objects = await cluster.kubectl(
      ["get", "models,deployments,pods,events", "-n", demoNamespace, "-o", "wide"],
      { allowFailure: true },
    );
    const logs = await cluster.kubectl(["logs", "-n", systemNamespace, "deployment/ocimodel", "--tail=40"], {
      allowFailure: true,
    });
    await registry?.stop();
    await cluster.stop();
    throw new Error(`the demo failed\n${objects.stdout}\n${logs.stdout}${logs.stderr}`, { cause: error });
  }
}

/** Installs the chart with images of this checkout, in a namespace that enforces `restricted`. */
export async function installChart(cluster: Cluster, more: readonly string[] = []): Promise<void> {
  const [operator, puller] = [imageReference("operator"), imageReference("puller")].map((name) =>
    name.split(":"),
  );
  await cluster.kubectl(["create", "namespace", systemNamespace]);
  await cluster.kubectl([
    "label",
    "namespace",
    systemNamespace,
    "pod-security.kubernetes.io/enforce=restricted",
  ]);
  await cluster.helm([
    "install",
    "ocimodel",
    join(root, "charts/ocimodel"),
    "--namespace",
    systemNamespace,
    "--wait",
    "--timeout=90s",
    `--set=image.repository=${operator?.[0]},image.tag=${operator?.[1]}`,
    `--set=pullerImage.repository=${puller?.[0]},pullerImage.tag=${puller?.[1]}`,
    `--set=runtimes.llama\\.cpp.image=${imageReference("engine")}`,
    ...more,
  ]);
}

/** Follows a Model's status, telling each change, until it is ready. */
export async function waitUntilReady(
  cluster: Cluster,
  name: string,
  say: (line: string) => void = () => undefined,
): Promise<Status> {
  let told = "";
  return waitFor(
    `Model ${name} to be ready`,
    async () => {
      const { stdout } = await cluster.kubectl(
        ["get", "model", name, "-n", demoNamespace, "-o", "jsonpath={.status}"],
        {
          allowFailure: true,
        },
      );
      const status = (stdout === "" ? {} : JSON.parse(stdout)) as Status;
      const ready = status.conditions?.find(({ type }) => type === "Ready");
      const line = `  ${(status.phase ?? "").padEnd(10)} variant=${status.selected?.variant ?? "-"} pulled=${status.pull?.percent ?? "-"} ready=${status.ready ?? "-"}  ${ready?.message ?? ""}`;
      if (line !== told) say(line);
      told = line;
      return ready?.status === "True" && status;
    },
    { timeoutMs: 120_000, intervalMs: 200 },
  );
}

/** Asks the Model's Service for a completion, as any client in the cluster would. */
export async function complete(cluster: Cluster, name: string): Promise<string> {
  const { stdout: address } = await cluster.kubectl([
    "get",
    "service",
    name,
    "-n",
    demoNamespace,
    "-o",
    "jsonpath={.spec.clusterIP}",
  ]);
  let last: unknown;
  return waitFor(
    "the Service to answer",
    async () =>
      askCompletion(address, "Who speaks?").catch((error: unknown) => {
        last = error;
        return undefined;
      }),
    { describe: () => String(last) },
  );
}
