// What a cache of the nodes promises, on a real node with the chart's DaemonSet; run by the suite of storage, on its ground. Each byte comes
// over the network once for all pods, Models and versions; a second start fetches nothing; what is in use is never removed, and what is not
// goes when room is short.

import { existsSync, readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { waitFor } from "../../cluster/run-command.ts";
import { systemNamespace } from "../../demo/demo.ts";
import { expectNoWrongByte, sha256 } from "../../puller/store-assertions.ts";
import type { FaultProxy } from "../../registry/fault-proxy.ts";
import { publishCounted, type CountedModels, type Tag } from "./counted-models.ts";
import { fileServer, serving } from "./file-server.ts";
import { condition, namespace, type FlowGround } from "./flow-ground.ts";

const storage = { type: "NodeCache" };
const chart = join(import.meta.dirname, "../../../charts/ocimodel");

/** Declares the tests; the ground and the registry's proxy are there when they run. */
export function describeNodeCache(
  start: () => { readonly ground: FlowGround; readonly proxy: FaultProxy },
): void {
  describe("a node cache", () => {
    let ground: FlowGround;
    let path = "";
    let models: CountedModels;

    beforeAll(async () => {
      const { ground: started, proxy } = start();
      ground = started;
      models = await publishCounted(ground.open, proxy, "ai/cached");
      path = join(ground.cluster.node.directory, "caches");
      await installCache();
    });

    /** The chart with a cache for the namespace of the Models; its own then has to allow the path. */
    async function installCache(): Promise<void> {
      const { cluster } = ground;
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
        // Less than any model has: whatever is not in use goes, all the time. Longer than a pull takes.
        "--set=nodeCache.sizeLimit=1k,nodeCache.everySeconds=1,nodeCache.minimumAgeSeconds=15",
        "--wait",
        "--timeout=90s",
      ]);
    }

    const kept = (): readonly string[] => readdirSync(join(path, namespace, "models")).sort();
    const serves = async (name: string, tag: Tag): Promise<void> => {
      const version = { digest: models.digest(tag), content: models.content(tag) };
      await serving(ground, name, { count: 3, ...version });
    };
    const replicas = async (name: string, count: number): Promise<void> => {
      await ground.until(name, `${count} ready`, ({ ready }) => ready === `${count}/${count}`);
    };

    test("the directory of the namespace is its own, and pods mount a claim and no path of the host", async () => {
      expect(statSync(join(path, namespace))).toMatchObject({ uid: 65_532, gid: 65_532 });
      expect(statSync(join(path, namespace)).mode & 0o7777).toBe(0o2770);
      const from = models.now();
      // Brought to the node before any replica is wanted; its pods go then.
      await ground.apply("one", {
        ...fileServer,
        source: models.source("one"),
        storage: { ...storage, prefetch: {} },
        replicas: 0,
      });
      const filled = await ground.until(
        "one",
        "is on the node",
        ({ storage: seen }) => seen?.copies !== undefined,
      );
      expect(filled.storage?.copies).toMatchObject([{ node: ground.cluster.node.name }]);
      await waitFor("the pod that brought it to go", async () => (await ground.pods("one")).length === 0);
      expect(models.fetchedSince(from)).toBe(models.distinctBytes("one"));
      await ground.apply("two", { ...fileServer, source: models.source("two"), storage, replicas: 3 });
      await ground.kubectl("scale", "model", "one", "--replicas=3");
      for (const name of ["one", "two"]) await replicas(name, 3);
      expect(models.fetchedSince(from)).toBe(models.distinctBytes("one", "two"));
      expectNoWrongByte(join(path, namespace));
      expect(condition(await ground.statusOf("one"), "StorageReady")).toMatchObject({
        status: "True",
        reason: "ClaimBound",
        message: expect.stringMatching(
          /one copy on each node; the model is on 1 node; prefetched to 1 of 1 nodes; 3 of 3 pods found it there, .* were not fetched again$/,
        ),
      });
      expect(
        await ground.kubectl("get", "deployment", "one", "-o", "jsonpath={.spec.template.spec.affinity}"),
      ).toContain(`"values":["${ground.cluster.node.name}"]`);
      const volumes = await ground.kubectl("get", "pods", "-o", "jsonpath={.items[*].spec.volumes}");
      expect(volumes).not.toContain("hostPath");
      expect(volumes).toContain('"claimName":"ocimodel-node-cache"');
      await serves("one", "one");
      // Of the replica that leads: what pods started with, and that most found it.
      await waitFor("six starts to be counted, and their bytes", async () => {
        const starts = await ground.metric("ocimodel_model_starts_total");
        const bytes = await ground.metric("ocimodel_model_bytes_total");
        return starts >= 6 && bytes >= 6 * models.distinctBytes("one");
      });
    });

    test("restarted, and scaled to none and back, nothing is fetched", async () => {
      const { kubectl, until } = ground;
      const from = models.now();
      await kubectl("scale", "model", "one", "--replicas=0");
      await until("one", "none", ({ replicas: left }) => left === 0);
      await kubectl("delete", "pods", "-l", "ocimodel.dev/model=two", "--wait=false");
      await kubectl("scale", "model", "one", "--replicas=3");
      await replicas("one", 3);
      await replicas("two", 3);
      expect(models.fetchedSince(from)).toBe(0);
    });

    test("an upgrade fetches what is new alone; the old version goes, and what a Model without pods selected stays", async () => {
      const { kubectl, until } = ground;
      await kubectl("scale", "model", "two", "--replicas=0");
      await until("two", "none", ({ replicas: left }) => left === 0);
      const newBytes = models.distinctBytes("one", "three") - models.distinctBytes("one");
      const from = models.now();
      await ground.patch("one", { source: models.source("three") });
      const hex = sha256(models.content("three"));
      await until("one", "uses the new version", ({ ready }) => {
        const isThere = existsSync(join(path, namespace, ".ocimodel/blobs/sha256", hex));
        return isThere && ready === "3/3";
      });
      expect(models.fetchedSince(from)).toBe(newBytes);
      await waitFor("the old version to be removed", async () => kept().length === 2, {
        timeoutMs: 90_000,
      });
      expectNoWrongByte(join(path, namespace));
      await serves("one", "three");
      await kubectl("scale", "model", "two", "--replicas=1");
      await kubectl("delete", "pods", "-l", "ocimodel.dev/model=one", "--wait=false");
      await replicas("two", 1);
      await replicas("one", 3);
      expect(models.fetchedSince(from)).toBe(newBytes);
    });

    test("deleted, nothing is left: no objects, no bytes", async () => {
      await ground.gone("one", "two");
      await waitFor(
        "the models to be removed",
        async () =>
          kept().length === 0 && readdirSync(join(path, namespace, ".ocimodel/blobs/sha256")).length === 0,
        { timeoutMs: 120_000 },
      );
    });
  });
}
