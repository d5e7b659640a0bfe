// What storage promises, on a real node, for every type: each byte comes over the network once, a second start fetches nothing, nothing in
// use is taken away, nothing is left. Lives of Models with different storage go on side by side: most of each is waiting.

import { chmodSync, chownSync, existsSync, mkdirSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { waitFor } from "../../cluster/run-command.ts";
import { describeNode } from "../../cluster/suites.ts";
import { systemNamespace } from "../../demo/demo.ts";
import { expectNoWrongByte } from "../../puller/store-assertions.ts";
import { startFaultProxy, type FaultProxy } from "../../registry/fault-proxy.ts";
import { publishCounted } from "./counted-models.ts";
import { fileServer, serving } from "./file-server.ts";
import { condition, namespace, startFlowGround, type FlowGround } from "./flow-ground.ts";
import { describeImageVolume } from "./image-volume-flow.ts";
import { describeNodeCache } from "./node-cache-flow.ts";
import { live } from "./storage-life.ts";

const root = join(import.meta.dirname, "../../..");
const className = "by-hand";
/** Lives are long, and the machine may have other work. */
const lifeTimeoutMs = 480_000;

describeNode("storage on a real node", () => {
  let ground: FlowGround;
  let proxy: FaultProxy;

  beforeAll(async () => {
    ground = await startFlowGround();
    proxy = await startFaultProxy({ target: ground.open.url, address: ground.cluster.node.podGateway });
    ground.cluster.node.allowPlainHTTP(proxy.host);
    await ground.applyObject({
      apiVersion: "storage.k8s.io/v1",
      kind: "StorageClass",
      metadata: { name: className },
      provisioner: "kubernetes.io/no-provisioner",
      volumeBindingMode: "WaitForFirstConsumer",
    });
  });
  afterAll(async () => {
    await proxy?.stop();
    await ground?.stop();
  });

  /** A directory of the node that user 65532 may write to. */
  function directory(name: string, mode: number): string {
    const path = join(ground.cluster.node.directory, name);
    mkdirSync(path);
    chownSync(path, 65_532, 65_532);
    chmodSync(path, mode);
    return path;
  }

  /** A volume made by hand, as an administrator would: of a directory of its own, or of one that is there. */
  async function volume(
    name: string,
    claim: string,
    { path = directory(`volume-${name}`, 0o2775), accessModes = ["ReadWriteOnce"] } = {},
  ): Promise<string> {
    await ground.applyObject({
      apiVersion: "v1",
      kind: "PersistentVolume",
      metadata: { name: `${namespace}-${name}` },
      spec: {
        capacity: { storage: "20Gi" },
        accessModes,
        storageClassName: className,
        persistentVolumeReclaimPolicy: "Retain",
        local: { path },
        claimRef: { namespace, name: claim },
        nodeAffinity: {
          required: {
            nodeSelectorTerms: [
              {
                matchExpressions: [
                  { key: "kubernetes.io/hostname", operator: "In", values: [ground.cluster.node.name] },
                ],
              },
            ],
          },
        },
      },
    });
    return path;
  }

  async function claim(name: string, accessModes: readonly string[]): Promise<void> {
    await ground.applyObject({
      apiVersion: "v1",
      kind: "PersistentVolumeClaim",
      metadata: { name, namespace },
      spec: {
        accessModes,
        storageClassName: className,
        resources: { requests: { storage: "10Gi" } },
      },
    });
  }

  const modelsOn = (path: string): readonly string[] => readdirSync(join(path, "models"));
  const blobsOn = (path: string): readonly string[] => readdirSync(join(path, ".ocimodel/blobs/sha256"));

  // Three lives at a time: with more, pods would start by the dozen on two cores.
  describe("from the first start to the end, on claims that outlive their Models and as image volumes", () => {
    test.concurrent(
      "on a claim of somebody else: it is waited for, and stays with all that is on it",
      { timeout: lifeTimeoutMs },
      async () => {
        const { apply, until, kubectl, gone } = ground;
        const storage = { type: "PersistentVolumeClaim", claimName: "weights" };
        const models = await publishCounted(ground.open, proxy, "ai/claimed");
        let path = "";
        await live(ground, {
          name: "claimed",
          models,
          storage: [storage, storage],
          whenApplied: async () => {
            const status = await until(
              "claimed-one",
              "misses its claim",
              (each) => condition(each, "StorageReady")?.reason === "PVCPending",
            );
            expect(condition(status, "StorageReady")?.message).toContain(
              'there is no claim "weights" in namespace team',
            );
            for (const type of ["ArtifactPulled", "WorkloadAvailable", "Ready"])
              expect(condition(status, type)).toMatchObject({ status: "False", reason: "PVCPending" });
            path = await volume("shared", "weights");
            await claim("weights", ["ReadWriteOnce"]);
          },
          whenServing: async () => {
            // Whoever fetches, the others find it.
            await until("claimed-one", "counts who found the model", (each) =>
              /^claim "weights", 20Gi, for pods on one node; \d of 3 pods found it there, .* were not fetched again$/.test(
                condition(each, "StorageReady")?.message ?? "",
              ),
            );
          },
          whenGone: async () => {
            expect(await kubectl("get", "pvc", "weights", "-o", "jsonpath={.status.phase}")).toBe("Bound");
          },
        });
        // An old version too: nobody but its owner knows who else needs it.
        expect([modelsOn(path).length, blobsOn(path).length]).toEqual([3, 4]);
        expectNoWrongByte(path);
        // What was filled can be given to others read-only.
        const mark = models.now();
        await volume("read-only", "read-only", { path, accessModes: ["ReadOnlyMany"] });
        await claim("read-only", ["ReadOnlyMany"]);
        await apply("reader", {
          ...fileServer,
          source: models.source("one"),
          storage: { type: "PersistentVolumeClaim", claimName: "read-only" },
        });
        const version = { digest: models.digest("one"), content: models.content("one") };
        await serving(ground, "reader", { count: 1, ...version });
        expect(models.fetchedSince(mark)).toBe(0);
        await gone("reader");
      },
    );

    test.concurrent(
      "as image volumes, the one stated and the other chosen by Auto: the node fetches each layer once",
      { timeout: lifeTimeoutMs },
      async () => {
        const { statusOf, cluster } = ground;
        const models = await publishCounted(ground.open, proxy, "images/mount", true);
        await live(ground, {
          name: "mount",
          models,
          storage: [{ type: "ImageVolume" }, { type: "Auto" }],
          whenServing: async () => {
            expect((await statusOf("mount-two")).storage).toEqual({
              type: "ImageVolume",
              reason: "the selected variant is an image, and every node that it fits mounts images",
            });
          },
        });
        // They are the node's, which removes images when its disk is full.
        const images = await cluster.node.imageNames();
        for (const tag of ["one", "two", "three"] as const)
          expect(images).toContain(`${proxy.host}/images/mount@${models.digest(tag)}`);
      },
    );

    test.concurrent(
      "a claim that is retained outlives its Model, and is used again by one of the same name",
      { timeout: lifeTimeoutMs },
      async () => {
        const { apply, kubectl, gone, pods } = ground;
        const models = await publishCounted(ground.open, proxy, "ai/kept");
        const path = await volume("kept", "kept-store");
        const spec = {
          ...fileServer,
          source: models.source("two"),
          storage: { type: "PersistentVolumeClaim", storageClassName: className, retention: "Retain" },
        };
        const expected = { count: 1, digest: models.digest("two"), content: models.content("two") };
        await apply("kept", spec);
        const before = await serving(ground, "kept", expected);
        await kubectl("delete", "model", "kept");
        await waitFor("its pods to go", async () => (await pods("kept")).length === 0, {
          timeoutMs: 120_000,
        });
        expect(await kubectl("get", "pvc", "kept-store", "-o", "jsonpath={.status.phase}")).toBe("Bound");
        expect(modelsOn(path)).toHaveLength(1);
        const mark = models.now();
        await apply("kept", { ...spec, storage: { ...spec.storage, retention: "Delete" } });
        await serving(ground, "kept", { ...expected, except: before });
        expect(models.fetchedSince(mark)).toBe(0);
        // It has an owner now, and goes with it.
        await gone("kept");
        expect(await kubectl("get", "pvc", "-o", "name")).not.toContain("kept-store");
      },
    );

    describeImageVolume(() => ground);
  });

  describe("from the first start to the end, on a claim of the operator, a node's copy and volumes of pods", () => {
    test.concurrent(
      "on a claim that the operator makes for one and the other names: bound where the first pod fits, cleared of what neither uses, gone with its Model",
      { timeout: lifeTimeoutMs },
      async () => {
        const { until, kubectl, cluster } = ground;
        const path = await volume("made", "made-one-store");
        await live(ground, {
          name: "made",
          models: await publishCounted(ground.open, proxy, "ai/made"),
          storage: [
            { type: "PersistentVolumeClaim", storageClassName: className },
            { type: "PersistentVolumeClaim", claimName: "made-one-store" },
          ],
          whenServing: async () => {
            await until(
              "made-one",
              "has its claim",
              (each) =>
                condition(each, "StorageReady")?.message.startsWith(
                  'claim "made-one-store", 20Gi, for pods on one node',
                ) === true,
            );
            expect(
              await kubectl(
                "get",
                "pvc",
                "made-one-store",
                "-o",
                "jsonpath={.spec.resources.requests.storage}",
              ),
            ).toBe("1Gi");
          },
          whenUpgraded: async () => {
            // The hour of the default passes in a second: what pods have by now is what counts.
            expect(modelsOn(path)).toHaveLength(3);
            await cluster.helm([
              "upgrade",
              "ocimodel",
              join(root, "charts/ocimodel"),
              `--namespace=${systemNamespace}`,
              "--reuse-values",
              "--set=collectAfterSeconds=1",
              "--wait",
            ]);
            await waitFor("the old version to be removed", () => modelsOn(path).length === 2, {
              timeoutMs: 120_000,
              describe: () => modelsOn(path).join(" "),
            });
            await until("made-one", "is done with that", ({ storage }) => storage?.isPending === false);
            await waitFor("the blob of the old version to go", () => blobsOn(path).length === 3);
            expectNoWrongByte(path);
          },
        });
        expect(await kubectl("get", "pvc", "-o", "name")).not.toContain("made-one-store");
      },
    );

    test.concurrent(
      "on a node's own copy, by the example of the documentation",
      { timeout: lifeTimeoutMs },
      async () => {
        const { cluster, kubectl, until } = ground;
        const path = directory("node-cache", 0o2770);
        const example = readFileSync(join(root, "docs/examples/node-cache.yaml"), "utf8");
        expect(example).toContain("/var/lib/ocimodel/team");
        await cluster.kubectl(["apply", "-f", "-"], {
          input: example.replace("/var/lib/ocimodel/team", path),
        });
        await live(ground, {
          name: "cached",
          models: await publishCounted(ground.open, proxy, "ai/by-hand"),
          storage: [{ type: "NodeCache" }, { type: "NodeCache" }],
          whenServing: async () => {
            const { storage } = await until("cached-one", "knows its copy", (each) =>
              Boolean(each.storage?.copies?.length),
            );
            expect(storage?.copies).toMatchObject([{ node: cluster.node.name }]);
          },
        });
        // Whoever made the cache clears it: there is no pod of the chart here.
        expect([modelsOn(path).length, blobsOn(path).length]).toEqual([3, 4]);
        expectNoWrongByte(path);
        await kubectl("delete", "pvc", "node-cache");
      },
    );

    test.concurrent(
      "each pod by itself, on disk and in RAM: as much is reserved, all is fetched by each, and nothing stays on the node",
      { timeout: lifeTimeoutMs },
      async () => {
        const { kubectl, cluster } = ground;
        const reserved = async (model: string, what: string): Promise<string> =>
          kubectl(
            "get",
            "pods",
            "-l",
            `ocimodel.dev/model=${model},app.kubernetes.io/component=server`,
            "-o",
            `jsonpath={.items[0].spec.initContainers[0].resources.${what}}`,
          );
        await live(ground, {
          name: "alone",
          models: await publishCounted(ground.open, proxy, "ai/alone"),
          storage: [{ type: "Ephemeral" }, { type: "Ephemeral", medium: "Memory" }],
          isPerPod: true,
          whenServing: async () => {
            expect(await reserved("alone-one", "requests.ephemeral-storage")).toMatch(/^6[4-9]Mi$|^\d{8}$/);
            expect(await reserved("alone-two", "limits.memory")).toMatch(/^5[7-9]\dMi$/);
          },
          whenGone: async (pods) => {
            const left = (): readonly string[] =>
              pods
                .map(({ uid }) => join(cluster.node.directory, "kubelet/pods", uid))
                .filter((path) => existsSync(path));
            await waitFor("the pods' directories to go", () => left().length === 0, {
              timeoutMs: 60_000,
              describe: () => left().join("\n"),
            });
          },
        });
      },
    );
  });

  describeNodeCache(() => ({ ground, proxy }));
});
