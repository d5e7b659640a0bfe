// What the image's puller is built without: nothing of it is ever asked for.

import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:https";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { createServer as createTlsServer } from "node:tls";
import { afterAll, beforeAll, expect, test } from "vitest";
import { findProgram } from "../cluster/packages.ts";
import { runCommand } from "../cluster/run-command.ts";
import { describeUnless } from "../cluster/suites.ts";
import { startForwardProxy } from "../registry/forward-proxy.ts";
import { listen } from "../registry/sockets.ts";
import { makeServerCertificate } from "../registry/test-certificates.ts";
import { bundlePuller } from "./bundle-puller.ts";
import { startOptions } from "./compile-cache.ts";

const node = path.resolve(import.meta.dirname, "../../node_modules/node/bin/node");
const { options, env } = startOptions();

describeUnless(
  findProgram("openssl") === undefined ? "openssl is missing" : undefined,
  "the puller of the image, which holds no HTTP/2",
  () => {
    let directory = "";
    beforeAll(async () => {
      directory = mkdtempSync(path.join(tmpdir(), "ocimodel-bundle-"));
      await bundlePuller(path.join(directory, "puller"));
    });
    afterAll(() => {
      rmSync(directory, { recursive: true, force: true });
    });

    test("does not load it", () => {
      const folder = path.join(directory, "puller");
      const programs = readdirSync(folder).filter((name) => name.endsWith(".js"));
      expect(programs).toContain("main.js");
      const loading = programs.filter((name) =>
        /["'](?:node:)?http2["']\)?;?$/m.test(readFileSync(path.join(folder, name), "utf8")),
      );
      expect(loading).toEqual([]);
    });

    test.each(["directly", "through a proxy", "through a proxy by TLS"])(
      "offers HTTP/1.1 alone to those who would rather have it, %s",
      async (way) => {
        const { keyFile, certificateFile } = await makeServerCertificate(directory, "127.0.0.1");
        const offered: (readonly string[])[] = [];
        const tls = {
          key: readFileSync(keyFile),
          cert: readFileSync(certificateFile),
          ALPNCallback: ({ protocols }: { readonly protocols: readonly string[] }) => {
            offered.push(protocols);
            return protocols.includes("h2") ? "h2" : protocols[0];
          },
        };
        const proxy = await startForwardProxy();
        const registry = createServer(tls, (_request, response) => response.writeHead(404).end());
        const secureProxy = createTlsServer(tls, (socket) => {
          const inner = connect({ host: "127.0.0.1", port: Number(new URL(proxy.url).port) });
          for (const each of [socket, inner]) each.on("error", () => undefined);
          socket.pipe(inner).pipe(socket);
        });
        try {
          const [registryPort, proxyPort] = [
            await listen(registry, "127.0.0.1"),
            await listen(secureProxy, "127.0.0.1"),
          ];
          const proxyUrl = way === "through a proxy" ? proxy.url : `https://127.0.0.1:${proxyPort}`;
          const run = await runCommand(
            node,
            [
              ...options,
              path.join(directory, "puller/main.js"),
              "inspect",
              `--reference=127.0.0.1:${registryPort}/ai/model:x`,
              `--ca-file=${path.join(directory, "ca.crt")}`,
            ],
            {
              env: {
                ...env,
                PATH: process.env["PATH"] ?? "",
                ...(way === "directly" ? {} : { HTTPS_PROXY: proxyUrl }),
              },
              allowFailure: true,
            },
          );
          expect(run.stderr + run.stdout).toContain("ManifestNotFound");
          expect(proxy.requests.length > 0).toBe(way !== "directly");
          expect(offered.length).toBeGreaterThanOrEqual(way === "through a proxy by TLS" ? 2 : 1);
          expect([...new Set(offered.flat())]).toEqual(["http/1.1"]);
        } finally {
          await proxy.stop();
          registry.closeAllConnections();
          registry.close();
          secureProxy.close();
        }
      },
    );
  },
);
