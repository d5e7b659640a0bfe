import { spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { describeUnless } from "../../cluster/suites.ts";
import { startBlobServer, type BlobServer } from "../../registry/blob-server.ts";
import { runPuller, type PullerRun } from "../run-puller.ts";
import { journalPlace } from "../../../puller/store/journal.ts";
import { expectNoWrongByte, sha256 } from "../store-assertions.ts";
import { askedFileSystem, mountVolume, volumeObstacle, type Volume } from "../store/volumes.ts";
import { expectModel, noise, pieceBytes, seededRandom, smallPull, smallTuning } from "./small-pulls.ts";

/** A few seeded calls for each failure; every occurrence by OCIMODEL_SYSCALLS=all. */
const isFull = process.env["OCIMODEL_SYSCALLS"] === "all";
const seed = process.env["OCIMODEL_SEED"] ?? randomBytes(4).toString("hex");

/** What the stores are on: a file system mounted for this by OCIMODEL_FILE_SYSTEM; else what the machine has. */
const fileSystem = askedFileSystem();

const large = { name: "large.safetensors", content: noise("system calls", 1_200_000) };
const files = [large, { name: "small.json", content: Buffer.from("{}\n") }];

/** Calls that change the volume, and that only code for the volume makes. "?" of a call that an architecture lacks. */
const changing = [
  "pwrite64",
  "ftruncate",
  "fsync",
  "fdatasync",
  "fchmod",
  "mkdir",
  "link",
  "unlink",
  "rename",
  "rmdir",
] as const;
type Call = (typeof changing)[number];
/** A failure of these is never passed over: what was written, or that it is there for good, would be in doubt. */
const neverIgnored: ReadonlySet<Call> = new Set(["pwrite64", "ftruncate", "fsync", "fdatasync", "fchmod"]);

function straceUnavailable(): string | undefined {
  const probe = spawnSync("strace", ["-f", "-e", "inject=getppid:error=EIO:when=1", "true"], {
    encoding: "utf8",
  });
  if (probe.error !== undefined) return "strace is not installed";
  return probe.status === 0 ? undefined : `strace cannot trace here: ${probe.stderr.trim().slice(0, 100)}`;
}

const traceAll = `trace=${changing.map((name) => `?${name}`).join(",")}`;
type Traced = { readonly run: PullerRun; readonly lines: readonly string[]; readonly injected: number };

const obstacle = straceUnavailable() ?? (fileSystem === undefined ? undefined : volumeObstacle(fileSystem));
describeUnless(
  obstacle,
  `system calls that fail${fileSystem === undefined ? "" : ` (${fileSystem})`}`,
  () => {
    let volume: Volume | undefined;
    const newStore = (): string => mkdtempSync(join(volume?.path ?? tmpdir(), "ocimodel-syscalls-"));
    let server: BlobServer;
    let directory = "";
    let count = 0;
    let calls: ReadonlyMap<Call, number> = new Map();
    beforeAll(async () => {
      directory = mkdtempSync(join(tmpdir(), "ocimodel-strace-"));
      if (fileSystem !== undefined) volume = mountVolume(fileSystem, 64 * 2 ** 20);
      server = await startBlobServer(files);
      calls = await occurrences();
    });
    afterAll(async () => {
      await server?.stop();
      volume?.unmount();
      rmSync(directory, { recursive: true, force: true });
    });

    /** A pull in range mode whose calls are traced to a file, with what is injected. */
    const traced = async (of: BlobServer, store: string, inject: string | undefined): Promise<Traced> => {
      const trace = join(directory, `trace-${(count += 1)}`);
      const run = await runPuller(
        ["pull", `--reference=${of.host}/ai/small:x`, `--store=${store}`, `--plain-http=${of.host}`],
        {
          // One thread for the file system, so that calls come in nearly the same order each time.
          env: { OCIMODEL_TEST_TUNING: smallTuning, UV_THREADPOOL_SIZE: "1" },
          prefix: ["strace", "-f", "-qq", "-y", "-o", trace, "-e", traceAll].concat(
            inject === undefined ? [] : ["-e", `inject=${inject}`],
            // Quicker, but strace 6.1 injects no signals with it.
            inject?.includes("signal=") === true ? [] : ["--seccomp-bpf"],
          ),
        },
      );
      const lines = readFileSync(trace, "utf8").split("\n");
      return { run, lines, injected: lines.filter((line) => line.includes("(INJECTED)")).length };
    };

    /** Most calls of each name by one thread: strace counts each thread's for itself. */
    const occurrences = async (): Promise<ReadonlyMap<Call, number>> => {
      const store = newStore();
      const { run, lines } = await traced(server, store, undefined);
      expect(run.exitCode).toBe(0);
      expectModel(store, server, files);
      const counts = new Map<string, number>();
      for (const line of lines) {
        const match = /^(\d+) +([a-z0-9]+)\(/.exec(line);
        if (match !== null)
          counts.set(`${match[1]} ${match[2]}`, (counts.get(`${match[1]} ${match[2]}`) ?? 0) + 1);
      }
      rmSync(store, { recursive: true, force: true });
      return new Map(
        changing.map((call) => [
          call,
          Math.max(0, ...[...counts].filter(([key]) => key.endsWith(` ${call}`)).map(([, each]) => each)),
        ]),
      );
    };
    const chosen = (
      what: string,
      names: readonly Call[] = changing,
    ): readonly { readonly call: Call; readonly when: number }[] => {
      const random = seededRandom(`${seed} ${what}`);
      const all = names.flatMap((call) =>
        Array.from({ length: calls.get(call) ?? 0 }, (_, index) => ({ call, when: index + 1 })),
      );
      if (isFull) return all;
      // One occurrence of some calls: those where a lost failure is a lost byte, and two others.
      const always: readonly Call[] = ["pwrite64", "fdatasync"];
      const some = names.toSorted(() => random() - 0.5).filter((call) => !always.includes(call));
      return [...always, ...some.slice(0, 2)].flatMap((call) => {
        const of = all.filter((each) => each.call === call);
        return of[Math.floor(random() * of.length)] ?? [];
      });
    };
    /** Tries each of these calls, and an earlier one where there were fewer of them than before; how many were met. */
    const meet = async (
      what: string,
      isMet: (call: Call, when: number) => Promise<boolean>,
    ): Promise<number> => {
      let met = 0;
      for (const { call, when: first } of chosen(what)) {
        for (let when = first; when > 0; when = isFull ? 0 : Math.floor(when / 2)) {
          if (!(await isMet(call, when))) continue;
          met += 1;
          break;
        }
      }
      return met;
    };
    const heal = async (of: BlobServer, store: string, served: typeof files): Promise<void> => {
      expectNoWrongByte(store);
      const { error } = await smallPull(of, store);
      expect(error?.message).toBeUndefined();
      // Also not the other name of a blob, which a file has between its name as a blob and its end as a partial.
      expectModel(store, of, served);
      rmSync(store, { recursive: true, force: true });
    };

    test.each([
      ["a large blob and a small one", files],
      ["a small one alone", files.slice(1)],
    ])(
      "%s: what becomes visible was synced before, and then the directory that names it",
      async (_name, served) => {
        const store = newStore();
        const alone = await startBlobServer(served);
        const { run, lines } = await traced(alone, store, undefined);
        await alone.stop();
        expect(run.exitCode).toBe(0);
        // One thread makes all of these calls but the writes of lanes: where one begins, those before it have ended.
        const made = lines.flatMap((line) => {
          const [, name, text] = /^\d+ +([a-z0-9]+)\((.*)$/.exec(line) ?? [];
          return name === undefined || text === undefined ? [] : { name, text };
        });
        const first = (name: string, text: string, from = 0): number =>
          made.findIndex((call, index) => index >= from && call.name === name && call.text.includes(text));
        const last = (names: readonly string[], text: string, before: number): number =>
          made.findLastIndex(
            (call, index) => index < before && names.includes(call.name) && call.text.includes(text),
          );
        /** The index of a sync of `path` between two calls; fails where there is none. */
        const syncedBetween = (path: string, after: number, before: number): void => {
          const index = first("fsync", `<${path}>`, after);
          expect({ path, after, index, before, isThere: index !== -1 && index < before }).toMatchObject({
            isThere: true,
          });
        };
        const changes = ["pwrite64", "ftruncate"];
        const published = first("rename", `, "${store}/models/`);
        const [aside = ""] = /"([^"]+)"/.exec(made[published]?.text ?? "")?.slice(1) ?? [];
        expect(aside).toContain("/staging/");
        for (const { content } of served) {
          const linked = first("link", `, "${store}/.ocimodel/blobs/sha256/${sha256(content)}"`);
          const [part = ""] = /"([^"]+)"/.exec(made[linked]?.text ?? "")?.slice(1) ?? [];
          expect(part).toMatch(/\.part$/);
          syncedBetween(part, last(changes, `<${part}>`, linked), linked);
        }
        const lastBlob = last(["link"], `, "${store}/.ocimodel/blobs/`, published);
        syncedBetween(`${store}/.ocimodel/blobs/sha256`, lastBlob, published);
        syncedBetween(aside, last(["link", "mkdir"], `"${aside}`, published), published);
        const sealed = first("rename", `, "${store}/.ocimodel/seals/`);
        syncedBetween(`${store}/models`, published, sealed);
        // What a run after a crash of the machine believes is noted behind a sync that began behind the note before.
        const place = journalPlace({
          sizeBytes: large.content.length,
          count: Math.ceil(large.content.length / pieceBytes),
        });
        let from = 0;
        for (const [index, { name, text }] of made.entries()) {
          const [, offset] = /, (\d+)(?:\)| <unfinished)/.exec(text) ?? [];
          if (name !== "pwrite64" || Number(offset) !== place.synced) continue;
          const sync = first("fdatasync", ".part>", from);
          expect(sync !== -1 && sync < index).toBe(true);
          from = index;
        }
        rmSync(store, { recursive: true, force: true });
      },
    );

    test.each([
      ["ENOSPC", 73],
      ["EIO", 74],
    ] as const)(
      "%s: exit code %d or a way around it, never a wrong byte, and the next run ends well",
      async (errno, exitCode) => {
        console.log(`failing calls are seeded with OCIMODEL_SEED=${seed}`);
        const met = await meet(errno, async (call, when) => {
          const store = newStore();
          const { run, injected } = await traced(server, store, `${call}:error=${errno}:when=${when}`);
          const at = `${call} number ${when}`;
          if (injected > 0) {
            const codes = neverIgnored.has(call) ? [exitCode] : [exitCode, 0];
            expect({
              at,
              ends: codes.includes(run.exitCode) ? "well" : run.exitCode,
              stderr: codes.includes(run.exitCode) ? "" : run.stderr,
            }).toEqual({ at, ends: "well", stderr: "" });
          } else expect({ at, exitCode: run.exitCode }).toEqual({ at, exitCode: 0 });
          await heal(server, store, files);
          return injected > 0;
        });
        console.log(`${met} calls failed with ${errno}`);
        expect(met).toBeGreaterThan(2);
      },
      900_000,
    );

    test.each([
      ["the quota of the user is used up", "pwrite64", "EDQUOT", 73],
      ["the volume is read-only from a moment on", "pwrite64", "EROFS", 74],
      ["the file server has lost the file", "pwrite64", "ESTALE", 74],
      ["the file server has lost the file by the time it is synced", "fsync", "ESTALE", 74],
    ] as const)(
      "%s (%s, %s): exit code %d, and the next run ends well",
      async (_what, call, errno, exitCode) => {
        const random = seededRandom(`${seed} ${call} ${errno}`);
        const all = Array.from({ length: calls.get(call) ?? 0 }, (_, index) => index + 1);
        expect(all.length).toBeGreaterThan(0);
        for (const when of isFull ? all : [all[Math.floor(random() * all.length)] ?? 1]) {
          const store = newStore();
          const { run, injected } = await traced(server, store, `${call}:error=${errno}:when=${when}`);
          const stated = injected > 0 ? exitCode : 0;
          const stderr = run.exitCode === stated ? "" : run.stderr;
          expect({ when, exitCode: run.exitCode, stderr }).toEqual({ when, exitCode: stated, stderr: "" });
          await heal(server, store, files);
        }
      },
    );

    test.each(["EPERM", "EXDEV", "EMLINK", "EOPNOTSUPP"])(
      "a file system without links (%s): files are copied, and stay what they are",
      async (errno) => {
        const store = newStore();
        const { run, injected } = await traced(server, store, `link:error=${errno}`);
        expect({ exitCode: run.exitCode, isMet: injected > files.length }).toEqual({
          exitCode: 0,
          isMet: true,
        });
        expectModel(store, server, files);
        for (const { name, content } of files) {
          const blob = join(store, ".ocimodel/blobs/sha256", sha256(content));
          const model = join(store, "models", server.digest.replace("sha256:", ""), name);
          expect(statSync(blob).ino).not.toBe(statSync(model).ino);
        }
        const { report } = await smallPull(server, store);
        expect(report?.isWarm).toBe(true);
        rmSync(store, { recursive: true, force: true });
      },
    );

    test("EINTR: as if nothing had been", async () => {
      const names = ["pwrite64", "fsync", "fdatasync", "ftruncate"] as const;
      for (const { call, when } of chosen("EINTR", names)) {
        const store = newStore();
        const { run } = await traced(server, store, `${call}:error=EINTR:when=${when}`);
        expect({ call, when, exitCode: run.exitCode, stderr: run.exitCode === 0 ? "" : run.stderr }).toEqual({
          call,
          when,
          exitCode: 0,
          stderr: "",
        });
        expectModel(store, server, files);
        rmSync(store, { recursive: true, force: true });
      }
    }, 900_000);

    test("a write that takes fewer bytes than it was given, and even loses them: never a wrong byte", async () => {
      // The call is not made at all, so that one byte is really missing: what is hashed behind the lanes is what the file holds.
      const alone = await startBlobServer([large]);
      try {
        for (const { call, when } of chosen("short", ["pwrite64"])) {
          const store = newStore();
          const { run } = await traced(alone, store, `${call}:retval=1:when=${when}`);
          expect({ when, exitCode: run.exitCode, stderr: run.exitCode === 0 ? "" : run.stderr }).toEqual({
            when,
            exitCode: 0,
            stderr: "",
          });
          await heal(alone, store, [large]);
          const none = newStore();
          const { run: stuck, injected } = await traced(alone, none, `${call}:retval=0:when=${when}`);
          expect({ when, exitCode: stuck.exitCode }).toEqual({ when, exitCode: injected > 0 ? 74 : 0 });
          await heal(alone, none, [large]);
        }
      } finally {
        await alone.stop();
      }
    }, 900_000);

    test("SIGKILL at calls that change the volume: never a wrong byte, and the next run ends well", async () => {
      const killed = await meet("KILL", async (call, when) => {
        const store = newStore();
        const { run } = await traced(server, store, `${call}:signal=KILL:when=${when}`);
        const isKilled = run.exitCode === 137;
        if (!isKilled) expect({ call, when, exitCode: run.exitCode }).toEqual({ call, when, exitCode: 0 });
        await heal(server, store, files);
        return isKilled;
      });
      console.log(`${killed} runs were killed at a call`);
      expect(killed).toBeGreaterThan(2);
    }, 900_000);
  },
);
