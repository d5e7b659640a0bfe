// Versions of a model that have their weights in common and a file each of their own, published so that what pods and nodes fetch of them
// is counted: all of it goes through one proxy, and each life has a repository of its own.

import { ggufBytes } from "../../models/gguf-writer.ts";
import { tinyModel } from "../../models/tiny-model.ts";
import { noise } from "../../puller/store-assertions.ts";
import { runInProcess } from "../../puller/run-in-process.ts";
import type { FaultProxy } from "../../registry/fault-proxy.ts";
import { publishDockerModel } from "../../registry/publish.ts";
import type { TestRegistry } from "../../registry/registry.ts";
import type { RepackReport } from "../../../puller/repack/repack.ts";
import { versionFile } from "./file-server.ts";

export type Tag = "one" | "two" | "three";
const tags: readonly Tag[] = ["one", "two", "three"];

/** Bytes of the file that each version has for itself. */
const ownBytes = 100_000;

export type CountedModels = {
  /** `spec.source` of a version. */
  source(tag: Tag): { readonly reference: string; readonly tls: { readonly plainHTTP: true } };
  digest(tag: Tag): string;
  /** The version's own file. */
  content(tag: Tag): Buffer;
  /** Bytes of all layers of these versions, each layer once. */
  distinctBytes(...of: readonly Tag[]): number;
  /** A mark to count from. */
  now(): number;
  /** Bytes of layers that were fetched since, inspection apart, which reads the heads of files in ranges. */
  fetchedSince(mark: number): number;
};

type Layers = ReadonlyMap<string, number>;

async function layersOf(registry: TestRegistry, repository: string, digest: string): Promise<Layers> {
  const answer = await fetch(`${registry.url}/v2/${repository}/manifests/${digest}`, {
    headers: { accept: "application/vnd.oci.image.manifest.v1+json" },
  });
  const { layers } = (await answer.json()) as { layers: { digest: string; size: number }[] };
  return new Map(layers.map((layer) => [layer.digest, layer.size]));
}

/** Publishes three versions to `repository`: artifacts of Docker, or with `asImages` the images that `puller repack` makes of them. */
export async function publishCounted(
  registry: TestRegistry,
  proxy: FaultProxy,
  repository: string,
  asImages = false,
): Promise<CountedModels> {
  const weights = ggufBytes(tinyModel());
  const content = (tag: Tag): Buffer => noise(`${tag} of its own`, ownBytes);
  const digests = new Map<Tag, string>();
  const layers = new Map<Tag, Layers>();
  for (const tag of tags) {
    const artifact = await publishDockerModel(registry, {
      repository: asImages ? `${repository}-source` : repository,
      tag,
      version: "v0.2",
      files: [
        { name: "model.gguf", content: weights },
        { name: versionFile, content: content(tag) },
      ],
    });
    let { digest } = artifact;
    if (asImages) {
      const run = await runInProcess([
        "repack",
        `--reference=${artifact.reference}`,
        `--to=${registry.host}/${repository}:${tag}`,
        `--plain-http=${registry.host}`,
      ]);
      if (run.exitCode !== 0) throw new Error(`${artifact.reference} was not repacked: ${run.said}`);
      ({ digest } = JSON.parse(run.stdout) as RepackReport);
    }
    digests.set(tag, digest);
    layers.set(tag, await layersOf(registry, repository, digest));
  }
  const digestOf = (tag: Tag): string => digests.get(tag) ?? "";
  const sizes = (of: readonly Tag[]): Layers => new Map(of.flatMap((tag) => [...(layers.get(tag) ?? [])]));
  const blobs = [...sizes(tags).keys()].map((digest) => `/v2/${repository}/blobs/${digest}`);
  return {
    source: (tag) => ({ reference: `${proxy.host}/${repository}:${tag}`, tls: { plainHTTP: true } }),
    digest: digestOf,
    content,
    distinctBytes: (...of) => [...sizes(of).values()].reduce((sum, size) => sum + size, 0),
    now: () => proxy.requests.length,
    fetchedSince: (mark) =>
      proxy.requests
        .slice(mark)
        .filter(
          ({ method, path, headers }) =>
            method === "GET" &&
            blobs.some((blob) => path.startsWith(blob)) &&
            !/^bytes=\d+-\d+$/.test(String(headers["range"] ?? "")),
        )
        .reduce((sum, { sentBytes }) => sum + sentBytes, 0),
  };
}
