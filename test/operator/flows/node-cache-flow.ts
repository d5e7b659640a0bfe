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
      await upgrade([]);
    });

    /** The chart with a cache for the namespace of the Models; its own then has to allow the path. */
    async function upgrade(values: readonly string[]): Promise<void> {
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
        "--set=nodeCache.everySeconds=1,nodeCache.minimumAgeSeconds=1",
        ...values,
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
      for (const name of ["one", "two"]) {
        await ground.apply(name, { source: source(name), selection, storage, replicas: 3 });
      }
      for (const name of ["one", "two"]) await replicas(name, 3);
      expect(fetchedSince(from)).toBe(weights.length + 200_000);
      expectNoWrongByte(join(path, namespace));
      expect(condition(await ground.statusOf("one"), "StorageReady")).toMatchObject({
        status: "True",
        reason: "ClaimBound",
        message: expect.stringContaining("one copy on each node"),
      });
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

    test("an upgrade fetches what is new alone", async () => {
      const from = proxy.requests.length;
      await ground.patch("one", { source: source("three") });
      const hex = sha256(own.get("three") ?? Buffer.of());
      await ground.until("one", "uses the new version", ({ selected, ready }) => {
        const isThere = existsSync(join(path, namespace, ".ocimodel/blobs/sha256", hex));
        return isThere && selected !== undefined && ready === "3/3";
      });
      expect(fetchedSince(from)).toBe(100_000);
      // Below the limit the old version stays, for a way back.
      expect(models()).toHaveLength(3);
    });

    test("above the limit what nothing uses goes, and what is in use stays, however old", async () => {
      await ground.kubectl("scale", "model", "two", "--replicas=0");
      await ground.until("two", "none", ({ replicas: left }) => left === 0);
      // Less than any model: all go that may.
      await upgrade(["--set=nodeCache.sizeLimit=1k"]);
      await waitFor("the old version to be removed", async () => models().length === 2, {
        timeoutMs: 90_000,
      });
      expectNoWrongByte(join(path, namespace));
      await ground.answers("one", tinyModelSentence);
      const from = proxy.requests.length;
      await ground.kubectl("scale", "model", "two", "--replicas=1");
      await ground.kubectl("delete", "pods", "-l", "ocimodel.dev/model=one", "--wait=false");
      await replicas("two", 1);
      await replicas("one", 3);
      expect(fetchedSince(from)).toBe(0);
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
