// T14: a compressed archive as a layer.

import { join } from "node:path";
import type { Bench } from "../bench.ts";
import { checkFiles, pullArchive, type Target } from "../clients.ts";
import { mebibyte, type Content } from "../content.ts";
import { floorVariant } from "../floor.ts";
import type { Peer } from "../peers.ts";
import { comparison, type Scenario, type Variant } from "../scenario.ts";
import { weightsArchive } from "../weights-archive.ts";

/** The floor of the blob, and of hashing and writing the files too. */
function filesFloor(bench: Bench, target: Target, layer: Content, unpackedBytes: number): Variant {
  const floor = floorVariant(bench, target, layer, { cpu: bench.cpus.client });
  return {
    ...floor,
    after: async (...ended) => {
      const figures = (await floor.after(...ended)) ?? {};
      const { floorCpuSeconds = 0, hashCpuSeconds = 0, writeCpuSeconds = 0 } = figures;
      const filesCpuSeconds = (hashCpuSeconds + writeCpuSeconds) * (unpackedBytes / layer.sizeBytes);
      return { ...figures, floorWallSeconds: (floorCpuSeconds + filesCpuSeconds) / bench.cpus.count };
    },
  };
}

/** Decompression alone. */
function decompression(bench: Bench, zstd: Peer, layer: Content): Variant {
  return {
    name: "zstd",
    command: () => ({
      argv: [zstd.path, "--test", "--quiet", join(bench.contents.blobs, layer.digest)],
      cpu: bench.cpus.client,
    }),
    after: async (_place, { userSeconds, systemSeconds }) => ({
      floorWallSeconds: (userSeconds + systemSeconds) / bench.cpus.count,
    }),
  };
}

const archive: Scenario = {
  id: "T14",
  area: "pull",
  title: "tar+zstd layer of 1 GiB, against crane, zstd and tar",
  method:
    "A layer of about 1 GiB over four files of together 1.44 GiB, from nginx. Wall time of `crane blob | zstd -d | tar -x` and of `puller pull`, which checks the layer's digest, keeps the layer, hashes the files too and syncs them. The limit is the CPU time of receiving the layer, of hashing and writing it and as many bytes as the files have, and of `zstd --test`, each alone, spread over all CPUs.",
  prepare: async (bench) => {
    const unpackedBytes = bench.size(1472 * mebibyte, 4 * mebibyte);
    const { files, layer } = await weightsArchive(bench.contents, unpackedBytes);
    const artifact = bench.artifact("bench/archive", [layer]);
    const server = await bench.nginx([artifact]);
    const [crane, zstd] = [await bench.peer("crane"), await bench.peer("zstd")];
    if (server === undefined) return [];
    const reference = `${server.host}/${artifact.repository}@${layer.digest}`;
    const pipe: Variant | undefined = crane &&
      zstd && {
        name: "crane blob, zstd, tar",
        command: (place) => ({
          argv: [
            "bash",
            "-c",
            'set -o pipefail; "$1" blob --insecure "$2" | "$3" -dc | tar -x -C "$4"',
            "bash",
            crane.path,
            reference,
            zstd.path,
            place,
          ],
        }),
        after: async (place, _run, isThorough) => {
          checkFiles(place, files, isThorough);
          return undefined;
        },
      };
    const target = { server, artifact };
    const floor = filesFloor(bench, target, layer, unpackedBytes);
    const inflate = zstd && decompression(bench, zstd, layer);
    const limit = [floor, ...(inflate === undefined ? [] : [inflate])].map(({ name }) => ({
      variant: name,
      figure: "floorWallSeconds",
    }));
    return bench.storages.map((storage) =>
      comparison(`nginx, ${storage.name}`, storage, unpackedBytes, [
        { variant: pullArchive(bench.puller, target, files) },
        {
          variant: pipe,
          goals: [{ text: "wall, against crane, zstd and tar", figure: "wallSeconds", atMost: 0.9, limit }],
        },
        { variant: floor },
        { variant: inflate },
      ]),
    );
  },
};

export const scenarios: readonly Scenario[] = [archive];
