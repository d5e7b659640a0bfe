// The registry client that a command line describes.

import type { Logger } from "pino";
import { numberValue } from "../command-line.ts";
import { createRegistry, loadCredentials, type AppError, type WritableRegistry } from "../oci/index.ts";
import { version, type Command, type World } from "./command.ts";
import { isAwaited, parseMirrors, retryPolicy } from "./registry-flags.ts";

export async function openRegistry(line: Command, world: World, log: Logger): Promise<WritableRegistry> {
  const policy = retryPolicy(line, world);
  return createRegistry({
    credentials: await loadCredentials(line.values("docker-config")),
    caFiles: line.values("ca-file"),
    plainHTTPHosts: line.values("plain-http"),
    mirrors: parseMirrors(line.values("mirror")),
    trustedHosts: line.values("trusted-host"),
    stallTimeoutMs: numberValue(line, "stall-timeout", { min: 0.1, max: 3600 }) * 1000,
    retryPolicy: policy,
    environment: world.environment,
    userAgent: `ocimodel-puller/${version()}`,
    onRetry: (error, attempt, waitMs) => {
      if (isAwaited(line, world)) world.stderr.write(retryLine(error, waitMs, policy.budgetMs));
      else log.warn({ ...error.context, code: error.code, attempt, waitMs }, error.message);
    },
  });
}

function retryLine(error: AppError, waitMs: number, budgetMs: number): string {
  const seconds = (waitMs / 1000).toFixed(1);
  return `puller: ${error.message}; trying again in ${seconds} s, for ${budgetMs / 1000} s at most (--retry-budget)\n`;
}
