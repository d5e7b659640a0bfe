// A real docker-registry for suites and the demo: open, with htpasswd or tokens, with or without TLS. Debian's package.

import { randomBytes } from "node:crypto";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { signCertificate } from "../cluster/certificates.ts";
import { ensurePackages, findProgram } from "../cluster/packages.ts";
import { runCommand, startServer, waitFor, type Server } from "../cluster/run-command.ts";
import { makeAuthority } from "./test-certificates.ts";
import { startTokenServer, type TokenServer, type TokenServerOptions } from "./token-server.ts";

export { makeAuthority } from "./test-certificates.ts";

export type RegistryOptions = {
  readonly authentication?: "none" | "htpasswd" | "token";
  readonly tls?: boolean;
  /** Names of its certificate besides its address and localhost. */
  readonly names?: readonly string[];
  /** A network namespace to run in, at its address. */
  readonly namespace?: { readonly execPrefix: readonly string[]; readonly address: string };
  /** Goes on after this process ends. */
  readonly detached?: boolean;
  /** Parent of its folder; default the system's temporary one. */
  readonly directory?: string;
  /** Address of the token server that the registry tells clients, e.g. that of a proxy before it. */
  readonly realm?: (tokenServerUrl: string) => Promise<string>;
  /** How long the registry takes a token, seconds; default 300. */
  readonly tokenLifetimeSeconds?: number;
  /** What else the token server does. */
  readonly token?: Pick<TokenServerOptions, "statedLifetimeSeconds" | "anonymousPull" | "repositories">;
  /** Stops the registry. */
  readonly signal?: AbortSignal;
};

/** A line of the registry's access log; `bytes` are those of the answer's body. */
export type LoggedRequest = {
  readonly method: string;
  readonly path: string;
  readonly status: number;
  readonly bytes: number;
};

export type TestRegistry = {
  /** `address:port`, as references name it. */
  readonly host: string;
  readonly url: string;
  readonly caFile?: string;
  /** Unique for each start: a canary that must be seen nowhere else. */
  readonly username?: string;
  readonly password?: string;
  readonly tokenServer?: TokenServer;
  /** With tokens: what a client may file as `identitytoken` in place of user and password. A canary too. */
  readonly identityToken?: string;
  /** A dockerconfigjson with the credentials; for another host where one is named, e.g. that of a proxy before it. */
  dockerConfig(options?: { readonly host?: string; readonly identityToken?: boolean }): string;
  /** Requests that the registry logged. It logs after the answer: the last ones may come a moment later. */
  requests(): readonly LoggedRequest[];
  stop(): Promise<void>;
};

/** Why a registry cannot be started here; undefined when it can. */
export function registryUnavailable(): string | undefined {
  if (process.platform !== "linux") return `docker-registry is started on Linux, this is ${process.platform}`;
  if (findProgram("docker-registry") !== undefined) return undefined;
  if (process.getuid?.() !== 0 || !existsSync("/etc/debian_version")) {
    return "docker-registry is missing, and only root on Debian or Ubuntu can install it";
  }
  return undefined;
}

