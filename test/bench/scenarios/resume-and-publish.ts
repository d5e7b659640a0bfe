// T9, T10 and T12: a killed pull goes on, the end of a pull, and a start that finds everything there.

import { mkdirSync, statfsSync } from "node:fs";
import { join } from "node:path";
import { runCommand } from "../../cluster/run-command.ts";
import { pullArguments, pullerPull, pullFigures } from "../clients.ts";
import { gibibyte, mebibyte } from "../content.ts";
import { pullHalf } from "../pull-half.ts";
import type { Scenario, Variant } from "../scenario.ts";
import { sparseFile } from "../sparse.ts";

const resume: Scenario = {
  id: "T9",
  area: "pull",
  title: "resume at 50 % on a link of 200 MiB/s",
  method:
    "A pull of 2 GiB is killed (SIGKILL) when a server that sends exactly half of it stands still. Wall time of the next pull, over a link of 200 MiB/s for all connections together, against pulling a blob of 1 GiB over the same link. “refetched” is what the server sent beyond the missing half: at most an unfinished slab of 2 MiB in each of sixteen lanes is wanted.",
  prepare: async (bench) => {
    const sizeBytes = bench.size(2 * gibibyte, 4 * mebibyte);
    const bytesPerSecond = bench.size(200 * mebibyte, 16 * mebibyte);
    const whole = await bench.contents.random("model.safetensors", sizeBytes);
    const half = await bench.contents.random("half.safetensors", sizeBytes / 2);
    const artifact = bench.artifact("bench/one", [whole]);
    const halfArtifact = bench.artifact("bench/half", [half]);
    const link = await bench.origin([artifact, halfArtifact], { bytesPerSecond });
    return bench.storages.map((storage) => {
      let sentBefore = 0;
      const pull = pullerPull(bench.puller, { server: link, artifact }, { name: "resume" });
      const resumed: Variant = {
        ...pull,
        before: async (place) => {
          await pullHalf(bench, artifact, place);
          sentBefore = link.sentBytes();
        },
        after: async (place, run, isThorough) => ({
          ...(await pull.after(place, run, isThorough)),
          refetchedBytes: link.sentBytes() - sentBefore - sizeBytes / 2,
        }),
      };
      return {
        name: `200 MiB/s, ${storage.name}`,
        directory: storage.directory,
        variants: [
          resumed,
          pullerPull(bench.puller, { server: link, artifact: halfArtifact }, { name: "half alone" }),
        ],
        goals: [
          {
            text: "wall, against the other half alone",
            of: { variant: "resume", figure: "wallSeconds" },
            against: { variant: "half alone", figure: "wallSeconds" },
            unit: "x",
            atMost: 1.05,
          },
          {
            text: "fetched again",
            of: { variant: "resume", figure: "refetchedBytes" },
            unit: "MiB",
            unitSize: mebibyte,
            atMost: 32,
          },
        ],
      };
    });
  },
};

const settle: Scenario = {
  id: "T10",
  area: "pull",
  title: "sync and publication after 2 GiB",
  method:
    "One blob of 2 GiB from nginx. “settling” is the time from the last byte that came over the network until the model is published: the rest of hashing, the last sync, links, renames and the seal, as the puller reports it.",
  prepare: async (bench) => {
    const content = await bench.contents.random("model.safetensors", bench.size(2 * gibibyte));
    const artifact = bench.artifact("bench/one", [content]);
    const server = await bench.nginx([artifact]);
    if (server === undefined) return [];
    return bench.storages.map((storage) => ({
      name: `nginx, ${storage.name}`,
      directory: storage.directory,
      contentBytes: artifact.sizeBytes,
      variants: [pullerPull(bench.puller, { server, artifact })],
      goals: [
        {
          text: "from the last byte to the published model",
          of: { variant: "puller", figure: "settlingSeconds" },
          unit: "ms",
          unitSize: 0.001,
          atMost: 150,
        },
      ],
    }));
  },
};

const warmStart: Scenario = {
  id: "T12",
  area: "pull",
  title: "warm start of 200 files, 20 GiB",
  method:
    "A model of 200 files that is on the volume and sealed is pulled again: by digest, as the operator's pods do, and by tag, which asks the registry for the manifest. “all read” is all that the process read, from files and sockets, its own code included.",
  prepare: async (bench) => {
    const [count, sizeBytes] = [bench.isTiny ? 20 : 200, bench.size(103 * mebibyte, 8192)];
    const disk = bench.storages.at(-1);
    if (disk === undefined) return [];
    const free = statfsSync(disk.directory);
    if (free.bavail * free.bsize < count * sizeBytes * 1.2) {
      bench.leaveOut(
        `a warm start: ${disk.directory} has less than ${(count * sizeBytes * 1.2) / gibibyte} GiB free`,
      );
      return [];
    }
    const layers = [];
    for (let index = 1; index <= count; index += 1) {
      layers.push(await sparseFile(bench.contents, `shard-${index}.safetensors`, sizeBytes));
    }
    const artifact = bench.artifact("bench/warm", layers);
    const server = await bench.nginx([artifact]);
    if (server === undefined) return [];
    const store = join(disk.directory, "warm-store");
    mkdirSync(store);
    bench.defer(async () => {
      await runCommand("rm", ["-rf", store]);
    });
    const [program = "", ...args] = [...bench.puller.argv, ...pullArguments({ server, artifact }, store)];
    await runCommand(program, args, { env: bench.puller.env });
    const start = (name: string, reference: string): Variant => ({
      name,
      command: () => ({
        argv: [
          ...bench.puller.argv,
          "pull",
          `--reference=${reference}`,
          `--store=${store}`,
          `--plain-http=${server.host}`,
        ],
        env: bench.puller.env,
      }),
      after: async (_place, run) => {
        const { isWarm } = JSON.parse(run.stdout) as { readonly isWarm: boolean };
        if (!isWarm) throw new Error(`the start was not warm: ${run.stdout}`);
        return { ...pullFigures(run), allReadBytes: run.readBytes };
      },
    });
    const repository = `${server.host}/${artifact.repository}`;
    const variants = [
      start("by digest", `${repository}@${artifact.digest}`),
      start("by tag", `${repository}:${artifact.tag}`),
    ];
    return [
      {
        name: disk.name,
        directory: disk.directory,
        variants,
        goals: [
          ...variants.map(({ name }) => ({
            text: `wall, ${name}`,
            of: { variant: name, figure: "wallSeconds" },
            unit: "ms" as const,
            unitSize: 0.001,
            atMost: 150,
          })),
          {
            text: "read, all files and sockets (no blob is)",
            of: { variant: "by digest", figure: "readBytes" },
            unit: "MiB" as const,
            unitSize: mebibyte,
            atMost: 16,
          },
        ],
      },
    ];
  },
};

export const scenarios: readonly Scenario[] = [resume, settle, warmStart];
