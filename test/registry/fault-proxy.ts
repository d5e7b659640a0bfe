// A proxy that misbehaves by plan, byte by byte, before a real registry or a real API server. HTTP/1.1; records what it was
// asked. Answers are written on the socket, not through an HTTP library. No upgrades (exec), no CONNECT: see forward-proxy.ts.

import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import {
  createServer as createHttpServer,
  request as httpRequest,
  type IncomingMessage,
  type Server,
} from "node:http";
import { createServer as createHttpsServer, request as httpsRequest } from "node:https";
import type { Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import type { TLSSocket } from "node:tls";
import { faultyBody } from "./body-faults.ts";
import { FaultPlan, type ChosenFault, type Fault, type FaultAction } from "./faults.ts";
import { contentLength, faultyHead, header, headBytes, pairs, type Head } from "./http-head.ts";
import { recordRequest, type Recorder, type RecordedRequest } from "./recorded-request.ts";
import { flush, listen, resetConnection } from "./sockets.ts";
import { makeServerCertificate } from "./test-certificates.ts";

export { startCanaryOrigin, type CanaryOrigin } from "./canary-origin.ts";
export type { Fault, FaultAction } from "./faults.ts";
export type { RecordedRequest } from "./recorded-request.ts";

export type FaultProxyOptions = {
  /** An http or https origin. */
  readonly target: string;
  readonly targetCaFile?: string;
  /** A client certificate for the target: the client's own cannot be passed on. */
  readonly targetClient?: { readonly certificateFile: string; readonly keyFile: string };
  readonly faults?: readonly Fault[];
  /** Serve TLS: with a certificate of an authority made for this proxy (`caFile`), or with the one given. */
  readonly tls?: boolean | { readonly keyFile: string; readonly certificateFile: string };
  /** Default 127.0.0.1; pods reach the address of their bridge. */
  readonly address?: string;
  /** Keep connections open after answers without a fault. Default: one exchange for each connection. */
  readonly keepAlive?: boolean;
  /** Stops the proxy. */
  readonly signal?: AbortSignal;
};

export type FaultProxy = {
  /** `address:port`, as references name it. */
  readonly host: string;
  readonly url: string;
  /** Where `tls` is true. */
  readonly caFile?: string;
  /** In the order of arrival; entries go on changing until their answers are through. */
  readonly requests: readonly RecordedRequest[];
  /** Replaces the plan; requests under way keep the fault they have. */
  setFaults(faults: readonly Fault[]): void;
  /** Planned faults that met too few requests or changed nothing: a test of them has tested nothing. */
  unmet(): readonly Fault[];
  stop(): Promise<void>;
};

type Exchange = {
  readonly incoming: IncomingMessage;
  readonly socket: Socket;
  readonly fault: ChosenFault | undefined;
  readonly recorder: Recorder;
  readonly keepAlive: boolean;
  /** Aborted when the client goes or the proxy stops. */
  readonly signal: AbortSignal;
};

/** Starts a proxy before `target`. Rejects when the address cannot be listened on. */
export async function startFaultProxy(options: FaultProxyOptions): Promise<FaultProxy> {
  const address = options.address ?? "127.0.0.1";
  const target = new URL(options.target);
  const targetTls = {
    ...(options.targetCaFile === undefined ? {} : { ca: readFileSync(options.targetCaFile) }),
    ...(options.targetClient === undefined
      ? {}
      : {
          cert: readFileSync(options.targetClient.certificateFile),
          key: readFileSync(options.targetClient.keyFile),
        }),
  };
  let plan = new FaultPlan(options.faults ?? []);
  const requests: RecordedRequest[] = [];
  const sockets = new Set<Socket>();
  const connectionOf = new WeakMap<Socket, { readonly number: number; readonly closed: AbortSignal }>();
  let connections = 0;

  const onRequest = (incoming: IncomingMessage): void => {
    const { socket, method = "GET", url: path = "/" } = incoming;
    const connection = connectionOf.get(socket);
    const recorder = recordRequest(incoming, connection?.number ?? 0);
    requests.push(recorder.record);
    const exchange: Exchange = {
      incoming,
      socket,
      fault: plan.choose(method, path),
      recorder,
      keepAlive: options.keepAlive === true,
      signal: connection?.closed ?? AbortSignal.abort(),
    };
    if (answerWithoutTarget(exchange)) return;
    forward(exchange, target, targetTls);
  };

  let directory: string | undefined;
  let caFile: string | undefined;
  let server: Server;
  const isTls = options.tls !== undefined && options.tls !== false;
  if (!isTls) server = createHttpServer(onRequest);
  else {
    let files = options.tls;
    if (files === true) {
      directory = mkdtempSync(join(tmpdir(), "ocimodel-proxy-"));
      files = await makeServerCertificate(directory, address);
      caFile = join(directory, "ca.crt");
    }
    server = createHttpsServer(
      { key: readFileSync(files.keyFile), cert: readFileSync(files.certificateFile) },
      onRequest,
    );
  }
  const onSocket = (socket: Socket): void => {
    const closed = new AbortController();
    connections += 1;
    connectionOf.set(socket, { number: connections, closed: closed.signal });
    sockets.add(socket);
    socket.on("error", () => undefined);
    socket.on("close", () => {
      sockets.delete(socket);
      closed.abort();
    });
  };
  if (isTls) {
    // A TLS server has two sockets for a connection; requests come on the second.
    server.on("connection", (socket: Socket) => {
      sockets.add(socket);
      socket.on("error", () => undefined);
      socket.on("close", () => sockets.delete(socket));
    });
    server.on("secureConnection", (socket: TLSSocket) => onSocket(socket));
  } else server.on("connection", onSocket);
  server.timeout = 0;
  server.keepAliveTimeout = 0;
  server.requestTimeout = 0;
  server.headersTimeout = 0;
  const port = await listen(server, address);
  let stopped: Promise<void> | undefined;
  const stop = async (): Promise<void> => {
    stopped ??= (async () => {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
      if (directory !== undefined) rmSync(directory, { recursive: true, force: true });
    })();
    await stopped;
  };
  options.signal?.addEventListener("abort", () => void stop(), { once: true });
  return {
    host: `${address}:${port}`,
    url: `${isTls ? "https" : "http"}://${address}:${port}`,
    ...(caFile === undefined ? {} : { caFile }),
    requests,
    setFaults: (faults) => {
      plan = new FaultPlan(faults);
    },
    unmet: () => plan.unmet(),
    stop,
  };
}

/** Answers by itself where the fault says so; false when the target is to be asked. */
function answerWithoutTarget({ incoming, socket, fault, recorder }: Exchange): boolean {
  if (fault === undefined) return false;
  const { action, tookEffect } = fault;
  const isStall = action.kind === "stall" && typeof action.afterBytes !== "number";
  const answer = ownAnswer(action, incoming.url ?? "/");
  if (!isStall && action.kind !== "refuse" && action.kind !== "raw" && answer === undefined) return false;
  tookEffect();
  incoming.resume();
  if (isStall) return true;
  if (action.kind === "refuse") {
    if (action.reset === true) resetConnection(socket);
    else socket.destroy();
    return true;
  }
  const finish = async (): Promise<void> => {
    if (action.kind === "raw") socket.write(Buffer.from(action.bytes as string));
    if (answer !== undefined) {
      const { status, headers, body } = answer;
      const hasBody = incoming.method !== "HEAD" && status !== 204 && status !== 304;
      recorder.setStatus(status);
      const length = status === 204 ? [] : [["content-length", String(body.length)] as const];
      const close = [["connection", "close"] as const];
      socket.write(headBytes({ status, text: "Planned", headers: [...headers, ...length, ...close] }));
      if (hasBody) {
        recorder.addSent(body.length);
        socket.write(body);
      }
    }
    const end = action.kind === "raw" ? (action.end ?? "finish") : "finish";
    if (end === "hang") return;
    // A connection that is closed with bytes of the request unread is reset, which would take the answer along.
    if (!incoming.complete) await new Promise((resolve) => incoming.once("close", resolve));
    await flush(socket);
    if (end === "reset") resetConnection(socket);
    else socket.end();
  };
  void finish();
  return true;
}

function ownAnswer(
  action: FaultAction,
  path: string,
):
  | {
      readonly status: number;
      readonly headers: readonly (readonly [string, string])[];
      readonly body: Buffer;
    }
  | undefined {
  if (action.kind === "status") {
    const body = Buffer.from((action.body ?? "") as string);
    return { status: action.status, headers: Object.entries(action.headers ?? {}), body };
  }
  const location =
    action.kind === "redirect"
      ? action.location
      : action.kind === "redirect-origin"
        ? `${action.origin}${path}`
        : undefined;
  if (location === undefined) return undefined;
  const status = (action as { readonly status?: number }).status ?? 307;
  return { status, headers: [["location", location]], body: Buffer.alloc(0) };
}

/** Asks the target and passes its answer on, with what the fault makes of it. */
function forward(exchange: Exchange, target: URL, targetTls: object): void {
  const { incoming, socket, fault, recorder, signal } = exchange;
  const isRangeIgnored = fault?.action.kind === "ignore-range";
  const headers: string[] = ["host", target.host];
  for (const [name, value] of pairs(incoming.rawHeaders)) {
    const lower = name.toLowerCase();
    if (lower === "host" || lower === "connection") continue;
    if (isRangeIgnored && lower === "range") fault.tookEffect();
    if (isRangeIgnored && (lower === "range" || lower === "if-range")) continue;
    headers.push(name, value);
  }
  const upstream = (target.protocol === "https:" ? httpsRequest : httpRequest)(
    {
      // Not a URL: that would tidy the path up, and what a client really asks is the point.
      host: target.hostname.replace(/^\[|\]$/g, ""),
      port: target.port === "" ? (target.protocol === "https:" ? 443 : 80) : target.port,
      path: incoming.url ?? "/",
      method: incoming.method ?? "GET",
      headers,
      agent: false,
      ...targetTls,
    },
    (answer) => {
      relay(exchange, answer).catch(() => {
        answer.destroy();
        socket.destroy();
      });
    },
  );
  upstream.on("error", (error) => {
    recorder.setTargetError(error);
    socket.destroy();
  });
  signal.addEventListener("abort", () => upstream.destroy(), { once: true });
  incoming.pipe(upstream);
}

async function relay(exchange: Exchange, answer: IncomingMessage): Promise<void> {
  const { incoming, socket, fault, recorder, signal } = exchange;
  const upstreamHead: Head = {
    status: answer.statusCode ?? 502,
    text: answer.statusMessage ?? "",
    headers: [...pairs(answer.rawHeaders)],
  };
  recorder.setStatus(upstreamHead.status);
  const hasBody = incoming.method !== "HEAD" && upstreamHead.status !== 204 && upstreamHead.status !== 304;
  const head = faultyHead(upstreamHead, fault, hasBody);
  const isChunked = hasBody && header(head, "transfer-encoding")?.toLowerCase() === "chunked";
  // Without faults a client may trust the framing, so the connection may stay.
  const keepsOpen =
    exchange.keepAlive &&
    fault === undefined &&
    (isChunked || !hasBody || contentLength(head) !== undefined) &&
    !/\bclose\b/i.test(incoming.headers.connection ?? "");
  if (fault?.action.kind === "delay") {
    await wait(fault.action.ms, undefined, { signal });
    fault.tookEffect();
  }
  socket.write(
    headBytes(keepsOpen ? head : { ...head, headers: [...head.headers, ["connection", "close"]] }),
  );
  let end: "finish" | "cut" | "reset" | "hang" = "finish";
  if (hasBody) {
    const body = faultyBody(answer as AsyncIterable<Uint8Array>, fault, signal);
    for await (const chunk of body.chunks) {
      if (socket.destroyed) return;
      if (chunk.length === 0) continue;
      recorder.addSent(chunk.length);
      socket.cork();
      if (isChunked) socket.write(`${chunk.length.toString(16)}\r\n`);
      let isDrained = socket.write(chunk);
      if (isChunked) isDrained = socket.write("\r\n");
      socket.uncork();
      if (!isDrained) await drained(socket, signal);
    }
    end = body.end();
    if (end === "finish" && isChunked) socket.write("0\r\n\r\n");
  } else {
    answer.resume();
  }
  if (end === "hang") return;
  if (end === "reset") {
    await flush(socket);
    resetConnection(socket);
  } else if (!keepsOpen || end === "cut") socket.end();
}

async function drained(socket: Socket, signal: AbortSignal): Promise<void> {
  await new Promise<void>((resolve) => {
    if (signal.aborted) resolve();
    socket.once("drain", resolve);
    signal.addEventListener("abort", () => resolve(), { once: true });
  });
}
