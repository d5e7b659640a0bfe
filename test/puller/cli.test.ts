// The command line as users and the kubelet meet it: help, variables, verify and gc, outputs that go away, signals in every phase,
// volumes that cannot be written.

import { spawn, spawnSync } from "node:child_process";
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { environmentName, helpText } from "../../puller/command-line.ts";
import { commandNames, options } from "../../puller/command-options.ts";
import { waitFor } from "../cluster/run-command.ts";
import { describeUnless } from "../cluster/suites.ts";
import { startScriptedRegistry, type Script, type ScriptedRegistry } from "../registry/scripted-registry.ts";
import { blobsOf, serveManifest } from "./bad-input.ts";
import { runInProcess } from "./run-in-process.ts";
import { compiledPuller } from "../compiled/compiled-puller.ts";
import { runPuller, type PullerRun } from "./run-puller.ts";
import { expectNoWrongByte, filesBelow } from "./store-assertions.ts";

let directory = "";
let registry: ScriptedRegistry;
let count = 0;
beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), "ocimodel-cli-"));
  registry = await startScriptedRegistry();
});
afterAll(async () => {
  await registry?.stop();
  rmSync(directory, { recursive: true, force: true });
});
const freshStore = (): string => {
  const store = join(directory, `store-${(count += 1)}`);
  mkdirSync(store);
  return store;
};
const args = (store: string): readonly string[] => [
  "pull",
  `--reference=${registry.host}/ai/model:x`,
  `--store=${store}`,
  `--plain-http=${registry.host}`,
];

describe("help", () => {
  test.each([[[]], [["pull"]], [["inspect"]], [["verify"]], [["repair"]], [["gc"]]])(
    "of %j",
    async (command: readonly string[]) => {
      const run = spawnSync(process.execPath, [compiledPuller(), ...command, "--help"], { encoding: "utf8" });
      expect(run).toMatchObject({ status: 0, stderr: "" });
      for (const line of run.stdout.split("\n")) expect(line.length).toBeLessThanOrEqual(130);
      await expect(run.stdout).toMatchFileSnapshot(
        join(import.meta.dirname, `../golden/puller/help-${command[0] ?? "all"}.out.txt`),
      );
    },
  );
  test.each(commandNames)("of %s says nothing that is so for another command alone", (command) => {
    const others = commandNames.filter((name) => name !== command);
    const [, , , , ...lines] = helpText(command).split("\n");
    expect(lines.filter((line) => others.some((name) => new RegExp(`\\b${name}\\b`).test(line)))).toEqual([]);
  });
  test("is offered where the command is missing or unknown", async () => {
    for (const [line, says] of [
      [[], "no command was given; see puller --help"],
      [["pul"], 'there is no command "pul"; did you mean pull?'],
      [["pull"], "--reference is missing; see puller pull --help"],
      [["pull", "--reference=a"], "--store is missing; see puller pull --help"],
      [["verify"], "--store is missing; see puller verify --help"],
    ] as const) {
      const run = await runInProcess(line.length === 0 ? [""] : line);
      expect(run).toMatchObject({
        exitCode: 64,
        termination: { code: "InvalidUsage", message: expect.stringContaining(says) },
      });
    }
  });
});

test("a password in a value that is none of its flag is not shown", async () => {
  const store = mkdtempSync(join(tmpdir(), "ocimodel-cli-"));
  try {
    for (const value of ["https://user:canary@m.example.com", "user:can/ary-canary@m.example.com/x"]) {
      for (const more of [
        [`--mirror=${value}`],
        [`--trusted-host=${value}`],
        [`--plain-http=${value}`],
        [value],
      ]) {
        const run = await runInProcess(["pull", "--reference=r.example.com/a", `--store=${store}`, ...more]);
        expect(run).toMatchObject({ exitCode: 64, termination: { code: "InvalidUsage" } });
        expect(run.termination.message).toContain("***@m.example.com");
        expect(JSON.stringify(run)).not.toContain("canary");
      }
    }
  } finally {
    rmSync(store, { recursive: true });
  }
});

