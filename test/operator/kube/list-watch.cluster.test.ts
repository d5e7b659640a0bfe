// The contract of the list-watch, case by case, against a real API server behind a proxy that breaks what the case says.

import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import type { KubeError } from "../../../operator/kube/errors.ts";
import { waitFor } from "../../cluster/run-command.ts";
import { describeCluster } from "../../cluster/suites.ts";
import type { Fault, FaultAction } from "../../registry/fault-proxy.ts";
import { startApiServer, type ApiServer } from "./api-server.ts";
import { Follower } from "./follower.ts";

const expiredStatus = JSON.stringify({
  kind: "Status",
  apiVersion: "v1",
  status: "Failure",
  reason: "Expired",
  code: 410,
  message: "too old resource version",
});

describeCluster("list-watch", () => {
  let server: ApiServer;
  let namespace: string;
  let follower: Follower | undefined;
  beforeAll(async () => {
    server = await startApiServer();
  });
  afterAll(async () => {
    await server?.stop();
  });
  afterEach(async () => {
    await follower?.stop();
    follower = undefined;
    server.proxy.setFaults([]);
  });

  const onList = (action: FaultAction, when: Partial<Fault["when"]> = {}): Fault => ({
    when: { path: new RegExp(`/${namespace}/configmaps\\?limit`), ...when },
    do: action,
  });
  const onWatch = (action: FaultAction, when: Partial<Fault["when"]> = {}): Fault => ({
    when: { path: new RegExp(`/${namespace}/configmaps\\?watch`), ...when },
    do: action,
  });
  /** A namespace with objects `names`, then the faults. */
  const given = async (
    names: readonly string[],
    ...faults: readonly ((() => Fault) | undefined)[]
  ): Promise<void> => {
    namespace = await server.freshNamespace();
    for (const name of names) await server.put(namespace, name, "1");
    server.proxy.setFaults(faults.flatMap((make) => make?.() ?? []));
  };
  const follow = async (options: ConstructorParameters<typeof Follower>[2] = {}): Promise<Follower> => {
    follower = new Follower(server, namespace, options);
    await follower.start();
    await follower.watching();
    return follower;
  };
  /** All faults have happened, and the copy equals the server. */
  const healed = async (one: Follower): Promise<void> => {
    await waitFor("the faults to happen", () => server.proxy.unmet().length === 0, {
      describe: () => JSON.stringify(server.proxy.unmet()),
    });
    await one.agrees();
  };

  const listFaults: readonly (readonly [string, FaultAction, RegExp])[] = [
    ["500", { kind: "status", status: 500 }, /answered 500/],
    [
      "503 of a proxy, with its page",
      { kind: "status", status: 503, body: "<html>secret</html>" },
      /answered 503/,
    ],
    [
      "429 with Retry-After",
      { kind: "status", status: 429, headers: { "retry-after": "7" } },
      /answered 429/,
    ],
    ["no answer in time", { kind: "stall" }, /no answer/],
    ["an answer that stops", { kind: "stall", afterBytes: 20 }, /broke off/],
    ["an answer that ends early", { kind: "cut", afterBytes: 20 }, /broke off/],
    ["an answer that is reset", { kind: "cut", afterBytes: 20, reset: true }, /broke off/],
    ["a refused connection", { kind: "refuse", reset: true }, /no answer/],
    ["a page in place of JSON", { kind: "status", status: 200, body: "<html></html>" }, /no JSON/],
    [
      "JSON that is no list",
      { kind: "status", status: 200, body: '{"kind":"Status","metadata":{}}' },
      /"Status"/,
    ],
    [
      "a list without a version",
      { kind: "status", status: 200, body: '{"kind":"ConfigMapList","metadata":{},"items":[]}' },
      /"ConfigMapList"/,
    ],
    [
      "a list without items",
      { kind: "status", status: 200, body: '{"kind":"ConfigMapList","metadata":{"resourceVersion":"5"}}' },
      /"ConfigMapList"/,
    ],
  ];
  test.each(listFaults)("LIST meets %s: told, and tried again", async (_name, action, message) => {
    await given(["a", "b"], () => onList(action));
    const one = await follow();
    await healed(one);
    expect(one.relists).toBe(2);
    expect(one.errors).toHaveLength(1);
    expect(String(one.errors[0])).toMatch(message);
    expect(String(one.errors[0])).not.toContain("secret");
    const isThrottled = action.kind === "status" && action.status === 429;
    expect(one.waits).toEqual([isThrottled ? 7_000 : 800]);
  });

  test("a list that fails later never empties the copy", async () => {
    await given(["a", "b"], () =>
      onWatch({ kind: "inject-line", afterLines: 1, line: `{"type":"ERROR","object":${expiredStatus}}` }),
    );
    const one = await follow();
    const bad = listFaults.map(([, action]) => onList(action));
    server.proxy.setFaults(bad.filter(({ do: { kind } }) => kind !== "stall"));
    await server.put(namespace, "a", "2");
    await healed(one);
    // Not one deletion was told.
    expect(one.told.filter(({ after }) => after === undefined)).toEqual([]);
    expect(one.history("a")).toEqual(["1", "2"]);
    expect(one.waits.at(-1)).toBeGreaterThan(20_000);
  });

  test("paging: all pages make one list, asked for with a limit", async () => {
    await given(["a", "b", "c", "d", "e"]);
    const one = await follow({ pageSize: 2 });
    await one.agrees();
    expect(one.lists()).toHaveLength(3);
    expect(one.watch.list()).toHaveLength(5);
    expect(one.watch.list()[0]).toMatchObject({ apiVersion: "v1", kind: "ConfigMap" });
    expect(one.watch.list()[0]?.metadata).not.toHaveProperty("managedFields");
  });

  test("paging: an expired continue (410) begins again, without a failure", async () => {
    await given(["a", "b", "c", "d", "e"], () =>
      onList(
        { kind: "status", status: 410, body: expiredStatus },
        { path: /configmaps\?.*continue=/, skip: 1 },
      ),
    );
    const one = await follow({ pageSize: 2 });
    await healed(one);
    expect(one.lists().map(({ status }) => status)).toEqual([200, 200, 410, 200, 200, 200]);
    expect(one.errors).toEqual([]);
    expect(one.told).toHaveLength(5);
  });

  test("paging: when each continue is expired, it waits in between", async () => {
    await given(["a", "b", "c"], () =>
      onList(
        { kind: "status", status: 410, body: expiredStatus },
        { path: /configmaps\?.*continue=/, times: 5 },
      ),
    );
    const one = await follow({ pageSize: 2 });
    await healed(one);
    expect(one.errors.map((error) => (error as KubeError).kind)).toEqual(["gone"]);
    expect(one.waits).toEqual([800]);
  });

  test("watch: 410 as an HTTP status makes it list again", async () => {
    await given(["a"], () => onWatch({ kind: "status", status: 410, body: expiredStatus }));
    const one = await follow();
    await server.put(namespace, "a", "2");
    await healed(one);
    expect(one.relists).toBe(2);
    expect(one.errors).toEqual([]);
  });

  const inStream: readonly (readonly [string, string, number])[] = [
    ["410", `{"type":"ERROR","object":${expiredStatus}}`, 2],
    ["500", '{"type":"ERROR","object":{"kind":"Status","code":500,"message":"etcd is away"}}', 2],
    ["429", '{"type":"ERROR","object":{"kind":"Status","code":429,"message":"later"}}', 1],
    ["a line that is no JSON", '{"type":"MODIFIED","object":{"metada', 2],
    ["a type of event nobody knows", '{"type":"TAINTED","object":{"metadata":{"resourceVersion":"9"}}}', 2],
    ["an event without a version", '{"type":"BOOKMARK","object":{"metadata":{}}}', 2],
    ["an event without an object", '{"type":"MODIFIED"}', 2],
    ["an empty line, which is none", "", 1],
  ];
  test.each(inStream)("watch: %s in the stream", async (name, line, lists) => {
    await given(["a"], () => onWatch({ kind: "inject-line", afterLines: 1, line }));
    const one = await follow();
    await server.put(namespace, "a", "2");
    await server.put(namespace, "b", "1");
    await healed(one);
    expect(one.relists).toBe(lists);
    expect(one.history("a")).toEqual(["1", "2"]);
    expect(one.errors).toHaveLength(/410|empty/.test(name) ? 0 : 1);
  });

  test("watch: refused with 500 lists again; with 429 or without an answer it is only asked again", async () => {
    for (const [action, lists] of [
      [{ kind: "status", status: 500 }, 2],
      [{ kind: "status", status: 429, headers: { "retry-after": "3" } }, 1],
      [{ kind: "refuse", reset: true }, 1],
      [{ kind: "stall" }, 1],
    ] as const) {
      await given(["a"], () => onWatch(action));
      const one = await follow();
      await server.put(namespace, "a", "2");
      await healed(one);
      expect([action, one.relists]).toEqual([action, lists]);
      expect(one.waits).toEqual([action.kind === "status" && action.status === 429 ? 3_000 : 800]);
      await one.stop();
    }
  });

  test("watch: half-open, no byte comes any more; after the inactivity timeout it lists again", async () => {
    await given(["a"], () => onWatch({ kind: "stall", afterBytes: 10 }));
    const one = await follow({ inactivityTimeoutMs: 300 });
    await server.put(namespace, "a", "2");
    await healed(one);
    expect(String(one.errors[0])).toContain("sent nothing for 0.3 s");
    expect(one.relists).toBeGreaterThanOrEqual(2);
    expect(one.history("a")).toEqual(["1", "2"]);
  });

  test.each([false, true])(
    "watch: cut in the middle of a line (RST: %s) resumes with no event lost",
    async (reset) => {
      await given(["a"], () => onWatch({ kind: "cut", afterBytes: 700, reset }));
      const one = await follow();
      for (const value of ["2", "3", "4"]) await server.put(namespace, "a", value);
      await healed(one);
      // The first event went through whole, and the broken one came again.
      expect(one.history("a")).toEqual(["1", "2", "3", "4"]);
      expect(one.relists).toBe(1);
      expect(one.errors).toHaveLength(1);
    },
  );

  test("watch: what breaks it each time is passed by with a list", async () => {
    await given(["a"], () => onWatch({ kind: "cut", afterBytes: 100, reset: true }, { times: 4 }));
    const one = await follow();
    await server.put(namespace, "a", "2");
    await healed(one);
    expect(one.relists).toBe(2);
    // Doubled each time; the watch after the list is not among the failures yet.
    expect(one.waits).toEqual([800, 1_600, 3_200, 6_400]);
  });

  test("watch: ended in good order by the server goes on without a list", async () => {
    await given(["a"], () => onWatch({ kind: "close-after-lines", lines: 2 }));
    const one = await follow();
    for (const value of ["2", "3", "4", "5"]) await server.put(namespace, "a", value);
    await healed(one);
    expect(one.history("a")).toEqual(["1", "2", "3", "4", "5"]);
    expect([one.relists, one.errors]).toEqual([1, []]);
  });

  test("watch: characters split between chunks stay whole", async () => {
    await given([], () => onWatch({ kind: "drip", bytesPerSecond: 5_000 }));
    const one = await follow();
    const text = "пример 🦙 ".repeat(12);
    await server.put(namespace, "a", text);
    await healed(one);
    expect(one.watch.get({ namespace, name: "a" })?.data?.["value"]).toBe(text);
  });

  test("watch: a line of 1.5 MB", async () => {
    await given([]);
    const one = await follow();
    // Each quote takes two bytes as JSON.
    const text = '"'.repeat(800_000);
    await server.put(namespace, "a", text);
    await one.agrees();
    expect(one.watch.get({ namespace, name: "a" })?.data?.["value"]).toHaveLength(text.length);
    expect(one.errors).toEqual([]);
    expect(one.watches()[0]?.sentBytes).toBeGreaterThan(1_500_000);
  });

  test("watch: bytes corrupted on the way list again", async () => {
    await given(["a"], () => onWatch({ kind: "corrupt", atByte: 1 }));
    const one = await follow();
    await server.put(namespace, "a", "2");
    await healed(one);
    expect(one.relists).toBe(2);
  });

  test("a handler that throws is told of, and the next change comes", async () => {
    await given(["a"]);
    const seen: string[] = [];
    const one = await follow({
      onChange: ({ name }) => {
        seen.push(name);
        throw new Error(`handler of ${name}`);
      },
    });
    await server.put(namespace, "b", "1");
    await waitFor("both", () => seen.length === 2);
    expect(one.errors.map(String)).toEqual(["Error: handler of a", "Error: handler of b"]);
    expect(one.relists).toBe(1);
  });

  test("bookmarks are asked for, and move the version from which a watch goes on", async () => {
    await given(["a"]);
    const elsewhere = await server.freshNamespace();
    const { metadata } = await server.put(elsewhere, "other", "1");
    const version = String(Number(metadata.resourceVersion) + 2);
    const line = `{"type":"BOOKMARK","object":{"kind":"ConfigMap","metadata":{"resourceVersion":"${version}"}}}`;
    server.proxy.setFaults([onWatch({ kind: "inject-line", afterLines: 0, line })]);
    const one = await follow({ watchTimeoutSeconds: () => 1 });
    for (const value of ["2", "3", "4"]) await server.put(elsewhere, "other", value);
    await waitFor("the next watch", () => one.watches().length >= 2);
    const asked = one.watches().map(({ path }) => new URL(path, "http://x").searchParams);
    expect(asked[0]?.get("allowWatchBookmarks")).toBe("true");
    expect(Number(asked[0]?.get("resourceVersion"))).toBeLessThan(Number(version));
    expect(asked[1]?.get("resourceVersion")).toBe(version);
    expect([one.relists, one.errors]).toEqual([1, []]);
  });

  test("the server's own bookmark comes before it ends a watch", async () => {
    await given(["a"]);
    const one = await follow({ watchTimeoutSeconds: () => 4 });
    const elsewhere = await server.put(await server.freshNamespace(), "other", "1");
    await waitFor("the next watch", () => one.watches().length >= 2);
    const version = new URL(one.watches()[1]?.path ?? "", "http://x").searchParams.get("resourceVersion");
    expect(Number(version)).toBeGreaterThanOrEqual(Number(elsewhere.metadata.resourceVersion));
    expect([one.relists, one.errors]).toEqual([1, []]);
  });

  test("deleted and made again is told as two objects: by the watch, and by a list that saw neither", async () => {
    await given(["a"]);
    const one = await follow();
    await server.remove(namespace, "a");
    await server.put(namespace, "a", "2");
    await one.agrees();
    expect(one.history("a")).toEqual(["1", "-", "2"]);
    await one.stop();
    // Now nothing is seen while it happens: the watch ends, its version has expired, lists fail.
    server.proxy.setFaults([
      onWatch({ kind: "close-after-lines", lines: 1 }),
      onWatch({ kind: "status", status: 410, body: expiredStatus }),
      onList({ kind: "status", status: 500 }, { skip: 1, times: 1_000_000 }),
    ]);
    const other = await follow();
    await server.put(namespace, "a", "3");
    await waitFor("lists to fail", () => other.errors.length > 0);
    await server.remove(namespace, "a");
    await server.put(namespace, "a", "4");
    server.proxy.setFaults([]);
    await other.agrees();
    expect(other.history("a")).toEqual(["2", "3", "-", "4"]);
    expect(new Set(other.told.flatMap(({ after }) => after?.metadata.uid ?? [])).size).toBe(2);
  });

  test("an event that comes twice is told once; one from the past lists again", async () => {
    await given(["a"]);
    const second = await server.put(namespace, "a", "2");
    const event = (object: object): string => JSON.stringify({ type: "MODIFIED", object });
    server.proxy.setFaults([
      onWatch({
        kind: "inject-line",
        afterLines: 0,
        line: event({ ...second, apiVersion: "v1", kind: "ConfigMap" }),
      }),
    ]);
    const one = await follow();
    await server.put(namespace, "a", "3");
    await healed(one);
    expect(one.history("a")).toEqual(["2", "3"]);
    expect([one.relists, one.errors]).toEqual([1, []]);
    await one.stop();
    server.proxy.setFaults([onWatch({ kind: "inject-line", afterLines: 1, line: event(second) })]);
    const other = await follow();
    await server.put(namespace, "a", "4");
    await healed(other);
    expect(other.history("a")).toEqual(["3", "4"]);
    expect(other.relists).toBe(2);
    expect(String(other.errors[0])).toContain("after");
  });

  test("a version that the server has not reached (restored from a backup): silence, and then a list", async () => {
    await given(["a"]);
    const line =
      '{"type":"BOOKMARK","object":{"kind":"ConfigMap","metadata":{"resourceVersion":"99999999"}}}';
    server.proxy.setFaults([onWatch({ kind: "inject-line", afterLines: 0, line })]);
    const seconds = [1];
    const one = await follow({ watchTimeoutSeconds: () => seconds.pop() ?? 300, inactivityTimeoutMs: 1_500 });
    // The server itself says nothing of it: it sends what is newer than the future.
    await waitFor("the next watch", () => one.watches().some(({ path }) => path.includes("=99999999")));
    await server.put(namespace, "b", "1");
    await healed(one);
    expect(one.relists).toBeGreaterThanOrEqual(2);
  });

  const stops: readonly (readonly [string, () => Fault | undefined, (one: Follower) => boolean])[] = [
    ["before the first list is answered", () => onList({ kind: "stall" }), (one) => one.lists().length === 1],
    [
      "in the middle of a list",
      () => onList({ kind: "stall", afterBytes: 20 }),
      (one) => (one.lists()[0]?.sentBytes ?? 0) > 0,
    ],
    ["between pages", () => onList({ kind: "stall" }, { skip: 1 }), (one) => one.lists().length === 2],
    ["before a watch is answered", () => onWatch({ kind: "stall" }), (one) => one.watches().length === 1],
    ["while a watch is quiet", () => undefined, (one) => one.watches()[0]?.status === 200],
    [
      "while it waits after a failure",
      () => onList({ kind: "status", status: 500 }),
      (one) => one.errors.length === 1,
    ],
  ];
  test.each(stops)("stopped %s, it ends at once and asks no more", async (_name, fault, isThere) => {
    await given(["a", "b", "c"], () => fault() ?? onList({ kind: "status", status: 500 }, { times: 0 }));
    follower = new Follower(server, namespace, {
      pageSize: 2,
      kube: server.proxied({ timeoutMs: 30_000 }),
      // The real waits: 0.8 s and more.
      ...({ sleep: undefined } as object),
    }).begin();
    const one = follower;
    await waitFor("the moment", () => isThere(one), { intervalMs: 5 });
    const startedMs = performance.now();
    const told = one.told.length;
    await one.stop();
    expect(performance.now() - startedMs).toBeLessThan(750);
    const asked = server.proxy.requests.length;
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(server.proxy.requests.length).toBe(asked);
    expect(one.told.length).toBe(told);
    // A stop is no error.
    expect(one.errors.length).toBe(_name.includes("failure") ? 1 : 0);
  });
});
