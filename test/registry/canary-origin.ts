// A second origin that records every byte it receives and answers what it is told: whoever sends it a credential is caught.

import { createServer } from "node:http";
import type { Socket } from "node:net";
import { recordRequest, type RecordedRequest } from "./recorded-request.ts";
import { listen } from "./sockets.ts";

export type CanaryOrigin = {
  readonly url: string;
  readonly host: string;
  readonly requests: readonly RecordedRequest[];
  /** Every byte of every connection, also what is no HTTP. */
  received(): Buffer;
  stop(): Promise<void>;
};

/** Starts on 127.0.0.1. Answers every request alike: status 200 and no body unless told otherwise. */
export async function startCanaryOrigin(
  answer: {
    readonly status?: number;
    readonly headers?: Readonly<Record<string, string>>;
    readonly body?: Uint8Array;
    /** Accept connections and never answer. */
    readonly silent?: boolean;
  } = {},
): Promise<CanaryOrigin> {
  const requests: RecordedRequest[] = [];
  const received: Buffer[] = [];
  const sockets = new Set<Socket>();
  const status = answer.status ?? 200;
  const body = answer.body ?? new Uint8Array();
  let connections = 0;
  const numbers = new WeakMap<Socket, number>();
  const server = createServer((incoming, response) => {
    const recorder = recordRequest(incoming, numbers.get(incoming.socket) ?? 0);
    requests.push(recorder.record);
    incoming.resume();
    if (answer.silent === true) return;
    recorder.setStatus(status);
    recorder.addSent(body.length);
    response.writeHead(status, answer.headers ?? {}).end(body);
  });
  // Registered after the parser's own listener: a data listener makes node:http give up reading below the socket.
  server.on("connection", (socket: Socket) => {
    connections += 1;
    numbers.set(socket, connections);
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
    socket.on("error", () => undefined);
    socket.on("data", (chunk: Buffer) => received.push(Buffer.from(chunk)));
  });
  const port = await listen(server, "127.0.0.1");
  return {
    url: `http://127.0.0.1:${port}`,
    host: `127.0.0.1:${port}`,
    requests,
    received: () => Buffer.concat(received),
    stop: async () => {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