/** Starts a registry and waits until it answers. It dies with this process. */
export async function startRegistry(options: RegistryOptions = {}): Promise<TestRegistry> {
  await ensurePackages(
    ["docker-registry", "apache2-utils", "openssl"],
    ["docker-registry", "htpasswd", "openssl"],
  );
  const directory = mkdtempSync(join(options.directory ?? tmpdir(), "ocimodel-registry-"));
  const file = (name: string): string => join(directory, name);
  mkdirSync(file("storage"));
  const address = options.namespace?.address ?? "127.0.0.1";
  const isTls = options.tls === true;
  const username = `user-${randomBytes(6).toString("hex")}`;
  const password = `canary-${randomBytes(12).toString("hex")}`;
  const identityToken = `canary-identity-${randomBytes(12).toString("hex")}`;
  if (isTls) {
    await makeAuthority(directory);
    await signCertificate(directory, "registry", "/CN=registry", [
      `subjectAltName=${[`IP:${address}`, ...["localhost", ...(options.names ?? [])].map((name) => `DNS:${name}`)].join(",")}`,
    ]);
  }
  const authentication = options.authentication ?? "none";
  let auth: object = {};
  let tokenServer: TokenServer | undefined;
  if (authentication === "htpasswd") {
    // By standard input: an argument would show the canary to whoever lists processes.
    const { stdout } = await runCommand("htpasswd", ["-Bin", username], { input: `${password}\n` });
    writeFileSync(file("htpasswd"), stdout);
    auth = { auth: { htpasswd: { realm: "test", path: file("htpasswd") } } };
  } else if (authentication === "token") {
    tokenServer = await startTokenServer(directory, {
      ...options.token,
      username,
      password,
      identityToken,
      lifetimeSeconds: options.tokenLifetimeSeconds ?? 300,
    });
    auth = {
      auth: {
        token: {
          realm: `${(await options.realm?.(tokenServer.url)) ?? tokenServer.url}/token`,
          service: "test-registry",
          issuer: "test-issuer",
          rootcertbundle: tokenServer.certificateFile,
        },
      },
    };
  }
  // YAML is a superset of JSON.
  writeFileSync(
    file("config.yml"),
    JSON.stringify({
      version: "0.1",
      log: { level: "info", accesslog: { disabled: false }, formatter: "json" },
      storage: { filesystem: { rootdirectory: file("storage") }, delete: { enabled: true } },
      http: {
        // Port 0: the kernel gives a free one, which nobody can take in between; the log tells which.
        addr: `${address}:${options.namespace === undefined ? 0 : 5000}`,
        // An upload through a proxy goes on through the proxy.
        relativeurls: true,
        ...(isTls ? { tls: { certificate: file("registry.crt"), key: file("registry.key") } } : {}),
      },
      ...auth,
    }),
  );
  const line = [...(options.namespace?.execPrefix ?? []), "docker-registry", "serve", file("config.yml")];
  const server = startServer(line[0] ?? "", line.slice(1), {
    logFile: file("registry.log"),
    ...(options.detached === undefined ? {} : { detached: options.detached }),
  });
  const stop = async (): Promise<void> => {
    await server.stop();
    await tokenServer?.stop();
    rmSync(directory, { recursive: true, force: true });
  };
  let port: string;
  try {
    port = await waitFor("the registry", () => listeningPort(server), {
      describe: () => server.log(),
      intervalMs: 20,
    });
  } catch (error) {
    await stop();
    throw error;
  }
  const host = `${address}:${port}`;
  const hasCredentials = authentication !== "none";
  options.signal?.addEventListener("abort", () => void stop(), { once: true });
  return {
    host,
    url: `${isTls ? "https" : "http"}://${host}`,
    ...(isTls ? { caFile: file("ca.crt") } : {}),
    ...(hasCredentials ? { username, password } : {}),
    ...(tokenServer === undefined ? {} : { tokenServer }),
    ...(tokenServer === undefined ? {} : { identityToken }),
    dockerConfig: (config = {}) => {
      const auth = Buffer.from(`${username}:${password}`).toString("base64");
      const entry = config.identityToken === true ? { identitytoken: identityToken } : { auth };
      return JSON.stringify({ auths: hasCredentials ? { [config.host ?? host]: entry } : {} });
    },
    requests: () => parseAccessLog(readFileSync(file("registry.log"), "utf8")),
    stop,
  };
}

/** The port from the registry's log; undefined as long as it does not listen. Throws when it has ended. */
function listeningPort(server: Server): string | undefined {
  const port = /listening on [^\s":]+:(\d+)/.exec(readFileSync(server.logFile, "utf8"))?.[1];
  if (port === undefined && (server.child.exitCode !== null || server.child.signalCode !== null)) {
    throw new Error(`docker-registry ended before it listened:\n${server.log()}`);
  }
  return port;
}

function parseAccessLog(log: string): readonly LoggedRequest[] {
  const line = /"(GET|HEAD|POST|PUT|PATCH|DELETE) (\S+) HTTP\/[\d.]+" (\d{3}) (\d+)/g;
  return [...log.replaceAll('\\"', '"').matchAll(line)].map(([, method = "", path = "", status, bytes]) => ({
    method,
    path,
    status: Number(status),
    bytes: Number(bytes),
  }));
}
