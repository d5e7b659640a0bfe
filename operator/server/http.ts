// The operator's HTTP ports: metrics, liveness, readiness. Answers from what it is given; decides nothing.

import { createServer, type Server } from "node:http";

export type Health = { readonly isHealthy: boolean; readonly reason: string };

export type Routes = {
  readonly metrics?: () => Promise<{ readonly contentType: string; readonly text: string }>;
  readonly healthz?: () => Health;
  readonly readyz?: () => Health;
};

/** Listens at `host:port`; port 0 takes a free one. */
export async function serve(
  address: string,
  routes: Routes,
): Promise<{ readonly server: Server; readonly port: number }> {
  const colon = address.lastIndexOf(":");
  const host = address.slice(0, colon).replace(/^\[|\]$/g, "");
  const port = Number(address.slice(colon + 1));
  if (colon === -1 || !Number.isInteger(port) || port < 0 || port > 65535) {
    throw new Error(`${JSON.stringify(address)} is not HOST:PORT`);
  }
  const server = createServer((request, response) => {
    const path = request.url?.split("?")[0];
    const health =
      path === "/healthz" ? routes.healthz?.() : path === "/readyz" ? routes.readyz?.() : undefined;
    if (request.method !== "GET") {
      response.writeHead(405).end();
    } else if (health !== undefined) {
      response
        .writeHead(health.isHealthy ? 200 : 503, { "content-type": "text/plain" })
        .end(`${health.reason}\n`);
    } else if (path === "/metrics" && routes.metrics !== undefined) {
      routes.metrics().then(
        ({ contentType, text }) => response.writeHead(200, { "content-type": contentType }).end(text),
        () => response.writeHead(500).end(),
      );
    } else {
      response.writeHead(404).end();
    }
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, host, resolve);
  });
  const bound = server.address();
  return { server, port: typeof bound === "object" && bound !== null ? bound.port : port };
}
