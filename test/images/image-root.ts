// Unpacks an image archive and runs its program the way a restricted pod does: its user, a read-only root, no network.
// For images that only add files (no whiteouts). Needs root.

import { spawn, type ChildProcessByStdio } from "node:child_process";
import { mkdir, readFile } from "node:fs/promises";
import path from "node:path";
import type { Readable } from "node:stream";
import { runCommand } from "../cluster/run-command.ts";

export type ImageConfig = {
  readonly User?: string;
  readonly Entrypoint?: readonly string[];
  readonly Env?: readonly string[];
  readonly WorkingDir?: string;
  readonly Labels?: Readonly<Record<string, string>>;
};

export type ImageRoot = {
  readonly directory: string;
  readonly config: ImageConfig;
  /** Bytes of all layers as a registry would send them. */
  readonly compressedBytes: number;
  readonly layerDigests: readonly string[];
};

type Descriptor = { readonly digest: string; readonly size: number };

/** Unpacks into an empty directory. */
export async function unpackImage(archivePath: string, directory: string): Promise<ImageRoot> {
  const layout = path.join(directory, "layout");
  const root = path.join(directory, "root");
  await mkdir(layout, { recursive: true });
  await mkdir(root);
  await runCommand("tar", ["-xf", archivePath, "-C", layout]);
  const blob = (digest: string): string => path.join(layout, "blobs", digest.replace(":", "/"));
  const json = async (file: string): Promise<unknown> => JSON.parse(await readFile(file, "utf8"));
  const index = (await json(path.join(layout, "index.json"))) as { manifests: readonly Descriptor[] };
  const [first] = index.manifests;
  if (first === undefined) throw new Error(`${archivePath} holds no image`);
  const manifest = (await json(blob(first.digest))) as { config: Descriptor; layers: readonly Descriptor[] };
  const image = (await json(blob(manifest.config.digest))) as { config: ImageConfig };
  for (const layer of manifest.layers) {
    await runCommand("tar", ["-xzf", blob(layer.digest), "-C", root, "--numeric-owner"]);
  }
  return {
    directory: root,
    config: image.config,
    compressedBytes: manifest.layers.reduce((sum, layer) => sum + layer.size, 0),
    layerDigests: manifest.layers.map((layer) => layer.digest),
  };
}

// In a mount and network namespace of its own: nothing stays mounted when the process ends, however it ends.
const script = `set -e
mount --bind "$1" "$1"
mount -t proc proc "$1/proc"
mount --rbind /dev "$1/dev"
if [ -n "$2" ]; then mkdir -p "$1/mnt"; mount --bind "$2" "$1/mnt"; fi
mount -o remount,bind,ro "$1"
ip link set lo up
root=$1 directory=$3
shift 3
exec chroot --userspec=65532:65532 "$root" /usr/local/bin/node --eval '
const [directory, command, ...args] = process.argv.slice(1);
process.chdir(directory);
process.execve(command, [command, ...args], process.env);
' "$directory" "$@"
`;

export type ImageCommand = {
  /** Instead of the image's entry point. */
  readonly command?: readonly string[];
  readonly args?: readonly string[];
  readonly environment?: Readonly<Record<string, string>>;
  /** A directory of this machine, seen at /mnt with its own permissions. */
  readonly mount?: string;
};

/** Starts the image's program, or another command in it, without terminal and input. */
export function startInImage(
  image: ImageRoot,
  options: ImageCommand = {},
): ChildProcessByStdio<null, Readable, Readable> {
  const command = [...(options.command ?? image.config.Entrypoint ?? []), ...(options.args ?? [])];
  const pairs = (image.config.Env ?? []).map((entry) => entry.split(/=(.*)/s).slice(0, 2));
  const workingDirectory = image.config.WorkingDir ?? "/";
  const namespaces = ["--mount", "--net", "--pid", "--fork", "--kill-child"];
  const shell = [
    "sh",
    "-c",
    script,
    "sh",
    image.directory,
    options.mount ?? "",
    workingDirectory,
    ...command,
  ];
  return spawn("unshare", [...namespaces, ...shell], {
    env: { ...Object.fromEntries(pairs), ...options.environment, PATH: process.env["PATH"] },
    stdio: ["ignore", "pipe", "pipe"],
  });
}
