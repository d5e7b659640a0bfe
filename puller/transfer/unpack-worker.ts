// A thread that unpacks one archive after the other, close behind those who write the blob: through the page cache, in order. It
// hashes the same bytes where nobody else does. What it makes is of no use before the digest was checked, and it says nothing of that.

import { createHash, type Hash } from "node:crypto";
import { parentPort } from "node:worker_threads";
import { AppError } from "../oci/errors.ts";
import { sendFailure, type FromLane, type ToUnpacker } from "./messages.ts";
import { PieceMap } from "./piece-map.ts";
import { readSome } from "./read-file.ts";
import { unpackArchive } from "./unpack-archive.ts";

/** Read at once, bytes. Between two of them the decompressor waits for this thread, which hashes and writes. */
const buffer = Buffer.allocUnsafeSlow(2 * 1024 * 1024);
const post = (message: FromLane): void => parentPort?.postMessage(message);

/** The bytes of a blob in order, as they come. */
class Followed {
  readonly #descriptor: number;
  readonly #map: PieceMap;
  readonly #hash: Hash | undefined;
  #position = 0;
  #piece = 0;

  constructor({ descriptor, map, hash }: ToUnpacker) {
    this.#descriptor = descriptor;
    this.#map = PieceMap.from(map);
    this.#hash = hash === undefined ? undefined : createHash(hash.algorithm);
  }

  /** The next bytes, valid until the next call; undefined at the end. Waits for them, while they are wanted. */
  async next(isWanted: () => boolean = () => true): Promise<Buffer | undefined> {
    const map = this.#map;
    const position = this.#position;
    if (position === map.sizeBytes) return undefined;
    let end: number;
    for (;;) {
      if (map.isStopped || !isWanted()) throw new AppError("Interrupted", "given up");
      const { tick } = map;
      end = map.contiguousBytes(this.#piece);
      if (end > position) break;
      await map.afterTick(tick, 200);
    }
    const bytes = readSome(this.#descriptor, buffer, end - position, position);
    this.#position += bytes.length;
    this.#piece = Math.floor(this.#position / map.pieceBytes);
    this.#hash?.update(bytes);
    return bytes;
  }

  digestHex(): string {
    return this.#hash?.digest("hex") ?? "";
  }
}

async function take(message: ToUnpacker): Promise<void> {
  const { exchange, order, hash } = message;
  const followed = new Followed(message);
  let isHashed = hash === undefined;
  const tellHash = (): void => {
    if (isHashed || hash === undefined) return;
    isHashed = true;
    post({ kind: "hashed", exchange: hash.exchange, hex: followed.digestHex() });
  };
  let isWanted = true;
  const source = async function* (): AsyncGenerator<Buffer, void, undefined> {
    for (;;) {
      const bytes = await followed.next(() => isWanted);
      if (bytes === undefined) break;
      yield bytes;
    }
    // Before the last of it is unpacked: whoever waits for the digest can go on.
    tellHash();
  };
  try {
    const entries = await unpackArchive(source(), order, () => {
      isWanted = false;
    });
    post({ kind: "unpacked", exchange, entries });
  } catch (error) {
    post({ kind: "failed", exchange, failure: sendFailure(error) });
    if (isHashed || hash === undefined) return;
    try {
      // A bad archive is no bad blob: which of them it is shows the digest.
      while ((await followed.next()) !== undefined);
      tellHash();
    } catch (failure) {
      post({ kind: "failed", exchange: hash.exchange, failure: sendFailure(failure) });
    }
  }
}

parentPort?.on("message", (message: ToUnpacker) => {
  void take(message);
});

post({ kind: "ready" });
