// The ground that flows run on: one cluster with one node or two, an open registry, one with credentials, the chart installed twice over
// (two replicas), and short words for what a user does with kubectl.

import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { KubeConfig } from "@kubernetes/client-node";
import { modelResource, type Model, type ModelStatus } from "../../../operator/api/model.ts";
import { KubeClient, resourcePath } from "../../../operator/kube/client.ts";
import type { KubeObject, Resource } from "../../../operator/kube/types.ts";
import { deploymentResource, podResource, serviceResource } from "../../../operator/reconcile/resources.ts";
import type { Pod } from "../../../operator/reconcile/workload-types.ts";
import { startCluster, type Cluster } from "../../cluster/node.ts";
import { waitFor } from "../../cluster/run-command.ts";
import { askCompletion } from "../../engine/ask-completion.ts";
import { installChart, sentences, systemNamespace } from "../../demo/demo.ts";
import { imageArchive } from "../../images/image-archives.ts";
import { ggufBytes } from "../../models/gguf-writer.ts";
import { tinyModel } from "../../models/tiny-model.ts";
import { publishDockerModel } from "../../registry/publish.ts";
import { startRegistry, type TestRegistry } from "../../registry/registry.ts";

export const namespace = "team";

export type Condition = NonNullable<ModelStatus["conditions"]>[number];

export function condition(status: ModelStatus, type: string): Condition | undefined {
  return status.conditions?.find((each) => each.type === type);
}

/** An audited request of the operator. */
export type AuditLine = {
  readonly verb: string;
  readonly requestURI: string;
  readonly userAgent?: string;
  readonly user: { readonly username: string };
  readonly objectRef?: { readonly resource?: string; readonly subresource?: string; readonly name?: string };
  readonly responseStatus?: { readonly code?: number };
};

const core = { group: "", version: "v1", namespaced: true };
/** Everything that may be left of a Model. */
const leftovers: readonly Resource[] = [
  deploymentResource,
  serviceResource,
  podResource,
  { ...deploymentResource, kind: "ReplicaSet", plural: "replicasets" },
  { ...core, kind: "ConfigMap", plural: "configmaps" },
  { ...core, kind: "Secret", plural: "secrets" },
  { ...core, kind: "PersistentVolumeClaim", plural: "persistentvolumeclaims" },
];

export type FlowGround = Awaited<ReturnType<typeof startFlowGround>>;

/**
 * Starts everything; ready when the chart's Deployment is. With `secondNode` there are two nodes, which have the same images; `audited`
 * and `writes` need `auditLog`, which costs the API server much of its time.
 */
export async function startFlowGround({
  secondNode = false,
  auditLog = false,
}: { readonly secondNode?: boolean; readonly auditLog?: boolean } = {}) {
  const archives = await Promise.all((["operator", "puller", "engine"] as const).map(imageArchive));
  const cluster = await startCluster({ auditLog, secondNode });
  const registries: TestRegistry[] = [];
  try {
    await Promise.all(
      archives.flatMap(({ archivePath }) =>
        [cluster.node, cluster.secondNode].map(async (node) => node?.loadImage(archivePath)),
      ),
    );
    const open = await startRegistry({
      namespace: await cluster.node.attachNamespace("open"),
      directory: cluster.node.directory,
    });
    registries.push(open);
    const locked = await startRegistry({
      namespace: await cluster.node.attachNamespace("locked"),
      authentication: "htpasswd",
      directory: cluster.node.directory,
    });
    registries.push(locked);
    await installChart(cluster, ["--set=replicas=2"]);
    await cluster.kubectl(["create", "namespace", namespace]);
    await cluster.kubectl(["label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted"]);
    for (const [tag, { sentence, fileType }] of Object.entries(sentences)) {
      const files = [{ name: `${tag}.gguf`, content: ggufBytes(tinyModel({ sentence, fileType })) }];
      await publishDockerModel(open, { repository: "ai/tiny", tag, files, quantization: tag });
      await publishDockerModel(locked, { repository: "ai/tiny", tag, files, quantization: tag });
    }
    return {
      cluster,
      open,
      locked,
      /** In the Secret beside the credentials; whatever mounts or reads too much shows it. */
      canary: `canary-${randomBytes(12).toString("hex")}`,
      ...words(cluster),
      stop: async (): Promise<void> => {
        for (const registry of registries) await registry.stop();
        await cluster.stop();
      },
    };
  } catch (error) {
    for (const registry of registries) await registry.stop();
    await cluster.stop();
    throw error;
  }
}

