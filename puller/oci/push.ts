// Writing to a registry: blobs in chunks, mounts, manifests. One function is one step; who fills the chunks is elsewhere.
// https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#push

import { AppError } from "./errors.ts";
import { statusError, type Asked } from "./status.ts";
import { header, type AnswerHead } from "./transport.ts";
import type { Digest, Reference, WritableRegistry } from "./types.ts";

/** Slowest sending of a chunk that is waited for, bytes per second. */
const slowestSending = 64 * 1024;
/** Waited for besides, milliseconds: storage behind a registry may hash or copy a blob of gigabytes before it answers. */
const answerMs = 30_000;
const commitMs = 900_000;

/** An upload that goes on at `location` with byte `offset`. */
export type Upload = {
  readonly location: URL;
  readonly offset: number;
  /** The registry takes no smaller chunks but the last, bytes; 0 where it has not said so. */
  readonly minimumChunkBytes: number;
};

/** The registry has lost an upload, or has other bytes of it than were sent: it is to be begun anew. */
export class UploadLost extends AppError {
  constructor(message: string) {
    super("RegistryUnreachable", message);
    this.name = "UploadLost";
  }
}

/** The registry takes no chunks of a stated range: the blob has to go in one request. */
export class ChunksRefused extends AppError {
  constructor(message: string) {
    // Another chunk would be refused too.
    super("InvalidArtifact", message, { retry: "never" });
    this.name = "ChunksRefused";
  }
}

/** What other chunks than the first are answered with by registries that take the first. */
const chunkRefusals: ReadonlySet<number> = new Set([400, 405, 411, 415, 416, 501]);

function refusal(answer: AnswerHead, asked: Asked, reference: Reference): AppError {
  const { registry, repository } = reference;
  const context = { host: registry, status: answer.status };
  if (answer.status === 404) {
    return new AppError(
      "ManifestNotFound",
      `${registry} has no repository ${repository} that could be pushed to (404); create it first`,
      { context },
    );
  }
  if (answer.status === 413) {
    return new AppError(
      "PolicyRefused",
      `${registry}, or a proxy before it, takes no request of this size (413); make it smaller with --chunk-size`,
      { context },
    );
  }
  if (answer.status === 405 || answer.status === 501) {
    return new AppError("PolicyRefused", `${registry} takes no pushes (${answer.status})`, { context });
  }
  return statusError(answer, asked, registry);
}

function nextUpload(
  found: { readonly location?: URL },
  offset: number,
  host: string,
  before: Pick<Upload, "minimumChunkBytes"> & { readonly location?: URL },
): Upload {
  const location = found.location ?? before.location;
  if (location === undefined)
    throw new AppError("RegistryUnreachable", `${host} accepts an upload but does not say where it goes on`);
  return { location, offset, minimumChunkBytes: before.minimumChunkBytes };
}

/** Bytes of a blob that is there; undefined when it is not. */
export async function blobSize(
  registry: WritableRegistry,
  reference: Reference,
  digest: Digest,
  signal: AbortSignal,
): Promise<number | undefined> {
  const { answer } = await registry.write(
    reference,
    { method: "HEAD", target: `blobs/${digest}`, asked: "blob" },
    signal,
  );
  await answer.discard();
  if (answer.status === 404) return undefined;
  if (answer.status !== 200) throw refusal(answer, "blob", reference);
  const length = header(answer, "content-length");
  return length !== undefined && /^\d{1,16}$/.test(length) ? Number(length) : undefined;
}

/** Takes a blob over from another repository of the registry; false where that is not possible, which costs a transfer only. */
export async function mountBlob(
  registry: WritableRegistry,
  reference: Reference,
  digest: Digest,
  from: string,
  signal: AbortSignal,
): Promise<boolean> {
  const { answer } = await registry.write(
    reference,
    {
      method: "POST",
      target: `blobs/uploads/?mount=${encodeURIComponent(digest)}&from=${encodeURIComponent(from)}`,
      asked: "upload",
      headers: { "content-length": "0" },
      mountFrom: from,
    },
    signal,
  );
  await answer.discard();
  return answer.status === 201;
}

/** Begins an upload. */
export async function startUpload(
  registry: WritableRegistry,
  reference: Reference,
  signal: AbortSignal,
): Promise<Upload> {
  const found = await registry.write(
    reference,
    { method: "POST", target: "blobs/uploads/", asked: "upload", headers: { "content-length": "0" } },
    signal,
  );
  const { answer } = found;
  await answer.discard();
  if (answer.status !== 202) throw refusal(answer, "upload", reference);
  const minimum = header(answer, "oci-chunk-min-length") ?? "";
  const minimumChunkBytes = /^\d{1,12}$/.test(minimum) ? Number(minimum) : 0;
  return nextUpload(found, 0, reference.registry, { minimumChunkBytes });
}

/** How many bytes the registry has, by `Range: 0-LAST`; undefined when it does not say. */
function heldBytes(answer: AnswerHead): number | undefined {
  const match = /^(?:bytes=)?0-(\d{1,16})$/.exec(header(answer, "range")?.trim() ?? "");
  return match === null ? undefined : Number(match[1]) + 1;
}

/**
 * Sends the next bytes. The registry may have taken fewer: `offset` of the result tells. Fails with ChunksRefused when it takes
 * no first chunk, UploadLost when it does not know the upload any more.
 */