describe("environment variables", () => {
  test.each(options.map(({ name }) => name))("stand for --%s", async (name) => {
    // A value that only this flag refuses, or that shows that it was taken.
    const proof: Readonly<Record<string, readonly [value: string, command: string, says: string]>> = {
      reference: ["BAD", "pull", '"BAD" has capital letters'],
      tags: ["no-such-*", "inspect", "has no tag that matches"],
      index: ["BAD", "inspect", '"BAD" has capital letters'],
      requirements: ["perhaps", "inspect", "perhaps"],
      output: ["xml", "inspect", '--output "xml" is none of'],
      store: ["/dev/null/x", "pull", "preparing the store /dev/null/x"],
      include: ["*.onnx\n*.pt", "pull", "leave no file"],
      exclude: ["*", "pull", "leave no file"],
      concurrency: ["0", "pull", '--concurrency "0"'],
      to: ["BAD", "repack", '"BAD" has capital letters'],
      platform: ["linux", "repack", '--platform "linux" is not OS/ARCH'],
      "chunk-size": ["1", "repack", '--chunk-size "1" is no number of bytes'],
      journal: ["/none/x", "repack", "journal /none/x cannot be read and written"],
      "bandwidth-limit": ["x", "pull", '"x"'],
      "progress-address": ["x", "pull", '--progress-address "x"'],
      "unused-models": ["some", "gc", '--unused-models "some" is none of keep, remove'],
      keep: ["my-model", "gc", '--keep "my-model" is no name of a directory under models'],
      "size-limit": ["1Gi", "gc", '--size-limit "1Gi" is not a whole number'],
      "minimum-age": ["-1", "gc", '--minimum-age "-1"'],
      cache: ["/dev/null/x", "prepare", "preparing the node cache /dev/null/x"],
      tenant: ["../up", "prepare", '--tenant "../up" is not the name of a namespace'],
      "in-use": ["/none", "tend", '--in-use "/none" is no directory'],
      every: ["0", "tend", '--every "0"'],
      "docker-config": ["/none", "pull", "docker config /none cannot be read"],
      "ca-file": ["/none", "pull", "CA file /none cannot be read"],
      "plain-http": ["http://x", "pull", '--plain-http "http://x"'],
      mirror: ["x", "pull", '--mirror "x"'],
      "trusted-host": ["a/b", "pull", '--trusted-host "a/b"'],
      "stall-timeout": ["x", "pull", '--stall-timeout "x"'],
      "retry-budget": ["x", "pull", '--retry-budget "x"'],
      "log-level": ["x", "pull", '--log-level "x"'],
    };
    registry.setScript((request) =>
      request.path.includes("/tags/") ? { body: '{"tags":["x"]}' } : serveManifest()(request),
    );
    if (name === "termination-log") {
      const file = join(directory, "by-variable");
      const run = spawnSync(process.execPath, [compiledPuller(), "pull"], {
        env: { [environmentName(name)]: file },
      });
      expect(run.status).toBe(64);
      expect(JSON.parse(readFileSync(file, "utf8"))).toMatchObject({ code: "InvalidUsage" });
      return;
    }
    const [value, command, says] = proof[name] ?? ["", "", `the option ${name} has no proof here`];
    const common = {
      reference: `${registry.host}/ai/model:x`,
      to: `${registry.host}/ai/image:x`,
      store: freshStore(),
      "plain-http": registry.host,
      cache: directory,
      tenant: "team",
      "in-use": directory,
    };
    const flags = Object.entries(common)
      .filter(
        ([flag]) =>
          flag !== name &&
          options.some((each) => each.name === flag && each.commands.includes(command as never)),
      )
      .map(([flag, text]) => `--${flag}=${text}`);
    const run = await runInProcess([command, ...flags], { environment: { [environmentName(name)]: value } });
    expect(run.termination.message).toContain(says);
    expect(run.exitCode).not.toBe(0);
  });
  test("yield to flags, and the reference by variable is that of the progress", async () => {
    registry.setScript(serveManifest());
    const store = freshStore();
    const run = await runInProcess(["pull", `--store=${store}`, `--plain-http=${registry.host}`], {
      environment: { OCIMODEL_REFERENCE: `${registry.host}/ai/model:x`, OCIMODEL_STORE: "/dev/null/x" },
    });
    expect(run).toMatchObject({ exitCode: 0, termination: { reference: `${registry.host}/ai/model:x` } });
  });
});

