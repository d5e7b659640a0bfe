// T5 and T13: several blobs, and many small files.

import { cranePull, orasPull, pullerPull } from "../clients.ts";
import { mebibyte } from "../content.ts";
import { floorVariant } from "../floor.ts";
import { comparison, type Scenario } from "../scenario.ts";

const eightBlobs: Scenario = {
  id: "T5",
  area: "pull",
  title: "eight blobs of 256 MiB, against oras and crane",
  method:
    "Wall time with each client's defaults: `oras` fetches three blobs at once, `crane` four. All CPUs shared with the server. The limit is the longer of receiving, hashing and writing one blob of as many bytes over all CPUs, and of writing and syncing it, without the start and the server's work; the peers sync nothing.",
  prepare: async (bench) => {
    const contents = await bench.contents.randoms(8, bench.size(256 * mebibyte, mebibyte / 4));
    const artifact = bench.artifact("bench/eight", contents);
    const together = await bench.contents.random("together.safetensors", artifact.sizeBytes);
    const whole = bench.artifact("bench/eight-together", [together]);
    const server = await bench.nginx([artifact, whole]);
    const [oras, crane] = [await bench.peer("oras"), await bench.peer("crane")];
    if (server === undefined) return [];
    const target = { server, artifact };
    const largestBlobBytes = contents[0]?.sizeBytes ?? 0;
    const floor = floorVariant(bench, { server, artifact: whole }, together, {
      durably: true,
      largestBlobBytes,
    });
    const limit = { variant: floor.name, figure: "leastWallSeconds" };
    return bench.storages.map((storage) => {
      const atMost = storage.name === "tmpfs" ? 0.95 : 0.85;
      return comparison(`nginx, ${storage.name}`, storage, artifact.sizeBytes, [
        { variant: pullerPull(bench.puller, target) },
        {
          variant: oras && orasPull(oras, target),
          goals: [{ text: "wall, against oras", figure: "wallSeconds", atMost, limit }],
        },
        {
          variant: crane && cranePull(crane, target),
          goals: [{ text: "wall, against crane", figure: "wallSeconds", atMost, limit }],
        },
        { variant: floor },
      ]);
    });
  },
};

const smallFiles: Scenario = {
  id: "T13",
  area: "pull",
  title: "300 files of 1 MiB, against oras",
  method:
    "Wall time with each client's defaults. Every file is checked, synced and published by the puller; `oras` syncs nothing. The limit is the puller's time for one such file alone, which is that of its start, and the CPU time of receiving as many bytes in one blob, of hashing and of writing them, each alone, spread over all CPUs.",
  prepare: async (bench) => {
    const contents = await bench.contents.randoms(bench.isTiny ? 20 : 300, bench.size(mebibyte, 4096));
    const artifact = bench.artifact("bench/small", contents);
    const [first] = contents;
    if (first === undefined) return [];
    const one = bench.artifact("bench/small-one", [first]);
    const together = await bench.contents.random("together.safetensors", artifact.sizeBytes);
    const whole = bench.artifact("bench/small-together", [together]);
    const server = await bench.nginx([artifact, one, whole]);
    const oras = await bench.peer("oras");
    if (server === undefined) return [];
    const alone = pullerPull(bench.puller, { server, artifact: one }, { name: "puller, one file" });
    const floor = floorVariant(bench, { server, artifact: whole }, together, { cpu: bench.cpus.client });
    const limit = [
      { variant: alone.name, figure: "wallSeconds" },
      { variant: floor.name, figure: "floorWallSeconds" },
    ];
    const target = { server, artifact };
    return bench.storages.map((storage) =>
      comparison(`nginx, ${storage.name}`, storage, artifact.sizeBytes, [
        { variant: pullerPull(bench.puller, target) },
        {
          variant: oras && orasPull(oras, target),
          goals: [{ text: "wall, against oras", figure: "wallSeconds", atMost: 0.8, limit }],
        },
        { variant: alone },
        { variant: floor },
      ]),
    );
  },
};

export const scenarios: readonly Scenario[] = [eightBlobs, smallFiles];
