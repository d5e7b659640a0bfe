// The election on a real API server: who leads, when a leader stops, and what becomes of the lease. Times are short ones.

import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { leaseResource, runWithLeadership } from "../../../operator/kube/leader-election.ts";
import type { KubeObject } from "../../../operator/kube/types.ts";
import { waitFor } from "../../cluster/run-command.ts";
import { describeCluster } from "../../cluster/suites.ts";
import { startApiServer, type ApiServer } from "./api-server.ts";

type Lease = KubeObject & {
  readonly spec: {
    readonly holderIdentity?: string;
    readonly leaseTransitions?: number;
    readonly renewTime?: string;
    readonly acquireTime?: string;
  };
};

const times = { leaseDurationMs: 2_000, renewDeadlineMs: 1_400, retryPeriodMs: 200 };
const never = new AbortController().signal;

class Candidate {
  readonly identity: string;
  readonly end: Promise<"stopped" | "lost">;
  readonly errors: unknown[] = [];
  readonly changes: boolean[] = [];
  contacts = 0;
  /** While work is wanted. */
  works = false;
  /** When work had to stop, on the monotonic clock. */
  stoppedMs = 0;
  /** Holds back the end of the work. */
  lastWrite = Promise.resolve();
  readonly #stop = new AbortController();

  constructor(server: ApiServer, namespace: string, identity: string, client = server.direct) {
    this.identity = identity;
    const work = async (signal: AbortSignal): Promise<void> => {
      this.works = true;
      await new Promise<void>((resolve) => {
        signal.addEventListener("abort", () => resolve(), { once: true });
      });
      this.works = false;
      this.stoppedMs = performance.now();
      await this.lastWrite;
    };
    this.end = runWithLeadership(
      {
        kube: client,
        namespace,
        name: "lease",
        identity,
        ...times,
        onChange: (isLeader) => this.changes.push(isLeader),
        onContact: () => (this.contacts += 1),
        onError: (error) => this.errors.push(error),
      },
      work,
      this.#stop.signal,
    );
  }

  async leads(): Promise<void> {
    await waitFor(`${this.identity} to lead`, () => this.works, { intervalMs: 5, timeoutMs: 10_000 });
  }

  async stop(): Promise<"stopped" | "lost"> {
    this.#stop.abort();
    return this.end;
  }
}

