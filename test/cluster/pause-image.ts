// The image that holds a pod's namespaces: a static busybox that sleeps, as an OCI archive made by hand.

import { createHash } from "node:crypto";
import { cpSync, existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { cacheDirectory, withLock } from "./cache.ts";
import { ensurePackages } from "./packages.ts";
import { runCommand } from "./run-command.ts";

export const pauseImageName = "localhost/ocimodel/pause:test";
const busybox = "/bin/busybox";

/** Path of the archive, made once. */
export async function ensurePauseImage(): Promise<string> {
  const archive = join(cacheDirectory, "pause.tar");
  if (existsSync(archive)) return archive;
  await ensurePackages(["busybox-static"], [busybox]);
  return withLock("pause-image", async () => {
    if (existsSync(archive)) return archive;
    const work = `${archive}.${process.pid}`;
    rmSync(work, { recursive: true, force: true });
    const layout = join(work, "layout");
    mkdirSync(join(layout, "blobs/sha256"), { recursive: true });
    mkdirSync(join(work, "root"));
    cpSync(busybox, join(work, "root/busybox"));
    const layer = join(work, "layer.tar");
    await runCommand("tar", [
      "--owner=0",
      "--group=0",
      "--mtime=@0",
      "-C",
      join(work, "root"),
      "-cf",
      layer,
      "busybox",
    ]);
    const put = (
      content: Uint8Array,
      mediaType: string,
    ): { mediaType: string; digest: string; size: number } => {
      const hex = createHash("sha256").update(content).digest("hex");
      writeFileSync(join(layout, "blobs/sha256", hex), content);
      return { mediaType, digest: `sha256:${hex}`, size: content.length };
    };
    const json = (value: unknown): Uint8Array => Buffer.from(JSON.stringify(value));
    const layerDescriptor = put(readFileSync(layer), "application/vnd.oci.image.layer.v1.tar");
    const config = put(
      json({
        architecture: process.arch === "x64" ? "amd64" : process.arch,
        os: "linux",
        config: { Entrypoint: ["/busybox", "sleep", "2147483647"], User: "65535:65535" },
        rootfs: { type: "layers", diff_ids: [layerDescriptor.digest] },
      }),
      "application/vnd.oci.image.config.v1+json",
    );
    const manifest = put(
      json({
        schemaVersion: 2,
        mediaType: "application/vnd.oci.image.manifest.v1+json",
        config,
        layers: [layerDescriptor],
      }),
      "application/vnd.oci.image.manifest.v1+json",
    );
    writeFileSync(join(layout, "oci-layout"), JSON.stringify({ imageLayoutVersion: "1.0.0" }));
    writeFileSync(
      join(layout, "index.json"),
      JSON.stringify({
        schemaVersion: 2,
        manifests: [
          {
            ...manifest,
            annotations: {
              "io.containerd.image.name": pauseImageName,
              "org.opencontainers.image.ref.name": "test",
            },
          },
        ],
      }),
    );
    await runCommand("tar", [
      "-C",
      layout,
      "-cf",
      join(work, "pause.tar"),
      "oci-layout",
      "index.json",
      "blobs",
    ]);
    renameSync(join(work, "pause.tar"), archive);
    rmSync(work, { recursive: true, force: true });
    return archive;
  });
}
