import { spawn, type ChildProcessByStdio } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface, type Interface } from "node:readline";
import type { Readable, Writable } from "node:stream";
import { setTimeout as delay } from "node:timers/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import { describeUnless } from "../../cluster/suites.ts";
import { startFaultProxy, type FaultProxy } from "../../registry/fault-proxy.ts";
import { publishDockerModel, type Published } from "../../registry/publish.ts";
import { registryUnavailable, startRegistry, type TestRegistry } from "../../registry/registry.ts";
import { expectNoWrongByte, filesBelow, noise, random, sha256 } from "../store-assertions.ts";
import type { LockBehaviour, SharedPull, SharedPullAnswer } from "./shared-puller.ts";

/** Rounds for each behaviour of tickets: a few with a few pullers, or as many as OCIMODEL_SHARED_ROUNDS says with sixteen (200 take minutes). */
const asked = Number(process.env["OCIMODEL_SHARED_ROUNDS"] ?? "0");
const [rounds, pullers, kills] = asked > 0 ? [asked, 16, 3] : [3, 4, 1];
const seed = Number(process.env["OCIMODEL_SEED"] ?? "1");
const layerBytes = 200_000;
const files = ["one.safetensors", "two.safetensors", "three.bin"].map((name) => ({
  name,
  content: noise(name, layerBytes),
}));

const layers = files.map(({ content }) => sha256(content));

type Child = ChildProcessByStdio<Writable, Readable, null>;

class Worker {
  #child: Child;
  #lines: Interface;
  #ended: Promise<undefined>;

  constructor() {
    [this.#child, this.#lines, this.#ended] = this.#start();
  }

  #start(): [Child, Interface, Promise<undefined>] {
    const child = spawn(process.execPath, [join(import.meta.dirname, "shared-puller.ts")], {
      stdio: ["pipe", "pipe", "inherit"],
    });
    // What is written to one that is dead already.
    child.stdin.on("error", () => undefined);
    return [child, createInterface({ input: child.stdout }), once(child, "exit").then(() => undefined)];
  }

  async pull(what: SharedPull): Promise<SharedPullAnswer> {
    // Killed after its last answer: no death of this round, and nobody would be told of it any more.
    if (this.#child.killed) {
      await this.#ended;
      [this.#child, this.#lines, this.#ended] = this.#start();
    }
    const answer = once(this.#lines, "line");
    this.#child.stdin.write(`${JSON.stringify(what)}\n`);
    const line = await Promise.race([answer, this.#ended]);
    if (line !== undefined) return JSON.parse(String(line[0])) as SharedPullAnswer;
    [this.#child, this.#lines, this.#ended] = this.#start();
    return { failure: "killed" };
  }

  kill(): void {
    this.#child.kill("SIGKILL");
  }

  async stop(): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.#ended;
  }
}

describeUnless(registryUnavailable(), `${pullers} pullers on one volume, some of them killed`, () => {
  let directory = "";
  let registry: TestRegistry;
  let proxy: FaultProxy;
  let published: Published;
  let workers: Worker[] = [];

  beforeAll(async () => {
    directory = mkdtempSync(join(tmpdir(), "ocimodel-shared-"));
    registry = await startRegistry();
    // Bodies take a moment, so that the pullers meet.
    proxy = await startFaultProxy({
      target: registry.url,
      keepAlive: true,
      faults: [{ when: { method: "GET", path: /\/blobs\//, times: 1e9 }, do: { kind: "delay", ms: 40 } }],
    });
    published = await publishDockerModel(registry, {
      repository: "ai/three",
      tag: "x",
      version: "v0.2",
      files,
    });
    workers = Array.from({ length: pullers }, () => new Worker());
  });
  afterAll(async () => {
    await Promise.all(workers.map(async (worker) => worker.stop()));
    await proxy?.stop();
    await registry?.stop();
    rmSync(directory, { recursive: true, force: true });
  });

  const fetchedSince = (from: number): number =>
    proxy.requests
      .slice(from)
      .filter(
        ({ method, path, status }) =>
          method === "GET" && layers.some((hex) => path.includes(hex)) && status < 300,
      )
      .reduce((sum, { sentBytes }) => sum + sentBytes, 0);

  const behaviours: readonly LockBehaviour[] = ["works", "always succeeds", "ENOSYS", "hangs"];
  test.each(behaviours)(
    `locks: %s; ${rounds} rounds`,
    async (behaviour) => {
      const next = random(`${seed} ${behaviour}`);
      const distinct = files.length * layerBytes;
      const total = { fetched: 0, lost: 0, killed: 0, worst: 0 };
      for (let round = 0; round < rounds; round += 1) {
        const store = join(directory, `${behaviour.replace(" ", "-")}-${round}`);
        const from = proxy.requests.length;
        const what = { reference: `${proxy.host}/ai/three:x`, host: proxy.host, store, behaviour };
        const isKilling = round % 3 !== 0;
        const all = workers.map(async (worker) => worker.pull(what));
        if (isKilling) {
          for (let kill = 0; kill < kills; kill += 1) {
            await delay(next(80));
            workers[next(pullers)]?.kill();
            expectNoWrongByte(store);
          }
        }
        const answers = await Promise.all(all);
        const failures = answers.flatMap((answer) => ("failure" in answer ? [answer.failure] : []));
        expect(failures.filter((failure) => failure !== "killed")).toEqual([]);
        expect(failures.length).toBeLessThanOrEqual(isKilling ? kills : 0);
        expectNoWrongByte(store);
        const model = join(store, "models", published.digest.replace("sha256:", ""));
        expect(filesBelow(model)).toEqual(files.map(({ name }) => name).sort());
        const fetched = fetchedSince(from);
        // A killed one loses what was on its way, at most a layer on each connection.
        const lost = failures.length * 2 * layerBytes;
        total.fetched += fetched;
        total.lost += lost;
        total.killed += failures.length;
        total.worst = Math.max(total.worst, fetched / distinct);
        expect(fetched).toBeGreaterThanOrEqual(distinct);
        if (behaviour === "works" && failures.length === 0) expect(fetched).toBe(distinct);
        if (behaviour === "works") expect(fetched).toBeLessThanOrEqual(distinct + lost);
        rmSync(store, { recursive: true, force: true });
      }
      const mean = total.fetched / (rounds * distinct);
      console.log(
        `locks ${behaviour}: ${rounds} rounds of ${pullers} pullers, ${total.killed} killed; fetched ${mean.toFixed(3)} times the distinct bytes, at most ${total.worst.toFixed(2)} times in a round`,
      );
      // Whoever cannot take turns sees the others' partials grow.
      expect(total.fetched).toBeLessThanOrEqual(2 * rounds * distinct + total.lost);
    },
    60_000 + rounds * 60_000,
  );
});
