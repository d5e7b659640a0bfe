import { spawn } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { describeUnless } from "../../cluster/suites.ts";
import { waitFor } from "../../cluster/run-command.ts";
import {
  startCanaryOrigin,
  startFaultProxy,
  type Fault,
  type FaultProxy,
} from "../../registry/fault-proxy.ts";
import { publishDockerModel, type Published } from "../../registry/publish.ts";
import { registryUnavailable, startRegistry, type TestRegistry } from "../../registry/registry.ts";
import { compiledPuller, compiledPullerEnvironment } from "../../compiled/compiled-puller.ts";
import { runPuller, type PullerRun } from "../run-puller.ts";
import { expectNoWrongByte, filesBelow, sha256 } from "../store-assertions.ts";

/** Deterministic bytes: a failure is repeated by the same seed. */
function noise(seed: string, length: number): Buffer {
  const blocks: Buffer[] = [];
  for (let index = 0; index * 32 < length; index += 1) {
    blocks.push(createHash("sha256").update(`${seed} ${index}`).digest());
  }
  return Buffer.concat(blocks).subarray(0, length);
}

const size = 300_000;
const files = ["one.safetensors", "two.safetensors", "three.bin"].map((name) => ({
  name,
  content: noise(name, size),
}));
const first = sha256(files[0]?.content ?? Buffer.alloc(0));
const blob = new RegExp(`/blobs/sha256:${first}`);
const manifest = /\/manifests\//;

