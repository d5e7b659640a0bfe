// S1 to S4: what pods that share a volume cost: warm starts, a second pod, garbage collection, many models on one claim.

import { createHash } from "node:crypto";
import { mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { GcReport } from "../../../puller/store/gc.ts";
import { runCommand } from "../../cluster/run-command.ts";
import type { Artifact } from "../artifact.ts";
import type { Bench } from "../bench.ts";
import { checkFiles, pullArguments, pullFigures } from "../clients.ts";
import { mebibyte } from "../content.ts";
import type { Command } from "../measure.ts";
import type { Scenario, Variant } from "../scenario.ts";
import type { BlobServer } from "../servers/blob-server.ts";

/** Many models with layers of their own, and how they are called. */
async function models(
  bench: Bench,
  count: number,
  layers: (index: number) => Promise<Artifact["layers"]>,
): Promise<readonly Artifact[]> {
  const made: Artifact[] = [];
  for (let index = 1; index <= count; index += 1)
    made.push(bench.artifact(`bench/model-${index}`, await layers(index)));
  return made;
}

async function fill(
  bench: Bench,
  server: BlobServer,
  artifacts: readonly Artifact[],
  store: string,
): Promise<void> {
  mkdirSync(store, { recursive: true });
  for (const artifact of artifacts) {
    const [program = "", ...args] = [...bench.puller.argv, ...pullArguments({ server, artifact }, store)];
    await runCommand(program, args, { env: bench.puller.env });
  }
}

const warmStarts: Scenario = {
  id: "S1",
  area: "storage",
  title: "warm start from each storage type",
  method:
    "A model of eight files that is on the volume and sealed is pulled again by its digest, as the pods of the operator do: from an `emptyDir` that holds it alone, from a claim that 50 models share, from the directory of a tenant in a node cache with as many, and from a claim that is mounted read-only.",
  prepare: async (bench) => {
    const own = await bench.contents.randoms(8, bench.size(8 * mebibyte, 8192));
    const model = bench.artifact("bench/warm", own);
    const others = await models(bench, bench.isTiny ? 3 : 49, async (index) => [
      await bench.contents.random(`other-${index}.safetensors`, 65_536),
    ]);
    const server = await bench.origin([model, ...others]);
    const root = bench.folder("volumes");
    bench.defer(async () => {
      await runCommand("rm", ["-rf", root]);
    });
    const stores = {
      emptyDir: join(root, "empty-dir"),
      claim: join(root, "claim"),
      cache: join(root, "cache/team"),
    };
    const cache = join(root, "cache");
    mkdirSync(cache);
    const isRoot = process.getuid?.() === 0;
    if (isRoot) {
      const [program, ...args] = [...bench.puller.argv, "prepare", `--cache=${cache}`, "--tenant=team"];
      await runCommand(program, args, { env: bench.puller.env });
    } else bench.leaveOut("owner and mode of a node cache: only root can set them");
    await fill(bench, server, [model], stores.emptyDir);
    await fill(bench, server, [...others, model], stores.claim);
    await fill(bench, server, [...others, model], stores.cache);
    const start = (name: string, store: string): Variant => ({
      name,
      command: () => ({
        argv: [
          ...bench.puller.argv,
          "pull",
          `--reference=${server.host}/${model.repository}@${model.digest}`,
          `--store=${store}`,
          `--plain-http=${server.host}`,
        ],
        env: bench.puller.env,
      }),
      after: async (_place, run, isThorough) => {
        if (!(JSON.parse(run.stdout) as { readonly isWarm: boolean }).isWarm)
          throw new Error(`the start was not warm: ${run.stdout}`);
        if (isThorough) checkFiles(join(store, "models"), own, true);
        return pullFigures(run);
      },
    });
    const variants = [
      start("emptyDir", stores.emptyDir),
      start("shared claim", stores.claim),
      start("node cache", stores.cache),
    ];
    if (isRoot) {
      const readOnly = join(root, "read-only");
      mkdirSync(readOnly);
      await runCommand("mount", ["--bind", stores.claim, readOnly]);
      bench.defer(async () => {
        await runCommand("umount", ["-l", readOnly]);
      });
      await runCommand("mount", ["-o", "remount,bind,ro", readOnly]);
      variants.push(start("read-only claim", readOnly));
    } else bench.leaveOut("a claim that is mounted read-only: only root can mount");
    return [
      {
        name: bench.storages.at(-1)?.name ?? "disk",
        directory: bench.scratch,
        variants,
        goals: variants.flatMap(({ name }) => [
          {
            text: `wall, ${name}`,
            of: { variant: name, figure: "wallSeconds" },
            unit: "ms" as const,
            unitSize: 0.001,
            atMost: 150,
          },
          ...(name === "emptyDir"
            ? []
            : [
                {
                  text: `wall, ${name} against emptyDir`,
                  of: { variant: name, figure: "wallSeconds" },
                  against: { variant: "emptyDir", figure: "wallSeconds" },
                  unit: "x" as const,
                  atMost: 1.25,
                },
              ]),
        ]),
      },
    ];
  },
};

/** Several commands as one: at once, or one after another. */
function together(commands: readonly (readonly string[])[], how: "at once" | "in turn"): Command["argv"] {
  const quoted = commands.map((words) =>
    words.map((word) => `'${word.replaceAll("'", String.raw`'\''`)}'`).join(" "),
  );
  const script =
    how === "in turn"
      ? ["set -e", ...quoted]
      : [
          ...quoted.map((line) => `${line} & pids="$pids $!"`),
          'for pid in $pids; do wait "$pid" || exit 1; done',
        ];
  return ["sh", "-c", script.join("\n")];
}

const secondPod: Scenario = {
  id: "S2",
  area: "storage",
  title: "second pod on a node",
  method:
    "One blob of 1 GiB over a link of 400 MiB/s for all connections together, to one store: by one puller, by two that start at the same moment, and by four. “fetched” is what the server sent over the size of the model: once is wanted, whoever waits for whom.",
  prepare: async (bench) => {
    const sizeBytes = bench.size(1024 * mebibyte, mebibyte);
    const content = await bench.contents.random("model.safetensors", sizeBytes);
    const artifact = bench.artifact("bench/one", [content]);
    const server = await bench.origin([artifact], {
      bytesPerSecond: bench.size(400 * mebibyte, 16 * mebibyte),
    });
    return bench.storages.map((storage) => {
      let before = 0;
      const pods = (name: string, count: number): Variant => ({
        name,
        before: async () => {
          before = server.sentBytes();
          return Promise.resolve();
        },
        command: (place) => ({
          argv: together(
            Array.from({ length: count }, () => [
              ...bench.puller.argv,
              ...pullArguments({ server, artifact }, place),
              "--log-level=silent",
            ]),
            "at once",
          ),
          env: bench.puller.env,
        }),
        after: async (place, _run, isThorough) => {
          checkFiles(join(place, "models"), [content], isThorough);
          return Promise.resolve({ timesFetched: (server.sentBytes() - before) / sizeBytes });
        },
      });
      const several = [pods("two pods", 2), pods("four pods", 4)];
      return {
        name: `400 MiB/s, ${storage.name}`,
        directory: storage.directory,
        variants: [pods("one pod", 1), ...several],
        goals: several.flatMap(({ name }) => [
          {
            text: `fetched, ${name}`,
            of: { variant: name, figure: "timesFetched" },
            unit: "" as const,
            atMost: 1.01,
          },
          {
            text: `wall, ${name} against one`,
            of: { variant: name, figure: "wallSeconds" },
            against: { variant: "one pod", figure: "wallSeconds" },
            unit: "x" as const,
            atMost: 1.3,
          },
        ]),
      };
    });
  },
};

const hex = (text: string): string => createHash("sha256").update(text).digest("hex");

/** A store as pulls leave it: so many blobs, ten for each model, and every second model is in use. */
function makeStore(
  store: string,
  blobs: number,
): { readonly kept: readonly string[]; readonly going: number } {
  const own = join(store, ".ocimodel");
  for (const name of ["blobs/sha256", "ingest", "staging", "seals", "turns", "uses", "stamps"])
    mkdirSync(join(own, name), { recursive: true });
  writeFileSync(join(own, "version"), "1\n");
  const kept: string[] = [];
  let going = 0;
  const content = Buffer.alloc(1024);
  for (let first = 0; first < blobs; first += 10) {
    const name = hex(`model ${first}`);
    const list = Array.from({ length: 10 }, (_, index) => hex(`blob ${first + index}`));
    for (const each of list) writeFileSync(join(own, "blobs/sha256", each), content, { mode: 0o444 });
    mkdirSync(join(store, "models", name), { recursive: true });
    const digests = list.map((each) => `sha256:${each}`);
    const seal = { v: 1, name, digest: `sha256:${name}`, files: [], blobs: digests };
    writeFileSync(join(own, "seals", `${name}.json`), JSON.stringify(seal));
    writeFileSync(join(own, "uses", name), JSON.stringify({ v: 1, blobs: digests }));
    if (first % 20 === 0) kept.push(name);
    else going += list.length;
  }
  return { kept, going };
}

const garbage: Scenario = {
  id: "S3",
  area: "storage",
  title: "garbage collection of 10,000 blobs",
  method:
    "A store of 1,000 models with ten blobs of 1 KiB each. “half” removes every second model and its 5,000 blobs; “nothing” finds that all are in use.",
  prepare: async (bench) => {
    const count = bench.isTiny ? 200 : 10_000;
    return bench.storages.map((storage) => {
      const collect = (name: string, isHalf: boolean): Variant => {
        let expected = 0;
        let list: readonly string[] = [];
        return {
          name,
          before: async (place) => {
            const { kept, going } = makeStore(place, count);
            list = isHalf ? kept : readdirSync(join(place, "models"));
            expected = isHalf ? going : 0;
            return Promise.resolve();
          },
          command: (place) => ({
            argv: [
              ...bench.puller.argv,
              "gc",
              `--store=${place}`,
              "--minimum-age=0",
              "--unused-models=remove",
              ...list.map((model) => `--keep=${model}`),
            ],
            env: bench.puller.env,
          }),
          after: async (place, run) => {
            const { removedBlobs } = JSON.parse(run.stdout) as GcReport;
            const left = readdirSync(join(place, ".ocimodel/blobs/sha256")).length;
            if (removedBlobs !== expected || left !== count - expected)
              throw new Error(
                `${removedBlobs} blobs were removed and ${left} are left, not ${expected} removed`,
              );
            return Promise.resolve(undefined);
          },
        };
      };
      const variants = [collect("half", true), collect("nothing", false)];
      return {
        name: storage.name,
        directory: storage.directory,
        variants,
        goals: variants.flatMap(({ name }) => [
          {
            text: `wall, ${name} is removed`,
            of: { variant: name, figure: "wallSeconds" },
            unit: "s" as const,
            atMost: 5,
          },
          {
            text: `peak RSS, ${name} is removed`,
            of: { variant: name, figure: "peakRssBytes" },
            unit: "MiB" as const,
            unitSize: mebibyte,
            atMost: 160,
          },
        ]),
      };
    });
  },
};

const sharedClaim: Scenario = {
  id: "S4",
  area: "storage",
  title: "a claim shared by 50 models",
  method:
    "Fifty models with a layer of 32 MiB in common and one of 1 MiB of their own, pulled one after the other to one claim, and each to a claim of its own. “fetched” is what the server sent over the distinct bytes.",
  prepare: async (bench) => {
    const count = bench.isTiny ? 3 : 50;
    const common = await bench.contents.random("common.safetensors", bench.size(32 * mebibyte, 65_536));
    const artifacts = await models(bench, count, async (index) => [
      common,
      await bench.contents.random(`own-${index}.safetensors`, bench.size(mebibyte, 4096)),
    ]);
    const distinct = new Map(
      artifacts.flatMap(({ layers }) => layers.map(({ digest, sizeBytes }) => [digest, sizeBytes] as const)),
    );
    const distinctBytes = [...distinct.values()].reduce((sum, bytes) => sum + bytes, 0);
    const server = await bench.origin(artifacts);
    const storage = bench.storages.at(-1);
    if (storage === undefined) return [];
    let before = 0;
    const pulls = (name: string, storeOf: (place: string, index: number) => string): Variant => ({
      name,
      before: async () => {
        before = server.sentBytes();
        return Promise.resolve();
      },
      command: (place) => ({
        argv: together(
          artifacts.map((artifact, index) => [
            ...bench.puller.argv,
            ...pullArguments({ server, artifact }, storeOf(place, index)),
            "--log-level=silent",
          ]),
          "in turn",
        ),
        env: bench.puller.env,
      }),
      after: async (place, _run, isThorough) => {
        for (const [index, { digest, layers }] of artifacts.entries()) {
          const model = join(storeOf(place, index), "models", digest.slice(7));
          checkFiles(model, layers, isThorough && index % 10 === 0);
        }
        return Promise.resolve({ timesFetched: (server.sentBytes() - before) / distinctBytes });
      },
    });
    return [
      {
        name: storage.name,
        directory: storage.directory,
        variants: [
          pulls("one claim", (place) => place),
          pulls("a claim each", (place, index) => join(place, `claim-${index}`)),
        ],
        goals: [
          {
            text: "fetched, one claim",
            of: { variant: "one claim", figure: "timesFetched" },
            unit: "",
            atMost: 1.01,
          },
          {
            text: "wall, against a claim each",
            of: { variant: "one claim", figure: "wallSeconds" },
            against: { variant: "a claim each", figure: "wallSeconds" },
            unit: "x",
            atMost: 0.9,
          },
        ],
      },
    ];
  },
};

export const scenarios: readonly Scenario[] = [warmStarts, secondPod, garbage, sharedClaim];
