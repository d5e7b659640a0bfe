import { spawn } from "node:child_process";
import { once } from "node:events";
import { open, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { engineMemory } from "../../operator/selection/engine-memory.ts";
import { estimateFootprint } from "../../operator/selection/footprint.ts";
import { readGgufHeader } from "../../puller/artifact/gguf.ts";
import { nodeBinary } from "../images/app-context.ts";
import { writeGguf, type GgufFile } from "../models/gguf-writer.ts";
import {
  expertsModel,
  groupedQueryModel,
  latentAttentionModel,
  recurrentModel,
  slidingWindowModel,
  type ShapeOptions,
} from "../models/shaped-model.ts";
import { engineObstacle, prepareEngine } from "./prepare-engine.ts";

const shape: ShapeOptions = {
  embeddingLength: 1024,
  layers: 8,
  feedForwardLength: 2816,
  heads: 16,
  keyValueHeads: 4,
  headLength: 64,
  contextLength: 32_768,
  vocabularySize: 16_000,
};
const models: Readonly<Record<string, () => GgufFile>> = {
  "grouped queries": () => groupedQueryModel(shape),
  "a sliding window": () =>
    slidingWindowModel({ ...shape, layers: 12, heads: 8, headLength: 128, vocabularySize: 32_000 }, 1024),
  "latent attention": () => latentAttentionModel({ ...shape, layers: 10 }, 512, 64),
  experts: () => expertsModel({ ...shape, feedForwardLength: 256, headLength: 128 }, 16, 4),
  "recurrent layers": () => recurrentModel({ ...shape, layers: 16 }, 8),
};

type Allocated = {
  readonly weights: number;
  readonly cache: number;
  readonly state: number;
  readonly compute: number;
};
const mebibyte = 2 ** 20;

/** What llama.cpp says that it allocates for each case, bytes. */
async function allocations(directory: string, cases: readonly string[]): Promise<readonly Allocated[]> {
  const child = spawn(nodeBinary, [path.join(directory, "measure.ts"), ...cases], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const chunks: Buffer[] = [];
  child.stdout.on("data", (chunk: Buffer) => chunks.push(chunk));
  const [code] = (await once(child, "close")) as [number | null];
  const log = Buffer.concat(chunks).toString("utf8");
  expect(code, log).toBe(0);
  return log
    .split(/^load .*$/m)
    .slice(1)
    .map((part) => {
      const sum = (pattern: RegExp): number =>
        [...part.matchAll(pattern)].reduce((total, [, size = "0"]) => total + Number(size) * mebibyte, 0);
      return {
        weights: sum(/model buffer size = +([\d.]+) MiB/g),
        cache: sum(/KV buffer size = +([\d.]+) MiB/g),
        state: sum(/RS buffer size = +([\d.]+) MiB/g),
        compute: sum(/sched_reserve: +CPU compute buffer size = +([\d.]+) MiB/g),
      };
    });
}

type Case = {
  readonly model: string;
  readonly contextLength: number;
  readonly parallel: number;
};
const cases: readonly Case[] = [
  { model: "grouped queries", contextLength: 32_768, parallel: 2 },
  { model: "a sliding window", contextLength: 8192, parallel: 2 },
  { model: "latent attention", contextLength: 4096, parallel: 1 },
  { model: "experts", contextLength: 8192, parallel: 1 },
  { model: "recurrent layers", contextLength: 8192, parallel: 3 },
];

describe.skipIf(engineObstacle() !== undefined)("memory that llama.cpp allocates for a model with", () => {
  let files = "";
  let real: readonly Allocated[] = [];
  const fileOf = (model: string): string => path.join(files, `${model.replaceAll(" ", "-")}.gguf`);
  beforeAll(async () => {
    files = await mkdtemp(path.join(tmpdir(), "ocimodel-memory-"));
    const { directory } = await prepareEngine();
    for (const [model, make] of Object.entries(models)) {
      await writeGguf(fileOf(model), make(), { sparse: true });
    }
    real = await allocations(
      directory,
      cases.map(({ model, contextLength, parallel }) => `${fileOf(model)}:${contextLength}:${parallel}`),
    );
  });
  afterAll(async () => {
    await rm(files, { recursive: true, force: true });
  });

  test.each(cases.map((each, index) => ({ ...each, index })))(
    "$model, $contextLength tokens, $parallel sequences, is what the header lets us expect",
    async ({ model, contextLength, parallel, index }) => {
      const handle = await open(fileOf(model));
      const { size: sizeBytes } = await handle.stat();
      const header = await readGgufHeader(async (start, length) => {
        const { buffer } = await handle.read(Buffer.alloc(length), 0, length, start);
        return buffer;
      }, sizeBytes);
      await handle.close();
      const expected = estimateFootprint({
        artifact: {
          reference: "r.example/m:1",
          digest: `sha256:${"0".repeat(64)}`,
          packaging: "docker",
          format: "gguf",
          sizeBytes,
          weightBytes: sizeBytes,
          facts: header.facts,
        },
        contextLength,
        parallel,
        devices: 0,
        engine: engineMemory(undefined, "gguf"),
      });
      const { weights = 0, cache = 0, state = 0, compute = 0 } = real[index] ?? {};
      expect(expected.assumed).toEqual([]);
      expect(expected.weightBytes / weights).toBeCloseTo(1, 1);
      // The cache is computed, not guessed: to the byte, but for the rounding of the log.
      expect(Math.abs(expected.cacheBytes - cache)).toBeLessThan(0.02 * mebibyte);
      expect(Math.abs(expected.stateBytes - state)).toBeLessThan(0.02 * mebibyte);
      expect(expected.computeBytes / compute).toBeGreaterThan(0.95);
      expect(expected.computeBytes / compute).toBeLessThan(1.25);
    },
  );
});
