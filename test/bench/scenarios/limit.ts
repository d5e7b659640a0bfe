// T15: a limit of bytes per second.

import type { PullReport } from "../../../puller/pull/pull.ts";
import { pullerPull } from "../clients.ts";
import { gibibyte, mebibyte } from "../content.ts";
import type { Goal, Scenario } from "../scenario.ts";

const limit: Scenario = {
  id: "T15",
  area: "pull",
  title: "bandwidth limit of 100 MiB/s, over ten seconds",
  method:
    "One blob of 1 GiB from nginx with `--bandwidth-limit`, in one connection or, with a cap of 25 MiB/s on each, in several. Bytes over the time of fetching that the puller reports, as a part of the limit.",
  prepare: async (bench) => {
    const bytesPerSecond = bench.size(100 * mebibyte, 4 * mebibyte);
    const content = await bench.contents.random("capped.safetensors", bench.size(gibibyte, 2 * mebibyte));
    const artifact = bench.artifact("bench/limited", [content]);
    const [storage] = bench.storages;
    const free = await bench.nginx([artifact]);
    const capped = await bench.nginx([artifact], { connectionMebibytesPerSecond: 25 });
    if (storage === undefined) return [];
    const variants = [
      { name: "limited", server: free },
      { name: "limited, several connections", server: capped },
    ].flatMap(({ name, server }) => {
      if (server === undefined) return [];
      const pull = pullerPull(
        bench.puller,
        { server, artifact },
        {
          name,
          flags: [`--bandwidth-limit=${bytesPerSecond}`],
        },
      );
      return {
        ...pull,
        after: async (place: string, run: Parameters<typeof pull.after>[1], isThorough: boolean) => {
          const figures = await pull.after(place, run, isThorough);
          const { fetchedBytes, seconds } = JSON.parse(run.stdout) as PullReport;
          return { ...figures, limitShare: fetchedBytes / (seconds.fetching ?? Number.NaN) / bytesPerSecond };
        },
      };
    });
    const goals = variants.map(({ name }): Goal => ({
      text: `of the limit, ${name}`,
      of: { variant: name, figure: "limitShare" },
      unit: "x",
      atLeast: 0.95,
      atMost: 1.05,
    }));
    return [
      {
        name: `nginx, ${storage.name}`,
        directory: storage.directory,
        contentBytes: content.sizeBytes,
        variants,
        goals,
      },
    ];
  },
};

export const scenarios: readonly Scenario[] = [limit];
