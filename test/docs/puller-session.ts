// The world in which the pages' puller commands run: a registry with TLS and passwords that is called registry.example.com, one
// without that is called registry.lan:5000, and the puller on PATH. For tests.

import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { compiledPuller, compiledPullerEnvironment } from "../compiled/compiled-puller.ts";
import { startForwardProxy } from "../registry/forward-proxy.ts";
import { publishArtifact, publishLayout } from "../registry/publish.ts";
import { startRegistry, type TestRegistry } from "../registry/registry.ts";
import { root } from "./markdown.ts";

export type PullerSession = {
  /** Where the commands run. */
  readonly directory: string;
  readonly env: Readonly<Record<string, string>>;
  /** The registry without TLS. */
  readonly open: TestRegistry;
  stop(): Promise<void>;
};

/** Starts the registries, publishes the fixtures as `ai/tiny` and more, and prepares a home and a PATH. */
export async function startPullerSession(): Promise<PullerSession> {
  const directory = mkdtempSync(join(tmpdir(), "ocimodel-docs-"));
  const closed = await startRegistry({
    authentication: "htpasswd",
    tls: true,
    names: ["registry.example.com"],
    directory,
  });
  const open = await startRegistry({ directory });
  const proxy = await startForwardProxy({
    routes: { "registry.example.com:443": closed.host, "registry.lan:5000": open.host },
  });
  const layout = join(root, "test/fixtures/layout");
  await publishLayout(closed, layout, "tiny-docker", "ai/tiny", "F16");
  await publishLayout(closed, layout, "tiny-cncf", "ai/tiny", "F16-modelpack");
  await publishLayout(closed, layout, "tinyst-docker", "ai/tiny", "safetensors");
  await publishLayout(open, layout, "tiny-docker", "ai/tiny", "F16");
  // What is no model: refused, with what it is.
  await publishArtifact(closed, {
    repository: "tools/busybox",
    tag: "1.37",
    config: { mediaType: "application/vnd.oci.image.config.v1+json", content: {} },
    layers: [
      { mediaType: "application/vnd.oci.image.layer.v1.tar+gzip", content: Buffer.from("no model at all") },
    ],
  });
  const bin = join(directory, "bin");
  const home = join(directory, "home");
  const work = join(directory, "work");
  for (const path of [bin, join(home, ".docker"), work]) mkdirSync(path, { recursive: true });
  writeFileSync(join(home, ".docker/config.json"), closed.dockerConfig({ host: "registry.example.com" }));
  const puller = join(bin, "puller");
  const environment = Object.entries(compiledPullerEnvironment()).map(([key, value]) => `${key}='${value}'`);
  writeFileSync(
    puller,
    `#!/bin/sh\n${environment.join(" ")} exec "${process.execPath}" "${compiledPuller()}" "$@"\n`,
  );
  chmodSync(puller, 0o755);
  return {
    directory: work,
    open,
    env: {
      HOME: home,
      PATH: `${bin}:${join(root, "node_modules/.bin")}:${process.env["PATH"] ?? ""}`,
      OCIMODEL_CA_FILE: closed.caFile ?? "",
      HTTPS_PROXY: proxy.url,
      HTTP_PROXY: proxy.url,
      NO_PROXY: "127.0.0.1",
    },
    stop: async () => {
      await proxy.stop();
      await closed.stop();
      await open.stop();
      rmSync(directory, { recursive: true, force: true });
    },
  };
}
