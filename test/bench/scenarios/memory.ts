// T11: peak memory, whatever the size.

import { spawn } from "node:child_process";
import { globSync, mkdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import type { TerminationMessage } from "../../../puller/contract.ts";
import { runCommand } from "../../cluster/run-command.ts";
import type { Bench } from "../bench.ts";
import { pullArchive, pullArguments, pullerPull } from "../clients.ts";
import { gibibyte, mebibyte } from "../content.ts";
import { pullHalf } from "../pull-half.ts";
import type { Goal, Scenario, Variant } from "../scenario.ts";
import { zeros } from "../sparse.ts";
import { weightsArchive } from "../weights-archive.ts";

/** 200 GiB of zeros, and their digest. */
const hugeBlob = {
  sizeBytes: 200 * gibibyte,
  digest: "sha256:74e9f015a41deb3f0e19548e8ff01a5ec2c97734bd52c2bf142946a073882cc0",
};
/** How long the pull of that blob is watched, seconds. Its hash alone takes two minutes, and its memory shows in the first. */
const watchedSeconds = 15;

/**
 * A volume on which a file of 200 GiB has room although the machine has less: a tmpfs that promises it, from whose files what was
 * written is taken out again. The content is zeros, and so is a hole.
 */
async function boundlessVolume(bench: Bench): Promise<string | undefined> {
  if (process.getuid?.() !== 0) {
    bench.leaveOut("a blob of 200 GiB: only root can mount a volume for it");
    return undefined;
  }
  const volume = bench.folder("volume");
  const mounted = await runCommand("mount", ["-t", "tmpfs", "-o", "size=300g", "tmpfs", volume], {
    allowFailure: true,
  });
  if (mounted.exitCode !== 0) {
    bench.leaveOut(`a blob of 200 GiB: no volume can be mounted for it (${mounted.stderr.trim()})`);
    return undefined;
  }
  bench.defer(async () => {
    await runCommand("umount", ["-l", volume]);
  });
  const timer = setInterval(() => {
    for (const file of globSync(join(volume, "store/.ocimodel/ingest/*/*"))) {
      spawn(
        "fallocate",
        ["--punch-hole", "--offset=0", `--length=${hugeBlob.sizeBytes}`, "--keep-size", file],
        {
          stdio: "ignore",
        },
      ).on("error", () => undefined);
    }
  }, 300);
  bench.defer(() => {
    clearInterval(timer);
  });
  return volume;
}

async function huge(bench: Bench): Promise<Variant | undefined> {
  if (bench.isTiny) return undefined;
  const artifact = bench.artifact("bench/huge", [await zeros(bench.contents, "huge.safetensors", hugeBlob)]);
  const server = await bench.nginx([artifact]);
  const volume = await boundlessVolume(bench);
  if (server === undefined || volume === undefined) return undefined;
  const store = join(volume, "store");
  const log = join(volume, "termination.json");
  return {
    name: "one of 200 GiB",
    before: async () => {
      rmSync(store, { recursive: true, force: true });
      mkdirSync(store);
    },
    command: () => ({
      argv: [...bench.puller.argv, ...pullArguments({ server, artifact }, store), `--termination-log=${log}`],
      env: bench.puller.env,
      stopAfterSeconds: watchedSeconds,
    }),
    after: async () => {
      const { bytesDone, code } = JSON.parse(readFileSync(log, "utf8")) as TerminationMessage;
      rmSync(store, { recursive: true, force: true });
      if (code !== "Interrupted" || bytesDone === undefined || bytesDone < gibibyte)
        throw new Error(`after ${watchedSeconds} s the puller said ${code} at ${bytesDone} bytes`);
      return { fetchedBytes: bytesDone };
    },
  };
}

const peakMemory: Scenario = {
  id: "T11",
  area: "pull",
  title: "peak RSS, whatever the size",
  method: `Blobs of 1 MiB and 2 GiB, eight of 256 MiB, 300 of 1 MiB, one of 2 GiB with a cap of 100 MiB/s on each connection, by TLS, resumed from its middle and in chunks (the slower path), a tar+zstd layer of 1 GiB, and one of 200 GiB, from nginx to memory. The last one is watched for ${watchedSeconds} s and stopped then (SIGTERM): a volume that promises 300 GiB takes it, and what was written is taken out of the file again while it runs, which changes no byte because the content is zeros. RSS is the process's own, without page cache.`,
  prepare: async (bench) => {
    const [storage] = bench.storages;
    if (storage === undefined) return [];
    const shapes = [
      { name: "one of 1 MiB", contents: [await bench.contents.random("small.safetensors", mebibyte)] },
      {
        name: "one of 2 GiB",
        contents: [await bench.contents.random("model.safetensors", bench.size(2 * gibibyte))],
      },
      {
        name: "eight of 256 MiB",
        contents: await bench.contents.randoms(8, bench.size(256 * mebibyte, mebibyte / 4)),
      },
      {
        name: "300 of 1 MiB",
        contents: await bench.contents.randoms(bench.isTiny ? 20 : 300, bench.size(mebibyte, 4096)),
      },
    ].map(({ name, contents }, index) => ({
      name,
      artifact: bench.artifact(`bench/shape-${index}`, contents),
    }));
    const server = await bench.nginx(shapes.map(({ artifact }) => artifact));
    const [, large] = shapes;
    const capped =
      large === undefined
        ? undefined
        : await bench.nginx([large.artifact], { connectionMebibytesPerSecond: 100 });
    const tls = large === undefined ? undefined : await bench.nginx([large.artifact], { tls: true });
    const archive = await weightsArchive(bench.contents, bench.size(1472 * mebibyte, 4 * mebibyte));
    const archived = bench.artifact("bench/archive", [archive.layer]);
    const archives = await bench.nginx([archived]);
    const hugeVariant = await huge(bench);
    const variants = [
      ...shapes.flatMap(({ name, artifact }) =>
        server === undefined ? [] : [pullerPull(bench.puller, { server, artifact }, { name })],
      ),
      ...(capped === undefined || large === undefined
        ? []
        : [
            pullerPull(bench.puller, { server: capped, artifact: large.artifact }, { name: "2 GiB, capped" }),
          ]),
      ...(tls === undefined || large === undefined
        ? []
        : [pullerPull(bench.puller, { server: tls, artifact: large.artifact }, { name: "2 GiB by TLS" })]),
      ...(large === undefined || server === undefined
        ? []
        : [
            {
              ...pullerPull(bench.puller, { server, artifact: large.artifact }, { name: "2 GiB, resumed" }),
              before: async (place: string) => pullHalf(bench, large.artifact, place),
            },
            pullerPull(
              bench.puller,
              { server: await bench.origin([large.artifact], { isChunked: true }), artifact: large.artifact },
              { name: "2 GiB in chunks" },
            ),
          ]),
      ...(archives === undefined
        ? []
        : [
            pullArchive(bench.puller, { server: archives, artifact: archived }, archive.files, {
              name: "tar+zstd of 1 GiB",
            }),
          ]),
      ...(hugeVariant === undefined ? [] : [hugeVariant]),
    ];
    const goals = variants.map(({ name }): Goal => ({
      text: `peak RSS, ${name}`,
      of: { variant: name, figure: "peakRssBytes" },
      unit: "MiB",
      unitSize: mebibyte,
      atMost: 128,
    }));
    const flat: readonly Goal[] =
      hugeVariant === undefined
        ? []
        : [
            {
              text: "flat: 200 GiB against 2 GiB",
              of: { variant: hugeVariant.name, figure: "peakRssBytes" },
              against: { variant: "one of 2 GiB", figure: "peakRssBytes" },
              unit: "x",
              atMost: 1.1,
            },
          ];
    return [
      { name: `nginx, ${storage.name}`, directory: storage.directory, variants, goals: [...goals, ...flat] },
    ];
  },
};

export const scenarios: readonly Scenario[] = [peakMemory];
