// The registry client that a command line describes.

import type { Logger } from "pino";
import { numberValue } from "../command-line.ts";
import { createRegistry, loadCredentials, type WritableRegistry } from "../oci/index.ts";
import { version, type Command, type World } from "./command.ts";
import { parseMirrors, retryPolicy } from "./registry-flags.ts";

export async function openRegistry(line: Command, world: World, log: Logger): Promise<WritableRegistry> {
  return createRegistry({
    credentials: await loadCredentials(line.values("docker-config")),
    caFiles: line.values("ca-file"),
    plainHTTPHosts: line.values("plain-http"),
    mirrors: parseMirrors(line.values("mirror")),
    trustedHosts: line.values("trusted-host"),
    stallTimeoutMs: numberValue(line, "stall-timeout", { min: 0.1, max: 3600 }) * 1000,
    retryPolicy: retryPolicy(line),
    environment: world.environment,
    userAgent: `ocimodel-puller/${version()}`,
    onRetry: (error, attempt, waitMs) => {
      log.warn({ ...error.context, code: error.code, attempt, waitMs }, error.message);
    },
  });
}
