// A layer that is a compressed archive of weights.

import { spawn } from "node:child_process";
import { closeSync, createWriteStream, openSync, writeSync } from "node:fs";
import { pipeline } from "node:stream/promises";
import { constants, createZstdCompress } from "node:zlib";
import type { Layer } from "./artifact.ts";
import { mebibyte, randomBlocks, type Content, type ContentStore } from "./content.ts";

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

/** Files of together so many bytes, a multiple of 4 MiB, and the tar+zstd layer over them, which is about 0.7 of their size. */
export async function weightsArchive(
  contents: ContentStore,
  unpackedBytes: number,
): Promise<{ readonly files: readonly Content[]; readonly layer: Layer }> {
  const files: Content[] = [];
  for (let index = 1; index <= fileCount; index += 1) {
    const name = `weights-${index}.safetensors`;
    files.push(
      await contents.make(`weights ${name} ${unpackedBytes}`, name, (path) => {
        writeWeights(path, name, unpackedBytes / fileCount);
      }),
    );
  }
  const recipe = `tar+zstd ${files.map(({ digest }) => digest).join(" ")}`;
  const archive = await contents.make(recipe, "weights.tar.zst", async (path) => {
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
      { cwd: contents.blobs, stdio: ["ignore", "pipe", "inherit"] },
    );
    const level = createZstdCompress({ params: { [constants.ZSTD_c_compressionLevel]: 3 } });
    const ended = new Promise<number | null>((resolve) => tar.once("exit", resolve));
    await pipeline(tar.stdout, level, createWriteStream(path));
    const code = await ended;
    if (code !== 0) throw new Error(`tar ended with ${code}`);
  });
  return { files, layer: { ...archive, mediaType: "application/vnd.cncf.model.weight.v1.tar+zstd" } };
}
