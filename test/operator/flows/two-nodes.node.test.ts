// What one node cannot show: volumes that pods on two real nodes share, and copies that each node has for itself.

import { chmodSync, chownSync, mkdirSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { ClusterNode } from "../../cluster/node-boot.ts";
import { waitFor } from "../../cluster/run-command.ts";
import { describeNode } from "../../cluster/suites.ts";
import { systemNamespace } from "../../demo/demo.ts";
import { expectNoWrongByte } from "../../puller/store-assertions.ts";
import { startFaultProxy, type FaultProxy } from "../../registry/fault-proxy.ts";
import { publishCounted, type CountedModels, type Tag } from "./counted-models.ts";
import { fileServer, serversOf, serving, type ServingPod } from "./file-server.ts";
import { condition, namespace, startFlowGround, type FlowGround } from "./flow-ground.ts";

const chart = join(import.meta.dirname, "../../../charts/ocimodel");
const timeout = 300_000;
const replicas = 4;

describeNode("storage on two real nodes", () => {
  let ground: FlowGround;
  let proxy: FaultProxy;
  let nodes: readonly [ClusterNode, ClusterNode];

  beforeAll(async () => {
    ground = await startFlowGround({ secondNode: true });
    const { node, secondNode } = ground.cluster;
    if (secondNode === undefined) throw new Error("there is one node");
    nodes = [node, secondNode];
    proxy = await startFaultProxy({ target: ground.open.url, address: node.podGateway });
    for (const each of nodes) each.allowPlainHTTP(proxy.host);
  });
  afterAll(async () => {
    await proxy?.stop();
    await ground?.stop();
  });

  /** A Model whose pods are on both nodes, as many on each. */
  const spread = (name: string, models: CountedModels, tag: Tag, storage: object): object => ({
    ...fileServer,
    source: models.source(tag),
    storage,
    replicas,
    template: {
      spec: {
        ...fileServer.template.spec,
        topologySpreadConstraints: [
          {
            topologyKey: "kubernetes.io/hostname",
            maxSkew: 1,
            whenUnsatisfiable: "DoNotSchedule",
            // Without those that prefetch, which are the Model's too.
            labelSelector: {
              matchLabels: { "ocimodel.dev/model": name, "app.kubernetes.io/component": "server" },
            },
          },
        ],
      },
    },
  });
  const serves = async (
    name: string,
    models: CountedModels,
    tag: Tag,
    count = replicas,
    except: readonly ServingPod[] = [],
  ): Promise<readonly ServingPod[]> =>
    serving(ground, name, { count, digest: models.digest(tag), content: models.content(tag), except });
  const nodesOf = (pods: readonly ServingPod[]): readonly string[] =>
    [...new Set(pods.map(({ node }) => node))].sort();
  const both = ["node-a", "node-b"];
  const restart = async (name: string): Promise<void> => {
    await ground.kubectl("delete", "pods", "-l", `ocimodel.dev/model=${name}`, "--wait=false");
  };

  test(
    "a claim with ReadWriteMany: pods on both nodes share one copy, and two Models their layers; a restart fetches nothing",
    { timeout },
    async () => {
      const { cluster, apply, applyObject, gone, until } = ground;
      // Both nodes see it, as they would see a file server's.
      const path = join(cluster.node.directory, "shared");
      mkdirSync(path);
      chownSync(path, 65_532, 65_532);
      chmodSync(path, 0o2775);
      await applyObject({
        apiVersion: "v1",
        kind: "PersistentVolume",
        metadata: { name: "shared" },
        spec: {
          capacity: { storage: "20Gi" },
          accessModes: ["ReadWriteMany"],
          storageClassName: "files",
          persistentVolumeReclaimPolicy: "Retain",
          hostPath: { path, type: "Directory" },
          claimRef: { namespace, name: "files" },
        },
      });
      await applyObject({
        apiVersion: "v1",
        kind: "PersistentVolumeClaim",
        metadata: { name: "files", namespace },
        spec: {
          accessModes: ["ReadWriteMany"],
          storageClassName: "files",
          resources: { requests: { storage: "10Gi" } },
        },
      });
      const models = await publishCounted(ground.open, proxy, "ai/files");
      const storage = { type: "PersistentVolumeClaim", claimName: "files" };
      const from = models.now();
      await apply("files-one", spread("files-one", models, "one", storage));
      await apply("files-two", spread("files-two", models, "two", storage));
      const pods = await serves("files-one", models, "one");
      expect(nodesOf(pods)).toEqual(both);
      expect(nodesOf(await serves("files-two", models, "two"))).toEqual(both);
      expect(models.fetchedSince(from)).toBe(models.distinctBytes("one", "two"));
      expect(readdirSync(join(path, ".ocimodel/blobs/sha256"))).toHaveLength(3);
      expectNoWrongByte(path);
      await restart("files-one");
      expect(nodesOf(await serves("files-one", models, "one", replicas, pods))).toEqual(both);
      expect(models.fetchedSince(from)).toBe(models.distinctBytes("one", "two"));
      await until("files-one", "tells that all found it", (each) =>
        (condition(each, "StorageReady")?.message ?? "").includes("4 of 4 pods found it there"),
      );
      await gone("files-one", "files-two");
      expect(readdirSync(join(path, "models"))).toHaveLength(2);
    },
  );

  test(
    "a node cache: a copy for each node that pods run on, prefetched where it is wanted, and a pod goes where its model is",
    { timeout },
    async () => {
      const { cluster, apply, kubectl, until, gone } = ground;
      const path = join(cluster.node.disk, "caches");
      await cluster.kubectl([
        "label",
        "--overwrite",
        "namespace",
        systemNamespace,
        "pod-security.kubernetes.io/enforce=privileged",
      ]);
      await cluster.helm([
        "upgrade",
        "ocimodel",
        chart,
        `--namespace=${systemNamespace}`,
        "--reuse-values",
        `--set=nodeCache.enabled=true,nodeCache.path=${path},nodeCache.namespaces[0].name=${namespace}`,
        "--wait",
        "--timeout=90s",
      ]);
      const models = await publishCounted(ground.open, proxy, "ai/cached");
      const cacheOf = ({ diskHere }: ClusterNode): string => join(diskHere, "caches", namespace);
      const copiesOn = (node: ClusterNode): readonly string[] => {
        try {
          return readdirSync(join(cacheOf(node), "models")).map((name) => `sha256:${name}`);
        } catch {
          return [];
        }
      };
      const wanted: readonly [name: string, tag: Tag, node: ClusterNode][] = [
        ["cached-one", "one", nodes[1]],
        ["cached-two", "two", nodes[0]],
      ];
      let from = models.now();
      // Each is brought to one of the nodes, before any replica is wanted.
      for (const [name, tag, node] of wanted) {
        await apply(name, {
          ...spread(name, models, tag, {
            type: "NodeCache",
            prefetch: { nodeSelector: { "kubernetes.io/hostname": node.name } },
          }),
          replicas: 0,
        });
      }
      for (const [name, tag, node] of wanted) {
        const { storage } = await until(name, "is on its node", (each) =>
          Boolean(each.storage?.copies?.length),
        );
        expect(storage?.copies).toMatchObject([{ node: node.name }]);
        expect(storage?.copies).toHaveLength(1);
        expect(copiesOn(node)).toEqual([models.digest(tag)]);
      }
      expect(models.fetchedSince(from)).toBe(models.distinctBytes("one") + models.distinctBytes("two"));

      from = models.now();
      for (const [name] of wanted) await kubectl("scale", "model", name, "--replicas=1");
      for (const [name, tag, node] of wanted)
        expect(nodesOf(await serves(name, models, tag, 1))).toEqual([node.name]);
      expect(models.fetchedSince(from)).toBe(0);

      // More pods than one node may have: the other one gets its own copy, once for all of its pods.
      await kubectl("scale", "model", "cached-one", `--replicas=${replicas}`);
      const pods = await serves("cached-one", models, "one");
      expect(nodesOf(pods)).toEqual(both);
      const missing = models.distinctBytes("one", "two") - models.distinctBytes("two");
      expect(models.fetchedSince(from)).toBe(missing);
      const { storage } = await until(
        "cached-one",
        "knows both copies",
        (each) => each.storage?.copies?.length === 2,
      );
      expect(storage?.copies?.map(({ node }) => node).toSorted()).toEqual(both);
      expect(copiesOn(nodes[0]).toSorted()).toEqual([models.digest("one"), models.digest("two")].toSorted());
      expect(copiesOn(nodes[1])).toEqual([models.digest("one")]);
      await restart("cached-one");
      await serves("cached-one", models, "one", replicas, pods);
      expect(models.fetchedSince(from)).toBe(missing);
      for (const node of nodes) expectNoWrongByte(cacheOf(node));
      await gone("cached-one", "cached-two");
    },
  );

  test(
    "image volumes: each node pulls each layer once for all of its pods, and again for none",
    { timeout },
    async () => {
      const { apply, kubectl, gone } = ground;
      const models = await publishCounted(ground.open, proxy, "images/both", true);
      const from = models.now();
      const storage = { type: "ImageVolume" };
      await apply("image-one", spread("image-one", models, "one", storage));
      expect(nodesOf(await serves("image-one", models, "one"))).toEqual(both);
      expect(models.fetchedSince(from)).toBe(2 * models.distinctBytes("one"));
      await apply("image-two", spread("image-two", models, "two", storage));
      expect(nodesOf(await serves("image-two", models, "two"))).toEqual(both);
      expect(models.fetchedSince(from)).toBe(2 * models.distinctBytes("one", "two"));
      await kubectl("scale", "model", "image-one", "--replicas=0");
      await waitFor("its pods to go", async () => (await serversOf(ground, "image-one")).length === 0, {
        timeoutMs: 120_000,
      });
      await kubectl("scale", "model", "image-one", `--replicas=${replicas}`);
      await serves("image-one", models, "one");
      expect(models.fetchedSince(from)).toBe(2 * models.distinctBytes("one", "two"));
      for (const each of nodes)
        expect(await each.imageNames()).toContain(`${proxy.host}/images/both@${models.digest("one")}`);
      await gone("image-one", "image-two");
    },
  );
});
