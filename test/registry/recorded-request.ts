// What test servers record of a request: everything a credential could hide in. Bodies up to 1 MiB.

import type { IncomingMessage } from "node:http";

export type RecordedRequest = {
  readonly method: string;
  readonly path: string;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  /** Name, value, name, value… as they came. */
  readonly rawHeaders: readonly string[];
  /** Number of the connection, from 1: two requests of one number share it. */
  readonly connection: number;
  /** Bytes of the answer's body that were sent back, without framing. */
  readonly sentBytes: number;
  /** Status of the answer; 0 as long as there is none. */
  readonly status: number;
  /** Why the target gave no answer. */
  readonly targetError?: string;
  /** The body of the request as far as it came. */
  body(): Buffer;
};

export type Recorder = {
  readonly record: RecordedRequest;
  addSent(bytes: number): void;
  setStatus(status: number): void;
  setTargetError(error: Error): void;
};

const maxRecordedBodyBytes = 1024 * 1024;

/** Starts recording a request, body included. */
export function recordRequest(incoming: IncomingMessage, connection: number): Recorder {
  const body: Buffer[] = [];
  let bodyBytes = 0;
  const counts: { sentBytes: number; status: number; targetError?: string } = { sentBytes: 0, status: 0 };
  const record = Object.assign(counts, {
    method: incoming.method ?? "GET",
    path: incoming.url ?? "/",
    headers: incoming.headers,
    rawHeaders: incoming.rawHeaders,
    connection,
    body: () => Buffer.concat(body),
  });
  // Paused until somebody reads: a listener of "data" alone would make the body flow away.
  const push = incoming.push.bind(incoming);
  incoming.push = (chunk: Buffer | null, encoding?: BufferEncoding) => {
    if (chunk !== null && bodyBytes < maxRecordedBodyBytes) {
      body.push(Buffer.from(chunk));
      bodyBytes += chunk.length;
    }
    return push(chunk, encoding);
  };
  return {
    record,
    addSent: (bytes) => {
      counts.sentBytes += bytes;
    },
    setStatus: (status) => {
      counts.status = status;
    },
    setTargetError: (error) => {
      counts.targetError = error.message;
    },
  };
}