describeCluster("leader election", () => {
  let server: ApiServer;
  let namespace: string;
  const candidates: Candidate[] = [];
  beforeAll(async () => {
    server = await startApiServer();
  });
  afterAll(async () => {
    await server?.stop();
  });
  afterEach(async () => {
    server.proxy.setFaults([]);
    await Promise.all(candidates.splice(0).map(async (each) => each.stop()));
  });

  const candidate = (identity: string, client = server.direct): Candidate => {
    const made = new Candidate(server, namespace, identity, client);
    candidates.push(made);
    return made;
  };
  const lease = async (): Promise<Lease | undefined> =>
    server.direct.get<Lease>(leaseResource, { namespace, name: "lease" }, never);
  const fresh = async (): Promise<void> => {
    namespace = await server.freshNamespace();
  };
  const renewed = async (): Promise<void> => {
    const before = (await lease())?.spec.renewTime;
    await waitFor("a renewal", async () => (await lease())?.spec.renewTime !== before, { intervalMs: 20 });
  };

  test("of two candidates one leads; when it ends in good order, the other leads at once", async () => {
    await fresh();
    const first = candidate("first");
    await first.leads();
    const second = candidate("second");
    await waitFor("the second to look", () => second.contacts > 2);
    expect([first.works, second.works]).toEqual([true, false]);
    expect((await lease())?.spec).toMatchObject({ holderIdentity: "first", leaseTransitions: 0 });
    await renewed();
    // Not before the last write has returned.
    const write = Promise.withResolvers<void>();
    first.lastWrite = write.promise;
    const ending = first.stop();
    await waitFor("the first to wind up", () => !first.works);
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect((await lease())?.spec.holderIdentity).toBe("first");
    expect(second.works).toBe(false);
    const sinceMs = performance.now();
    write.resolve();
    expect(await ending).toBe("stopped");
    await second.leads();
    expect(performance.now() - sinceMs).toBeLessThan(times.leaseDurationMs);
    expect((await lease())?.spec).toMatchObject({ holderIdentity: "second", leaseTransitions: 1 });
    expect([first.changes, second.changes]).toEqual([[true, false], [true]]);
    expect([...first.errors, ...second.errors]).toEqual([]);
  });

  test("many candidates at once: exactly one", async () => {
    await fresh();
    const many = Array.from({ length: 6 }, (_, index) => candidate(`many-${index}`));
    await waitFor("one to lead", () => many.some(({ works }) => works));
    await waitFor("all to have looked", () => many.every(({ contacts }) => contacts > 3));
    expect(many.filter(({ works }) => works)).toHaveLength(1);
  });

  test("a leader that vanished is followed when its lease has run out, and not before", async () => {
    await fresh();
    const spec = { holderIdentity: "vanished", leaseDurationSeconds: 1, leaseTransitions: 4 };
    // Its clock is an hour ahead: only our own counts.
    const renewTime = new Date(Date.now() + 3_600_000).toISOString().replace("Z", "000Z");
    await server.direct.create(
      leaseResource,
      {
        apiVersion: "coordination.k8s.io/v1",
        kind: "Lease",
        metadata: { namespace, name: "lease" },
        spec: { ...spec, renewTime },
      } as KubeObject,
      never,
    );
    const sinceMs = performance.now();
    const next = candidate("next");
    await next.leads();
    expect(performance.now() - sinceMs).toBeGreaterThanOrEqual(900);
    expect((await lease())?.spec).toMatchObject({ holderIdentity: "next", leaseTransitions: 5 });
  });

  test.each([
    ["refuses", { kind: "refuse", reset: true }],
    ["answers 500", { kind: "status", status: 500 }],
    ["does not answer", { kind: "stall" }],
  ] as const)(
    "the API server %s: work stops by the renew deadline, before another may begin",
    async (_name, action) => {
      await fresh();
      const leader = candidate("leader", server.proxied({ timeoutMs: 30_000 }));
      await leader.leads();
      await renewed();
      const other = candidate("other");
      server.proxy.setFaults([
        { when: { path: new RegExp(`/${namespace}/leases`), times: 1_000_000 }, do: action },
      ]);
      const sinceMs = performance.now();
      expect(await leader.end).toBe("lost");
      expect(leader.stoppedMs - sinceMs).toBeLessThan(times.leaseDurationMs);
      expect(other.works).toBe(false);
      await other.leads();
      expect(performance.now()).toBeGreaterThan(leader.stoppedMs);
      expect(leader.changes).toEqual([true, false]);
    },
  );

  test("a short outage is survived", async () => {
    await fresh();
    const leader = candidate("leader", server.proxied());
    await leader.leads();
    server.proxy.setFaults([
      { when: { path: new RegExp(`/${namespace}/leases`), times: 3 }, do: { kind: "status", status: 503 } },
    ]);
    await waitFor("the faults", () => server.proxy.unmet().length === 0);
    await renewed();
    expect([leader.works, leader.changes, leader.errors.length]).toEqual([true, [true], 3]);
  });

  test("a leader that finds another in its place (it was paused past its lease) stops at once", async () => {
    await fresh();
    const leader = candidate("paused");
    await leader.leads();
    const held = await lease();
    if (held === undefined) throw new Error("no lease");
    await waitFor("the change to be taken", async () => {
      const now = (await lease()) ?? held;
      const { name, resourceVersion = "" } = now.metadata;
      const change = {
        ...now,
        metadata: { namespace, name, resourceVersion },
        spec: { ...now.spec, holderIdentity: "usurper" },
      };
      return server.direct.replace(leaseResource, change, never).then(
        () => true,
        () => false,
      );
    });
    const sinceMs = performance.now();
    expect(await leader.end).toBe("lost");
    expect(leader.stoppedMs - sinceMs).toBeLessThan(1_500);
    // What is another's is not given back.
    expect((await lease())?.spec.holderIdentity).toBe("usurper");
  });

  test("a lease that is deleted is made again by the leader", async () => {
    await fresh();
    const leader = candidate("leader");
    await leader.leads();
    await server.direct.delete(
      leaseResource,
      { namespace, name: "lease" },
      { uid: (await lease())?.metadata.uid ?? "" },
      never,
    );
    await waitFor("a new lease", async () => (await lease()) !== undefined);
    await renewed();
    expect([leader.works, (await lease())?.spec.holderIdentity]).toEqual([true, "leader"]);
  });

  test("the answer to the taking comes late: the time counts from the asking", async () => {
    await fresh();
    // The lease is made, and its maker hears of it only after the deadline.
    server.proxy.setFaults([
      {
        when: { method: "POST", path: new RegExp(`/${namespace}/leases`) },
        do: { kind: "delay", ms: 2_000 },
      },
    ]);
    const late = candidate("late", server.proxied({ timeoutMs: 30_000 }));
    await late.leads();
    const { renewTime = "" } = (await lease())?.spec ?? {};
    expect(Date.now() - Date.parse(renewTime)).toBeLessThan(times.renewDeadlineMs);
    // The lease was there before the leader knew of it.
    expect(late.errors).toHaveLength(1);
  });

  test("work that ends by itself, or fails, gives the lease back", async () => {
    await fresh();
    const options = { kube: server.direct, namespace, name: "lease", ...times };
    expect(await runWithLeadership({ ...options, identity: "one" }, async () => undefined, never)).toBe(
      "stopped",
    );
    const failing = async (): Promise<void> => Promise.reject(new Error("a defect"));
    await expect(runWithLeadership({ ...options, identity: "two" }, failing, never)).rejects.toThrow(
      "a defect",
    );
    expect((await lease())?.spec).toMatchObject({ holderIdentity: "", leaseTransitions: 1 });
  });
});
