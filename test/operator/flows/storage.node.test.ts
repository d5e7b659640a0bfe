// What storage promises, on a real node: each byte comes over the network once, a second start fetches nothing, nothing is left.

import { chmodSync, chownSync, existsSync, mkdirSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { waitFor } from "../../cluster/run-command.ts";
import { describeNode } from "../../cluster/suites.ts";
import { ggufBytes } from "../../models/gguf-writer.ts";
import { tinyModel, tinyModelSentence } from "../../models/tiny-model.ts";
import { expectNoWrongByte, noise, sha256 } from "../../puller/store-assertions.ts";
import { startFaultProxy, type FaultProxy } from "../../registry/fault-proxy.ts";
import { publishDockerModel } from "../../registry/publish.ts";
import { condition, namespace, startFlowGround, type FlowGround } from "./flow-ground.ts";
import { describeNodeCache } from "./node-cache-flow.ts";

const selection = { contextLength: 128 };
const className = "by-hand";

describeNode("storage on a real node", () => {
  let ground: FlowGround;
  let proxy: FaultProxy;
  /** Weights that both models have, and a file that each has for itself. */
  const weights = ggufBytes(tinyModel());
  const sizes = new Map<string, number>();

  beforeAll(async () => {
    ground = await startFlowGround();
    proxy = await startFaultProxy({ target: ground.open.url, address: ground.cluster.node.podGateway });
    for (const tag of ["one", "two"]) {
      const own = noise(tag, 100_000);
      await publishDockerModel(ground.open, {
        repository: "ai/shared",
        tag,
        version: "v0.2",
        files: [
          { name: "model.gguf", content: weights },
          { name: "notes.txt", content: own },
        ],
      });
      sizes.set(sha256(own), own.length);
    }
    sizes.set(sha256(weights), weights.length);
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

  /** A volume made by hand, as an administrator would: a directory of the node that user 65532 may write to. */
  async function volume(name: string, accessModes: readonly string[], claim?: string): Promise<string> {
    const path = join(ground.cluster.node.directory, `volume-${name}`);
    mkdirSync(path);
    chownSync(path, 65_532, 65_532);
    chmodSync(path, 0o2775);
    const node = await ground.cluster.kubectl(["get", "nodes", "-o", "jsonpath={.items[0].metadata.name}"]);
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
        ...(claim === undefined ? {} : { claimRef: { namespace, name: claim } }),
        nodeAffinity: {
          required: {
            nodeSelectorTerms: [
              {
                matchExpressions: [{ key: "kubernetes.io/hostname", operator: "In", values: [node.stdout] }],
              },
            ],
          },
        },
      },
    });
    return path;
  }

  const source = (tag: string): object => ({
    reference: `${proxy.host}/ai/shared:${tag}`,
    tls: { plainHTTP: true },
  });
  /** Bytes of layers that pulls fetched since the n-th request; inspection reads the head of the weights in ranges. */
  const fetchedSince = (from: number): number =>
    proxy.requests
      .slice(from)
      .filter(
        ({ method, path, headers }) =>
          method === "GET" &&
          [...sizes.keys()].some((hex) => path.includes(hex)) &&
          !/^bytes=\d+-\d+$/.test(String(headers["range"] ?? "")),
      )
      .reduce((sum, { sentBytes }) => sum + sentBytes, 0);
  const distinct = (): number => [...sizes.values()].reduce((sum, bytes) => sum + bytes, 0);

  describe("a claim that two Models share, three replicas each", () => {
    let path = "";
    const storage = { type: "PersistentVolumeClaim", claimName: "weights" };

    test("waits, saying so, until the claim is there", async () => {
      const { apply, until } = ground;
      await apply("one", { source: source("one"), selection, storage, replicas: 3 });
      const status = await until(
        "one",
        "misses its claim",
        (each) => condition(each, "StorageReady")?.reason === "PVCPending",
      );
      expect(condition(status, "StorageReady")?.message).toContain(
        'there is no claim "weights" in namespace team',
      );
      expect(condition(status, "Ready")).toMatchObject({ status: "False", reason: "PVCPending" });
    });

    test("each distinct byte is fetched once, whatever number of pods and Models", async () => {
      const { apply, applyObject, until } = ground;
      path = await volume("shared", ["ReadWriteOnce"], "weights");
      const from = proxy.requests.length;
      await applyObject({
        apiVersion: "v1",
        kind: "PersistentVolumeClaim",
        metadata: { name: "weights", namespace },
        spec: {
          accessModes: ["ReadWriteOnce"],
          storageClassName: className,
          resources: { requests: { storage: "10Gi" } },
        },
      });
      await apply("two", { source: source("two"), selection, storage, replicas: 3 });
      for (const name of ["one", "two"]) {
        const status = await until(name, "three ready", (each) => each.ready === "3/3");
        expect(condition(status, "StorageReady")).toMatchObject({ status: "True", reason: "ClaimBound" });
      }
      expect(fetchedSince(from)).toBe(distinct());
      expectNoWrongByte(path);
      expect(readdirSync(join(path, "models"))).toHaveLength(2);
    });

    test("scaled to none and back, and restarted, nothing is fetched", async () => {
      const { kubectl, until, ready } = ground;
      const from = proxy.requests.length;
      await kubectl("scale", "model", "one", "--replicas=0");
      await until("one", "none", (each) => each.replicas === 0);
      await kubectl("scale", "model", "one", "--replicas=2");
      await until("one", "two ready", (each) => each.ready === "2/2");
      await kubectl("delete", "pods", "-l", "ocimodel.dev/model=two", "--wait=true");
      await ready("two");
      expect(fetchedSince(from)).toBe(0);
      // Seen by the replica that leads: what the pods did not have to fetch.
      const found = await ground.metric("ocimodel_model_bytes_total");
      expect(found).toBeGreaterThan(distinct() * 2);
      expect(await ground.metric("ocimodel_model_starts_total")).toBeGreaterThanOrEqual(11);
    });

    test("deleted: their objects go; the claim of somebody else, and what is on it, stay", async () => {
      const { gone, kubectl } = ground;
      await gone("one");
      await gone("two");
      expect(await kubectl("get", "pvc", "weights", "-o", "jsonpath={.status.phase}")).toBe("Bound");
      expect(readdirSync(join(path, "models"))).toHaveLength(2);
    });
  });

  describe("a claim that the operator makes", () => {
    test("binds where the first pod fits, is warm at the second start, and goes with its Model", async () => {
      const { apply, ready, kubectl, gone, until } = ground;
      await volume("made", ["ReadWriteOnce"], "made-store");
      const from = proxy.requests.length;
      const storage = { type: "PersistentVolumeClaim", storageClassName: className };
      await apply("made", { source: source("one"), selection, storage, replicas: 3 });
      const status = await until("made", "three ready", (each) => each.ready === "3/3");
      expect(condition(status, "StorageReady")).toMatchObject({
        status: "True",
        reason: "ClaimBound",
        message: 'claim "made-store", 20Gi, for pods on one node',
      });
      expect(
        await kubectl("get", "pvc", "made-store", "-o", "jsonpath={.spec.resources.requests.storage}"),
      ).toBe("1Gi");
      expect(fetchedSince(from)).toBe(weights.length + 100_000);
      const warm = proxy.requests.length;
      await kubectl("delete", "pods", "-l", "ocimodel.dev/model=made", "--wait=true");
      await ready("made");
      expect(fetchedSince(warm)).toBe(0);
      await gone("made");
    });

    test("after an upgrade the old version is removed, once nothing uses it, and what both have in common stays", async () => {
      const { apply, ready, patch, until, gone, cluster, answers, kubectl } = ground;
      await cluster.helm([
        "upgrade",
        "ocimodel",
        join(import.meta.dirname, "../../../charts/ocimodel"),
        "--namespace=ocimodel-system",
        "--reuse-values",
        // Longer than the new version's pod takes to begin: what both have in common is the old one's alone until then.
        "--set=collectAfterSeconds=40",
        "--wait",
      ]);
      const path = await volume("upgraded", ["ReadWriteOnce"], "upgraded-store");
      const storage = { type: "PersistentVolumeClaim", storageClassName: className };
      await apply("upgraded", { source: source("one"), selection, storage });
      await ready("upgraded");
      const before = readdirSync(join(path, "models"));
      const from = proxy.requests.length;
      await patch("upgraded", { source: source("two") });
      await until(
        "upgraded",
        "uses the new version alone",
        ({ storage: seen }) => seen?.inUse?.includes(before[0] ?? "") === false,
      );
      await ready("upgraded");
      expect(fetchedSince(from)).toBe(100_000);
      await until(
        "upgraded",
        "has removed the old version",
        ({ storage: seen }) => seen?.isPending === false,
      );
      const after = readdirSync(join(path, "models"));
      expect(after).toHaveLength(1);
      expect(after).not.toEqual(before);
      expect(readdirSync(join(path, ".ocimodel/blobs/sha256"))).toHaveLength(2);
      expectNoWrongByte(path);
      await answers("upgraded", tinyModelSentence);
      await waitFor(
        "the pod that removed it to go",
        async () => !(await kubectl("get", "pods", "-o", "name")).includes("-collect-"),
      );
      await gone("upgraded");
    });

    test("is kept with retention Retain, and used again by a Model of the same name", async () => {
      const { apply, ready, kubectl } = ground;
      const path = await volume("kept", ["ReadWriteOnce"], "kept-store");
      const storage = { type: "PersistentVolumeClaim", storageClassName: className, retention: "Retain" };
      await apply("kept", { source: source("two"), selection, storage });
      await ready("kept");
      await kubectl("delete", "model", "kept");
      await waitFor(
        "its pods to go",
        async () => (await kubectl("get", "pods", "-l", "ocimodel.dev/model=kept", "-o", "name")) === "",
      );
      expect(await kubectl("get", "pvc", "kept-store", "-o", "jsonpath={.status.phase}")).toBe("Bound");
      expect(existsSync(join(path, "models"))).toBe(true);
      const from = proxy.requests.length;
      await apply("kept", { source: source("two"), selection, storage: { ...storage, retention: "Delete" } });
      await ready("kept");
      expect(fetchedSince(from)).toBe(0);
      // It has an owner now, and goes with it.
      await ground.gone("kept");
    });
  });

  test("a node's own copy, by the example of the documentation: fetched once for all pods on it", async () => {
    const { apply, gone, kubectl, until, cluster } = ground;
    const path = join(cluster.node.directory, "node-cache");
    mkdirSync(path);
    chownSync(path, 65_532, 65_532);
    chmodSync(path, 0o2770);
    const example = readFileSync(join(import.meta.dirname, "../../../docs/examples/node-cache.yaml"), "utf8");
    expect(example).toContain("/var/lib/ocimodel/team");
    await cluster.kubectl(["apply", "-f", "-"], { input: example.replace("/var/lib/ocimodel/team", path) });
    const storage = { type: "NodeCache" };
    const from = proxy.requests.length;
    for (const name of ["one", "two"])
      await apply(name, { source: source(name), selection, storage, replicas: 2 });
    for (const name of ["one", "two"]) await until(name, "two ready", (each) => each.ready === "2/2");
    expect(fetchedSince(from)).toBe(distinct());
    expectNoWrongByte(path);
    await gone("one");
    await gone("two");
    await kubectl("delete", "pvc", "node-cache");
  });

  describeNodeCache(() => ({ ground, proxy }));

  test("an ephemeral volume in RAM serves, and its pod reserves the memory", async () => {
    const { apply, ready, gone, kubectl } = ground;
    await apply("ram", {
      source: source("one"),
      selection,
      storage: { type: "Ephemeral", medium: "Memory" },
    });
    await ready("ram");
    const memory = await kubectl(
      "get",
      "pods",
      "-l",
      "ocimodel.dev/model=ram",
      "-o",
      "jsonpath={.items[0].spec.initContainers[0].resources.limits.memory}",
    );
    expect(memory).toMatch(/^5[7-9]\dMi$/);
    await gone("ram");
  });
});
