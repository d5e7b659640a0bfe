// A real docker-registry for suites and the demo: open, with htpasswd or tokens, with or without TLS. Debian's package.

import { randomBytes } from "node:crypto";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { freePort } from "../cluster/control-plane.ts";
import { signCertificate } from "../cluster/certificates.ts";
import { ensurePackages, findProgram } from "../cluster/packages.ts";
import { runCommand, startServer, waitFor } from "../cluster/run-command.ts";
import { startTokenServer, type TokenServer } from "./token-server.ts";

export type RegistryOptions = {
  readonly authentication?: "none" | "htpasswd" | "token";
  readonly tls?: boolean;
  /** A network namespace to run in, at its address. */
  readonly namespace?: { readonly execPrefix: readonly string[]; readonly address: string };
  /** Goes on after this process ends. */
  readonly detached?: boolean;
  /** Parent of its folder; default the system's temporary one. */
  readonly directory?: string;
  /** Address of the token server that the registry tells clients, e.g. that of a proxy before it. */
  readonly realm?: (tokenServerUrl: string) => Promise<string>;
  /** Lifetime of tokens, seconds. */
  readonly tokenLifetimeSeconds?: number;
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
  /** A dockerconfigjson with the credentials. */
  dockerConfig(): string;
  /** Requests that the registry logged. */
  requests(): readonly {
    readonly method: string;
    readonly path: string;
    readonly status: number;
    readonly bytes: number;
  }[];
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

/** A folder with its own authority: `ca.crt`, `ca.key`. */
export async function makeAuthority(directory: string): Promise<void> {
  await runCommand("openssl", [
    "req",
    "-x509",
    "-newkey",
    "ec",
    "-pkeyopt",
    "ec_paramgen_curve:prime256v1",
    "-nodes",
    "-subj",
    "/CN=registry-test",
    "-days",
    "3650",
    "-keyout",
    join(directory, "ca.key"),
    "-out",
    join(directory, "ca.crt"),
  ]);
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
  const port = options.namespace === undefined ? await freePort() : 5000;
  const isTls = options.tls === true;
  const url = `${isTls ? "https" : "http"}://${address}:${port}`;
  const username = `user-${randomBytes(6).toString("hex")}`;
  const password = `canary-${randomBytes(12).toString("hex")}`;
  if (isTls) {
    await makeAuthority(directory);
    await signCertificate(directory, "registry", "/CN=registry", [
      `subjectAltName=IP:${address},DNS:localhost`,
    ]);
  }
  const authentication = options.authentication ?? "none";
  let auth: object = {};
  let tokenServer: TokenServer | undefined;
  if (authentication === "htpasswd") {
    const { stdout } = await runCommand("htpasswd", ["-Bbn", username, password]);
    writeFileSync(file("htpasswd"), stdout);
    auth = { auth: { htpasswd: { realm: "test", path: file("htpasswd") } } };
  } else if (authentication === "token") {
    tokenServer = await startTokenServer({
      directory,
      username,
      password,
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
      log: { level: "warn", accesslog: { disabled: false }, formatter: "json" },
      storage: { filesystem: { rootdirectory: file("storage") }, delete: { enabled: true } },
      http: {
        addr: `${address}:${port}`,
        ...(isTls ? { tls: { certificate: file("registry.crt"), key: file("registry.key") } } : {}),
      },
      ...auth,
    }),
  );
  const [command = "docker-registry", ...args] = [
    ...(options.namespace?.execPrefix ?? []),
    "docker-registry",
    "serve",
    file("config.yml"),
  ];
  const server = startServer(command, args, {
    logFile: file("registry.log"),
    ...(options.detached === undefined ? {} : { detached: options.detached }),
  });
  const stop = async (): Promise<void> => {
    await server.stop();
    await tokenServer?.stop();
    rmSync(directory, { recursive: true, force: true });
  };
  try {
    // Asked in its own namespace or from here alike: the bridge is this machine's.
    await waitFor("the registry", async () => isListening(address, port), { describe: () => server.log() });
  } catch (error) {
    await stop();
    throw error;
  }
  const hasCredentials = authentication !== "none";
  return {
    host: `${address}:${port}`,
    url,
    ...(isTls ? { caFile: file("ca.crt") } : {}),
    ...(hasCredentials ? { username, password } : {}),
    ...(tokenServer === undefined ? {} : { tokenServer }),
    dockerConfig: () =>
      JSON.stringify({
        auths: hasCredentials
          ? { [`${address}:${port}`]: { auth: Buffer.from(`${username}:${password}`).toString("base64") } }
          : {},
      }),
    requests: () =>
      readFileSync(file("registry.log"), "utf8")
        .split("\n")
        .flatMap((line) => {
          const match = /"(GET|HEAD|POST|PUT|PATCH|DELETE) (\S+) HTTP\/[\d.]+" (\d{3}) (\d+)/.exec(
            line.replaceAll('\\"', '"'),
          );
          return match === null
            ? []
            : [
                {
                  method: match[1] ?? "",
                  path: match[2] ?? "",
                  status: Number(match[3]),
                  bytes: Number(match[4]),
                },
              ];
        }),
    stop,
  };
}

async function isListening(address: string, port: number): Promise<boolean> {
  const { connect } = await import("node:net");
  return new Promise((resolve) => {
    const socket = connect({ host: address, port });
    socket.once("connect", () => {
      socket.destroy();
      resolve(true);
    });
    socket.once("error", () => {
      resolve(false);
    });
  });
}
