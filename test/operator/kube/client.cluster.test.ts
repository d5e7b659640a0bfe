// The client on a real API server: server-side apply, its conflicts, preconditions of deletes, failures as kinds, time limits.

import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { eventResource, EventRecorder } from "../../../operator/kube/events.ts";
import { KubeError } from "../../../operator/kube/errors.ts";
import type { KubeObject } from "../../../operator/kube/types.ts";
import { describeCluster } from "../../cluster/suites.ts";
import { configMaps, startApiServer, type ApiServer, type ConfigMap } from "./api-server.ts";

const never = new AbortController().signal;

describeCluster("client of the API server", () => {
  let server: ApiServer;
  let namespace: string;
  beforeAll(async () => {
    server = await startApiServer();
    namespace = await server.freshNamespace();
  });
  afterAll(async () => {
    await server?.stop();
  });
  afterEach(() => {
    server.proxy.setFaults([]);
  });

  const object = (name: string, data: object, metadata: object = {}): KubeObject =>
    ({ apiVersion: "v1", kind: "ConfigMap", metadata: { name, namespace, ...metadata }, data }) as KubeObject;
  const get = async (name: string): Promise<ConfigMap | undefined> =>
    server.direct.get<ConfigMap>(configMaps, { namespace, name }, never);
  const failure = async (call: Promise<unknown>): Promise<KubeError> => {
    const error = await call.then(
      () => undefined,
      (reason: unknown) => reason,
    );
    if (!(error instanceof KubeError)) throw new Error(`no KubeError: ${String(error)}`);
    return error;
  };
  const kubectl = async (...args: readonly string[]): Promise<string> =>
    (await server.controlPlane.kubectl(["-n", namespace, ...args])).stdout;

  test("apply: others' fields stay, ours are taken back by force, what we leave out goes", async () => {
    await server.direct.apply(configMaps, object("fields", { ours: "1", more: "1" }), never);
    await kubectl("patch", "configmap", "fields", "--type=merge", "-p", '{"data":{"ours":"9","theirs":"1"}}');
    const applied = await server.direct.apply<ConfigMap>(configMaps, object("fields", { ours: "1" }), never);
    expect(applied.data).toEqual({ ours: "1", theirs: "1" });
    // The same once more changes nothing, not even the version.
    const again = await server.direct.apply<ConfigMap>(configMaps, object("fields", { ours: "1" }), never);
    expect(again.metadata.resourceVersion).toBe(applied.metadata.resourceVersion);
  });

  test("apply: two operators are one owner of each field", async () => {
    const other = server.proxied();
    await server.direct.apply(configMaps, object("shared", { a: "1", b: "1" }), never);
    await other.apply(configMaps, object("shared", { a: "1" }), never);
    expect((await get("shared"))?.data).toEqual({ a: "1" });
  });

  test("apply on a state that is no more (a stale version) is a conflict", async () => {
    const { metadata } = await server.direct.apply(configMaps, object("stale", { a: "1" }), never);
    await kubectl("annotate", "configmap", "stale", "x=y");
    const stale = object("stale", { a: "2" }, { resourceVersion: metadata.resourceVersion });
    expect(await failure(server.direct.apply(configMaps, stale, never))).toMatchObject({
      kind: "conflict",
      status: 409,
    });
    expect((await get("stale"))?.data).toEqual({ a: "1" });
  });

  test("create: nothing when there is one already; delete: only the very object", async () => {
    expect(await server.direct.create(configMaps, object("once", { a: "1" }), never)).toBeDefined();
    expect(await server.direct.create(configMaps, object("once", { a: "2" }), never)).toBeUndefined();
    const { metadata } = (await get("once")) ?? object("none", {});
    const key = { namespace, name: "once" };
    const other = "8d8a3c2e-0000-4000-8000-000000000000";
    expect(await server.direct.delete(configMaps, key, { uid: other }, never)).toBe(false);
    await kubectl("annotate", "configmap", "once", "x=y");
    const { uid = "", resourceVersion = "" } = metadata;
    expect(await server.direct.delete(configMaps, key, { uid, resourceVersion }, never)).toBe(false);
    expect(await get("once")).toBeDefined();
    expect(await server.direct.delete(configMaps, key, { uid }, never)).toBe(true);
    expect(await server.direct.delete(configMaps, key, { uid }, never)).toBe(false);
    expect(await get("once")).toBeUndefined();
  });

  test("failures are kinds, with the server's words and without those of a proxy", async () => {
    const { direct } = server;
    expect(await failure(direct.apply(configMaps, object("Bad_Name", {}), never))).toMatchObject({
      kind: "invalid",
    });
    const nowhere = { ...object("x", {}), metadata: { name: "x", namespace: "nowhere" } };
    expect(await failure(direct.create(configMaps, nowhere, never))).toMatchObject({
      kind: "notFound",
      message: 'namespaces "nowhere" not found',
    });
    const nobody = server.proxied();
    const answers = [
      [401, "unauthorized"],
      [403, "forbidden"],
      [429, "throttled"],
      [500, "unavailable"],
      [503, "unavailable"],
    ] as const;
    for (const [status, kind] of answers) {
      const body = "<html>token=hunter2</html>";
      server.proxy.setFaults([
        {
          when: { path: /configmaps/ },
          do: { kind: "status", status, body, headers: { "retry-after": "9" } },
        },
      ]);
      const error = await failure(nobody.get(configMaps, { namespace, name: "x" }, never));
      expect(error).toMatchObject({
        kind,
        status,
        retryAfterMs: 9_000,
        message: `the API server answered ${status}`,
      });
    }
  });

  test("a write whose answer is lost has failed for us, and the next one finds it done", async () => {
    const client = server.proxied();
    server.proxy.setFaults([
      { when: { method: "POST", path: /configmaps/ }, do: { kind: "cut", afterBytes: 10, reset: true } },
    ]);
    expect(await failure(client.create(configMaps, object("lost", { a: "1" }), never))).toMatchObject({
      kind: "unavailable",
      status: 0,
    });
    expect(await client.create(configMaps, object("lost", { a: "1" }), never)).toBeUndefined();
  });

  test("no request lasts longer than its limit; a stop ends it at once and is no KubeError", async () => {
    const client = server.proxied({ timeoutMs: 200 });
    const stall = { when: { path: /configmaps/, times: 9 }, do: { kind: "stall" } } as const;
    server.proxy.setFaults([stall]);
    const sinceMs = performance.now();
    expect(await failure(client.get(configMaps, { namespace, name: "x" }, never))).toMatchObject({
      kind: "unavailable",
    });
    expect(await failure(client.stream("/api/v1/configmaps", { watch: "true" }, never))).toMatchObject({
      kind: "unavailable",
    });
    expect(performance.now() - sinceMs).toBeLessThan(2_000);
    const stop = new AbortController();
    const patient = server.proxied();
    const asking = patient.get(configMaps, { namespace, name: "x" }, stop.signal);
    setTimeout(() => stop.abort(), 20);
    await expect(asking).rejects.toSatisfy((error) => !(error instanceof KubeError));
  });

  test("events: what was told is not told again within the window; failures are told and forgotten", async () => {
    let nowMs = Date.parse("2026-01-01T00:00:00Z");
    const errors: unknown[] = [];
    const recorder = new EventRecorder({
      kube: server.proxied(),
      component: "test",
      windowMs: 1_000,
      nowMs: () => nowMs,
      onError: (error) => errors.push(error),
    });
    const about = (await server.put(namespace, "subject", "1")) as KubeObject;
    const events = async (): Promise<readonly string[]> => {
      const { items } = await server.direct.read<{
        items: (KubeObject & { reason: string; message: string })[];
      }>(`/api/v1/namespaces/${namespace}/events`, { fieldSelector: "involvedObject.name=subject" }, never);
      return items.map(({ reason }) => reason).toSorted();
    };
    const subject = { ...about, apiVersion: "v1", kind: "ConfigMap" };
    for (const reason of ["One", "One", "Two"]) recorder.record(subject, "Normal", reason, "text");
    await recorder.flush(5_000);
    expect(await events()).toEqual(["One", "Two"]);
    nowMs += 1_000;
    recorder.record(subject, "Normal", "One", "text");
    await recorder.flush(5_000);
    expect(await events()).toEqual(["One", "One", "Two"]);
    server.proxy.setFaults([{ when: { path: /events/ }, do: { kind: "status", status: 403 } }]);
    recorder.record(subject, "Warning", "Lost", "text");
    recorder.record(subject, "Warning", "Kept", "t".repeat(5_000));
    await recorder.flush(5_000);
    expect(await events()).toEqual(["Kept", "One", "One", "Two"]);
    expect(errors).toHaveLength(1);
    // At the end nobody waits for events that do not get through.
    server.proxy.setFaults([{ when: { path: /events/, times: 99 }, do: { kind: "stall" } }]);
    for (let index = 0; index < 20; index += 1) recorder.record(subject, "Normal", `Late${index}`, "text");
    const sinceMs = performance.now();
    await recorder.flush(100);
    expect(performance.now() - sinceMs).toBeLessThan(1_000);
    expect(eventResource.plural).toBe("events");
  });
});