export async function sendChunk(
  registry: WritableRegistry,
  reference: Reference,
  upload: Upload,
  chunk: Uint8Array,
  signal: AbortSignal,
): Promise<Upload> {
  const { offset } = upload;
  const found = await registry.write(
    reference,
    {
      method: "PATCH",
      target: upload.location,
      asked: "upload",
      headers: {
        "content-type": "application/octet-stream",
        "content-range": `${offset}-${offset + chunk.length - 1}`,
      },
      body: chunk,
      answerTimeoutMs: answerMs + (chunk.length * 1000) / slowestSending,
    },
    signal,
  );
  const { answer } = found;
  await answer.discard();
  // 202 by the specification; some registries have said 204 or 201.
  if (answer.status >= 200 && answer.status < 300) {
    const held = heldBytes(answer) ?? offset + chunk.length;
    if (held > offset + chunk.length || held < offset)
      throw new UploadLost(`${reference.registry} has another part of the upload than was sent`);
    return nextUpload(found, held, reference.registry, upload);
  }
  if (offset === 0 && chunkRefusals.has(answer.status))
    throw new ChunksRefused(`${reference.registry} takes no uploads in chunks (${answer.status})`);
  if ([400, 404, 416].includes(answer.status))
    throw new UploadLost(`${reference.registry} does not go on with the upload (${answer.status})`);
  throw refusal(answer, "upload", reference);
}

/** Sends a whole blob as one request, for registries that take no chunks. */
export async function sendStream(
  registry: WritableRegistry,
  reference: Reference,
  upload: Upload,
  body: () => AsyncIterable<Uint8Array>,
  signal: AbortSignal,
): Promise<Upload> {
  const found = await registry.write(
    reference,
    {
      method: "PATCH",
      target: upload.location,
      asked: "upload",
      headers: { "content-type": "application/octet-stream" },
      body,
      answerTimeoutMs: commitMs,
    },
    signal,
  );
  await found.answer.discard();
  if (found.answer.status < 200 || found.answer.status >= 300)
    throw refusal(found.answer, "upload", reference);
  return nextUpload(found, heldBytes(found.answer) ?? 0, reference.registry, upload);
}

/** Asks how far an upload is. Fails with UploadLost when the registry does not know it, or does not tell. */
export async function askUpload(
  registry: WritableRegistry,
  reference: Reference,
  upload: Upload,
  signal: AbortSignal,
): Promise<Upload> {
  const found = await registry.write(
    reference,
    { method: "GET", target: upload.location, asked: "upload" },
    signal,
  );
  const { answer } = found;
  await answer.discard();
  if (answer.status === 204 || answer.status === 202 || answer.status === 200) {
    const held = heldBytes(answer);
    if (held !== undefined) return nextUpload(found, held, reference.registry, upload);
  } else if (answer.status >= 500 || answer.status === 429 || answer.status === 401) {
    throw refusal(answer, "upload", reference);
  }
  throw new UploadLost(`${reference.registry} does not say how far the upload is (${answer.status})`);
}

/** Ends an upload: from here on the blob is there under its digest. The registry compares what it has with the digest. */
export async function finishUpload(
  registry: WritableRegistry,
  reference: Reference,
  upload: Upload,
  digest: Digest,
  signal: AbortSignal,
): Promise<void> {
  const target = new URL(upload.location);
  target.searchParams.set("digest", digest);
  const { answer } = await registry.write(
    reference,
    {
      method: "PUT",
      target,
      asked: "upload",
      headers: { "content-length": "0", "content-type": "application/octet-stream" },
      answerTimeoutMs: commitMs,
    },
    signal,
  );
  await answer.discard();
  if (answer.status === 201 || answer.status === 204) return;
  if ([400, 404, 416].includes(answer.status))
    throw new UploadLost(`${reference.registry} does not take the end of the upload (${answer.status})`);
  throw refusal(answer, "upload", reference);
}

/** Uploads a small blob in one request. */
export async function putBlob(
  registry: WritableRegistry,
  reference: Reference,
  blob: { readonly digest: Digest; readonly bytes: Uint8Array },
  signal: AbortSignal,
): Promise<void> {
  const upload = await startUpload(registry, reference, signal);
  const target = new URL(upload.location);
  target.searchParams.set("digest", blob.digest);
  const { answer } = await registry.write(
    reference,
    {
      method: "PUT",
      target,
      asked: "upload",
      headers: { "content-type": "application/octet-stream" },
      body: blob.bytes,
      answerTimeoutMs: commitMs,
    },
    signal,
  );
  await answer.discard();
  if (answer.status === 201 || answer.status === 204) return;
  if ([400, 404, 416].includes(answer.status))
    throw new UploadLost(`${reference.registry} does not take the upload (${answer.status})`);
  throw refusal(answer, "upload", reference);
}

/** Pushes a manifest under the reference's tag. Fails with DigestMismatch when the registry made something else of it. */
export async function putManifest(
  registry: WritableRegistry,
  reference: Reference,
  manifest: { readonly mediaType: string; readonly digest: Digest; readonly bytes: Uint8Array },
  signal: AbortSignal,
): Promise<void> {
  const { answer } = await registry.write(
    reference,
    {
      method: "PUT",
      target: `manifests/${reference.tag ?? manifest.digest}`,
      asked: "push",
      headers: { "content-type": manifest.mediaType },
      body: manifest.bytes,
    },
    signal,
  );
  await answer.discard();
  if (answer.status !== 201 && answer.status !== 200 && answer.status !== 202) {
    throw answer.status === 400 || answer.status === 409
      ? new AppError(
          "PolicyRefused",
          `${reference.registry} does not take the manifest for ${reference.repository} (${answer.status}); is the tag immutable?`,
          { context: { host: reference.registry, status: answer.status } },
        )
      : refusal(answer, "push", reference);
  }
  const stated = header(answer, "docker-content-digest");
  if (stated !== undefined && stated !== manifest.digest) {
    throw new AppError(
      "DigestMismatch",
      `${reference.registry} stored the manifest under another digest than ${manifest.digest}`,
      { context: { host: reference.registry, digest: manifest.digest } },
    );
  }
}
