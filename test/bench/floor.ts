// The physical floor of a pull on this machine, measured beside it: receiving, hashing and writing the bytes, each alone.

import { join } from "node:path";
import type { Bench } from "./bench.ts";
import type { Target } from "./clients.ts";
import type { Content } from "./content.ts";
import type { Figures, Variant } from "./scenario.ts";

type FloorOptions = {
  readonly cpu?: number;
  readonly durably?: boolean;
  /** Where the content stands for several blobs: the largest of them, bytes. */
  readonly largestBlobBytes?: number;
};

const program = join(import.meta.dirname, "programs/floor.ts");

/**
 * The CPU time that no client can go below: `floorCpuSeconds` is the sum of its three parts, without the start of the process;
 * `floorWallSeconds` is that of a client which keeps all CPUs busy. `durably`: also what writing and syncing the bytes takes, and
 * `leastWallSeconds`, the longest of what no client that keeps them can do in less: that wall time, the CPU time over all CPUs with the
 * syncs, and the hash of a blob, which has to go from its beginning to its end.
 */
export function floorVariant(
  bench: Bench,
  { server, artifact }: Target,
  content: Content,
  { cpu, durably, largestBlobBytes = content.sizeBytes }: FloorOptions,
): Variant {
  const path = `/v2/${artifact.repository}/blobs/${content.digest}`;
  return {
    name: "floor",
    command: (place) => ({
      argv: [
        bench.puller.node,
        program,
        `${server.url}${path}`,
        String(content.sizeBytes),
        join(place, "file"),
        ...(durably === true ? ["durably"] : []),
      ],
      ...(cpu === undefined ? {} : { cpu }),
    }),
    after: async (_place, run) => {
      const figures = JSON.parse(run.stdout) as Figures;
      if (figures["receivedBytes"] !== content.sizeBytes)
        throw new Error(`the floor program received ${figures["receivedBytes"]} bytes`);
      const { receiveCpuSeconds = 0, hashCpuSeconds = 0, writeCpuSeconds = 0 } = figures;
      const floorCpuSeconds = receiveCpuSeconds + hashCpuSeconds + writeCpuSeconds;
      const floorWallSeconds = floorCpuSeconds / bench.cpus.count;
      const { durableCpuSeconds, durableWallSeconds } = figures;
      const hashWallSeconds = (hashCpuSeconds * largestBlobBytes) / content.sizeBytes;
      return {
        receiveCpuSeconds,
        hashCpuSeconds,
        writeCpuSeconds,
        floorCpuSeconds,
        floorWallSeconds,
        ...(durableCpuSeconds === undefined || durableWallSeconds === undefined
          ? {}
          : {
              durableCpuSeconds,
              durableWallSeconds,
              leastWallSeconds: Math.max(
                (receiveCpuSeconds + hashCpuSeconds + durableCpuSeconds) / bench.cpus.count,
                hashWallSeconds,
                durableWallSeconds,
              ),
            }),
      };
    },
  };
}
