// A token server as docker-registry 2.8 wants it: RS256 JWTs whose certificate travels in the header. Counts what it is asked.

import { createHash, createPrivateKey, randomBytes, sign } from "node:crypto";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { runCommand } from "../cluster/run-command.ts";

export type TokenServer = {
  readonly url: string;
  /** PEM certificate that the registry trusts. */
  readonly certificateFile: string;
  /** Requests by what they asked and how it ended. */
  readonly log: readonly {
    readonly path: string;
    readonly authorization: string | undefined;
    readonly status: number;
  }[];
  stop(): Promise<void>;
};

function base64url(value: string | Buffer): string {
  return Buffer.from(value).toString("base64url");
}

/** Starts on 127.0.0.1. Tokens are given for whatever scope is asked, to the one user only. */
export async function startTokenServer(options: {
  readonly directory: string;
  readonly username: string;
  readonly password: string;
  readonly lifetimeSeconds: number;
}): Promise<TokenServer> {
  const key = join(options.directory, "token.key");
  const certificate = join(options.directory, "token.crt");
  await runCommand("openssl", [
    "req",
    "-x509",
    "-newkey",
    "rsa:2048",
    "-nodes",
    "-subj",
    "/CN=token",
    "-days",
    "3650",
    "-keyout",
    key,
    "-out",
    certificate,
  ]);
  const privateKey = createPrivateKey(readFileSync(key));
  const der = readFileSync(certificate, "utf8").replaceAll(/-----[A-Z ]+-----|\s/g, "");
  const expected = `Basic ${Buffer.from(`${options.username}:${options.password}`).toString("base64")}`;
  const log: { path: string; authorization: string | undefined; status: number }[] = [];
  const server = createServer((request, response) => {
    const url = new URL(request.url ?? "/", "http://token");
    const { authorization } = request.headers;
    if (authorization !== expected) {
      log.push({ path: url.pathname + url.search, authorization, status: 401 });
      response.writeHead(401).end();
      return;
    }
    const nowSeconds = Math.floor(Date.now() / 1000);
    const access = url.searchParams.getAll("scope").map((scope) => {
      const [type = "", ...rest] = scope.split(":");
      const actions = rest.pop() ?? "";
      return { type, name: rest.join(":"), actions: actions.split(",") };
    });
    const header = base64url(JSON.stringify({ typ: "JWT", alg: "RS256", x5c: [der] }));
    const claims = base64url(
      JSON.stringify({
        iss: "test-issuer",
        sub: options.username,
        aud: "test-registry",
        exp: nowSeconds + options.lifetimeSeconds,
        nbf: nowSeconds - 10,
        iat: nowSeconds,
        jti: createHash("sha256").update(randomBytes(8)).digest("hex"),
        access,
      }),
    );
    const signature = base64url(sign("sha256", Buffer.from(`${header}.${claims}`), privateKey));
    log.push({ path: url.pathname + url.search, authorization, status: 200 });
    const body = JSON.stringify({
      token: `${header}.${claims}.${signature}`,
      expires_in: options.lifetimeSeconds,
    });
    response
      .writeHead(200, { "content-type": "application/json", "content-length": Buffer.byteLength(body) })
      .end(body);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}`,
    certificateFile: certificate,
    log,
    stop: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
