// A registry of one model that paces, cuts and distorts each answer as a function of the request says: for runs by the hundred,
// where a plan of faults would be too coarse. Byte-exact on the socket; counts what it sent. HTTP/1.1, no authentication.

import { readFileSync } from "node:fs";
import { createServer as createHttpServer, type IncomingMessage, type Server } from "node:http";
import { createServer as createHttpsServer } from "node:https";
import type { Socket } from "node:net";
import { setTimeout as wait } from "node:timers/promises";
import {
  digestOf,
  filepath,
  json,
  modelPackConfig,
  modelPackManifest,
} from "../puller/artifact/manifest-builder.ts";
import { flush, listen, resetConnection } from "./sockets.ts";

export type ServedFile = {
  readonly name: string;
  readonly content: Buffer;
  /** Of a layer that is no file itself: its media type, and the files that come of it. */
  readonly archive?: {
    readonly mediaType: string;
    readonly files: readonly { readonly name: string; readonly content: Buffer }[];
  };
};

export type BlobRequest = {
  readonly method: string;
  readonly path: string;
  readonly headers: IncomingMessage["headers"];
  /** Name of the file that is asked for; undefined for manifests, config and other paths. */
  readonly file: string | undefined;
  /** The range that is asked for, inclusive; undefined without one. */
  readonly range: { readonly first: number; readonly last: number } | undefined;
  /** Requests for files before this one. */
  readonly index: number;
  readonly connection: number;
  /** Bytes of the body that were sent. */
  sentBytes: number;
  status: number;
};

/** What is to be different about an answer. */
export type Behaviour = {
  readonly delayMs?: number;
  /** There is no answer before this has settled. */
  readonly after?: Promise<unknown>;
  readonly status?: number;
  /** Set, or removed where undefined. */
  readonly headers?: Readonly<Record<string, string | undefined>>;
  /** Exactly these bytes, then FIN. */
  readonly raw?: string;
  readonly ignoresRange?: boolean;
  /** The body ends after so many bytes… */
  readonly endsAfter?: number;
  /** …and the connection so; default FIN. */
  readonly ending?: "fin" | "reset" | "hang";
  /** Byte of the file that is wrong. */
  readonly corruptAt?: number;
  /** Bytes at once, and the pause after them. */
  readonly chunkBytes?: number;
  readonly gapMs?: number;
  readonly lengthDelta?: number;
  /** Bytes behind the end of the body. */
  readonly extraBytes?: number;
  readonly isChunked?: boolean;
  /** The connection is closed after the answer, which does not say so. */
  readonly closesUnsaid?: boolean;
};

export type BlobServer = {
  readonly host: string;
  readonly url: string;
  readonly digest: string;
  readonly requests: readonly BlobRequest[];
  /** Requests for files. */
  readonly fileRequests: readonly BlobRequest[];
  /** Most files that were sent at the same time. */
  readonly mostAtOnce: number;
  readonly openConnections: number;
  /** Bytes that were given to sockets and have not left this process. */
  unsentBytes(): number;
  /** Replaces how answers are, and forgets the requests. */
  behave(behaviour: (request: BlobRequest) => Behaviour | undefined): void;
  /** Other connections are refused from now on; those that are open are reset. */
  stop(): Promise<void>;
};

