// A thread that hashes one blob after the other from the file, close behind those who write it: through the page cache, in order,
// whatever the order of the writes. What is verified is what the volume holds, not what came over the network.

import { createHash } from "node:crypto";
import { parentPort } from "node:worker_threads";
import { AppError } from "../oci/errors.ts";
import { sendFailure, type FromLane, type ToHasher } from "./messages.ts";
import { PieceMap } from "./piece-map.ts";
import { readSome } from "./read-file.ts";

/** Read at once, bytes. Less would be more calls, more would leave the processor's caches. */
const buffer = Buffer.allocUnsafeSlow(1024 * 1024);

function hash({ descriptor, map: shared, algorithm }: ToHasher): string {
  const map = PieceMap.from(shared);
  const digest = createHash(algorithm);
  let position = 0;
  let piece = 0;
  while (position < map.sizeBytes) {
    if (map.isStopped) throw new AppError("Interrupted", "given up");
    const { tick } = map;
    const end = map.contiguousBytes(piece);
    if (end <= position) {
      map.waitForTick(tick, 200);
      continue;
    }
    while (position < end) {
      const bytes = readSome(descriptor, buffer, end - position, position);
      digest.update(bytes);
      position += bytes.length;
      const reached = Math.floor(position / map.pieceBytes);
      if (reached > piece) {
        piece = reached;
        map.setHashedPieces(piece);
        if (map.isStopped) break;
      }
    }
  }
  return digest.digest("hex");
}

parentPort?.on("message", (message: ToHasher) => {
  const { exchange } = message;
  let answer: FromLane;
  try {
    answer = { kind: "hashed", exchange, hex: hash(message) };
  } catch (error) {
    answer = { kind: "failed", exchange, failure: sendFailure(error) };
  }
  parentPort?.postMessage(answer);
});

parentPort?.postMessage({ kind: "ready" } satisfies FromLane);
