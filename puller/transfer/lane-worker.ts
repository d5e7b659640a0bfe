// A thread of lanes: receives, hashes and writes. Started by the data plane; knows no registry, only requests that it is given.

import { parentPort, workerData } from "node:worker_threads";
import { AppError } from "../oci/errors.ts";
import { allowanceOf } from "./bandwidth.ts";
import { connectionSettings, Lane, OpenBlob } from "./lane.ts";
import { sendFailure, type FromLane, type ThreadSettings, type ToLane } from "./messages.ts";

/** A thread has several lanes where each connection is slow, or each blob small: less at once costs nothing there. */
const furtherSlabBytes = 512 * 1024;

const settings = workerData as ThreadSettings;
const connection = connectionSettings(settings);
const lanes = new Map<number, Lane>();
const blobs = new Map<number, OpenBlob>();
const post = (message: FromLane): void => parentPort?.postMessage(message);

function blobOf(id: number): OpenBlob {
  const blob = blobs.get(id);
  if (blob === undefined) throw new Error(`no blob ${id} is open in this thread`);
  return blob;
}

function take(message: ToLane): void {
  switch (message.kind) {
    case "open":
      blobs.set(message.blob.blob, new OpenBlob(message.blob));
      break;
    case "close":
      blobs.delete(message.blob);
      break;
    case "hash-prefix":
      blobOf(message.blob).hashPrefix(message.bytes, Buffer.allocUnsafe(1024 * 1024));
      post({ kind: "hashed", exchange: message.exchange });
      break;
    case "finish":
      post({ kind: "hashed", exchange: message.exchange, hex: blobOf(message.blob).digestHex() });
      break;
    case "fetch": {
      let lane = lanes.get(message.lane);
      if (lane === undefined) {
        const slabBytes =
          lanes.size === 0 ? settings.slabBytes : Math.min(settings.slabBytes, furtherSlabBytes);
        const { allowance } = settings;
        lane = new Lane(
          {
            ...connection,
            allowance: allowance === undefined ? undefined : allowanceOf(allowance, message.lane),
          },
          slabBytes,
          post,
        );
        lanes.set(message.lane, lane);
      }
      lane.fetch(message, blobOf(message.blob));
      break;
    }
    case "cancel":
      lanes.get(message.lane)?.cancel(new AppError("Interrupted", "given up"));
      break;
  }
}

parentPort?.on("message", (message: ToLane) => {
  try {
    take(message);
  } catch (error) {
    if ("exchange" in message)
      post({ kind: "failed", exchange: message.exchange, failure: sendFailure(error) });
    else throw error;
  }
});

setInterval(
  () => {
    const nowMs = performance.now();
    for (const lane of lanes.values()) lane.tick(nowMs);
  },
  Math.min(100, Math.max(10, settings.stallTimeoutMs / 5), settings.allowance === undefined ? 100 : 10),
).unref();

post({ kind: "ready" });
