// How a pull can be held or ended from outside besides signals while it waits for the network: while it waits for the volume, by a
// stop for long, and by the kernel when memory is short. Whatever it was, the next run ends well.

import { spawn, spawnSync, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, readFileSync, rmdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { waitFor } from "../../cluster/run-command.ts";
import { describeUnless } from "../../cluster/suites.ts";
import { compiledPuller, compiledPullerEnvironment } from "../../compiled/compiled-puller.ts";
import { startBlobServer, type BlobServer } from "../../registry/blob-server.ts";
import { expectNoWrongByte, filesBelow } from "../store-assertions.ts";
import { expectModel, freshStore, noise, smallPull, smallTuning } from "./small-pulls.ts";

const size = 2 * 1024 * 1024 + 321;
const files = [{ name: "large.safetensors", content: noise("ends", size) }];

let server: BlobServer;
let store = "";
beforeAll(async () => {
  server = await startBlobServer(files);
});
afterAll(async () => {
  await server?.stop();
});
beforeEach(() => {
  store = freshStore();
  server.behave(() => undefined);
});
afterEach(() => {
  rmSync(store, { recursive: true, force: true });
});

type Started = {
  readonly child: ChildProcess;
  /** Exit code, or the signal that ended it. */
  readonly ended: Promise<number | NodeJS.Signals | null>;
};

function start(
  options: { readonly prefix?: readonly string[]; readonly stallSeconds?: number } = {},
): Started {
  const { host } = server;
  const line = [
    ...(options.prefix ?? []),
    process.execPath,
    compiledPuller(),
    "pull",
    `--reference=${host}/ai/small:x`,
    `--store=${store}`,
    `--plain-http=${host}`,
    `--stall-timeout=${options.stallSeconds ?? 120}`,
    "--log-level=silent",
  ];
  const child = spawn(line[0] ?? "", line.slice(1), {
    stdio: "ignore",
    env: {
      PATH: process.env["PATH"] ?? "",
      ...compiledPullerEnvironment(),
      OCIMODEL_TEST_TUNING: smallTuning,
    },
  });
  const ended = once(child, "exit").then(
    ([code, signal]) => (code ?? signal) as number | NodeJS.Signals | null,
  );
  return { child, ended };
}

const partialFiles = (): readonly string[] =>
  filesBelow(join(store, ".ocimodel/ingest")).map((name) => join(store, ".ocimodel/ingest", name));
const sentBytes = (): number => server.fileRequests.reduce((sum, each) => sum + each.sentBytes, 0);
/** Whether a partial was made read-only, after which it is synced and becomes a blob. */
const isBeingStored = (): boolean =>
  partialFiles().some(
    (file) => (statSync(file, { throwIfNoEntry: false })?.mode ?? 0o777) % 0o1000 === 0o444,
  );

async function expectHealed(): Promise<void> {
  expectNoWrongByte(store);
  server.behave(() => undefined);
  const { error } = await smallPull(server, store);
  expect(error?.message).toBeUndefined();
  expectModel(store, server, files);
}

const straceObstacle =
  spawnSync("strace", ["-f", "-e", "inject=getppid:delay_enter=1:when=1", "true"]).status === 0
    ? undefined
    : "strace cannot trace here";

test.skipIf(straceObstacle !== undefined)(
  "a signal while the volume takes its time to sync the blob ends the pull with 143, and the next one ends well",
  async () => {
    const { child, ended } = start({
      prefix: [
        "strace",
        "-f",
        "-qq",
        "-o",
        "/dev/null",
        "-e",
        "trace=fsync",
        "-e",
        "inject=fsync:delay_enter=6000000",
      ],
    });
    await waitFor("the blob to be stored", isBeingStored, { intervalMs: 2 });
    const children = readFileSync(`/proc/${child.pid}/task/${child.pid}/children`, "utf8");
    process.kill(Number(children.trim().split(" ")[0]), "SIGTERM");
    expect(await ended).toBe(143);
    await expectHealed();
  },
);

test("a pull that was stopped for longer than its connections live goes on when it is woken", async () => {
  server.behave(() => ({ chunkBytes: 16 * 1024, gapMs: 10 }));
  const { child, ended } = start({ stallSeconds: 0.5 });
  await waitFor("bytes", () => sentBytes() > 200_000, { intervalMs: 5 });
  child.kill("SIGSTOP");
  await delay(1_500);
  server.behave(() => undefined);
  child.kill("SIGCONT");
  expect(await ended).toBe(0);
  expectModel(store, server, files);
});

const memoryGroups = ["/sys/fs/cgroup/memory", "/sys/fs/cgroup"].find((path) =>
  existsSync(join(path, path.endsWith("memory") ? "memory.limit_in_bytes" : "cgroup.controllers")),
);

/** A group of processes that may have so many bytes together; undefined where none can be made. */
function memoryGroup(bytes: number): { readonly procs: string; readonly remove: () => void } | undefined {
  if (memoryGroups === undefined) return undefined;
  const path = join(memoryGroups, `ocimodel-test-${process.pid}`);
  try {
    mkdirSync(path);
    const limit = ["memory.limit_in_bytes", "memory.max"].find((name) => existsSync(join(path, name)));
    if (limit === undefined) throw new Error("memory is not controlled there");
    writeFileSync(join(path, limit), String(bytes));
    return { procs: join(path, "cgroup.procs"), remove: () => rmdirSync(path) };
  } catch {
    rmSync(path, { recursive: true, force: true });
    return undefined;
  }
}

const probe = memoryGroup(2 ** 28);
probe?.remove();

describeUnless(
  probe === undefined ? "no group with a memory limit can be made here" : undefined,
  "the kernel's kill when memory is short",
  () => {
    test("in the middle of a blob: nothing wrong is visible, and the next run goes on", async () => {
      const group = memoryGroup(2 ** 28);
      if (group === undefined) throw new Error("the group could be made before");
      // It can never end by itself, however late the kernel comes.
      const sent = 100_000;
      server.behave(({ index }) =>
        index === 0 ? { endsAfter: sent, ending: "hang" } : { after: new Promise(() => undefined) },
      );
      const inGroup = (score: number): readonly string[] => [
        "sh",
        "-c",
        'echo $$ > "$0" && echo "$1" > /proc/self/oom_score_adj && shift && exec "$@"',
        group.procs,
        String(score),
      ];
      // Of all in its group it is to go first.
      const { ended } = start({ prefix: inGroup(1000) });
      await waitFor("bytes", () => partialFiles().length > 0 && sentBytes() === sent, { intervalMs: 5 });
      const [program, ...args] = [...inGroup(0), "tail", "/dev/zero"];
      const hog = spawn(program, args, { stdio: "ignore" });
      const hogEnded = once(hog, "exit");
      expect(await ended).toBe("SIGKILL");
      hog.kill("SIGKILL");
      await hogEnded;
      await waitFor("the group to be empty", () => readFileSync(group.procs, "utf8") === "");
      group.remove();
      await expectHealed();
    });
  },
);
