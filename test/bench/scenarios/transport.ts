// T6, T7 and T8: TLS, a cap on each connection, and how near the physical floor the puller comes.

import { aria2Download, curlThenDigest, pullerPull } from "../clients.ts";
import { gibibyte } from "../content.ts";
import { floorVariant } from "../floor.ts";
import { comparison, type Scenario } from "../scenario.ts";

const tls: Scenario = {
  id: "T6",
  area: "pull",
  title: "HTTPS, CPU against curl, one client CPU",
  method:
    "One blob of 2 GiB from nginx by TLS 1.3. The client may use one CPU only, nginx another one. CPU time of `curl` and `openssl dgst` together.",
  prepare: async (bench) => {
    const content = await bench.contents.random("model.safetensors", bench.size(2 * gibibyte));
    const artifact = bench.artifact("bench/one", [content]);
    const server = await bench.nginx([artifact], { tls: true, cpu: bench.cpus.server });
    const [curl, openssl] = [await bench.peer("curl"), await bench.peer("openssl")];
    if (server === undefined) return [];
    const target = { server, artifact };
    const options = { cpu: bench.cpus.client };
    return bench.storages.map((storage) =>
      comparison(`nginx TLS, ${storage.name}`, storage, artifact.sizeBytes, [
        { variant: pullerPull(bench.puller, target, options) },
        {
          variant: curl && openssl && curlThenDigest({ curl, openssl }, target, options),
          goals: [{ text: "CPU, against curl + openssl dgst", figure: "cpuSeconds", atMost: 0.9 }],
        },
      ]),
    );
  },
};

const cappedConnections: Scenario = {
  id: "T7",
  area: "pull",
  title: "100 MiB/s per connection",
  method:
    "One blob of 1 GiB from nginx with `limit_rate 100m`, as object stores limit each connection. Wall time; the speed-up is over `curl` on one connection and `openssl dgst`.",
  prepare: async (bench) => {
    const content = await bench.contents.random("capped.safetensors", bench.size(gibibyte));
    const artifact = bench.artifact("bench/capped", [content]);
    const server = await bench.nginx([artifact], { connectionMebibytesPerSecond: 100 });
    const [curl, openssl] = [await bench.peer("curl"), await bench.peer("openssl")];
    const aria2c = await bench.peer("aria2c");
    if (server === undefined) return [];
    const target = { server, artifact };
    return bench.storages.map((storage) => {
      const series = comparison(`nginx, ${storage.name}`, storage, artifact.sizeBytes, [
        { variant: pullerPull(bench.puller, target) },
        { variant: curl && openssl && curlThenDigest({ curl, openssl }, target) },
        {
          variant: aria2c && aria2Download(aria2c, target, 8),
          goals: [{ text: "wall, against aria2c -x8", figure: "wallSeconds", atMost: 0.55 }],
        },
      ]);
      const one = series.variants.find(({ name }) => name.startsWith("curl"));
      const wall = (variant: string): { variant: string; figure: string } => ({
        variant,
        figure: "wallSeconds",
      });
      return one === undefined
        ? series
        : {
            ...series,
            goals: [
              {
                text: "speed-up over one connection",
                of: wall(one.name),
                against: wall("puller"),
                unit: "x",
                atLeast: 6.5,
              },
              ...series.goals,
            ],
          };
    });
  },
};

const floor: Scenario = {
  id: "T8",
  area: "pull",
  title: "CPU over the physical floor, one client CPU",
  method:
    "One blob of 2 GiB from nginx, the client on one CPU, nginx on another. The floor is the CPU time of receiving the bytes into one reused buffer, of hashing as many and of writing as many, each alone, in one process whose start is not counted; the puller's is counted.",
  prepare: async (bench) => {
    const content = await bench.contents.random("model.safetensors", bench.size(2 * gibibyte));
    const artifact = bench.artifact("bench/one", [content]);
    const server = await bench.nginx([artifact], { cpu: bench.cpus.server });
    if (server === undefined) return [];
    const { client: cpu } = bench.cpus;
    const variant = floorVariant(bench, { server, artifact }, content, { cpu });
    return bench.storages.map((storage) => ({
      name: `nginx, ${storage.name}`,
      directory: storage.directory,
      contentBytes: content.sizeBytes,
      variants: [pullerPull(bench.puller, { server, artifact }, { cpu }), variant],
      goals: [
        {
          text: "CPU, against the floor",
          of: { variant: "puller", figure: "cpuSeconds" },
          against: { variant: "floor", figure: "floorCpuSeconds" },
          unit: "x",
          atMost: 1.2,
        },
      ],
    }));
  },
};

export const scenarios: readonly Scenario[] = [tls, cappedConnections, floor];
