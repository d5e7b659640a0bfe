// A proxy that misbehaves by plan, byte by byte, before a real registry or a real API server. HTTP/1.1; records what it was asked.

import { readFileSync } from "node:fs";
import {
  createServer as createHttpServer,
  request as httpRequest,
  type IncomingMessage,
  type Server,
} from "node:http";
import { createServer as createHttpsServer, request as httpsRequest } from "node:https";
import type { AddressInfo, Socket } from "node:net";

/** What goes wrong. Offsets count bytes of the body. */
export type FaultAction =
  | { readonly kind: "cut"; readonly afterBytes: number; /** RST instead of FIN. */ readonly reset?: boolean }
  | { readonly kind: "corrupt"; readonly atByte: number }
  | { readonly kind: "delay"; readonly ms: number }
  /** Nothing more comes; without `afterBytes` not even the head. */
  | { readonly kind: "stall"; readonly afterBytes?: number }
  | { readonly kind: "drip"; readonly bytesPerSecond: number }
  | {
      readonly kind: "status";
      readonly status: number;
      readonly headers?: Readonly<Record<string, string>>;
      readonly body?: string;
    }
  | { readonly kind: "redirect"; readonly location: string; readonly status?: number }
  | { readonly kind: "ignore-range" }
  | { readonly kind: "content-range"; readonly value: string | "missing" }
  | { readonly kind: "content-length"; readonly delta: number | "missing" }
  | { readonly kind: "append-bytes"; readonly count: number }
  | { readonly kind: "replace-body"; readonly body: string | Uint8Array }
  | { readonly kind: "refuse" }
  | { readonly kind: "header"; readonly name: string; readonly value?: string }
  /** A line put into a stream of lines, e.g. a watch. */
  | { readonly kind: "inject-line"; readonly afterLines: number; readonly line: string }
  | { readonly kind: "close-after-lines"; readonly lines: number };

export type Fault = {
  readonly when: {
    readonly method?: string;
    readonly path: RegExp;
    /** Matching requests that are left alone first. */
    readonly skip?: number;
    /** Requests it happens to; default 1. */
    readonly times?: number;
  };
  readonly do: FaultAction;
};

export type RecordedRequest = {
  readonly method: string;
  readonly path: string;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  /** Bytes of the body that were sent back. */
  sentBytes: number;
  status: number;
};

export type FaultProxy = {
  readonly host: string;
  readonly url: string;
  readonly requests: readonly RecordedRequest[];
  setFaults(faults: readonly Fault[]): void;
  /** Planned faults that did not happen as often as planned: a test of them has tested nothing. */
  unmet(): readonly Fault[];
  stop(): Promise<void>;
};

type Plan = { readonly fault: Fault; seen: number; done: number };

/** Changes of a body on its way. `undefined` from `next` ends the connection. */
type Body = { readonly chunks: AsyncIterable<Uint8Array>; readonly end: "finish" | "cut" | "reset" | "hang" };

