import { afterEach, describe, expect, test } from "vitest";
import { liveness, readiness, type Vitals } from "../../../operator/server/health.ts";
import { serve, type Routes } from "../../../operator/server/http.ts";

const controller = { hasSynced: true, silenceMs: 1_000, busyMs: 0 };
const leader: Vitals = { isLeader: true, leaseSilenceMs: undefined, controller };
const standby: Vitals = { isLeader: false, leaseSilenceMs: 100, controller: undefined };

describe("/readyz", () => {
  const rows: readonly (readonly [string, Vitals, boolean, string])[] = [
    ["a leader that sees and acts", leader, true, "ok"],
    ["a leader before its first list", { ...leader, controller: undefined }, false, "caches"],
    [
      "a leader with a copy missing",
      { ...leader, controller: { ...controller, hasSynced: false } },
      false,
      "caches",
    ],
    [
      "a watch quiet for 3 minutes",
      { ...leader, controller: { ...controller, silenceMs: 180_000 } },
      true,
      "ok",
    ],
    [
      "a watch quiet for longer",
      { ...leader, controller: { ...controller, silenceMs: 180_001 } },
      false,
      "silent",
    ],
    ["a standby that hears of the lease", standby, true, "standby"],
    [
      "a standby that never reached the API server",
      { ...standby, leaseSilenceMs: undefined },
      false,
      "not answered yet",
    ],
    [
      "a standby cut off from the API server",
      { ...standby, leaseSilenceMs: 30_001 },
      false,
      "does not answer",
    ],
  ];
  test.each(rows)("%s", (_name, vitals, isHealthy, reason) => {
    expect(readiness(vitals)).toEqual({ isHealthy, reason: expect.stringContaining(reason) as string });
  });
});

describe("/healthz", () => {
  test("is well whatever is wrong elsewhere, and ill when a reconcile does not end", () => {
    for (const vitals of [
      leader,
      standby,
      { ...leader, controller: { ...controller, silenceMs: 1e9, hasSynced: false } },
    ])
      expect(liveness(vitals).isHealthy).toBe(true);
    expect(liveness({ ...leader, controller: { ...controller, busyMs: 600_000 } }).isHealthy).toBe(true);
    expect(liveness({ ...leader, controller: { ...controller, busyMs: 600_001 } })).toEqual({
      isHealthy: false,
      reason: "a reconcile does not end",
    });
  });
});

describe("the ports", () => {
  let stop = (): void => undefined;
  afterEach(() => {
    stop();
  });
  const start = async (routes: Routes): Promise<(path: string, method?: string) => Promise<string>> => {
    const { server, port } = await serve("127.0.0.1:0", routes);
    stop = () => server.close();
    return async (path, method = "GET") => {
      const response = await fetch(`http://127.0.0.1:${port}${path}`, { method });
      return `${response.status} ${await response.text()}`.trim();
    };
  };

  test("answer 200 or 503 with the reason, asked anew each time", async () => {
    let isHealthy = false;
    const ask = await start({
      healthz: () => ({ isHealthy: true, reason: "ok" }),
      readyz: () => ({ isHealthy, reason: isHealthy ? "ok" : "not yet" }),
    });
    expect([await ask("/healthz"), await ask("/readyz")]).toEqual(["200 ok", "503 not yet"]);
    isHealthy = true;
    expect(await ask("/readyz?verbose=1")).toBe("200 ok");
    // The port of health shows no metrics, nothing else, and takes nothing.
    expect([await ask("/metrics"), await ask("/"), await ask("/healthz", "POST")]).toEqual([
      "404",
      "404",
      "405",
    ]);
  });

  test("metrics that fail are a 500, not an end", async () => {
    const ask = await start({ metrics: async () => Promise.reject(new Error("defect")) });
    expect([await ask("/metrics"), await ask("/metrics"), await ask("/healthz")]).toEqual([
      "500",
      "500",
      "404",
    ]);
  });

  test.each(["8080", "localhost", "0.0.0.0:x", "0.0.0.0:70000", ":-1"])(
    "refuse the address %s",
    async (address) => {
      await expect(serve(address, {})).rejects.toThrow(`"${address}" is not HOST:PORT`);
    },
  );
});