function words(cluster: Cluster) {
  const kubectl = async (...args: readonly string[]): Promise<string> =>
    (await cluster.kubectl(["-n", namespace, ...args])).stdout;
  const applyObject = async (object: object): Promise<void> => {
    await cluster.kubectl(["apply", "-f", "-"], { input: JSON.stringify(object) });
  };
  // Waiting asks often: by a connection that stays, and not by a process each time, which takes a tenth of a second of the processor.
  const kubeConfig = new KubeConfig();
  kubeConfig.loadFromFile(cluster.kubeconfig);
  const client = new KubeClient({ kubeConfig, fieldManager: "user", userAgent: "user" });
  const statusOf = async (name: string): Promise<ModelStatus> => {
    return (await read<Model>(modelResource, name))?.status ?? {};
  };
  const read = async <T extends KubeObject>(resource: Resource, name: string): Promise<T | undefined> =>
    client.get<T>(resource, { namespace, name }, AbortSignal.timeout(30_000));
  const list = async <T extends KubeObject>(
    resource: Resource,
    labelSelector: string,
    inNamespace = namespace,
  ): Promise<readonly T[]> => {
    const path = resourcePath(resource, inNamespace);
    const { items } = await client.read<{ readonly items: readonly T[] }>(
      path,
      { labelSelector },
      AbortSignal.timeout(30_000),
    );
    return items;
  };
  const ownedBy = async (name: string, resource: Resource): Promise<readonly string[]> =>
    (await list(resource, `ocimodel.dev/model=${name}`)).map(
      ({ metadata }) => `${resource.plural}/${metadata.name}`,
    );
  const until = async (
    name: string,
    what: string,
    isTrue: (status: ModelStatus) => boolean,
  ): Promise<ModelStatus> => {
    let last: ModelStatus = {};
    return waitFor(
      `Model ${name}: ${what}`,
      async () => {
        last = await statusOf(name);
        return isTrue(last) && last;
      },
      { timeoutMs: 120_000, intervalMs: 150, describe: () => JSON.stringify(last, undefined, 1) },
    );
  };
  const answer = async (name: string): Promise<string> => {
    const service = await read<KubeObject & { readonly spec: { readonly clusterIP: string } }>(
      serviceResource,
      name,
    );
    if (service === undefined) throw new Error(`there is no Service ${name}`);
    return askCompletion(service.spec.clusterIP, "Who?");
  };
  const audited = (): readonly AuditLine[] =>
    readFileSync(cluster.auditLogPath ?? "", "utf8")
      .split("\n")
      .filter((line) => line.includes(`system:serviceaccount:${systemNamespace}:ocimodel`))
      .map((line) => JSON.parse(line) as AuditLine);
  return {
    kubectl,
    applyObject,
    /** An object of the Models' namespace, and objects by their labels. */
    read,
    list,
    statusOf,
    until,
    answer,
    audited,
    apply: async (name: string, spec: object): Promise<void> => {
      await applyObject({
        apiVersion: "ocimodel.dev/v1alpha1",
        kind: "Model",
        metadata: { name, namespace },
        spec,
      });
    },
    patch: async (name: string, spec: object): Promise<void> => {
      await kubectl("patch", "model", name, "--type=merge", "-p", JSON.stringify({ spec }));
    },
    ready: async (name: string): Promise<ModelStatus> =>
      until(name, "ready", (status) => {
        const found = condition(status, "Ready");
        return found?.status === "True" && found.reason === "Available";
      }),
    /** Waits until the Service answers with these words. */
    answers: async (name: string, words: string): Promise<void> => {
      let last = "";
      await waitFor(
        `Model ${name} to answer "${words}"`,
        async () => {
          last = await answer(name).catch((error: unknown) => String(error));
          return last === words;
        },
        { timeoutMs: 120_000, describe: () => last },
      );
    },
    pods: async (name: string): Promise<readonly string[]> => ownedBy(name, podResource),
    /** Deletes Models and waits until nothing of them is left. */
    gone: async (...names: readonly string[]): Promise<void> => {
      await kubectl("delete", "models", ...names);
      let left: readonly string[] = [];
      await waitFor(
        `everything of ${names.join(" and ")} to go`,
        async () => {
          const found = names.flatMap((name) => leftovers.map(async (resource) => ownedBy(name, resource)));
          left = (await Promise.all(found)).flat();
          return left.length === 0;
        },
        { timeoutMs: 120_000, intervalMs: 200, describe: () => left.join(" ") },
      );
    },
    /** Requests of the operator that change something, the lease apart. */
    writes: (): readonly string[] =>
      audited()
        .filter(
          ({ verb, objectRef }) =>
            /^(create|update|patch|delete|deletecollection)$/.test(verb) && objectRef?.resource !== "leases",
        )
        .map(({ verb, requestURI }) => `${verb} ${requestURI}`),
    /** Samples of a metric of all replicas of the operator, summed. */
    metric: async (name: string): Promise<number> => {
      // Of the node caches' pods, which serve none, there may be some.
      const items = await list<Pod>(podResource, "app.kubernetes.io/name=ocimodel-operator", systemNamespace);
      const addresses = items
        .filter(({ metadata }) => metadata.deletionTimestamp === undefined)
        .flatMap(({ status }) => status?.podIP ?? []);
      const texts = await Promise.all(
        addresses.map(async (address) => (await fetch(`http://${address}:8080/metrics`)).text()),
      );
      return texts
        .flatMap((text) => [...text.matchAll(new RegExp(`^${name}(?:\\{[^}]*\\})? (\\S+)$`, "gm"))])
        .reduce((sum, [, value]) => sum + Number(value), 0);
    },
  };
}
