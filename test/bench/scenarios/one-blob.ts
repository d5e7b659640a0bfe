// T1 to T4: one blob of 2 GiB against each peer.

import type { Artifact } from "../artifact.ts";
import type { Bench } from "../bench.ts";
import { aria2Download, curlThenDigest, orasPull, pullerPull, skopeoCopy } from "../clients.ts";
import { gibibyte } from "../content.ts";
import { floorVariant } from "../floor.ts";
import { comparison, type Scenario } from "../scenario.ts";

async function oneBlob(bench: Bench): Promise<Artifact> {
  const content = await bench.contents.random("model.safetensors", bench.size(2 * gibibyte));
  return bench.artifact("bench/one", [content]);
}

const cpuPerGibibyte: Scenario = {
  id: "T1",
  area: "pull",
  title: "CPU per GiB, one client CPU",
  method:
    "One blob of 2 GiB from nginx by HTTP. The client may use one CPU only, nginx another one. CPU time (user and system) of the whole process. The floor is the CPU time of receiving the bytes into one reused buffer, of hashing as many and of writing as many, each alone, without the start of a process.",
  prepare: async (bench) => {
    const artifact = await oneBlob(bench);
    const [content] = artifact.layers;
    const server = await bench.nginx([artifact], { cpu: bench.cpus.server });
    const oras = await bench.peer("oras");
    if (server === undefined || content === undefined) return [];
    const target = { server, artifact };
    const options = { cpu: bench.cpus.client };
    const floor = floorVariant(bench, target, content, { cpu: bench.cpus.client });
    const limit = { variant: floor.name, figure: "floorCpuSeconds" };
    return bench.storages.map((storage) =>
      comparison(`nginx, ${storage.name}`, storage, artifact.sizeBytes, [
        { variant: pullerPull(bench.puller, target, options) },
        {
          variant: oras && orasPull(oras, target, options),
          goals: [{ text: "CPU, against oras", figure: "cpuSeconds", atMost: 0.6, limit }],
        },
        { variant: floor },
      ]),
    );
  },
};

const againstOras: Scenario = {
  id: "T2",
  area: "pull",
  title: "one blob of 2 GiB, against oras",
  method:
    "Wall time of `oras pull` and `puller pull`, each with its defaults, all CPUs shared with the server. The limit is the longest of what no client that keeps the bytes can do in less, without its start and the server's work: receiving, hashing and writing over all CPUs, the hash alone, and writing and syncing alone.",
  prepare: async (bench) => {
    const artifact = await oneBlob(bench);
    const nginx = await bench.nginx([artifact]);
    const registry = await bench.registry([artifact]);
    const oras = await bench.peer("oras");
    const [content] = artifact.layers;
    if (content === undefined) return [];
    return [
      { name: "nginx", server: nginx, atMost: 0.48 },
      { name: "docker-registry", server: registry, atMost: 0.6 },
    ].flatMap(({ name, server, atMost }) => {
      if (server === undefined) return [];
      const target = { server, artifact };
      const floor = floorVariant(bench, target, content, { durably: true });
      const limit = { variant: floor.name, figure: "leastWallSeconds" };
      return bench.storages.map((storage) =>
        comparison(`${name}, ${storage.name}`, storage, artifact.sizeBytes, [
          { variant: pullerPull(bench.puller, target) },
          {
            variant: oras && orasPull(oras, target),
            goals: [{ text: "wall, against oras", figure: "wallSeconds", atMost, limit }],
          },
          { variant: floor },
        ]),
      );
    });
  },
};

const againstCurl: Scenario = {
  id: "T3",
  area: "pull",
  title: "one blob of 2 GiB, against curl",
  method:
    "Wall time of `curl -o` and then `openssl dgst -sha256`, compared with the digest (not `sha256sum`, which lacks the CPU's SHA instructions and would flatter the puller).",
  prepare: async (bench) => {
    const artifact = await oneBlob(bench);
    const server = await bench.nginx([artifact]);
    const [curl, openssl] = [await bench.peer("curl"), await bench.peer("openssl")];
    if (server === undefined) return [];
    const target = { server, artifact };
    return bench.storages.map((storage) =>
      comparison(`nginx, ${storage.name}`, storage, artifact.sizeBytes, [
        { variant: pullerPull(bench.puller, target) },
        {
          variant: curl && openssl && curlThenDigest({ curl, openssl }, target),
          goals: [{ text: "wall, against curl + openssl dgst", figure: "wallSeconds", atMost: 0.55 }],
        },
      ]),
    );
  },
};

const againstOthers: Scenario = {
  id: "T4",
  area: "pull",
  title: "one blob of 2 GiB, against skopeo and aria2c",
  method: "Wall time of `skopeo copy` to an OCI layout and of `aria2c -x4 --checksum`.",
  prepare: async (bench) => {
    const artifact = await oneBlob(bench);
    const server = await bench.nginx([artifact]);
    const [skopeo, aria2c] = [await bench.peer("skopeo"), await bench.peer("aria2c")];
    if (server === undefined) return [];
    const target = { server, artifact };
    return bench.storages.map((storage) =>
      comparison(`nginx, ${storage.name}`, storage, artifact.sizeBytes, [
        { variant: pullerPull(bench.puller, target) },
        {
          variant: skopeo && skopeoCopy(skopeo, target),
          goals: [{ text: "wall, against skopeo", figure: "wallSeconds", atMost: 0.35 }],
        },
        {
          variant: aria2c && aria2Download(aria2c, target, 4),
          goals: [{ text: "wall, against aria2c -x4", figure: "wallSeconds", atMost: 0.5 }],
        },
      ]),
    );
  },
};

export const scenarios: readonly Scenario[] = [cpuPerGibibyte, againstOras, againstCurl, againstOthers];
