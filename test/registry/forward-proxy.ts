// A forward proxy (HTTP_PROXY, HTTPS_PROXY) that records what it is asked: CONNECT tunnels and absolute-form requests, with or
// without a password, or refusing in several ways. What goes through a tunnel is passed on untouched and only counted.

import { createServer, request as httpRequest, type IncomingMessage } from "node:http";
import { connect, type Socket } from "node:net";
import { listen } from "./sockets.ts";

export type ForwardProxyOptions = {
  /** `user:password` that it wants; others get 407. */
  readonly credentials?: string;
  /** Every request ends so: refused with a status, or the connection dropped. */
  readonly refuse?: { readonly status: number } | "drop";
  /** Tunnels are closed after so many bytes from the target. */
  readonly cutTunnelAfterBytes?: number;
  /** Where a `host:port` leads in truth, for names that nobody resolves here. */
  readonly routes?: Readonly<Record<string, string>>;
};

export type ForwardProxy = {
  readonly url: string;
  readonly host: string;
  readonly requests: readonly {
    readonly method: string;
    /** `host:port` of a CONNECT, else the absolute URL. */
    readonly target: string;
    /** Name, value, name, value… as they came. */
    readonly rawHeaders: readonly string[];
    readonly proxyAuthorization: string | undefined;
    readonly status: number;
  }[];
  stop(): Promise<void>;
};

/** Starts on 127.0.0.1. */
export async function startForwardProxy(options: ForwardProxyOptions = {}): Promise<ForwardProxy> {
  const requests: {
    method: string;
    target: string;
    rawHeaders: readonly string[];
    proxyAuthorization: string | undefined;
    status: number;
  }[] = [];
  const sockets = new Set<Socket>();
  const expected =
    options.credentials === undefined
      ? undefined
      : `Basic ${Buffer.from(options.credentials).toString("base64")}`;
  const keep = (socket: Socket): void => {
    sockets.add(socket);
    socket.on("error", () => undefined);
    socket.on("close", () => sockets.delete(socket));
  };
  /** Records, and decides: undefined lets the request through. */
  const verdict = (incoming: IncomingMessage): number | "drop" | undefined => {
    const proxyAuthorization = incoming.headers["proxy-authorization"];
    const isKnown = expected === undefined || proxyAuthorization === expected;
    const refused = options.refuse === "drop" ? "drop" : options.refuse?.status;
    const result = refused ?? (isKnown ? undefined : 407);
    requests.push({
      method: incoming.method ?? "",
      target: incoming.url ?? "",
      rawHeaders: incoming.rawHeaders,
      proxyAuthorization,
      status: result === undefined ? 200 : result === "drop" ? 0 : result,
    });
    return result;
  };
  const refusal = (status: number): string =>
    `HTTP/1.1 ${status} Planned\r\n${status === 407 ? 'proxy-authenticate: Basic realm="proxy"\r\n' : ""}content-length: 0\r\nconnection: close\r\n\r\n`;

  const server = createServer((incoming, response) => {
    const refused = verdict(incoming);
    if (refused === "drop") {
      incoming.socket.destroy();
      return;
    }
    if (refused !== undefined) {
      incoming.resume();
      incoming.socket.end(refusal(refused));
      return;
    }
    const headers = { ...incoming.headers };
    delete headers["proxy-authorization"];
    delete headers["proxy-connection"];
    const url = new URL(incoming.url ?? "");
    url.host = options.routes?.[url.host] ?? url.host;
    const upstream = httpRequest(
      url,
      { method: incoming.method ?? "GET", headers, agent: false },
      (answer) => {
        response.writeHead(answer.statusCode ?? 502, answer.rawHeaders);
        answer.pipe(response);
      },
    );
    upstream.on("error", () => response.destroy());
    incoming.pipe(upstream);
  });
  server.on("connection", keep);
  server.on("connect", (incoming: IncomingMessage, client: Socket, first: Buffer) => {
    const refused = verdict(incoming);
    if (refused !== undefined) {
      if (refused === "drop") client.destroy();
      else client.end(refusal(refused));
      return;
    }
    const asked = incoming.url ?? "";
    const { hostname, port } = new URL(`http://${options.routes?.[asked] ?? asked}`);
    const target = connect(Number(port === "" ? 80 : port), hostname.replaceAll(/[[\]]/g, ""), () => {
      client.write("HTTP/1.1 200 Connection established\r\n\r\n");
      target.write(first);
      client.pipe(target);
      target.pipe(client);
    });
    keep(target);
    target.on("error", () => client.destroy());
    target.on("close", () => client.destroy());
    client.on("close", () => target.destroy());
    let received = 0;
    target.on("data", (chunk: Buffer) => {
      received += chunk.length;
      if (received >= (options.cutTunnelAfterBytes ?? Infinity)) client.destroy();
    });
  });
  const port = await listen(server, "127.0.0.1");
  return {
    url: `http://127.0.0.1:${port}`,
    host: `127.0.0.1:${port}`,
    requests,
    stop: async () => {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
