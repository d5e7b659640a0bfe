// A token server as docker-registry 2.8 wants it: RS256 JWTs whose certificate travels in the header. Checks credentials and
// scopes, knows anonymous pulls and refresh tokens, and records what it is asked. Faults come from a proxy before it.

import { createPrivateKey, randomBytes, sign } from "node:crypto";
import { readFileSync } from "node:fs";
import { createServer, type IncomingMessage } from "node:http";
import { join } from "node:path";
import { runCommand } from "../cluster/run-command.ts";
import { listen } from "./sockets.ts";

export type TokenServerOptions = {
  readonly username: string;
  readonly password: string;
  /** A refresh token as `docker login` files it under `identitytoken`. */
  readonly identityToken: string;
  /** How long the registry takes a token, in seconds. */
  readonly lifetimeSeconds?: number;
  /** What `expires_in` says of it, seconds; null: nothing. Default: the truth. */
  readonly statedLifetimeSeconds?: number | null;
  /** Repositories that may be pulled without credentials. */
  readonly anonymousPull?: readonly string[];
  /** Repositories that the user may use; default all. Others are left out of the token, as the protocol has it. */
  readonly repositories?: readonly string[];
};

export type TokenServer = {
  readonly url: string;
  /** PEM certificate that the registry trusts. */
  readonly certificateFile: string;
  /** Requests by what they asked and how it ended. */
  readonly log: readonly {
    readonly method: string;
    readonly path: string;
    readonly authorization: string | undefined;
    /** The form of a POST. */
    readonly body: string;
    readonly status: number;
  }[];
  stop(): Promise<void>;
};

/** docker-registry 2.8 takes a token so long after its end, for clocks that differ. */
const leewaySeconds = 60;

type Access = { readonly type: string; readonly name: string; readonly actions: readonly string[] };

/** `repository:name:pull,push`, several parted by spaces; a name may hold colons (a port). */
function parseScopes(scopes: readonly string[]): readonly Access[] {
  return scopes
    .flatMap((scope) => scope.split(" "))
    .filter((scope) => scope !== "")
    .map((scope) => {
      const [type = "", ...rest] = scope.split(":");
      const actions = rest.pop() ?? "";
      return { type, name: rest.join(":"), actions: actions.split(",") };
    });
}

async function readText(incoming: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of incoming as AsyncIterable<Buffer>) chunks.push(chunk);
  return Buffer.concat(chunks).toString("utf8");
}

/** Starts on 127.0.0.1; its key and certificate go into `directory`. */
export async function startTokenServer(directory: string, options: TokenServerOptions): Promise<TokenServer> {
  const key = join(directory, "token.key");
  const certificate = join(directory, "token.crt");
  const subject = ["-subj", "/CN=token", "-days", "3650"];
  const outputs = ["-keyout", key, "-out", certificate];
  await runCommand("openssl", ["req", "-x509", "-newkey", "rsa:2048", "-nodes", ...subject, ...outputs]);
  const privateKey = createPrivateKey(readFileSync(key));
  const der = readFileSync(certificate, "utf8").replaceAll(/-----[A-Z ]+-----|\s/g, "");
  const lifetimeSeconds = options.lifetimeSeconds ?? 300;
  const basic = `Basic ${Buffer.from(`${options.username}:${options.password}`).toString("base64")}`;
  const log: {
    method: string;
    path: string;
    authorization: string | undefined;
    body: string;
    status: number;
  }[] = [];

  /** Who asks: the user, nobody in particular, or somebody with wrong credentials. */
  const identify = (
    authorization: string | undefined,
    form: URLSearchParams,
  ): "user" | "anonymous" | undefined => {
    const refreshToken = form.get("refresh_token");
    if (refreshToken !== null) return refreshToken === options.identityToken ? "user" : undefined;
    if (authorization !== undefined) return authorization === basic ? "user" : undefined;
    return options.anonymousPull === undefined ? undefined : "anonymous";
  };
  const granted = (who: "user" | "anonymous", access: Access): readonly string[] => {
    if (access.type !== "repository") return who === "user" ? access.actions : [];
    const isOpen = options.anonymousPull?.includes(access.name) === true;
    if (who === "user" && options.repositories?.includes(access.name) !== false) return access.actions;
    return isOpen ? access.actions.filter((action) => action === "pull") : [];
  };
  const tokenFor = (subjectName: string, access: readonly Access[]): string => {
    const nowSeconds = Math.floor(Date.now() / 1000);
    const encode = (value: object): string => Buffer.from(JSON.stringify(value)).toString("base64url");
    const header = encode({ typ: "JWT", alg: "RS256", x5c: [der] });
    const claims = encode({
      iss: "test-issuer",
      sub: subjectName,
      aud: "test-registry",
      // The leeway is taken off, so that the lifetime is what the registry really allows.
      exp: nowSeconds + lifetimeSeconds - leewaySeconds,
      nbf: nowSeconds - 10,
      iat: nowSeconds,
      jti: randomBytes(16).toString("hex"),
      access,
    });
    const signature = sign("sha256", Buffer.from(`${header}.${claims}`), privateKey).toString("base64url");
    return `${header}.${claims}.${signature}`;
  };

  const server = createServer((incoming, response) => {
    void readText(incoming)
      .then((body) => {
        const url = new URL(incoming.url ?? "/", "http://token");
        const { authorization } = incoming.headers;
        const form = incoming.method === "POST" ? new URLSearchParams(body) : url.searchParams;
        const who = identify(authorization, form);
        const isRightService = form.get("service") === "test-registry";
        const status = who === undefined ? 401 : isRightService ? 200 : 400;
        log.push({
          method: incoming.method ?? "",
          path: url.pathname + url.search,
          authorization,
          body,
          status,
        });
        if (who === undefined || status !== 200) {
          response.writeHead(status).end();
          return;
        }
        const access = parseScopes(form.getAll("scope"))
          .map((each) => ({ ...each, actions: granted(who, each) }))
          .filter(({ actions }) => actions.length > 0);
        const token = tokenFor(who === "user" ? options.username : "", access);
        const stated =
          options.statedLifetimeSeconds === undefined ? lifetimeSeconds : options.statedLifetimeSeconds;
        const answer = Buffer.from(
          JSON.stringify({
            [incoming.method === "POST" ? "access_token" : "token"]: token,
            ...(stated === null ? {} : { expires_in: stated }),
          }),
        );
        response
          .writeHead(200, { "content-type": "application/json", "content-length": answer.length })
          .end(answer);
      })
      .catch(() => response.destroy());
  });
  const port = await listen(server, "127.0.0.1");
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
