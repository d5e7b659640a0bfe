// What can be wrong with a volume, on several file systems.

import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import {
  appendFileSync,
  chmodSync,
  chownSync,
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  closeSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { waitFor } from "../../cluster/run-command.ts";
import { describeUnless } from "../../cluster/suites.ts";
import { compiledPuller, compiledPullerEnvironment } from "../../compiled/compiled-puller.ts";
import { bootIdentity } from "../../../puller/store/journal.ts";
import { hostMark, mark } from "../../../puller/store/writer.ts";
import { startFaultProxy, type FaultProxy } from "../../registry/fault-proxy.ts";
import { publishDockerModel, type Published } from "../../registry/publish.ts";
import { registryUnavailable, startRegistry, type TestRegistry } from "../../registry/registry.ts";
import { runInProcess, type InProcessRun } from "../run-in-process.ts";
import { expectNoWrongByte, filesBelow, noise, random, sha256 } from "../store-assertions.ts";
import type { Seen } from "./reader.ts";
import { fileSystems, mountVolume, volumeObstacle, type Volume } from "./volumes.ts";

const mebibyte = 2 ** 20;
const files = ["one.safetensors", "two.safetensors", "three.bin"].map((name) => ({
  name,
  content: noise(name, 300_000),
}));
const [firstHex = ""] = files.map(({ content }) => sha256(content));
/** Requests for any of them. */
const layers = new RegExp(files.map(({ content }) => sha256(content)).join("|"));

describe.each(fileSystems)("a volume of %s", (kind) => {
  describeUnless(volumeObstacle(kind) ?? registryUnavailable(), `is safe (${kind})`, () => {
    let registry: TestRegistry;
    let proxy: FaultProxy;
    let published: Published;
    let other: Published;
    let volume: Volume;
    let store = "";
    let count = 0;

    beforeAll(async () => {
      registry = await startRegistry();
      proxy = await startFaultProxy({ target: registry.url, keepAlive: true });
      published = await publishDockerModel(registry, {
        repository: "ai/three",
        tag: "x",
        version: "v0.2",
        files,
      });
      other = await publishDockerModel(registry, {
        repository: "ai/three",
        tag: "y",
        version: "v0.2",
        files: [...files.slice(0, 1), { name: "four.bin", content: noise("four", 200_000) }],
      });
      volume = mountVolume(kind);
    });
    afterAll(async () => {
      volume?.unmount();
      await proxy?.stop();
      await registry?.stop();
    });
    beforeEach(() => {
      if (store !== "") rmSync(store, { recursive: true, force: true });
      store = join(volume.path, `store-${(count += 1)}`);
      mkdirSync(store);
      proxy.setFaults([]);
    });

    const reference = (of: Published): string => `${proxy.host}/ai/three@${of.digest}`;
    const pull = async (of = published, at = store): Promise<InProcessRun> =>
      runInProcess([
        "pull",
        `--reference=${reference(of)}`,
        `--store=${at}`,
        `--plain-http=${proxy.host}`,
        "--retry-budget=2",
      ]);
    const command = async (
      name: "verify" | "repair" | "gc",
      ...more: readonly string[]
    ): Promise<InProcessRun> => runInProcess([name, `--store=${store}`, ...more]);
    const nameOf = ({ digest }: Published): string => digest.replace("sha256:", "");
    const modelOf = (of = published): string => join(store, "models", nameOf(of));
    const blob = (): string => join(store, ".ocimodel/blobs/sha256", firstHex);
    const fetchedBlobs = (): number =>
      proxy.requests.filter(({ path, status }) => /\/blobs\//.test(path) && status === 200).length;

    const expectComplete = (): void => {
      expect(filesBelow(modelOf())).toEqual(files.map(({ name }) => name).sort());
      for (const { name, content } of files)
        expect(sha256(readFileSync(join(modelOf(), name)))).toBe(sha256(content));
      expectNoWrongByte(store);
    };
    /** Pulls, breaks something, pulls again: the second is good and complete. */
    const expectHealed = async (): Promise<void> => {
      const { exitCode, termination } = await pull();
      expect({ exitCode, code: termination.code }).toEqual({ exitCode: 0, code: "Ready" });
      expectComplete();
    };

    describe("no room, no inodes, read-only", () => {
      test("a model that is larger than the free space is refused before the first byte, with both figures", async () => {
        const small = mountVolume(kind, 4 * mebibyte);
        try {
          const free = readdirSync(small.path);
          expect(free.length).toBeLessThan(2);
          writeFileSync(join(small.path, "filler"), Buffer.alloc(0));
          fill(join(small.path, "filler"), 500_000, small.path);
          const before = fetchedBlobs();
          const run = await pull(published, small.path);
          expect(run).toMatchObject({ exitCode: 73, termination: { code: "OutOfSpace", retryable: true } });
          expect(run.termination.message).toMatch(/needs 900000 more bytes and the volume has \d+ free/);
          // The config, but no layer.
          expect(fetchedBlobs() - before).toBeLessThanOrEqual(1);
        } finally {
          small.unmount();
        }
      });

      test("space that vanishes in the middle ends the pull with 73; other models are untouched; it goes on later", async () => {
        const small = mountVolume(kind, 6 * mebibyte);
        try {
          expect((await pull(other, small.path)).exitCode).toBe(0);
          const kept = snapshot(join(small.path, "models", nameOf(other)));
          const asked = proxy.requests.length;
          proxy.setFaults([
            {
              when: { method: "GET", path: /\/blobs\//, times: 20, skip: 1 },
              do: { kind: "delay", ms: 400 },
            },
          ]);
          const running = pull(published, small.path);
          await waitFor("the first layer to be asked for", async () =>
            Promise.resolve(
              proxy.requests.slice(asked).filter(({ path }) => /\/blobs\//.test(path)).length > 1,
            ),
          );
          fill(join(small.path, "filler"), 100_000, small.path);
          expect(await running).toMatchObject({ exitCode: 73, termination: { code: "OutOfSpace" } });
          expectNoWrongByte(small.path);
          expect(snapshot(join(small.path, "models", nameOf(other)))).toEqual(kept);
          unlinkSync(join(small.path, "filler"));
          proxy.setFaults([]);
          expect((await pull(published, small.path)).exitCode).toBe(0);
          expectNoWrongByte(small.path);
        } finally {
          small.unmount();
        }
      });

      test("a volume with room for the model and little more: a pull whose process died goes on there, and another one beside it", async () => {
        const small = mountVolume(kind, 4 * mebibyte);
        try {
          const owner = `${hostMark()}-${mark(bootIdentity())}-999999999-1`;
          for (const { content } of files) {
            const ingest = join(small.path, ".ocimodel/ingest", sha256(content));
            mkdirSync(ingest, { recursive: true });
            writeFileSync(join(ingest, `0123456789abcdef-${owner}.part`), content.subarray(0, 250_000));
          }
          fill(join(small.path, "filler"), 500_000, small.path);
          proxy.setFaults([
            { when: { method: "GET", path: layers, times: 20 }, do: { kind: "delay", ms: 200 } },
          ]);
          const runs = await Promise.all([
            pull(published, small.path),
            delay(250).then(async () => pull(published, small.path)),
          ]);
          expect(runs.map(({ termination }) => termination.code)).toEqual(["Ready", "Ready"]);
          expectNoWrongByte(small.path);
        } finally {
          small.unmount();
        }
      });

      test("a volume without inodes is refused before the first byte", async () => {
        const small = mountVolume(kind, 8 * mebibyte, 64);
        try {
          for (let index = 0; ; index += 1) {
            try {
              writeFileSync(join(small.path, `file-${index}`), "");
            } catch {
              break;
            }
          }
          // What the store itself needs, but not more.
          for (let index = 0; index < 16; index += 1) unlinkSync(join(small.path, `file-${index}`));
          const run = await pull(published, small.path);
          expect(run).toMatchObject({ exitCode: 73, termination: { code: "OutOfSpace" } });
          expect(run.termination.message).toMatch(/inodes/);
        } finally {
          small.unmount();
        }
      });

      test("a read-only volume with the model on it is used as it is; without it, the refusal says how to fill it", async () => {
        expect((await pull()).exitCode).toBe(0);
        const before = snapshot(store);
        volume.remount("ro");
        try {
          const asked = proxy.requests.length;
          expect(await pull()).toMatchObject({ exitCode: 0, termination: { code: "Ready" } });
          // Named by digest, it needs no registry either.
          expect(proxy.requests.length).toBe(asked);
          const missing = await pull(other);
          expect(missing).toMatchObject({ exitCode: 74, termination: { code: "StorageFailed" } });
          expect(missing.termination.message).toMatch(/can only be read and does not hold the model/);
        } finally {
          volume.remount("rw");
        }
        expect(snapshot(store)).toEqual(before);
      });
    });

    describe("a blob that is there already but is not what was put there", () => {
      const flip = (path: string): void => {
        chmodSync(path, 0o644);
        const { atime, mtime } = lstatSync(path);
        const handle = openSync(path, "r+");
        writeSync(handle, Buffer.from([readFileSync(path)[100] === 0 ? 1 : 0]), 0, 1, 100);
        closeSync(handle);
        utimesSync(path, atime, mtime);
        chmodSync(path, 0o444);
      };
      const replaced = (path: string, make: (path: string) => void): void => {
        unlinkSync(path);
        make(path);
      };
      const damages: readonly (readonly [string, (path: string) => void])[] = [
        ["truncated", (path) => truncateSync(path, 1000)],
        ["longer", (path) => appendFileSync(path, "more")],
        ["flipped in one bit, with its times set back", flip],
        [
          "zeroed",
          (path) => replaced(path, (at) => writeFileSync(at, Buffer.alloc(300_000), { mode: 0o444 })),
        ],
        ["writable", (path) => chmodSync(path, 0o666)],
        ["of another owner", (path) => chownSync(path, 12_345, 12_345)],
        [
          "a symbolic link to the right bytes",
          (path) => {
            renameSync(path, `${store}/elsewhere`);
            symlinkSync(`${store}/elsewhere`, path);
          },
        ],
        ["a symbolic link to nowhere", (path) => replaced(path, (at) => symlinkSync("/nowhere", at))],
        ["a FIFO", (path) => replaced(path, (at) => void spawnSync("mkfifo", ["-m", "444", at]))],
        ["a directory", (path) => replaced(path, (at) => mkdirSync(at))],
        [
          "another file of the same size, owner and mode",
          (path) => replaced(path, (at) => writeFileSync(at, noise("poison", 300_000), { mode: 0o444 })),
        ],
        ["gone", (path) => unlinkSync(path)],
      ];
      test.each(damages)("%s: the model of another tag gets the right bytes", async (_name, damage) => {
        expect((await pull(other)).exitCode).toBe(0);
        // The other model's own link goes, so that nothing but the blob is left to be believed.
        rmSync(modelOf(other), { recursive: true });
        damage(blob());
        await expectHealed();
      });

      test.each(damages.filter(([name]) => name !== "gone"))(
        "%s, in the model itself: the next start mends it",
        async (_name, damage) => {
          await expectHealed();
          damage(join(modelOf(), "one.safetensors"));
          await expectHealed();
        },
      );

      test("one that somebody else puts there while it is being fetched: refused, and right the next time", async () => {
        proxy.setFaults([
          { when: { method: "GET", path: new RegExp(firstHex), times: 20 }, do: { kind: "delay", ms: 400 } },
        ]);
        const asked = proxy.requests.length;
        const running = pull();
        await waitFor("the layer to be asked for", async () =>
          Promise.resolve(proxy.requests.slice(asked).some(({ path }) => path.includes(firstHex))),
        );
        mkdirSync(join(blob(), ".."), { recursive: true });
        writeFileSync(blob(), noise("poison", 300_000), { mode: 0o444 });
        chownSync(blob(), 12_345, 12_345);
        const run = await running;
        expect(run).toMatchObject({ exitCode: 74, termination: { code: "StorageFailed", retryable: true } });
        expect(run.termination.message).toMatch(/was changed on the volume by somebody else/);
        expectNoWrongByte(store);
        await expectHealed();
      });

      test("a hard link to it elsewhere, through which it is written: found by its times, read, and fetched again", async () => {
        await expectHealed();
        linkSync(blob(), join(volume.path, `backdoor-${count}`));
        chmodSync(join(volume.path, `backdoor-${count}`), 0o644);
        writeFileSync(join(volume.path, `backdoor-${count}`), noise("poison", 300_000));
        chmodSync(join(volume.path, `backdoor-${count}`), 0o444);
        await expectHealed();
        unlinkSync(join(volume.path, `backdoor-${count}`));
      });
    });

    describe("the seal and the model's directory", () => {
      const seal = (): string => join(store, ".ocimodel/seals", `${nameOf(published)}.json`);
      const changes: readonly (readonly [string, () => void])[] = [
        ["an empty seal", () => writeFileSync(seal(), "")],
        ["a seal that is no JSON", () => writeFileSync(seal(), "{")],
        [
          "a seal of another model",
          () =>
            writeFileSync(seal(), readFileSync(seal(), "utf8").replaceAll(nameOf(published), nameOf(other))),
        ],
        [
          "a seal that is a link",
          () => {
            renameSync(seal(), `${seal()}.moved`);
            symlinkSync(`${seal()}.moved`, seal());
          },
        ],
        ["no seal", () => unlinkSync(seal())],
        ["a missing file", () => unlinkSync(join(modelOf(), "two.safetensors"))],
        ["a file that is not the model's", () => writeFileSync(join(modelOf(), "five.bin"), "x")],
        [
          "a file that is not the model's, deep",
          () => {
            mkdirSync(join(modelOf(), "deep/er"), { recursive: true });
            writeFileSync(join(modelOf(), "deep/er/five.bin"), "x");
          },
        ],
        [
          "a model that is a file",
          () => {
            rmSync(modelOf(), { recursive: true });
            writeFileSync(modelOf(), "x");
          },
        ],
        [
          "a model that is a link to another place",
          () => {
            renameSync(modelOf(), `${store}/moved`);
            symlinkSync(`${store}/moved`, modelOf());
          },
        ],
      ];
      test.each(changes)("%s: rebuilt without fetching a layer", async (_name, change) => {
        await expectHealed();
        change();
        const before = fetchedBlobs();
        await expectHealed();
        expect(fetchedBlobs() - before).toBeLessThanOrEqual(1);
      });
    });

    test.each([
      ".ocimodel",
      ".ocimodel/blobs",
      ".ocimodel/ingest",
      ".ocimodel/staging",
      ".ocimodel/seals",
      "models",
    ])("a link in the place of %s is refused, and nothing is written where it leads", async (path) => {
      const outside = join(volume.path, `outside-${count}`);
      mkdirSync(outside);
      mkdirSync(join(store, ".ocimodel"));
      if (path === ".ocimodel") rmSync(join(store, ".ocimodel"), { recursive: true });
      symlinkSync(outside, join(store, path));
      const run = await pull();
      expect(run).toMatchObject({ exitCode: 74, termination: { code: "StorageFailed" } });
      expect(run.termination.message).toMatch(/is no directory of its own but a link or a file; remove it/);
      expect(readdirSync(outside)).toEqual([]);
    });

    test.each([
      ["a flipped bit", (bytes: Buffer) => void (bytes[10] = (bytes[10] ?? 0) ^ 1)],
      ["another file's bytes", (bytes: Buffer) => void bytes.fill("poison")],
    ])(
      "a partial of a dead puller with %s in it is found out, and comes to nothing",
      async (_what, poison) => {
        proxy.setFaults([
          {
            when: { method: "GET", path: new RegExp(firstHex), times: 20 },
            do: { kind: "cut", afterBytes: 150_000 },
          },
        ]);
        const cut = await runInProcess([
          "pull",
          `--reference=${reference(published)}`,
          `--store=${store}`,
          `--plain-http=${proxy.host}`,
          "--retry-budget=0",
        ]);
        expect(cut.exitCode).toBe(69);
        proxy.setFaults([]);
        const ingest = join(store, ".ocimodel/ingest", firstHex);
        const [name = ""] = readdirSync(ingest);
        const partial = join(ingest, name);
        const bytes = readFileSync(partial);
        expect(bytes.length).toBeGreaterThan(0);
        poison(bytes);
        writeFileSync(partial, bytes);
        // Of this host and boot, by a process that is no more.
        renameSync(partial, join(ingest, name.replace(/-\d+-\d+\.part$/, "-999999999-1.part")));
        await expectHealed();
        // Of the other blobs there may be partials: their writer is this process, which lives.
        expect(readdirSync(join(store, ".ocimodel/ingest"))).not.toContain(firstHex);
      },
    );

    test("what else is on the volume is not touched", async () => {
      mkdirSync(join(store, "lost+found"));
      mkdirSync(join(store, "data"));
      writeFileSync(join(store, "data/mine.txt"), "mine");
      mkdirSync(join(store, "models/by-hand"), { recursive: true });
      writeFileSync(join(store, "models/by-hand/model.gguf"), "mine");
      const others = ["data", "lost+found", "models/by-hand"];
      const look = (): unknown => others.map((name) => snapshot(join(store, name)));
      const before = look();
      await pull();
      await command("gc", "--minimum-age=0", "--unused-models=remove");
      await command("repair");
      expect(readdirSync(join(store, "models"))).toEqual(["by-hand"]);
      expect(look()).toEqual(before);
    });

    test.each([
      ["newer", "2"],
      ["older", "0"],
      ["unknown", "one"],
    ])("a store of another version is refused, and nothing of it is touched: %s", async (_age, version) => {
      mkdirSync(join(store, ".ocimodel"));
      writeFileSync(join(store, ".ocimodel/version"), `${version}\n`);
      const before = snapshot(store);
      const run = await pull();
      expect(run).toMatchObject({ exitCode: 74, termination: { code: "StorageFailed" } });
      expect(run.termination.message).toContain(`layout version "${version}"; this puller knows 1`);
      expect(snapshot(store)).toEqual(before);
    });

    describe("garbage collection", () => {
      test("removes what no model needs, and never what is kept or was used lately", async () => {
        await expectHealed();
        expect((await pull(other)).exitCode).toBe(0);
        // Used a moment ago: nothing goes.
        expect(
          JSON.parse((await command("gc", "--unused-models=remove", "--minimum-age=60")).stdout),
        ).toMatchObject({
          removedModels: [],
          removedBlobs: 0,
        });
        const report: unknown = JSON.parse(
          (await command("gc", "--unused-models=remove", "--minimum-age=0", `--keep=${nameOf(published)}`))
            .stdout,
        );
        expect(report).toMatchObject({
          removedModels: [nameOf(other)],
          removedBlobs: 1,
          freedBytes: 200_000,
          storedBytes: 900_000,
        });
        expectComplete();
        // Still trusted, without reading a byte: its stamps were renewed.
        const before = proxy.requests.length;
        await expectHealed();
        expect(proxy.requests.length).toBe(before);
        expect(filesBelow(join(store, ".ocimodel/staging"))).toEqual([]);
        await command("gc", "--unused-models=remove", "--minimum-age=0");
        expect(filesBelow(join(store, "models"))).toEqual([]);
        expect(filesBelow(join(store, ".ocimodel"))).toEqual(["version"]);
      });

      test("after a crash in the middle of deleting, what was set aside goes by age, and the model can be pulled again", async () => {
        await expectHealed();
        renameSync(modelOf(), join(store, ".ocimodel/staging/0123456789abcdef.gone"));
        renameSync(blob(), join(store, ".ocimodel/staging/1123456789abcdef.gone"));
        await expectHealed();
        await command("gc", "--minimum-age=0");
        expect(filesBelow(join(store, ".ocimodel/staging"))).toEqual([]);
        expectComplete();
      });

      test("while others pull: all are complete", async () => {
        await expectHealed();
        for (let round = 0; round < 5; round += 1) {
          const runs = await Promise.all([
            pull(),
            pull(other),
            command("gc", "--unused-models=remove", "--minimum-age=30"),
            command("gc", "--minimum-age=30"),
          ]);
          expect(runs.map(({ exitCode }) => exitCode)).toEqual([0, 0, 0, 0]);
          expectComplete();
        }
      });
    });

    test("over the limit with everything in use, nothing goes", async () => {
      await expectHealed();
      const report: unknown = JSON.parse(
        (
          await command(
            "gc",
            "--unused-models=remove",
            "--minimum-age=0",
            "--size-limit=1",
            `--keep=${nameOf(published)}`,
          )
        ).stdout,
      );
      expect(report).toMatchObject({ removedModels: [], storedBytes: 900_000 });
      expectComplete();
    });

    test("verify names every damage, repair mends it from what is good, and a pull the rest", async () => {
      await expectHealed();
      expect((await pull(other)).exitCode).toBe(0);
      expect(await command("verify")).toMatchObject({ exitCode: 0 });
      // One file of a model is replaced: its blob is good.
      const file = join(modelOf(), "two.safetensors");
      unlinkSync(file);
      writeFileSync(file, noise("poison", 300_000), { mode: 0o444 });
      // A blob is lost: its file in the model is good.
      unlinkSync(join(store, ".ocimodel/blobs/sha256", sha256(files[2]?.content ?? Buffer.alloc(0))));
      writeFileSync(join(store, ".ocimodel/blobs/sha256/notes.txt"), "x");
      writeFileSync(join(store, ".ocimodel/seals", `${nameOf(other)}.json`), "{");
      const verified = await command("verify");
      expect(verified.exitCode).toBe(65);
      const { damages } = JSON.parse(verified.stdout) as { damages: { kind: string }[] };
      expect(damages.map(({ kind }) => kind).sort()).toEqual([
        "blob-foreign",
        "blob-missing",
        "model-modified",
        "seal-unreadable",
      ]);
      const { repairs } = JSON.parse((await command("repair")).stdout) as {
        repairs: { kind: string; outcome: string }[];
      };
      expect(Object.fromEntries(repairs.map(({ kind, outcome }) => [kind, outcome]))).toEqual({
        "blob-foreign": "removed",
        "blob-missing": "mended",
        "model-modified": "mended",
        "seal-unreadable": "removed",
      });
      expectComplete();
      const before = fetchedBlobs();
      await expectHealed();
      expect(fetchedBlobs()).toBe(before);
      expect((await pull(other)).exitCode).toBe(0);
      expect(await command("verify")).toMatchObject({ exitCode: 0 });
    });

    test("a reader during publication, takeover and garbage collection sees the model whole or not at all", async () => {
      await expectHealed();
      const loops = 1000;
      const hexes = Object.fromEntries(files.map(({ name, content }) => [name, sha256(content)]));
      const reader = spawn(
        process.execPath,
        [join(import.meta.dirname, "reader.ts"), modelOf(), String(loops), JSON.stringify(hexes)],
        { stdio: ["ignore", "pipe", "inherit"] },
      );
      const said: Buffer[] = [];
      reader.stdout.on("data", (chunk: Buffer) => said.push(chunk));
      const life = { isOver: false };
      const ended = once(reader, "close").then(([code]) => {
        life.isOver = true;
        return code as number | null;
      });
      const next = random(`reader ${kind}`);
      let [rounds, replaced] = [0, 0];
      for (; !life.isOver || replaced === 0; rounds += 1) {
        const before = statSync(modelOf(), { throwIfNoEntry: false })?.ino;
        // Its bytes are right, but anybody could have changed them: it is fetched again, and the model is replaced.
        if (rounds % 2 === 0) chmodSync(join(modelOf(), "one.safetensors"), 0o666);
        const killed = spawn(
          process.execPath,
          [
            compiledPuller(),
            "pull",
            `--reference=${reference(published)}`,
            `--store=${store}`,
            `--plain-http=${proxy.host}`,
          ],
          { stdio: "ignore", env: { PATH: process.env["PATH"] ?? "", ...compiledPullerEnvironment() } },
        );
        const isGone = once(killed, "exit");
        await Promise.all([
          delay(100 + next(150)).then(() => killed.kill("SIGKILL")),
          pull(other),
          command("gc", "--unused-models=remove", "--minimum-age=60"),
        ]);
        await isGone;
        await expectHealed();
        if (statSync(modelOf()).ino !== before) replaced += 1;
      }
      expect(await ended).toBe(0);
      const seen = JSON.parse(Buffer.concat(said).toString("utf8")) as Seen;
      expect(seen).toMatchObject({ wrong: [] });
      expect(seen.whole).toBeGreaterThan(loops / 2);
      console.log(
        `${kind}: ${seen.whole} looks at a whole model, ${seen.absent} at none; ${rounds} rounds, ${replaced} in which it was replaced`,
      );
    }, 120_000);
  });
});

test.skipIf(process.getuid?.() !== 0)(
  "a directory of root is refused to user 65532, with the remedy (needs root)",
  () => {
    const directory = mkdtempSync(join(tmpdir(), "ocimodel-root-"));
    chmodSync(directory, 0o755);
    const main = join(import.meta.dirname, "../../../puller/main.ts");
    const { status, stderr } = spawnSync(
      "setpriv",
      [
        "--reuid=65532",
        "--regid=65532",
        "--clear-groups",
        process.execPath,
        main,
        "pull",
        "--reference=127.0.0.1:1/ai/model:x",
        `--store=${directory}`,
      ],
      { encoding: "utf8" },
    );
    expect({ status, isTold: stderr.includes("set fsGroup 65532") }).toEqual({ status: 74, isTold: true });
    expect(existsSync(join(directory, ".ocimodel"))).toBe(false);
    rmSync(directory, { recursive: true });
  },
);

/** Writes a file until only `left` bytes are free. */
function fill(path: string, left: number, volume: string): void {
  const { stdout } = spawnSync("stat", ["--file-system", "--format=%a %S", volume], { encoding: "utf8" });
  const [blocks = 0, size = 0] = stdout.trim().split(" ").map(Number);
  const bytes = blocks * size - left;
  if (bytes > 0) writeFileSync(path, Buffer.alloc(bytes, 1));
}

/** Everything below a directory: kind, mode, size, time of content, and content. */
function snapshot(directory: string): readonly string[] {
  return readdirSync(directory, { recursive: true, withFileTypes: true })
    .map((entry) => {
      const path = join(entry.parentPath, entry.name);
      const { mode, size, mtimeMs, ino } = lstatSync(path);
      return [path, mode, ino, ...(entry.isFile() ? [size, mtimeMs, sha256(readFileSync(path))] : [])].join(
        " ",
      );
    })
    .sort();
}
