// Pulls in this process, by the compiled puller, with the sizes of its data plane made small: range mode with a journal on blobs of
// a few MiB, a hundred runs in seconds. Import this before anything of the puller that has sizes of its own.

import { createHash } from "node:crypto";
import { mkdtempSync, readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "vitest";
import type * as Oci from "../../../puller/oci/index.ts";
import type { AppError } from "../../../puller/oci/errors.ts";
import type * as Progress from "../../../puller/pull/progress.ts";
import type * as Pull from "../../../puller/pull/pull.ts";
import type { TurnOptions } from "../../../puller/store/turn.ts";
import { importCompiled } from "../../compiled/compiled-puller.ts";
import type { BlobServer, ServedFile } from "../../registry/blob-server.ts";
import { expectNoWrongByte, filesBelow } from "../store-assertions.ts";

/** Pieces of 128 KiB, a journal from 512 KiB on, range mode from 1 MiB on with four lanes of 256 KiB. */
export const smallTuning = [
  "largeBlobBytes=1048576",
  "journaledBlobBytes=524288",
  "pieceBytes=131072",
  "syncEveryBytes=524288",
  "judgeAfterMs=400",
  "touchMs=50",
  "lanes=4",
  "processors=4",
  "slabBytes=262144",
].join(" ");
export const pieceBytes = 131_072;

process.env["OCIMODEL_TEST_TUNING"] ??= smallTuning;
const { pull } = await importCompiled<typeof Pull>("puller/pull/pull.ts");
const { createRegistry } = await importCompiled<typeof Oci>("puller/oci/index.ts");
const { ProgressTracker } = await importCompiled<typeof Progress>("puller/pull/progress.ts");

/** Deterministic bytes: a failure is repeated by the same seed. */
export function noise(seed: string, length: number): Buffer {
  const bytes = Buffer.alloc(length);
  const random = seededRandom(seed);
  for (let position = 0; position + 4 <= length; position += 4)
    bytes.writeUInt32LE(random() * 2 ** 32, position);
  return bytes;
}

/** Numbers from 0 to 1 (mulberry32). */
export function seededRandom(seed: string): () => number {
  let state = createHash("sha256").update(seed).digest().readUInt32LE();
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

export function freshStore(): string {
  return mkdtempSync(join(tmpdir(), "ocimodel-small-"));
}

export type SmallPull = {
  readonly report: Pull.PullReport | undefined;
  readonly error: AppError | undefined;
  /** Lines of the log. */
  readonly warnings: readonly string[];
};

/** What was told besides that a connection was slow, which on a busy machine any may be. */
export function notOfSlowness({ warnings }: Pick<SmallPull, "warnings">): readonly string[] {
  return warnings.filter((each) => !each.includes('"code":"TransferStalled"'));
}

export type SmallPullOptions = {
  readonly concurrency?: number;
  readonly bandwidthLimit?: number;
  readonly stallTimeoutMs?: number;
  readonly slowest?: { readonly bytes: number; readonly windowMs: number };
  readonly budgetMs?: number;
  readonly trustedHosts?: readonly string[];
  readonly caFiles?: readonly string[];
  readonly mirror?: string;
  readonly environment?: Readonly<Record<string, string>>;
  readonly signal?: AbortSignal;
  readonly firstWaitMs?: number;
  readonly turns?: TurnOptions;
};

/** One pull of the served model; failures that are no AppError are thrown. */
export async function smallPull(
  server: Pick<BlobServer, "host">,
  store: string,
  options: SmallPullOptions = {},
): Promise<SmallPull> {
  const stallTimeoutMs = options.stallTimeoutMs ?? 5_000;
  const policy = {
    firstWaitMs: options.firstWaitMs ?? 10,
    longestWaitMs: 50,
    budgetMs: options.budgetMs ?? 20_000,
  };
  const registry = createRegistry({
    plainHTTPHosts: options.caFiles === undefined ? [server.host] : [],
    trustedHosts: options.trustedHosts ?? [],
    caFiles: options.caFiles ?? [],
    mirrors: options.mirror === undefined ? [] : [{ host: server.host, url: options.mirror }],
    stallTimeoutMs,
    retryPolicy: policy,
    environment: options.environment ?? {},
  });
  const warnings: string[] = [];
  const log = {
    info: () => undefined,
    warn: (fields: object, message: string) => {
      warnings.push(`${message} ${JSON.stringify(fields)}`);
    },
  };
  const authorities = (options.caFiles ?? []).map((file) => readFileSync(file, "utf8"));
  try {
    const report = await pull(
      {
        reference: `${server.host}/ai/small:x`,
        store,
        include: [],
        exclude: [],
        concurrency: options.concurrency ?? 16,
        ...(options.bandwidthLimit === undefined ? {} : { bandwidthLimit: options.bandwidthLimit }),
        policy,
        slowest: options.slowest ?? { bytes: 2048, windowMs: 10_000 },
      },
      {
        registry,
        progress: new ProgressTracker("small"),
        log: log as never,
        connections: {
          connectTimeoutMs: 5_000,
          stallTimeoutMs,
          ...(authorities.length === 0 ? {} : { authorities }),
        },
        ...(options.turns === undefined ? {} : { turns: options.turns }),
      },
      options.signal ?? new AbortController().signal,
    );
    return { report, error: undefined, warnings };
  } catch (error) {
    if (!(error instanceof Error) || error.name === "Error" || !("code" in error)) throw error;
    return { report: undefined, error: error as AppError, warnings };
  } finally {
    await registry.close();
  }
}

/**
 * The store holds exactly the served model, and nothing is left over, but for `leftovers`: partials of a run that failed in this
 * process, which counts as their writer as long as it lives.
 */
export function expectModel(
  store: string,
  server: Pick<BlobServer, "digest">,
  files: readonly ServedFile[],
  { leftovers = false }: { readonly leftovers?: boolean } = {},
): void {
  const model = join(store, "models", server.digest.replace("sha256:", ""));
  const held = files.flatMap((file) => file.archive?.files ?? [file]);
  expect(filesBelow(model)).toEqual(held.map(({ name }) => name).sort());
  for (const { name, content } of held) expect(readFileSync(join(model, name)).equals(content)).toBe(true);
  expectNoWrongByte(store, { unpacked: files.some(({ archive }) => archive !== undefined) });
  if (!leftovers) expect(filesBelow(join(store, ".ocimodel/ingest"))).toEqual([]);
}
