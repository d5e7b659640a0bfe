// puller repack: an OCI image of a model artifact, from registry to registry.

import type { Logger } from "pino";
import { parseByteCount, requiredValue } from "../command-line.ts";
import { AppError } from "../oci/errors.ts";
import { reportProgress, type ProgressTracker } from "../pull/progress.ts";
import type { Platform } from "../repack/image.ts";
import { parseTarget, repack } from "../repack/repack.ts";
import { largestChunkBytes } from "../repack/upload-layer.ts";
import type { Command, Result, World } from "./command.ts";
import { openRegistry } from "./open-registry.ts";
import { retryPolicy } from "./registry-flags.ts";

function parsePlatform(text: string): Platform {
  const match = /^([a-z0-9]{1,20})\/([a-z0-9]{1,20})(?:\/([a-z0-9]{1,20}))?$/.exec(text);
  if (match === null) {
    throw new AppError(
      "InvalidUsage",
      `--platform ${JSON.stringify(text.slice(0, 60))} is not OS/ARCH or OS/ARCH/VARIANT, such as linux/arm64`,
    );
  }
  const [, os = "", architecture = "", variant] = match;
  return { os, architecture, ...(variant === undefined ? {} : { variant }) };
}

/** The least and the most that a chunk of an upload may be, bytes: what storage behind registries takes, and memory. */
const chunkBounds = { least: 2 ** 20, most: largestChunkBytes };

function parseChunkBytes(text: string): number {
  const bytes = parseByteCount(text);
  if (bytes !== undefined && bytes >= chunkBounds.least && bytes <= chunkBounds.most) return bytes;
  throw new AppError(
    "InvalidUsage",
    `--chunk-size ${JSON.stringify(text.slice(0, 40))} is no number of bytes from 1Mi to 256Mi`,
  );
}

export async function runRepack(
  line: Command,
  world: World,
  log: Logger,
  signal: AbortSignal,
  progress: ProgressTracker,
): Promise<Result> {
  if (line.values("reference").length > 1) throw new AppError("InvalidUsage", "repack takes one --reference");
  const [journal] = line.values("journal");
  const request = {
    reference: requiredValue(line, "reference"),
    to: requiredValue(line, "to"),
    platform: parsePlatform(requiredValue(line, "platform")),
    chunkBytes: parseChunkBytes(requiredValue(line, "chunk-size")),
    include: line.values("include"),
    exclude: line.values("exclude"),
    ...(journal === undefined ? {} : { journal }),
    policy: retryPolicy(line, world),
  };
  parseTarget(request.to);
  const registry = await openRegistry(line, world, log);
  const reporter = reportProgress(progress, world.stderr, log);
  try {
    const report = await repack(request, { registry, progress, log }, signal);
    world.stdout.write(`${JSON.stringify(report)}\n`);
    return {
      message: `${report.reference} is complete: ${report.totalBytes} bytes in ${report.layers} layers, ${report.uploadedBytes} of them uploaded`,
      digest: report.digest,
    };
  } finally {
    reporter.stop();
    await registry.close();
  }
}
