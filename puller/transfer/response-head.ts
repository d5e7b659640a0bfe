// Parses the head of an HTTP/1.1 response with Node's own parser. No string of a server is taken apart here by hand.

import { Duplex } from "node:stream";

// Not by an import, which makes names of all its exports and so loads the fetch within Node, 25 ms and 13 MiB in every thread.
const { request } = process.getBuiltinModule("node:http");

/** Head of a response. A header that came several times is an array, so that nobody takes one of them for all. */
export type ResponseHead = {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[]>>;
  /** Whether the connection may be used again after the body. */
  readonly isKeptAlive: boolean;
};

const endOfHead = Buffer.from("\r\n\r\n");

/** Index behind the empty line that ends a head, -1 while it is not there. `from` was searched before. */
export function headEnd(bytes: Buffer, from: number): number {
  const index = bytes.indexOf(endOfHead, Math.max(0, from - 3));
  return index === -1 ? -1 : index + endOfHead.length;
}

/**
 * Parses the bytes of one head, its empty line included. The parser refuses what could be read in two ways: two or malformed
 * lengths, a length beside a transfer coding, control characters, folded lines. Fails with its error, `code` HPE_….
 */
export async function parseResponseHead(bytes: Buffer, maxBytes: number): Promise<ResponseHead> {
  return new Promise((resolve, reject) => {
    const socket = new Duplex({
      read: () => undefined,
      write: (_chunk, _encoding, done) => {
        done();
      },
    });
    const exchange = request({
      createConnection: () => socket,
      // As if the body were not to come: the answer is over with its head, and nothing is torn down in the middle of one.
      method: "HEAD",
      host: "head.invalid",
      maxHeaderSize: maxBytes,
      insecureHTTPParser: false,
    });
    const end = (settle: () => void): void => {
      settle();
      exchange.destroy();
      socket.destroy();
    };
    exchange.on("error", (error) => {
      end(() => {
        reject(error);
      });
    });
    // 1xx: what follows is another head, which nothing here waits for.
    exchange.on("information", ({ statusCode }) => {
      end(() => {
        resolve({ status: statusCode, headers: {}, isKeptAlive: false });
      });
    });
    for (const event of ["upgrade", "connect"] as const) {
      exchange.on(event, (response) => {
        end(() => {
          resolve({ status: response.statusCode ?? 0, headers: {}, isKeptAlive: false });
        });
      });
    }
    exchange.on("response", (response) => {
      const headers: Record<string, string | string[]> = Object.create(null) as Record<string, string>;
      const { rawHeaders } = response;
      for (let index = 0; index + 1 < rawHeaders.length; index += 2) {
        const name = (rawHeaders[index] ?? "").toLowerCase();
        const value = rawHeaders[index + 1] ?? "";
        const known = headers[name];
        headers[name] = known === undefined ? value : [known, value].flat();
      }
      const connection = [headers["connection"] ?? []].flat().join(",").toLowerCase();
      resolve({
        status: response.statusCode ?? 0,
        headers,
        isKeptAlive: response.httpVersion === "1.1" && !/\bclose\b/.test(connection),
      });
      socket.destroy();
    });
    exchange.end();
    socket.push(bytes);
  });
}
