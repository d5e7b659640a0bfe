// What a cache of the nodes promises, on a real node with the chart's DaemonSet; run by the suite of storage, on its ground. Each byte comes over the network once for all pods,
// Models and versions; a second start fetches nothing; what is in use is never removed, and what is not goes when room is short.

import { existsSync, readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { waitFor } from "../../cluster/run-command.ts";
import { systemNamespace } from "../../demo/demo.ts";
import { ggufBytes } from "../../models/gguf-writer.ts";
import { tinyModel, tinyModelSentence } from "../../models/tiny-model.ts";
import { expectNoWrongByte, noise, sha256 } from "../../puller/store-assertions.ts";
import type { FaultProxy } from "../../registry/fault-proxy.ts";
import { publishDockerModel } from "../../registry/publish.ts";
import { condition, namespace, type FlowGround } from "./flow-ground.ts";

const selection = { contextLength: 128 };
const storage = { type: "NodeCache" };
const chart = join(import.meta.dirname, "../../../charts/ocimodel");

/** Declares the tests; the ground and the registry's proxy are there when they run. */
export function describeNodeCache(
  start: () => { readonly ground: FlowGround; readonly proxy: FaultProxy },
): void {
  describe("a node cache", () => {
    let ground: FlowGround;
    let proxy: FaultProxy;
    let path = "";
    const weights = ggufBytes(tinyModel());
    /** Beside the weights, which all versions have, each has a file of its own. */
    const own = new Map(["one", "two", "three"].map((tag) => [tag, noise(tag, 100_000)]));
    const layers = [weights, ...own.values()].map(sha256);

    beforeAll(async () => {
      ({ ground, proxy } = start());
      for (const [tag, content] of own) {
        await publishDockerModel(ground.open, {
          repository: "ai/cached",
          tag,
          version: "v0.2",
          files: [
            { name: "model.gguf", content: weights },
            { name: "notes.txt", content },
          ],
        });
      }
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

    const source = (tag: string): object => ({
      reference: `${proxy.host}/ai/cached:${tag}`,
      tls: { plainHTTP: true },
    });
    /** Bytes of layers that pulls fetched since the n-th request; inspection reads the head of the weights in ranges. */
    const fetchedSince = (from: number): number =>
      proxy.requests
        .slice(from)
        .filter(
          ({ method, path: asked, headers }) =>
            method === "GET" &&
            layers.some((hex) => asked.includes(hex)) &&
            !/^bytes=\d+-\d+$/.test(String(headers["range"] ?? "")),
        )
        .reduce((sum, { sentBytes }) => sum + sentBytes, 0);
    const models = (): readonly string[] => readdirSync(join(path, namespace, "models")).sort();
    const replicas = async (name: string, count: number): Promise<void> => {
      await ground.until(name, `${count} ready`, ({ ready }) => ready === `${count}/${count}`);
    };

    test("the directory of the namespace is its own, and pods mount a claim and no path of the host", async () => {
      expect(statSync(join(path, namespace))).toMatchObject({ uid: 65_532, gid: 65_532 });
      expect(statSync(join(path, namespace)).mode & 0o7777).toBe(0o2770);
      const from = proxy.requests.length;
      // Brought to the node before any replica is wanted; its pods go then.
      await ground.apply("one", {
        source: source("one"),
        selection,
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
      expect(fetchedSince(from)).toBe(weights.length + 100_000);
      await ground.apply("two", { source: source("two"), selection, storage, replicas: 3 });
      await ground.kubectl("scale", "model", "one", "--replicas=3");
      for (const name of ["one", "two"]) await replicas(name, 3);
      expect(fetchedSince(from)).toBe(weights.length + 200_000);
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
      await ground.answers("one", tinyModelSentence);
    });

    test("restarted, and scaled to none and back, nothing is fetched", async () => {
      const { kubectl, until } = ground;
      const from = proxy.requests.length;
      await kubectl("scale", "model", "one", "--replicas=0");
      await until("one", "none", ({ replicas: left }) => left === 0);
      await kubectl("delete", "pods", "-l", "ocimodel.dev/model=two", "--wait=false");
      await kubectl("scale", "model", "one", "--replicas=3");
      await replicas("one", 3);
      await replicas("two", 3);
      expect(fetchedSince(from)).toBe(0);
    });

    test("an upgrade fetches what is new alone; the old version goes, and what a Model without pods selected stays", async () => {
      const { kubectl, until } = ground;
      await kubectl("scale", "model", "two", "--replicas=0");
      await until("two", "none", ({ replicas: left }) => left === 0);
      const from = proxy.requests.length;
      await ground.patch("one", { source: source("three") });
      const hex = sha256(own.get("three") ?? Buffer.of());
      await until("one", "uses the new version", ({ ready }) => {
        const isThere = existsSync(join(path, namespace, ".ocimodel/blobs/sha256", hex));
        return isThere && ready === "3/3";
      });
      expect(fetchedSince(from)).toBe(100_000);
      await waitFor("the old version to be removed", async () => models().length === 2, {
        timeoutMs: 90_000,
      });
      expectNoWrongByte(join(path, namespace));
      await ground.answers("one", tinyModelSentence);
      await kubectl("scale", "model", "two", "--replicas=1");
      await kubectl("delete", "pods", "-l", "ocimodel.dev/model=one", "--wait=false");
      await replicas("two", 1);
      await replicas("one", 3);
      expect(fetchedSince(from)).toBe(100_000);
    });

    test("deleted, nothing is left: no objects, no bytes", async () => {
      await ground.gone("one");
      await ground.gone("two");
      await waitFor(
        "the models to be removed",
        async () =>
          models().length === 0 && readdirSync(join(path, namespace, ".ocimodel/blobs/sha256")).length === 0,
        { timeoutMs: 120_000 },
      );
    });
  });
}
