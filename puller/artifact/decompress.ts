// Undoes gzip and zstd of a layer as a stream, all members and frames of it, with a cap on the ratio.

import { createGunzip, createZstdDecompress } from "node:zlib";

import { AppError } from "../oci/errors.ts";
import type { TarLimits } from "./tar.ts";
import type { LayerEncoding } from "./types.ts";

/** Size of a decompressor's output buffers, bytes: each is a trip to another thread, and two of them fit a second-level cache. */
const outputBytes = 512 * 1024;

/**
 * Yields the uncompressed bytes of a layer, reading `source` to its end. A chunk is valid until the next one is asked for: its memory
 * is used again then. So is what `source` yields. Bytes behind the last gzip member or zstd frame
 * that are no further one are an error. Throws AppError InvalidArtifact; errors of `source` as they are.
 */
export async function* decompress(
  source: AsyncIterable<Uint8Array>,
  encoding: Exclude<LayerEncoding, "raw">,
  limits: Pick<TarLimits, "maxRatio" | "ratioFreeBytes">,
): AsyncGenerator<Uint8Array, void, undefined> {
  if (encoding === "tar") {
    yield* source;
    return;
  }
  const input = new Input(source);
  let decompressedBytes = 0;
  try {
    // Node's zstd stream ends after a frame that is followed by another in the same chunk, and forgets the rest: every
    // frame that is left over gets a stream of its own.
    while (!input.ended) {
      for await (const chunk of oneStream(input, encoding)) {
        decompressedBytes += chunk.byteLength;
        if (
          decompressedBytes > limits.ratioFreeBytes &&
          decompressedBytes > input.takenBytes * limits.maxRatio
        )
          throw new AppError(
            "InvalidArtifact",
            `layer grows more than ${limits.maxRatio} times when decompressed; it is refused as a decompression bomb`,
          );
        yield chunk;
      }
    }
  } finally {
    await input.close();
  }
}

/** The source with a memory for what a decompressor did not want. */
class Input {
  readonly #chunks: AsyncIterator<Uint8Array>;
  #rest: Uint8Array | undefined;
  takenBytes = 0;
  ended = false;

  constructor(source: AsyncIterable<Uint8Array>) {
    this.#chunks = source[Symbol.asyncIterator]();
  }

  async next(): Promise<Uint8Array | undefined> {
    const rest = this.#rest;
    if (rest !== undefined) {
      this.#rest = undefined;
      return rest;
    }
    const result = await this.#chunks.next();
    if (result.done === true) {
      this.ended = true;
      return undefined;
    }
    this.takenBytes += result.value.byteLength;
    return result.value;
  }

  giveBack(rest: Uint8Array): void {
    if (rest.byteLength > 0) this.#rest = rest;
  }

  async close(): Promise<void> {
    await this.#chunks.return?.(undefined);
  }
}

async function* oneStream(
  input: Input,
  encoding: "tar+gzip" | "tar+zstd",
): AsyncGenerator<Uint8Array, void, undefined> {
  const settings = { chunkSize: outputBytes };
  const engine = encoding === "tar+gzip" ? createGunzip(settings) : createZstdDecompress(settings);
  const closed = new Promise<void>((resolve) => engine.once("close", resolve));
  let fedBytes = 0;
  let sourceError: unknown;
  const feed = async (): Promise<void> => {
    try {
      while (!engine.destroyed) {
        const chunk = await input.next();
        if (chunk === undefined) {
          engine.end();
          return;
        }
        fedBytes += chunk.byteLength;
        await Promise.race([new Promise<void>((resolve) => engine.write(chunk, () => resolve())), closed]);
        const unwantedBytes = fedBytes - engine.bytesWritten;
        if (unwantedBytes > 0) {
          input.giveBack(chunk.subarray(chunk.byteLength - unwantedBytes));
          return;
        }
      }
    } catch (error) {
      sourceError = error;
      engine.destroy(error instanceof Error ? error : new Error("source failed", { cause: error }));
    }
  };
  const feeding = feed();
  try {
    for await (const each of engine) {
      const chunk = each as Uint8Array<ArrayBuffer>;
      yield chunk;
      free(chunk);
    }
    await feeding;
  } catch (error) {
    if (sourceError !== undefined) throw sourceError;
    throw new AppError(
      "InvalidArtifact",
      `layer is not valid ${encoding === "tar+gzip" ? "gzip" : "zstd"} data`,
      {
        cause: error,
      },
    );
  } finally {
    engine.destroy();
    await feeding;
  }
}

/**
 * Gives the memory of an output buffer back at once, when the chunk is the last part of it: the garbage collector would let tens of
 * mebibytes of them pile up, since the objects themselves are small. Smaller buffers may be shared with others, and stay.
 */
function free({ buffer, byteOffset, byteLength }: Uint8Array<ArrayBuffer>): void {
  if (buffer.byteLength === outputBytes && byteOffset + byteLength === outputBytes) buffer.transfer(0);
}
