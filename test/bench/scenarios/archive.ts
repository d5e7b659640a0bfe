// T14: a compressed archive as a layer.

import { spawn } from "node:child_process";
import { closeSync, createWriteStream, openSync, writeSync } from "node:fs";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { constants, createZstdCompress } from "node:zlib";
import type { Layer } from "../artifact.ts";
import type { Bench } from "../bench.ts";
import { checkFiles, pullerPull, pullFigures } from "../clients.ts";
import { mebibyte, randomBlocks, type Content } from "../content.ts";
import { comparison, type Scenario, type Variant } from "../scenario.ts";

const fileCount = 4;

/** Numbers of 16 bits of which one byte looks random and the other one hardly changes, as in weights: zstd takes a third away. */
function writeWeights(path: string, seed: string, sizeBytes: number): void {
  const next = randomBlocks(seed);
  const file = openSync(path, "w");
  for (let left = sizeBytes; left > 0; left -= mebibyte) {
    const block = next(Math.min(left, mebibyte));
    for (let index = 1; index < block.length; index += 2) block[index] = 0x38 | ((block[index] ?? 0) & 7);
    writeSync(file, block);
  }
  closeSync(file);
}

/** The files and the tar+zstd layer over them, which is about 0.7 of their size. */
async function makeArchive(
  bench: Bench,
  unpackedBytes: number,
): Promise<{ readonly files: readonly Content[]; readonly layer: Layer }> {
  const files: Content[] = [];
  for (let index = 1; index <= fileCount; index += 1) {
    const name = `weights-${index}.safetensors`;
    files.push(
      await bench.contents.make(`weights ${name} ${unpackedBytes}`, name, (path) => {
        writeWeights(path, name, unpackedBytes / fileCount);
      }),
    );
  }
  const recipe = `tar+zstd ${files.map(({ digest }) => digest).join(" ")}`;
  const archive = await bench.contents.make(recipe, "weights.tar.zst", async (path) => {
    const names = files.map(({ digest }) => digest);
    // The names in the archive in place of those in the cache.
    const renames = files.map(({ digest, name }) => `--transform=s/${digest}/${name}/`);
    const tar = spawn(
      "tar",
      [
        "--create",
        "--force-local",
        "--mtime=@0",
        "--owner=0",
        "--group=0",
        "--mode=0644",
        ...renames,
        ...names,
      ],
      { cwd: bench.contents.blobs, stdio: ["ignore", "pipe", "inherit"] },
    );
    const level = createZstdCompress({ params: { [constants.ZSTD_c_compressionLevel]: 3 } });
    const ended = new Promise<number | null>((resolve) => tar.once("exit", resolve));
    await pipeline(tar.stdout, level, createWriteStream(path));
    const code = await ended;
    if (code !== 0) throw new Error(`tar ended with ${code}`);
  });
  return { files, layer: { ...archive, mediaType: "application/vnd.cncf.model.weight.v1.tar+zstd" } };
}

const archive: Scenario = {
  id: "T14",
  area: "pull",
  title: "tar+zstd layer of 1 GiB, against crane, zstd and tar",
  method:
    "A layer of about 1 GiB over four files of together 1.44 GiB, from nginx. Wall time of `crane blob | zstd -d | tar -x` and of `puller pull`, which checks the layer's digest and syncs the files.",
  prepare: async (bench) => {
    // A multiple of the block of writeWeights and of the number of files.
    const unpackedBytes = bench.size(1472 * mebibyte, 4 * mebibyte);
    const { files, layer } = await makeArchive(bench, unpackedBytes);
    const artifact = bench.artifact("bench/archive", [layer]);
    const server = await bench.nginx([artifact]);
    const [crane, zstd] = [await bench.peer("crane"), await bench.peer("zstd")];
    if (server === undefined) return [];
    const pull = pullerPull(bench.puller, { server, artifact });
    const puller: Variant = {
      ...pull,
      after: async (place, run, isThorough) => {
        checkFiles(join(place, "models"), files, isThorough);
        return pullFigures(run);
      },
    };
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
    return bench.storages.map((storage) =>
      comparison(`nginx, ${storage.name}`, storage, unpackedBytes, [
        { variant: puller },
        {
          variant: pipe,
          goals: [{ text: "wall, against crane, zstd and tar", figure: "wallSeconds", atMost: 0.9 }],
        },
      ]),
    );
  },
};

export const scenarios: readonly Scenario[] = [archive];
