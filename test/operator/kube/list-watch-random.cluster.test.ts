// Seeded random histories under seeded random faults: whatever breaks, the copy ends equal to the server, and what a handler
// was told is an ordered history without repeats that leads there. Bytes are lost, not changed: what TLS would not notice either
// (another digit in a line that is still JSON) nobody can.

import { afterAll, beforeAll, expect, test } from "vitest";
import { describeCluster } from "../../cluster/suites.ts";
import type { Fault, FaultAction } from "../../registry/fault-proxy.ts";
import { startApiServer, type ApiServer } from "./api-server.ts";
import { Follower } from "./follower.ts";

/** Mulberry32: the same numbers for the same seed. */
function random(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let value = Math.imul(state ^ (state >>> 15), 1 | state);
    value = (value + Math.imul(value ^ (value >>> 7), 61 | value)) ^ value;
    return ((value ^ (value >>> 14)) >>> 0) / 2 ** 32;
  };
}

const gone = JSON.stringify({ kind: "Status", code: 410, reason: "Expired", message: "too old" });

describeCluster("list-watch under random faults", () => {
  let server: ApiServer;
  beforeAll(async () => {
    server = await startApiServer();
  });
  afterAll(async () => {
    await server?.stop();
  });

  const seeds = Array.from({ length: 12 }, (_, index) => index + 1);
  test.each(seeds)("seed %i", async (seed) => {
    const draw = random(seed);
    const pick = <T>(values: readonly T[]): T => values[Math.floor(draw() * values.length)] as T;
    const bytes = (): number => Math.floor(draw() * 2_000);
    const streamFaults: readonly (() => FaultAction)[] = [
      () => ({ kind: "cut", afterBytes: bytes() }),
      () => ({ kind: "cut", afterBytes: bytes(), reset: true }),
      () => ({ kind: "stall", afterBytes: bytes() }),
      () => ({ kind: "close-after-lines", lines: 1 + Math.floor(draw() * 4) }),
      () => ({
        kind: "inject-line",
        afterLines: Math.floor(draw() * 4),
        line: `{"type":"ERROR","object":${gone}}`,
      }),
      () => ({ kind: "inject-line", afterLines: Math.floor(draw() * 4), line: '{"type":"MODI' }),
    ];
    const answerFaults: readonly (() => FaultAction)[] = [
      () => ({ kind: "status", status: pick([410, 429, 500, 503]), body: gone }),
      () => ({ kind: "refuse", reset: true }),
      () => ({ kind: "cut", afterBytes: bytes() }),
    ];
    const namespace = await server.freshNamespace();
    const faults = Array.from({ length: 12 }, (): Fault => {
      const isWatch = draw() < 0.7;
      const path = new RegExp(`/${namespace}/configmaps\\?${isWatch ? "watch" : "limit"}`);
      const action = isWatch && draw() < 0.7 ? pick(streamFaults)() : pick(answerFaults)();
      return { when: { path, skip: Math.floor(draw() * 3) }, do: action };
    });
    for (const name of ["a", "b", "c"]) await server.put(namespace, name, "0");
    server.proxy.setFaults(faults);
    const follower = new Follower(server, namespace, {
      pageSize: 2,
      inactivityTimeoutMs: 150,
      watchTimeoutSeconds: () => 1,
    }).begin();
    try {
      for (let step = 0; step < 40; step += 1) {
        const name = pick(["a", "b", "c", "d"]);
        if (draw() < 0.3) await server.remove(namespace, name);
        else await server.put(namespace, name, `${step}`);
        if (draw() < 0.2) await new Promise((resolve) => setTimeout(resolve, 20));
      }
      server.proxy.setFaults([]);
      await follower.agrees();
      expect(follower.relists + follower.watches().length).toBeGreaterThan(2);
    } finally {
      await follower.stop();
      server.proxy.setFaults([]);
    }
  });
});
