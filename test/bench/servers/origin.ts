// A registry of static files for what nginx does not do: a cap on all connections together, and an end after so many bytes.
// Runs in the benchmark's own process, which has nothing else to do while a client is measured.

import { closeSync, openSync, readFileSync, readSync } from "node:fs";
import { createServer, type IncomingMessage, type RequestListener, type ServerResponse } from "node:http";
import { createServer as createTlsServer } from "node:https";
import type { AddressInfo } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import { makeServerCertificate } from "../../registry/test-certificates.ts";
import { manifestMediaType, type Artifact } from "../artifact.ts";
import type { Content } from "../content.ts";
import type { BlobServer } from "./blob-server.ts";

export type OriginOptions = {
  readonly artifacts: readonly Artifact[];
  /** What all connections are given together, blobs only. */
  readonly bytesPerSecond?: number;
  /** After so many bytes of blobs, on whatever connections, no further one is sent and all requests hang. */
  readonly haltAfterBytes?: number;
  /** Blobs come in chunks, without a length. */
  readonly isChunked?: boolean;
  /** A folder for keys and certificate: then by TLS. */
  readonly tlsDirectory?: string;
};

export type Origin = BlobServer & {
  /** Bytes of blobs that were handed to the kernel. */
  readonly sentBytes: () => number;
};

const chunkBytes = 256 * 1024;
/** How far a sender may get ahead of the cap after a pause, milliseconds. */
const burstMs = 10;

/** Hands out time slots on a link: `take(bytes)` resolves when these may be sent. Fair by arrival. */
export function pace(
  bytesPerSecond: number,
  now: () => number = () => performance.now(),
): (bytes: number) => number {
  let freeAtMs = now();
  return (bytes) => {
    const nowMs = now();
    const startMs = Math.max(nowMs - burstMs, freeAtMs);
    freeAtMs = startMs + (bytes * 1000) / bytesPerSecond;
    return Math.max(0, startMs - nowMs);
  };
}

/** The closed or open range that a request asks for, as offsets of its first and last byte; undefined when it is none that exists. */
export function requestedRange(
  header: string | undefined,
  sizeBytes: number,
): { readonly first: number; readonly last: number; readonly isPartial: boolean } | undefined {
  const whole = { first: 0, last: sizeBytes - 1, isPartial: false };
  const match = /^bytes=(\d+)-(\d*)$/.exec(header ?? "");
  if (match === null) return whole;
  const first = Number(match[1]);
  const last = match[2] === "" ? sizeBytes - 1 : Math.min(Number(match[2]), sizeBytes - 1);
  return first > last ? undefined : { first, last, isPartial: true };
}

export async function startOrigin(options: OriginOptions): Promise<Origin> {
  const contents = new Map<string, Content>();
  const manifests = new Map<string, Artifact>();
  for (const artifact of options.artifacts) {
    for (const content of [artifact.config, ...artifact.layers]) contents.set(content.digest, content);
    for (const name of [artifact.tag, artifact.digest])
      manifests.set(`/v2/${artifact.repository}/manifests/${name}`, artifact);
  }
  // Needed before any layer, and no download.
  const configs = new Set(options.artifacts.map(({ config }) => config.digest));
  let sentBytes = 0;
  const wait = options.bytesPerSecond === undefined ? undefined : pace(options.bytesPerSecond);
  const halt = options.haltAfterBytes ?? Number.POSITIVE_INFINITY;

  async function sendBlob(
    request: IncomingMessage,
    response: ServerResponse,
    content: Content,
  ): Promise<void> {
    const range = requestedRange(request.headers.range, content.sizeBytes);
    if (range === undefined) {
      response.writeHead(416, { "content-range": `bytes */${content.sizeBytes}`, "content-length": 0 }).end();
      return;
    }
    const { first, last, isPartial } = range;
    const length = last - first + 1;
    response.writeHead(isPartial ? 206 : 200, {
      "content-type": "application/octet-stream",
      ...(options.isChunked === true ? {} : { "content-length": length }),
      "accept-ranges": "bytes",
      ...(isPartial ? { "content-range": `bytes ${first}-${last}/${content.sizeBytes}` } : {}),
    });
    if (request.method === "HEAD") {
      response.end();
      return;
    }
    const file = openSync(content.path, "r");
    try {
      for (let offset = first; offset <= last && !response.destroyed;) {
        const isCounted = !configs.has(content.digest);
        const allowed = isCounted ? Math.max(0, halt - sentBytes) : Number.POSITIVE_INFINITY;
        const size = Math.min(chunkBytes, last + 1 - offset, allowed);
        if (size === 0) {
          // Flushed, and then nothing more, until the client or the server goes.
          await new Promise((resolve) => response.once("close", resolve));
          return;
        }
        if (isCounted) sentBytes += size;
        const waitMs = wait?.(size) ?? 0;
        if (waitMs >= 1) await delay(waitMs);
        const chunk = Buffer.allocUnsafe(size);
        readSync(file, chunk, 0, size, offset);
        offset += size;
        if (!response.write(chunk) && !response.destroyed) {
          await new Promise<void>((resolve) => {
            const go = (): void => {
              response.off("drain", go).off("close", go);
              resolve();
            };
            response.on("drain", go).on("close", go);
          });
        }
      }
      response.end();
    } finally {
      closeSync(file);
    }
  }

  const answer: RequestListener = (request, response) => {
    const url = request.url ?? "";
    const manifest = manifests.get(url);
    const [, digest = ""] = /^\/v2\/.+\/blobs\/(sha256:[0-9a-f]{64})$/.exec(url) ?? [];
    const content = contents.get(digest);
    if (url === "/v2/") response.writeHead(200, { "content-type": "application/json" }).end("{}");
    else if (manifest !== undefined) {
      response.writeHead(200, {
        "content-type": manifestMediaType,
        "content-length": manifest.manifest.length,
        "docker-content-digest": manifest.digest,
      });
      response.end(request.method === "HEAD" ? undefined : manifest.manifest);
    } else if (content !== undefined) {
      sendBlob(request, response, content).catch(() => response.destroy());
    } else response.writeHead(404).end();
  };

  const { tlsDirectory } = options;
  let tls: { readonly key: Buffer; readonly cert: Buffer } | undefined;
  if (tlsDirectory !== undefined) {
    const { keyFile, certificateFile } = await makeServerCertificate(tlsDirectory, "127.0.0.1");
    tls = { key: readFileSync(keyFile), cert: readFileSync(certificateFile) };
  }
  const server = tls === undefined ? createServer(answer) : createTlsServer(tls, answer);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const host = `127.0.0.1:${(server.address() as AddressInfo).port}`;
  return {
    host,
    url: `${tls === undefined ? "http" : "https"}://${host}`,
    ...(tlsDirectory === undefined ? {} : { caFile: `${tlsDirectory}/ca.crt` }),
    sentBytes: () => sentBytes,
    stop: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