describe("verify and gc", () => {
  test("a directory that is no store is refused, and not made one", async () => {
    for (const command of ["verify", "repair", "gc"]) {
      const store = freshStore();
      for (const path of [store, join(store, "none")]) {
        const run = await runInProcess([command, `--store=${path}`]);
        expect(run).toMatchObject({
          exitCode: 64,
          termination: {
            command,
            code: "InvalidUsage",
            message: expect.stringContaining(`${path} holds no store`),
          },
        });
      }
      expect(readdirSync(store)).toEqual([]);
    }
  });
  test("a damaged blob is found with exit code 65 and named; a store of another version is refused with 74", async () => {
    registry.setScript(serveManifest());
    const store = freshStore();
    expect((await runInProcess(args(store))).exitCode).toBe(0);
    expect((await runInProcess(["verify", `--store=${store}`])).exitCode).toBe(0);
    const [name = ""] = filesBelow(join(store, ".ocimodel/blobs/sha256"));
    const blob = join(store, ".ocimodel/blobs/sha256", name);
    chmodSync(blob, 0o644);
    writeFileSync(blob, "WEIGHTS");
    const run = await runInProcess(["verify", `--store=${store}`]);
    expect(run).toMatchObject({
      exitCode: 65,
      termination: { command: "verify", code: "DigestMismatch", retryable: false },
    });
    expect(JSON.parse(run.stdout)).toMatchObject({
      damages: expect.arrayContaining([{ kind: "blob-modified", what: `sha256:${name}` }]),
    });
    writeFileSync(join(store, ".ocimodel/version"), "2\n");
    expect(await runInProcess(["verify", `--store=${store}`])).toMatchObject({
      exitCode: 74,
      termination: { code: "StorageFailed", message: expect.stringContaining('layout version "2"') },
    });
  });
});

describe("outputs that go away", () => {
  test("a termination file that cannot be written changes no exit code, and is told", () => {
    registry.setScript(serveManifest());
    const run = spawnSync(
      process.execPath,
      [compiledPuller(), "verify", `--store=${directory}`, "--termination-log=/dev/null/x"],
      { encoding: "utf8" },
    );
    expect(run.status).toBe(64);
    expect(run.stderr).toContain("termination log /dev/null/x cannot be written (ENOTDIR)");
  });
  test.each([">&-", "2>&-", ">&- 2>&-", "| true", "2>&1 >&- | true", ">/dev/full", "2>/dev/full"])(
    "%s changes no exit code",
    async (redirection) => {
      const log = join(directory, `closed-${(count += 1)}`);
      const store = freshStore();
      writeFileSync(join(store, "x"), "");
      const line = `set -o pipefail; ${process.execPath} ${compiledPuller()} verify --store=${store} --termination-log=${log} ${redirection}`;
      const run = spawnSync("bash", ["-c", line], { encoding: "utf8", timeout: 20_000 });
      expect(run.signal).toBeNull();
      expect(run.status).toBe(64);
      expect(JSON.parse(readFileSync(log, "utf8"))).toMatchObject({ code: "InvalidUsage" });
    },
  );
});

