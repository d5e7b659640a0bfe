// One layer into the target: chunks of a bounded size, hashed as they are made, gone on with where the registry allows it.

import { createHash } from "node:crypto";
import { parseDigest } from "../oci/digest.ts";
import { AppError } from "../oci/errors.ts";
import {
  askUpload,
  blobSize,
  ChunksRefused,
  finishUpload,
  sendChunk,
  sendStream,
  startUpload,
  UploadLost,
  type Upload,
} from "../oci/push.ts";
import { withRetries, type RetryPolicy } from "../oci/retry.ts";
import type { Digest, Reference, RetryListener, WritableRegistry } from "../oci/types.ts";
import type { ImageLayer } from "./image.ts";

export type UploadOptions = {
  readonly registry: WritableRegistry;
  readonly target: Reference;
  /** Bytes of a chunk; two are in memory at once. */
  readonly chunkBytes: number;
  readonly policy: RetryPolicy;
  readonly onRetry: RetryListener;
  /** Bytes that the target has taken; negative when it has lost them. */
  readonly onBytes: (bytes: number) => void;
  readonly signal: AbortSignal;
};

/** Cuts a stream into pieces of exactly `size()` bytes, the last one of what is left; they are the caller's to keep. */
async function* inChunks(
  content: AsyncIterable<Uint8Array>,
  size: () => number,
): AsyncGenerator<Uint8Array, void, undefined> {
  let chunk = Buffer.allocUnsafe(size());
  let filled = 0;
  for await (const part of content) {
    for (let taken = 0; taken < part.length;) {
      const count = Math.min(part.length - taken, chunk.length - filled);
      chunk.set(part.subarray(taken, taken + count), filled);
      filled += count;
      taken += count;
      if (filled < chunk.length) continue;
      yield chunk;
      chunk = Buffer.allocUnsafe(size());
      filled = 0;
    }
  }
  if (filled > 0) yield chunk.subarray(0, filled);
}

/**
 * Uploads what `content` gives, which is called again when the registry has lost what it had. A failure of the content, such as
 * a wrong digest at its end, leaves no blob behind. Fails with AppError.
 */
export async function uploadLayer(
  content: () => AsyncIterable<Uint8Array>,
  options: UploadOptions,
): Promise<ImageLayer> {
  let takesChunks = true;
  /** The furthest that any attempt came, bytes: only what is further is progress. */
  let furthest = 0;
  return withRetries(
    async (tellProgress) => {
      let countedBytes = 0;
      const count = (bytes: number): void => {
        countedBytes += bytes;
        options.onBytes(bytes);
        if (countedBytes <= furthest) return;
        furthest = countedBytes;
        tellProgress();
      };
      try {
        return await (takesChunks ? inManyRequests : inOneRequest)(content, options, count);
      } catch (error) {
        options.onBytes(-countedBytes);
        if (!(error instanceof ChunksRefused)) throw error;
        takesChunks = false;
        // Asked anew at once: nothing is wrong with the registry.
        throw new AppError("RegistryUnreachable", error.message, { retry: { afterMs: 0 } });
      }
    },
    { policy: options.policy, signal: options.signal, onRetry: options.onRetry },
  );
}

async function inManyRequests(
  content: () => AsyncIterable<Uint8Array>,
  options: UploadOptions,
  count: (bytes: number) => void,
): Promise<ImageLayer> {
  const { registry, target, signal } = options;
  const hash = createHash("sha256");
  let upload = await startUpload(registry, target, signal);
  const size = (): number => Math.max(options.chunkBytes, upload.minimumChunkBytes);
  if (upload.minimumChunkBytes > largestChunkBytes) {
    throw new AppError(
      "PolicyRefused",
      `${target.registry} takes no chunks of less than ${upload.minimumChunkBytes} bytes, and more than ${largestChunkBytes} are not held in memory`,
    );
  }
  const chunks = inChunks(content(), size);
  let sizeBytes = 0;
  try {
    let following = chunks.next();
    for (;;) {
      const { value: chunk, done } = await following;
      if (done === true) break;
      hash.update(chunk);
      // The next one is filled while this one is sent.
      following = chunks.next();
      following.catch(() => undefined);
      upload = await sendWhole(chunk, upload, options);
      sizeBytes += chunk.length;
      count(chunk.length);
    }
  } finally {
    await chunks.return(undefined);
  }
  return finish(upload, { digest: parseDigest(`sha256:${hash.digest("hex")}`), sizeBytes }, options);
}

