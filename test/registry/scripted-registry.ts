// A registry that answers what a test tells it, for answers that the real one cannot be made to give: manifests it would not take,
// challenges it would not send, bytes that are no HTTP. Records every request.

import { readFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import { createServer as createTlsServer } from "node:https";
import type { Socket } from "node:net";
import { recordRequest, type RecordedRequest } from "./recorded-request.ts";
import { listen } from "./sockets.ts";

export type ScriptedAnswer = {
  readonly status?: number;
  readonly headers?: Readonly<Record<string, string | readonly string[]>>;
  readonly body?: Uint8Array | string;
  /** Exactly these bytes in place of all else; the connection ends after them unless `hang`. */
  readonly raw?: Uint8Array | string;
  readonly hang?: boolean;
};

/** Gives the answer to a request; undefined: 404. */
export type Script = (request: RecordedRequest) => ScriptedAnswer | undefined;

export type ScriptedRegistry = {
  readonly host: string;
  readonly url: string;
  readonly requests: readonly RecordedRequest[];
  /** Every byte received, but for TLS. */
  received(): Buffer;
  /** Answers by this from now on, and forgets what was recorded. */
  setScript(script: Script): void;
  stop(): Promise<void>;
};

/** Starts on 127.0.0.1; by TLS where a certificate is given. Answers 404 until it has a script. */
export async function startScriptedRegistry(
  options: { readonly keyFile?: string; readonly certificateFile?: string } = {},
): Promise<ScriptedRegistry> {
  let script: Script = () => undefined;
  let requests: RecordedRequest[] = [];
  let received: Buffer[] = [];
  const sockets = new Set<Socket>();
  const isTls = options.keyFile !== undefined && options.certificateFile !== undefined;
  const server: Server = isTls
    ? createTlsServer({
        key: readFileSync(options.keyFile ?? ""),
        cert: readFileSync(options.certificateFile ?? ""),
      })
    : createServer();
  server.on("request", (incoming, response) => {
    const { record } = recordRequest(incoming, 0);
    requests.push(record);
    incoming.resume();
    // With its body: a token request by POST is judged by it.
    incoming.on("end", () => {
      const answer = script(record) ?? { status: 404 };
      if (answer.raw !== undefined) {
        incoming.socket.write(answer.raw);
        if (answer.hang !== true) incoming.socket.end();
        return;
      }
      if (answer.hang === true) return;
      const headers = Object.entries(answer.headers ?? {}).flatMap(([name, value]) =>
        [value].flat().map((each): [string, string] => [name, each]),
      );
      for (const [name, value] of headers) response.appendHeader(name, value);
      const body = Buffer.from(answer.body ?? "");
      // As registries do; without it Node would send chunks.
      if (!response.hasHeader("content-length")) response.setHeader("content-length", body.length);
      response.writeHead(answer.status ?? 200).end(body);
    });
  });
  server.on("connection", (socket: Socket) => {
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
    socket.on("error", () => undefined);
    if (!isTls) socket.on("data", (chunk: Buffer) => received.push(Buffer.from(chunk)));
  });
  const port = await listen(server, "127.0.0.1");
  return {
    host: `127.0.0.1:${port}`,
    url: `${isTls ? "https" : "http"}://127.0.0.1:${port}`,
    get requests() {
      return requests;
    },
    received: () => Buffer.concat(received),
    setScript: (next) => {
      script = next;
      requests = [];
      received = [];
    },
    stop: async () => {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