describe("a signal", () => {
  const half: Script = (request) => {
    if (!request.path.includes("/blobs/")) return serveManifest()(request);
    const content = request.path.endsWith(blobsDigest("{}")) ? "{}" : undefined;
    return content === undefined
      ? { raw: "HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\nwei", hang: true }
      : { body: content };
  };
  const blobsDigest = (text: string): string => [...blobsOf(text).keys()][0] ?? "";
  const hang =
    (path: RegExp): Script =>
    (request) =>
      path.test(request.path) ? { hang: true } : serveManifest()(request);
  const phases: readonly (readonly [
    name: string,
    script: Script,
    isReached: () => boolean,
    partial: number,
  ])[] = [
    ["while the manifest is awaited", hang(/manifests/), () => registry.requests.length > 0, 0],
    ["while the config is awaited", hang(/blobs/), () => registry.requests.length > 1, 0],
    [
      "while the token is awaited",
      (request) =>
        request.path.startsWith("/token")
          ? { hang: true }
          : { status: 401, headers: { "www-authenticate": `Bearer realm="${registry.url}/token"` } },
      () => registry.requests.some(({ path }) => path.startsWith("/token")),
      0,
    ],
    [
      "while it waits to try again",
      () => ({ status: 503, headers: { "retry-after": "60" } }),
      () => registry.requests.length > 0,
      0,
    ],
    ["in the middle of a blob", half, () => registry.requests.length > 2, 3],
  ];
  const until = async (
    script: Script,
    isReached: () => boolean,
    signals: readonly NodeJS.Signals[],
    store: string,
  ): Promise<{ readonly run: PullerRun; readonly ms: number }> => {
    registry.setScript(script);
    let sentMs = 0;
    const run = await runPuller(args(store), {
      onStart: (child) => {
        void waitFor("the phase", () => (isReached() ? true : undefined), { intervalMs: 10 }).then(
          async () => {
            // What was received is on the volume.
            await new Promise((resolve) => setTimeout(resolve, 100));
            sentMs = performance.now();
            for (const signal of signals) child.kill(signal);
          },
        );
      },
    });
    return { run, ms: performance.now() - sentMs };
  };
  test.each(phases)(
    "%s ends the run with 143 in two seconds and keeps the partial",
    async (_name, script, isReached, partial) => {
      const store = freshStore();
      const { run, ms } = await until(script, isReached, ["SIGTERM"], store);
      expect(run).toMatchObject({
        exitCode: 143,
        termination: {
          code: "Interrupted",
          retryable: true,
          message: "ended by SIGTERM; what was fetched is kept",
        },
      });
      expect(ms).toBeLessThan(2000);
      const sizes = filesBelow(join(store, ".ocimodel/ingest")).map(
        (path) => statSync(join(store, ".ocimodel/ingest", path)).size,
      );
      expect(sizes).toEqual(partial === 0 ? [] : [partial]);
      expectNoWrongByte(store);
      registry.setScript(serveManifest());
      expect((await runInProcess(args(store))).exitCode).toBe(0);
    },
  );
  test("that comes twice ends the run at once, and SIGINT is told as what it is", async () => {
    const [, script, isReached] = phases[4] ?? phases[0] ?? ["", half, () => true];
    const twice = await until(script, isReached, ["SIGTERM", "SIGTERM"], freshStore());
    expect(twice.run.exitCode).toBe(143);
    expect(twice.ms).toBeLessThan(2000);
    const interrupted = await until(script, isReached, ["SIGINT"], freshStore());
    expect(interrupted.run).toMatchObject({
      exitCode: 143,
      termination: { message: "ended by SIGINT; what was fetched is kept" },
    });
  });
});

const notRoot =
  process.getuid?.() === 0 && process.platform === "linux" ? undefined : "mounts need root on Linux";
describeUnless(notRoot, "a volume", () => {
  const read = (file: string): unknown => JSON.parse(readFileSync(file, "utf8")) as unknown;
  test("that is read-only, full, without inodes: exactly 74, 73, 73", async () => {
    registry.setScript(serveManifest());
    const cases: readonly (readonly [
      options: string,
      prepare: string,
      exitCode: number,
      code: string,
      says: string,
    ])[] = [
      ["size=1m", "mount -o remount,ro STORE", 74, "StorageFailed", "the volume is read-only (EROFS)"],
      [
        "size=64k",
        "head -c 200000 /dev/zero > STORE/fill 2>/dev/null || true",
        73,
        "OutOfSpace",
        "enlarge it or remove models",
      ],
      ["size=1m,nr_inodes=12", "true", 73, "OutOfSpace", "inodes"],
    ];
    for (const [mount, prepare, exitCode, code, says] of cases) {
      // In a mount namespace of its own: the mount goes with it.
      const log = join(directory, `mounted-${(count += 1)}`);
      const store = freshStore();
      const line = `mount -t tmpfs -o ${mount} tmpfs ${store} && ${prepare.replaceAll("STORE", store)}; exec "$@"`;
      const child = spawn(
        "unshare",
        [
          "-m",
          "bash",
          "-c",
          line,
          "bash",
          process.execPath,
          compiledPuller(),
          ...args(store),
          `--termination-log=${log}`,
          "--retry-budget=0",
        ],
        { stdio: "ignore" },
      );
      const status = await new Promise<number | null>((resolve) => child.on("close", resolve));
      expect({ mount, status, termination: read(log) }).toMatchObject({
        status: exitCode,
        termination: { code, retryable: true, message: expect.stringContaining(says) },
      });
      expect(readdirSync(store)).toEqual([]);
    }
  });
});