/** The largest chunk that is held in memory, bytes. */
export const largestChunkBytes = 256 * 1024 * 1024;

/** Sends one chunk until the registry has all of it; after a failure, what it does not have yet. */
async function sendWhole(chunk: Uint8Array, upload: Upload, options: UploadOptions): Promise<Upload> {
  const { registry, target, signal } = options;
  const start = upload.offset;
  let at = upload;
  let isInDoubt = false;
  return withRetries(
    async () => {
      if (isInDoubt) at = await askUpload(registry, target, at, signal);
      isInDoubt = true;
      while (at.offset < start + chunk.length) {
        if (at.offset < start) throw lost(target);
        at = await sendChunk(registry, target, at, chunk.subarray(at.offset - start), signal);
      }
      if (at.offset > start + chunk.length) throw lost(target);
      return at;
    },
    // What was lost is not found by asking again: the layer begins anew.
    {
      policy: options.policy,
      signal,
      onRetry: options.onRetry,
      isFinal: (error) => error instanceof UploadLost,
    },
  );
}

function lost({ registry }: Reference): UploadLost {
  return new UploadLost(`${registry} has lost a part of the upload`);
}

async function inOneRequest(
  content: () => AsyncIterable<Uint8Array>,
  options: UploadOptions,
  count: (bytes: number) => void,
): Promise<ImageLayer> {
  const { registry, target, signal } = options;
  let hash = createHash("sha256");
  let sizeBytes = 0;
  let failure: unknown;
  const body = async function* (): AsyncGenerator<Uint8Array> {
    // Sent again after a 401: from the beginning.
    hash = createHash("sha256");
    sizeBytes = 0;
    try {
      for await (const chunk of content()) {
        hash.update(chunk);
        sizeBytes += chunk.length;
        yield chunk;
      }
    } catch (error) {
      failure = error;
      throw error;
    }
  };
  const upload = await startUpload(registry, target, signal);
  const sent = await sendStream(registry, target, upload, body, signal).catch((error: unknown) => {
    // The content's own failure, not that of the connection which it broke.
    throw failure ?? error;
  });
  const layer = { digest: parseDigest(`sha256:${hash.digest("hex")}`), sizeBytes };
  const finished = await finish(sent, layer, options);
  count(sizeBytes);
  return finished;
}

/** Ends the upload; where the answer is lost, the blob itself tells whether it was. */
async function finish(upload: Upload, layer: ImageLayer, options: UploadOptions): Promise<ImageLayer> {
  const { registry, target, signal } = options;
  let isInDoubt = false;
  return withRetries(
    async () => {
      if (isInDoubt && (await isThere(registry, target, layer, signal))) return layer;
      isInDoubt = true;
      await finishUpload(registry, target, upload, layer.digest, signal);
      return layer;
    },
    {
      policy: options.policy,
      signal,
      onRetry: options.onRetry,
      isFinal: (error) => error instanceof UploadLost,
    },
  );
}

/** Whether the target has a blob of this digest and size. */
export async function isThere(
  registry: WritableRegistry,
  target: Reference,
  { digest, sizeBytes }: { readonly digest: Digest; readonly sizeBytes: number },
  signal: AbortSignal,
): Promise<boolean> {
  return (await blobSize(registry, target, digest, signal)) === sizeBytes;
}