describeUnless(registryUnavailable(), "faults", () => {
  let directory = "";
  let count = 0;
  let registry: TestRegistry;
  let proxy: FaultProxy;
  let published: Published;
  beforeAll(async () => {
    directory = mkdtempSync(join(tmpdir(), "ocimodel-faults-"));
    registry = await startRegistry({ authentication: "htpasswd" });
    proxy = await startFaultProxy({ target: registry.url });
    published = await publishDockerModel(registry, {
      repository: "ai/three",
      tag: "x",
      version: "v0.2",
      files,
    });
  });
  afterAll(async () => {
    await proxy?.stop();
    await registry?.stop();
    rmSync(directory, { recursive: true, force: true });
  });

  const freshStore = (): string => join(directory, `store-${(count += 1)}`);
  const pull = async (
    store: string,
    faults: readonly Fault[],
    more: readonly string[] = [],
    stallSeconds = 20,
  ): Promise<PullerRun> => {
    proxy.setFaults(faults);
    const config = join(directory, "config.json");
    const auth = Buffer.from(`${registry.username}:${registry.password}`).toString("base64");
    writeFileSync(config, JSON.stringify({ auths: { [proxy.host]: { auth } } }));
    return runPuller([
      "pull",
      `--reference=${proxy.host}/ai/three:x`,
      `--store=${store}`,
      `--plain-http=${proxy.host}`,
      `--docker-config=${config}`,
      `--stall-timeout=${stallSeconds}`,
      "--retry-budget=6",
      ...more,
    ]);
  };
  const expectComplete = (store: string): void => {
    const model = join(store, "models", published.digest.replace("sha256:", ""));
    expect(filesBelow(model)).toEqual(files.map(({ name }) => name).sort());
    for (const { name, content } of files)
      expect(sha256(readFileSync(join(model, name)))).toBe(sha256(content));
    expect(filesBelow(join(store, ".ocimodel/ingest"))).toEqual([]);
    expect(filesBelow(join(store, ".ocimodel/staging"))).toEqual([]);
  };

  type Row = {
    readonly name: string;
    readonly faults: readonly Fault[];
    readonly exitCode: number;
    readonly code: string;
  };
  const on = (path: RegExp, action: Fault["do"], times = 1): Fault => ({
    when: { method: "GET", path, times },
    do: action,
  });
  /** The first request of a run is answered 401 by the registry: what follows has credentials. */
  const later = (path: RegExp, action: Fault["do"], times = 1): Fault => ({
    when: { method: "GET", path, times, skip: path === manifest ? 1 : 0 },
    do: action,
  });

  const healed = { exitCode: 0, code: "Ready" };
  const always = 1000;
  const rows: readonly Row[] = [
    // Manifest.
    { name: "manifest: 500 twice", faults: [on(manifest, { kind: "status", status: 500 }, 2)], ...healed },
    {
      name: "manifest: 429 with Retry-After",
      faults: [on(manifest, { kind: "status", status: 429, headers: { "retry-after": "1" } })],
      ...healed,
    },
    {
      name: "manifest: 429 beyond the budget",
      faults: [on(manifest, { kind: "status", status: 429, headers: { "retry-after": "120" } })],
      exitCode: 75,
      code: "RegistryRateLimited",
    },
    {
      name: "manifest: 403",
      faults: [on(manifest, { kind: "status", status: 403 })],
      exitCode: 77,
      code: "RegistryForbidden",
    },
    {
      name: "manifest: 404",
      faults: [later(manifest, { kind: "status", status: 404 })],
      exitCode: 66,
      code: "ManifestNotFound",
    },
    {
      name: "manifest: 410",
      faults: [later(manifest, { kind: "status", status: 410 })],
      exitCode: 66,
      code: "ManifestNotFound",
    },
    {
      name: "manifest: 451",
      faults: [later(manifest, { kind: "status", status: 451 })],
      exitCode: 77,
      code: "PolicyRefused",
    },
    {
      name: "manifest: 416 makes no sense",
      faults: [later(manifest, { kind: "status", status: 416 })],
      exitCode: 65,
      code: "InvalidArtifact",
    },
    {
      name: "manifest: 401 again",
      faults: [later(manifest, { kind: "status", status: 401 })],
      exitCode: 77,
      code: "RegistryUnauthorized",
    },
    { name: "manifest: refused connections", faults: [on(manifest, { kind: "refuse" }, 2)], ...healed },
    { name: "manifest: stall before the head", faults: [on(manifest, { kind: "stall" })], ...healed },
    {
      name: "manifest: stall in the body",
      faults: [later(manifest, { kind: "stall", afterBytes: 20 })],
      ...healed,
    },
    { name: "manifest: cut", faults: [later(manifest, { kind: "cut", afterBytes: 20 })], ...healed },
    {
      name: "manifest: reset",
      faults: [later(manifest, { kind: "cut", afterBytes: 20, reset: true })],
      ...healed,
    },
    { name: "manifest: delayed", faults: [later(manifest, { kind: "delay", ms: 100 })], ...healed },
    {
      name: "manifest: one byte corrupt",
      faults: [later(manifest, { kind: "corrupt", atByte: 30 })],
      exitCode: 65,
      code: "DigestMismatch",
    },
    {
      name: "manifest: another document",
      faults: [later(manifest, { kind: "replace-body", body: "<html>login</html>" })],
      exitCode: 65,
      code: "DigestMismatch",
    },
    {
      name: "manifest: a login page without digest header",
      faults: [later(manifest, { kind: "status", status: 200, body: "<html>login</html>" })],
      exitCode: 65,
      code: "InvalidArtifact",
    },
    {
      name: "manifest: redirect to itself for ever",
      faults: [later(manifest, { kind: "redirect", location: "/v2/ai/three/manifests/x" }, 6)],
      exitCode: 77,
      code: "PolicyRefused",
    },
    {
      name: "manifest: redirect to a private host",
      faults: [later(manifest, { kind: "redirect", location: "https://10.0.0.1/m" })],
      exitCode: 77,
      code: "PolicyRefused",
    },
    {
      name: "manifest: redirect to cloud metadata",
      faults: [later(manifest, { kind: "redirect", location: "http://169.254.169.254/latest" })],
      exitCode: 77,
      code: "PolicyRefused",
    },
    {
      name: "manifest: redirect to a file",
      faults: [later(manifest, { kind: "redirect", location: "file:///etc/passwd" })],
      exitCode: 77,
      code: "PolicyRefused",
    },
    {
      name: "manifest: content encoding",
      faults: [later(manifest, { kind: "header", name: "content-encoding", value: "gzip" })],
      exitCode: 65,
      code: "InvalidArtifact",
    },
    // Blob.
    ...[0, 1, 65_535, 65_536, size - 1].map((afterBytes): Row => ({
      name: `blob: cut after ${afterBytes} bytes`,
      faults: [on(blob, { kind: "cut", afterBytes })],
      ...healed,
    })),
    {
      name: "blob: reset in the middle, three times",
      faults: [on(blob, { kind: "cut", afterBytes: 50_000, reset: true }, 3)],
      ...healed,
    },
    { name: "blob: corrupt once", faults: [on(blob, { kind: "corrupt", atByte: 150_000 })], ...healed },
    {
      name: "blob: corrupt for ever",
      faults: [on(blob, { kind: "corrupt", atByte: 150_000 }, 2)],
      exitCode: 65,
      code: "DigestMismatch",
    },
    { name: "blob: stall before the head", faults: [on(blob, { kind: "stall" })], ...healed },
    {
      name: "blob: stall in the middle",
      faults: [on(blob, { kind: "stall", afterBytes: 100_000 })],
      ...healed,
    },
    { name: "blob: a drip", faults: [on(blob, { kind: "drip", bytesPerSecond: 100 })], ...healed },
    { name: "blob: 500 twice", faults: [on(blob, { kind: "status", status: 500 }, 2)], ...healed },
    {
      name: "blob: 429 with Retry-After",
      faults: [on(blob, { kind: "status", status: 429, headers: { "retry-after": "1" } })],
      ...healed,
    },
    {
      name: "blob: 403",
      faults: [on(blob, { kind: "status", status: 403 })],
      exitCode: 77,
      code: "RegistryForbidden",
    },
    {
      name: "blob: 404",
      faults: [on(blob, { kind: "status", status: 404 })],
      exitCode: 66,
      code: "BlobNotFound",
    },
    {
      name: "blob: more bytes than stated",
      faults: [on(blob, { kind: "append-bytes", count: 100 }, 2)],
      exitCode: 65,
      code: "DigestMismatch",
    },
    {
      name: "blob: a length that is too short",
      faults: [on(blob, { kind: "content-length", delta: -10 })],
      ...healed,
    },
    {
      name: "blob: a length that is too long",
      faults: [on(blob, { kind: "content-length", delta: 10 })],
      ...healed,
    },
    { name: "blob: no length", faults: [on(blob, { kind: "content-length", delta: "missing" })], ...healed },
    {
      name: "blob: content encoding",
      faults: [on(blob, { kind: "header", name: "content-encoding", value: "gzip" })],
      exitCode: 65,
      code: "InvalidArtifact",
    },
    {
      name: "blob: 204",
      faults: [on(blob, { kind: "status", status: 204 })],
      exitCode: 65,
      code: "InvalidArtifact",
    },
    {
      name: "blob: resumed by a server that ignores Range",
      faults: [on(blob, { kind: "cut", afterBytes: 100_000 }), on(blob, { kind: "ignore-range" })],
      ...healed,
    },
    {
      name: "blob: resumed with another range",
      faults: [
        on(blob, { kind: "cut", afterBytes: 100_000 }),
        on(blob, { kind: "content-range", value: `bytes 5-${size - 1}/${size}` }),
      ],
      ...healed,
    },
    {
      name: "blob: resumed without a range",
      faults: [
        on(blob, { kind: "cut", afterBytes: 100_000 }),
        on(blob, { kind: "content-range", value: "missing" }),
      ],
      ...healed,
    },
    {
      name: "blob: resumed with 416",
      faults: [on(blob, { kind: "cut", afterBytes: 100_000 }), on(blob, { kind: "status", status: 416 })],
      ...healed,
    },
    {
      name: "blob: resumed with an empty body",
      faults: [on(blob, { kind: "cut", afterBytes: 100_000 }), on(blob, { kind: "cut", afterBytes: 0 })],
      ...healed,
    },
    {
      name: "blob: the resumed part is corrupt",
      faults: [on(blob, { kind: "cut", afterBytes: 100_000 }), on(blob, { kind: "corrupt", atByte: 5 })],
      ...healed,
    },
    {
      name: "blob: redirect to a host that is not public",
      faults: [on(blob, { kind: "redirect", location: "http://127.0.0.1:9/blob" })],
      exitCode: 77,
      code: "PolicyRefused",
    },
  ];

  describe("each ends as stated, and a clean run afterwards ends well", () => {
    test.each(rows)("$name: $code", async ({ faults, exitCode, code }) => {
      const store = freshStore();
      // Only where silence is the fault is a second of it one: elsewhere a busy machine must not spend a planned fault.
      const isSilence = faults.some(({ do: { kind } }) => kind === "stall" || kind === "drip");
      const run = await pull(store, faults, [], isSilence ? 0.5 : undefined);
      expect({
        exitCode: run.exitCode,
        code: run.termination?.code,
        stderr: exitCode === run.exitCode ? "" : run.stderr,
      }).toEqual({ exitCode, code, stderr: "" });
      expect(proxy.unmet()).toEqual([]);
      expect(`${run.stdout}${run.stderr}${JSON.stringify(run.termination)}`).not.toContain(registry.password);
      expectNoWrongByte(store);
      const clean = await pull(store, []);
      expect(clean.exitCode).toBe(0);
      expectComplete(store);
    });
  });

  test("credentials never reach another origin by a redirect", async () => {
    const canary = await startCanaryOrigin({
      status: 401,
      headers: { "www-authenticate": 'Basic realm="give"' },
    });
    try {
      for (const path of [manifest, blob]) {
        const run = await pull(
          freshStore(),
          // A refusal behind a redirect to a blob may be a signature that ran out: it is asked for anew, once.
          [later(path, { kind: "redirect", location: `${canary.url}/x` }, path === blob ? 2 : 1)],
          [`--trusted-host=${canary.host}`],
        );
        expect(run.exitCode).toBe(77);
        expect(proxy.unmet()).toEqual([]);
      }
      expect(canary.requests.length).toBe(3);
      for (const { headers } of canary.requests) expect(headers.authorization).toBeUndefined();
    } finally {
      await canary.stop();
    }
  });

  test("a blob behind a redirect to another trusted origin is pulled without credentials", async () => {
    const canary = await startCanaryOrigin({ body: files[0]?.content ?? Buffer.alloc(0) });
    try {
      const store = freshStore();
      const run = await pull(
        store,
        [on(blob, { kind: "redirect", location: `${canary.url}/cdn` })],
        [`--trusted-host=${canary.host}`],
      );
      expect(run.exitCode).toBe(0);
      expectComplete(store);
      expect(canary.requests).toHaveLength(1);
      expect(canary.requests[0]?.headers.authorization).toBeUndefined();
    } finally {
      await canary.stop();
    }
  });

  test("a mirror with wrong bytes costs one try: the registry itself is asked", async () => {
    const mirror = await startFaultProxy({
      target: registry.url,
      faults: [{ when: { path: blob, times: always }, do: { kind: "corrupt", atByte: 7 } }],
    });
    try {
      const store = freshStore();
      const config = join(directory, "mirror.json");
      const auth = Buffer.from(`${registry.username}:${registry.password}`).toString("base64");
      writeFileSync(config, JSON.stringify({ auths: { [mirror.host]: { auth } } }));
      const run = await pull(
        store,
        [],
        [`--mirror=${proxy.host}=${mirror.url}`, `--docker-config=${config}`],
      );
      expect(run.exitCode).toBe(0);
      expectComplete(store);
      expect(mirror.requests.some(({ path }) => blob.test(path))).toBe(true);
    } finally {
      await mirror.stop();
    }
  });

  test("a resumed pull fetches only what is missing", async () => {
    const store = freshStore();
    const run = await pull(store, [on(blob, { kind: "cut", afterBytes: 200_000 })]);
    expect(run.exitCode).toBe(0);
    const asked = proxy.requests.filter(({ path, status }) => blob.test(path) && status < 300).slice(-2);
    expect(asked[0]?.headers.range).toBeUndefined();
    // All whole pieces that had arrived are kept.
    expect(Number(/^bytes=(\d+)-299999$/.exec(asked[1]?.headers.range as string)?.[1])).toBeGreaterThan(
      100_000,
    );
  });

  test("SIGTERM keeps the partial and ends with 143 in two seconds; the next run goes on there", async () => {
    const store = freshStore();
    let sentMs = 0;
    let signalled: Promise<void> | undefined;
    // Of the blob that stalls: another one's becomes a blob at any moment.
    const ingest = join(store, ".ocimodel/ingest", first);
    const partial = (): number =>
      filesBelow(ingest).reduce(
        (most, name) =>
          // A partial may become a blob between the two looks.
          Math.max(most, statSync(join(ingest, name), { throwIfNoEntry: false })?.size ?? 0),
        0,
      );
    proxy.setFaults([on(blob, { kind: "stall", afterBytes: 123_456 })]);
    const running = runPuller(
      [
        "pull",
        `--reference=${proxy.host}/ai/three:x`,
        `--store=${store}`,
        `--plain-http=${proxy.host}`,
        `--docker-config=${join(directory, "config.json")}`,
        "--stall-timeout=60",
      ],
      {
        onStart: (child) => {
          signalled = waitFor("the partial", () => partial() >= 100_000).then(() => {
            sentMs = performance.now();
            child.kill("SIGTERM");
          });
        },
      },
    );
    const run = await running;
    await signalled;
    expect(run).toMatchObject({ exitCode: 143, termination: { code: "Interrupted", retryable: true } });
    expect(performance.now() - sentMs).toBeLessThan(2_000);
    const kept = partial();
    expect(kept).toBeGreaterThanOrEqual(100_000);
    const next = await pull(store, []);
    expect(next.exitCode).toBe(0);
    expectComplete(store);
    const resumed = proxy.requests.filter(({ path }) => blob.test(path)).at(-1);
    expect(resumed?.headers.range).toBe(`bytes=${kept}-${size - 1}`);
  });

  test("two pulls at once on one volume both end well", async () => {
    const store = freshStore();
    const runs = await Promise.all([pull(store, []), pull(store, []), pull(store, [])]);
    expect(runs.map(({ exitCode }) => exitCode)).toEqual([0, 0, 0]);
    expectNoWrongByte(store);
    expectComplete(store);
  });

  test(`SIGKILL at 50 seeded points: nothing wrong is ever visible, and the next run ends well`, async () => {
    const seed = process.env["OCIMODEL_SEED"] ?? randomBytes(4).toString("hex");
    console.log(`kill points are seeded with OCIMODEL_SEED=${seed}`);
    const store = freshStore();
    // One run to learn how long a pull takes here.
    const startedMs = performance.now();
    await pull(freshStore(), []);
    let wholeMs = performance.now() - startedMs;
    let killed = 0;
    for (let run = 0; killed < 50; run += 1) {
      const point = createHash("sha256").update(`${seed} ${run}`).digest().readUInt32BE() / 2 ** 32;
      const beganMs = performance.now();
      proxy.setFaults([{ when: { path: /\/blobs\//, times: always }, do: { kind: "delay", ms: 20 } }]);
      const child = spawn(
        process.execPath,
        [
          compiledPuller(),
          "pull",
          `--reference=${proxy.host}/ai/three:x`,
          `--store=${store}`,
          `--plain-http=${proxy.host}`,
          `--docker-config=${join(directory, "config.json")}`,
          "--log-level=silent",
        ],
        { stdio: "ignore", env: { ...process.env, ...compiledPullerEnvironment() } },
      );
      const ended = new Promise<boolean>((resolve) => child.on("exit", (code) => resolve(code === null)));
      // Kill points lie in time, from the start of the process to its usual end.
      const timer = setTimeout(() => child.kill("SIGKILL"), 60 + point * (wholeMs - 60));
      const wasKilled = await ended;
      if (wasKilled) killed += 1;
      clearTimeout(timer);
      // A run that was quicker than its kill says how long a pull takes by now.
      if (!wasKilled) wholeMs = Math.max(100, Math.min(wholeMs, performance.now() - beganMs));
      expect(run, `only ${killed} runs could be killed`).toBeLessThan(300);
      expectNoWrongByte(store);
      // A complete store leaves the next run nothing to be killed at.
      if (point < 0.3 || !wasKilled) rmSync(store, { recursive: true, force: true });
    }
    const clean = await pull(store, []);
    expect(clean.exitCode).toBe(0);
    expectComplete(store);
  }, 240_000);
});
