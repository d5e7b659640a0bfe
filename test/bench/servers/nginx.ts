// nginx as a registry of static files: the registry API's answers for manifests, and blobs by sendfile. Also by TLS, and with a
// limit on each connection.

import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { ensurePackages } from "../../cluster/packages.ts";
import { startServer, waitFor, type Server } from "../../cluster/run-command.ts";
import { makeServerCertificate } from "../../registry/test-certificates.ts";
import { manifestMediaType, type Artifact } from "../artifact.ts";
import { freePort, isListening, type BlobServer } from "./blob-server.ts";

export type NginxOptions = {
  readonly directory: string;
  /** Folder of `sha256:<hex>` files. */
  readonly blobs: string;
  readonly artifacts: readonly Artifact[];
  readonly tls?: boolean;
  /** What one connection is given, MiB/s. */
  readonly connectionMebibytesPerSecond?: number;
  /** The only CPU that it may use. */
  readonly cpu?: number;
};

export async function ensureNginx(): Promise<void> {
  await ensurePackages(["nginx-light"], ["nginx"]);
}

/** Starts nginx on 127.0.0.1 and waits until it answers. */
export async function startNginx(options: NginxOptions): Promise<BlobServer> {
  const { directory } = options;
  mkdirSync(directory, { recursive: true });
  if (options.tls === true) await makeServerCertificate(directory, "127.0.0.1");
  for (const { digest, manifest } of options.artifacts) writeFileSync(join(directory, digest), manifest);
  for (let attempt = 1; ; attempt += 1) {
    const port = await freePort();
    const server = start(options, port);
    const url = `${options.tls === true ? "https" : "http"}://127.0.0.1:${port}`;
    const isUp = await waitFor(
      "nginx",
      async () => {
        if (server.hasEnded()) return { ended: true };
        return (await isListening(port)) && { ended: false };
      },
      { intervalMs: 20, describe: () => server.log() },
    );
    const log = readFileSync(join(directory, "error.log"), "utf8");
    if (!isUp.ended && !/bind\(\).*failed/.test(log)) {
      return {
        host: `127.0.0.1:${port}`,
        url,
        ...(options.tls === true ? { caFile: join(directory, "ca.crt") } : {}),
        stop: async () => {
          await server.stop();
          rmSync(directory, { recursive: true, force: true });
        },
      };
    }
    await server.stop();
    // Somebody took the port between its choice and its use.
    if (attempt === 5 || !/Address already in use/.test(log)) throw new Error(`nginx does not run:\n${log}`);
    rmSync(join(directory, "error.log"));
  }
}

function start(options: NginxOptions, port: number): Server {
  const { directory, cpu } = options;
  const file = join(directory, "nginx.conf");
  writeFileSync(file, configuration(options, port));
  const line = ["nginx", "-e", join(directory, "error.log"), "-p", directory, "-c", file];
  const pinned = cpu === undefined ? line : ["taskset", "-c", String(cpu), ...line];
  return startServer(pinned[0] ?? "", pinned.slice(1), { logFile: join(directory, "output.log") });
}

/**
 * The configuration. One process, which by sendfile feeds far more than clients on a few CPUs take; workers would outlive a run that is
 * killed together with their master.
 */
function configuration(options: NginxOptions, port: number): string {
  const { directory, blobs, artifacts } = options;
  const limit = options.connectionMebibytesPerSecond;
  const temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(
    (each) => `  ${each}_temp_path ${directory}/${each};`,
  );
  const manifests = artifacts.flatMap(({ repository, tag, digest }) =>
    [tag, digest].map(
      (name) => `    location = /v2/${repository}/manifests/${name} {
      default_type ${manifestMediaType};
      add_header Docker-Content-Digest ${digest};
      alias ${directory}/${digest};
    }`,
    ),
  );
  const tls = `    ssl_certificate ${directory}/server.crt;
    ssl_certificate_key ${directory}/server.key;
    ssl_protocols TLSv1.3;`;
  return `daemon off;
master_process off;
pid ${directory}/nginx.pid;
events { worker_connections 1024; }
http {
  access_log off;
  sendfile on;
  tcp_nopush on;
  keepalive_requests 1000000;
${temporary.join("\n")}
  server {
    listen 127.0.0.1:${port}${options.tls === true ? " ssl" : ""};
${options.tls === true ? tls : ""}
    location = /v2/ { default_type application/json; return 200 '{}'; }
${manifests.join("\n")}
    location ~ "^/v2/.+/blobs/(sha256:[0-9a-f]+)$" {
      default_type application/octet-stream;
${limit === undefined ? "" : `      limit_rate ${limit}m;`}
      alias ${blobs}/$1;
    }
  }
}
`;
}
