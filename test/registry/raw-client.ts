// An HTTP client that understands nothing: sends bytes, gives back every byte until the connection ends, and how it ended.

import { readFileSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { connect as connectTls } from "node:tls";

export type RawAnswer = {
  /** Status line and headers, without the empty line. */
  readonly head: string;
  /** Everything after it, framing of chunks included. */
  readonly body: Buffer;
  /** FIN, RST, or neither until `isEnough` was content or the time was over. */
  readonly end: "fin" | "reset" | "open";
  readonly elapsedMs: number;
};

export type RawRequest = {
  readonly method?: string;
  /** In place of the URL's path, which is tidied up. */
  readonly path?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string;
  /** Trust this authority and talk TLS. */
  readonly caFile?: string;
  /** Stop reading here: for answers that never end. */
  readonly isEnough?: (received: Buffer) => boolean;
  /** Read nothing for so long, so that the answer waits in buffers of the system. */
  readonly pauseMs?: number;
  /** Give up then, which is no error; default 20 s. */
  readonly timeoutMs?: number;
  /** Give up after so long without a byte: how slowly those before it came does not matter. */
  readonly silenceMs?: number;
};

/** Sends one request and reads to the end. Rejects only when the connection cannot be made. */
export async function rawRequest(url: string, request: RawRequest = {}): Promise<RawAnswer> {
  const { hostname, port, host, pathname, search } = new URL(url);
  const socket: Socket =
    request.caFile === undefined
      ? connect(Number(port), hostname)
      : connectTls({ host: hostname, port: Number(port), ca: readFileSync(request.caFile) });
  const chunks: Buffer[] = [];
  const startedMs = performance.now();
  await new Promise<void>((resolve, reject) => {
    socket.once(request.caFile === undefined ? "connect" : "secureConnect", resolve);
    socket.once("error", reject);
  });
  const end = await new Promise<RawAnswer["end"]>((resolve) => {
    const timer = setTimeout(() => resolve("open"), request.silenceMs ?? request.timeoutMs ?? 20_000);
    const finish = (how: RawAnswer["end"]): void => {
      clearTimeout(timer);
      resolve(how);
    };
    socket.on("data", (chunk: Buffer) => {
      chunks.push(chunk);
      if (request.silenceMs !== undefined) timer.refresh();
      if (request.isEnough?.(Buffer.concat(chunks)) === true) finish("open");
    });
    if (request.pauseMs !== undefined) {
      socket.pause();
      setTimeout(() => socket.resume(), request.pauseMs);
    }
    socket.on("end", () => finish("fin"));
    socket.on("error", () => finish("reset"));
    const headers = Object.entries({
      host,
      ...(request.body === undefined ? {} : { "content-length": String(Buffer.byteLength(request.body)) }),
      ...request.headers,
    });
    socket.write(
      `${request.method ?? "GET"} ${request.path ?? pathname + search} HTTP/1.1\r\n` +
        `${headers.map(([name, value]) => `${name}: ${value}\r\n`).join("")}\r\n${request.body ?? ""}`,
    );
  });
  socket.destroy();
  const bytes = Buffer.concat(chunks);
  const split = bytes.indexOf("\r\n\r\n");
  return {
    head: bytes.subarray(0, split === -1 ? bytes.length : split).toString("latin1"),
    body: split === -1 ? Buffer.alloc(0) : bytes.subarray(split + 4),
    end,
    elapsedMs: performance.now() - startedMs,
  };
}