export async function startBlobServer(
  files: readonly ServedFile[],
  tls?: { readonly keyFile: string; readonly certificateFile: string },
): Promise<BlobServer> {
  const config = Buffer.from("{}");
  const blobs = new Map<string, ServedFile>(files.map((file) => [digestOf(file.content), file]));
  const manifest = json({
    schemaVersion: 2,
    mediaType: "application/vnd.oci.image.manifest.v1+json",
    artifactType: modelPackManifest,
    config: { mediaType: modelPackConfig, digest: digestOf(config), size: config.length },
    layers: files.map(({ name, content, archive }) => ({
      mediaType: archive?.mediaType ?? "application/vnd.cncf.model.weight.v1.raw",
      digest: digestOf(content),
      size: content.length,
      ...(archive === undefined ? { annotations: { [filepath]: name } } : {}),
    })),
  });
  const digest = digestOf(manifest);
  let requests: BlobRequest[] = [];
  let fileRequests: BlobRequest[] = [];
  let behaviourOf: (request: BlobRequest) => Behaviour | undefined = () => undefined;
  const sockets = new Map<Socket, number>();
  let connections = 0;
  let atOnce = 0;
  let mostAtOnce = 0;

  const onRequest = (incoming: IncomingMessage): void => {
    const { socket, url: path = "/", headers } = incoming;
    incoming.resume();
    const wanted = path.split("?")[0]?.split("/").at(-1) ?? "";
    const file = blobs.get(wanted);
    const range = /^bytes=(\d+)-(\d*)$/.exec(headers.range ?? "");
    const length = file?.content.length ?? 0;
    const request: BlobRequest = {
      method: incoming.method ?? "",
      path,
      headers,
      file: file?.name,
      range:
        range === null
          ? undefined
          : { first: Number(range[1]), last: range[2] === "" ? length - 1 : Number(range[2]) },
      index: fileRequests.length,
      connection: sockets.get(socket) ?? 0,
      sentBytes: 0,
      status: 0,
    };
    requests.push(request);
    if (file !== undefined) fileRequests.push(request);
    const send = async (): Promise<void> => {
      if (path.includes("/manifests/"))
        return answer(socket, request, manifest, undefined, {
          headers: {
            "content-type": "application/vnd.oci.image.manifest.v1+json",
            "docker-content-digest": digest,
          },
        });
      if (wanted === digestOf(config)) return answer(socket, request, config, undefined, {});
      if (file === undefined) return answer(socket, request, Buffer.alloc(0), undefined, { status: 404 });
      mostAtOnce = Math.max(mostAtOnce, (atOnce += 1));
      try {
        await answer(socket, request, file.content, request.range, behaviourOf(request) ?? {});
      } finally {
        atOnce -= 1;
      }
    };
    send().catch(() => socket.destroy());
  };
  const server: Server =
    tls === undefined
      ? createHttpServer(onRequest)
      : createHttpsServer(
          { key: readFileSync(tls.keyFile), cert: readFileSync(tls.certificateFile) },
          onRequest,
        );
  server.keepAliveTimeout = 0;
  server.on(tls === undefined ? "connection" : "secureConnection", (socket: Socket) => {
    sockets.set(socket, (connections += 1));
    socket.on("error", () => undefined);
    socket.on("close", () => sockets.delete(socket));
  });
  const port = await listen(server, "127.0.0.1");
  const host = `127.0.0.1:${port}`;
  return {
    host,
    url: `${tls === undefined ? "http" : "https"}://${host}`,
    digest,
    get requests() {
      return requests;
    },
    get fileRequests() {
      return fileRequests;
    },
    get mostAtOnce() {
      return mostAtOnce;
    },
    get openConnections() {
      return sockets.size;
    },
    unsentBytes: () => [...sockets.keys()].reduce((sum, { writableLength }) => sum + writableLength, 0),
    behave: (behaviour) => {
      behaviourOf = behaviour;
      requests = [];
      fileRequests = [];
      mostAtOnce = 0;
    },
    stop: async () => {
      for (const socket of sockets.keys()) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

async function answer(
  socket: Socket,
  request: BlobRequest,
  whole: Uint8Array,
  range: BlobRequest["range"],
  behaviour: Behaviour,
): Promise<void> {
  if (behaviour.delayMs !== undefined) await wait(behaviour.delayMs);
  await behaviour.after;
  if (behaviour.raw !== undefined) {
    socket.end(behaviour.raw, "latin1");
    return;
  }
  const isRange = range !== undefined && behaviour.ignoresRange !== true && range.first < whole.length;
  const first = isRange ? range.first : 0;
  const last = isRange ? Math.min(range.last, whole.length - 1) : whole.length - 1;
  const status = behaviour.status ?? (isRange ? 206 : 200);
  const isError = status >= 300;
  let body = isError ? Buffer.alloc(0) : Buffer.from(whole.subarray(first, last + 1));
  const { corruptAt } = behaviour;
  if (corruptAt !== undefined && corruptAt >= first && corruptAt - first < body.length)
    body[corruptAt - first] = (body[corruptAt - first] ?? 0) ^ 0xff;
  request.status = status;
  const headers: Record<string, string | undefined> = {
    "content-length":
      behaviour.isChunked === true ? undefined : String(body.length + (behaviour.lengthDelta ?? 0)),
    "transfer-encoding": behaviour.isChunked === true ? "chunked" : undefined,
    "content-range": isRange && !isError ? `bytes ${first}-${last}/${whole.length}` : undefined,
    ...behaviour.headers,
  };
  const lines = Object.entries(headers).flatMap(([name, value]) =>
    value === undefined ? [] : [`${name}: ${value}\r\n`],
  );
  socket.write(`HTTP/1.1 ${status} As planned\r\n${lines.join("")}\r\n`, "latin1");
  if (behaviour.extraBytes !== undefined)
    body = Buffer.concat([body, Buffer.alloc(behaviour.extraBytes, 0x78)]);
  const end = Math.min(body.length, behaviour.endsAfter ?? body.length);
  const step = behaviour.chunkBytes ?? 256 * 1024;
  for (let position = 0; position < end; position += step) {
    if (socket.destroyed) return;
    const chunk = body.subarray(position, Math.min(end, position + step));
    request.sentBytes += chunk.length;
    if (behaviour.isChunked === true) socket.write(`${chunk.length.toString(16)}\r\n`);
    let isDrained = socket.write(chunk);
    if (behaviour.isChunked === true) isDrained = socket.write("\r\n");
    // Not behind the last bytes: who has them asks for the next at once.
    if (behaviour.gapMs !== undefined && position + step < end) await wait(behaviour.gapMs);
    else if (behaviour.gapMs === undefined && !isDrained)
      await Promise.race([
        new Promise((resolve) => socket.once("drain", resolve)),
        new Promise((resolve) => socket.once("close", resolve)),
      ]);
  }
  if (behaviour.endsAfter === undefined) {
    if (behaviour.isChunked === true) socket.write("0\r\n\r\n");
    if (behaviour.closesUnsaid === true || (behaviour.lengthDelta ?? 0) > 0) socket.end();
    return;
  }
  if (behaviour.ending === "hang") return;
  await flush(socket);
  if (behaviour.ending === "reset") resetConnection(socket);
  else socket.end();
}