/** Starts a proxy on 127.0.0.1 before `target` (an http or https origin). */
export async function startFaultProxy(options: {
  readonly target: string;
  readonly targetCaFile?: string;
  readonly faults?: readonly Fault[];
  /** Serve TLS with this key and certificate. */
  readonly tls?: { readonly keyFile: string; readonly certificateFile: string };
}): Promise<FaultProxy> {
  const target = new URL(options.target);
  const ca = options.targetCaFile === undefined ? undefined : readFileSync(options.targetCaFile);
  let plans: Plan[] = (options.faults ?? []).map((fault) => ({ fault, seen: 0, done: 0 }));
  const requests: RecordedRequest[] = [];
  const sockets = new Set<Socket>();

  const choose = (method: string, path: string): FaultAction | undefined => {
    for (const plan of plans) {
      const { when } = plan.fault;
      if (when.method !== undefined && when.method !== method) continue;
      if (!when.path.test(path)) continue;
      plan.seen += 1;
      if (plan.seen <= (when.skip ?? 0) || plan.done >= (when.times ?? 1)) continue;
      plan.done += 1;
      return plan.fault.do;
    }
    return undefined;
  };

  const handle = (incoming: IncomingMessage, socket: Socket): void => {
    const path = incoming.url ?? "/";
    const method = incoming.method ?? "GET";
    const record: RecordedRequest = { method, path, headers: incoming.headers, sentBytes: 0, status: 0 };
    requests.push(record);
    const action = choose(method, path);
    const ownAnswer = answerOf(action);
    if (action?.kind === "refuse") {
      socket.destroy();
      return;
    }
    if (action?.kind === "stall" && action.afterBytes === undefined) return;
    if (ownAnswer !== undefined) {
      record.status = ownAnswer.status;
      incoming.resume();
      writeHead(socket, ownAnswer.status, {
        ...ownAnswer.headers,
        "content-length": String(ownAnswer.body.length),
      });
      socket.write(ownAnswer.body);
      return;
    }
    const headers: Record<string, string | string[] | undefined> = { ...incoming.headers, host: target.host };
    if (action?.kind === "ignore-range") {
      delete headers["range"];
      delete headers["if-range"];
    }
    const upstream = (target.protocol === "https:" ? httpsRequest : httpRequest)(
      new URL(path, target),
      { method, headers, ...(ca === undefined ? {} : { ca }), agent: false },
      (answer) => {
        void relay(answer, socket, action, record);
      },
    );
    upstream.on("error", () => socket.destroy());
    socket.on("close", () => upstream.destroy());
    incoming.pipe(upstream);
  };

  const listener = (incoming: IncomingMessage): void => {
    handle(incoming, incoming.socket);
  };
  const server: Server =
    options.tls === undefined
      ? createHttpServer(listener)
      : createHttpsServer(
          { key: readFileSync(options.tls.keyFile), cert: readFileSync(options.tls.certificateFile) },
          listener,
        );
  server.on("connection", (socket: Socket) => {
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
    socket.on("error", () => undefined);
  });
  server.timeout = 0;
  server.keepAliveTimeout = 0;
  server.requestTimeout = 0;
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  return {
    host: `127.0.0.1:${port}`,
    url: `${options.tls === undefined ? "http" : "https"}://127.0.0.1:${port}`,
    requests,
    setFaults: (faults) => {
      plans = faults.map((fault) => ({ fault, seen: 0, done: 0 }));
    },
    unmet: () => plans.filter(({ fault, done }) => done < (fault.when.times ?? 1)).map(({ fault }) => fault),
    stop: async () => {
      for (const socket of sockets) socket.destroy();
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/** The answer that a fault gives without asking the target; undefined when the target is asked. */
function answerOf(
  action: FaultAction | undefined,
):
  | { readonly status: number; readonly headers: Readonly<Record<string, string>>; readonly body: Buffer }
  | undefined {
  if (action?.kind === "status") {
    return { status: action.status, headers: action.headers ?? {}, body: Buffer.from(action.body ?? "") };
  }
  if (action?.kind === "redirect") {
    return { status: action.status ?? 307, headers: { location: action.location }, body: Buffer.alloc(0) };
  }
  return undefined;
}

function writeHead(
  socket: Socket,
  status: number,
  headers: Readonly<Record<string, string | string[] | undefined>>,
): void {
  const lines = Object.entries(headers).flatMap(([name, value]) =>
    value === undefined ? [] : (Array.isArray(value) ? value : [value]).map((each) => `${name}: ${each}\r\n`),
  );
  // One exchange per connection: what comes after a fault is always a new one.
  socket.write(`HTTP/1.1 ${status} Planned\r\n${lines.join("")}connection: close\r\n\r\n`);
}

async function relay(
  answer: IncomingMessage,
  socket: Socket,
  action: FaultAction | undefined,
  record: RecordedRequest,
): Promise<void> {
  record.status = answer.statusCode ?? 0;
  const headers: Record<string, string | string[] | undefined> = { ...answer.headers };
  const isChunked = headers["transfer-encoding"] !== undefined;
  delete headers["connection"];
  delete headers["keep-alive"];
  delete headers["transfer-encoding"];
  // The body of a chunked answer is ended by the end of the connection.
  if (isChunked) delete headers["content-length"];
  const length = Number(headers["content-length"] ?? 0);
  if (action?.kind === "content-range") {
    headers["content-range"] = action.value === "missing" ? undefined : action.value;
  }
  if (action?.kind === "content-length") {
    headers["content-length"] = action.delta === "missing" ? undefined : String(length + action.delta);
  }
  if (action?.kind === "append-bytes") headers["content-length"] = String(length + action.count);
  if (action?.kind === "replace-body") headers["content-length"] = String(Buffer.from(action.body).length);
  if (action?.kind === "header") headers[action.name.toLowerCase()] = action.value;
  if (action?.kind === "delay") await new Promise((resolve) => setTimeout(resolve, action.ms));
  writeHead(socket, answer.statusCode ?? 502, headers);
  const { chunks, end } = bodyOf(answer, action);
  try {
    for await (const chunk of chunks) {
      if (socket.destroyed) return;
      record.sentBytes += chunk.length;
      if (!socket.write(chunk))
        await new Promise((resolve) => socket.once("drain", resolve).once("close", resolve));
    }
  } catch {
    socket.destroy();
    return;
  }
  if (end === "reset") socket.resetAndDestroy();
  else if (end !== "hang") socket.end();
}

function bodyOf(answer: IncomingMessage, action: FaultAction | undefined): Body {
  const source = answer as AsyncIterable<Uint8Array>;
  switch (action?.kind) {
    case "cut":
      return { chunks: first(source, action.afterBytes), end: action.reset === true ? "reset" : "cut" };
    case "stall":
      return { chunks: first(source, action.afterBytes ?? 0), end: "hang" };
    case "corrupt":
      return { chunks: corrupted(source, action.atByte), end: "finish" };
    case "drip":
      return { chunks: dripped(source, action.bytesPerSecond), end: "finish" };
    case "append-bytes":
      return { chunks: appended(source, Buffer.alloc(action.count, 0x78)), end: "finish" };
    case "replace-body":
      return { chunks: replaced(source, Buffer.from(action.body)), end: "finish" };
    case "inject-line":
      return { chunks: injected(source, action.afterLines, action.line), end: "finish" };
    case "close-after-lines":
      return { chunks: firstLines(source, action.lines), end: "cut" };
    default:
      return { chunks: source, end: "finish" };
  }
}

async function* first(source: AsyncIterable<Uint8Array>, bytes: number): AsyncGenerator<Uint8Array> {
  let left = bytes;
  if (left === 0) return;
  for await (const chunk of source) {
    yield chunk.subarray(0, left);
    left -= chunk.length;
    if (left <= 0) return;
  }
}

async function* corrupted(source: AsyncIterable<Uint8Array>, atByte: number): AsyncGenerator<Uint8Array> {
  let position = 0;
  for await (const chunk of source) {
    const index = atByte - position;
    const copy = Buffer.from(chunk);
    if (index >= 0 && index < copy.length) copy[index] = (copy[index] ?? 0) ^ 0xff;
    position += chunk.length;
    yield copy;
  }
}

async function* dripped(
  source: AsyncIterable<Uint8Array>,
  bytesPerSecond: number,
): AsyncGenerator<Uint8Array> {
  const step = Math.max(1, Math.floor(bytesPerSecond / 10));
  for await (const chunk of source) {
    for (let start = 0; start < chunk.length; start += step) {
      yield chunk.subarray(start, start + step);
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }
}

async function* appended(source: AsyncIterable<Uint8Array>, more: Uint8Array): AsyncGenerator<Uint8Array> {
  yield* source;
  yield more;
}

async function* replaced(source: AsyncIterable<Uint8Array>, body: Uint8Array): AsyncGenerator<Uint8Array> {
  for await (const _chunk of source) continue;
  yield body;
}

async function* lines(source: AsyncIterable<Uint8Array>): AsyncGenerator<string> {
  let pending = "";
  for await (const chunk of source) {
    pending += Buffer.from(chunk).toString("latin1");
    for (let end = pending.indexOf("\n"); end !== -1; end = pending.indexOf("\n")) {
      yield pending.slice(0, end + 1);
      pending = pending.slice(end + 1);
    }
  }
  if (pending !== "") yield pending;
}

async function* injected(
  source: AsyncIterable<Uint8Array>,
  afterLines: number,
  line: string,
): AsyncGenerator<Uint8Array> {
  let count = 0;
  if (afterLines === 0) yield Buffer.from(`${line}\n`);
  for await (const each of lines(source)) {
    yield Buffer.from(each, "latin1");
    count += 1;
    if (count === afterLines) yield Buffer.from(`${line}\n`);
  }
}

async function* firstLines(source: AsyncIterable<Uint8Array>, count: number): AsyncGenerator<Uint8Array> {
  let left = count;
  for await (const each of lines(source)) {
    if (left === 0) return;
    left -= 1;
    yield Buffer.from(each, "latin1");
    if (left === 0) return;
  }
}

/** A second origin: records every request with all its headers, and answers what it is told. */
export async function startCanaryOrigin(
  answer: {
    readonly status?: number;
    readonly headers?: Readonly<Record<string, string>>;
    readonly body?: Uint8Array;
  } = {},
): Promise<{
  readonly url: string;
  readonly host: string;
  readonly requests: readonly RecordedRequest[];
  stop(): Promise<void>;
}> {
  const requests: RecordedRequest[] = [];
  const server = createHttpServer((incoming, response) => {
    const status = answer.status ?? 200;
    const body = answer.body ?? new Uint8Array();
    requests.push({
      method: incoming.method ?? "",
      path: incoming.url ?? "",
      headers: incoming.headers,
      sentBytes: body.length,
      status,
    });
    response.writeHead(status, answer.headers ?? {}).end(body);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}`,
    host: `127.0.0.1:${port}`,
    requests,
    stop: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
