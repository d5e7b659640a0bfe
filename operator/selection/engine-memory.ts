// How an inference engine uses memory, beside the weights: constants with their sources, and what a configuration may change. Pure.

import type { ModelFormat } from "../../puller/contract.ts";
import type { RuntimeDefinition } from "../configuration.ts";
import { parseQuantity } from "../kube/quantity.ts";

export type EngineMemory = {
  /** Which formula counts caches and buffers. */
  readonly model: "llama.cpp" | "vllm";
  /** Weights in memory for one byte of weights in files. */
  readonly weightFactor: number;
  /** On each device: driver context, kernels, graphs; bytes. */
  readonly deviceOverheadBytes: number;
  /** On CPUs: code, vocabulary, working memory; bytes. */
  readonly hostOverheadBytes: number;
  /** Share of each device that the engine takes for itself. */
  readonly utilization: number;
  /** How weights are divided among several devices. */
  readonly sharding: "layers" | "tensors" | "none";
  /** Tokens that are computed at once. */
  readonly batchTokens: number;
};

/**
 * llama.cpp: 250 MiB on a device are what gguf-parser-go and Docker's estimates add for CUDA; the batch is
 * llama-server's default --ubatch-size.
 */
const llamaCpp: EngineMemory = {
  model: "llama.cpp",
  weightFactor: 1,
  deviceOverheadBytes: 250 * 2 ** 20,
  hostOverheadBytes: 150 * 2 ** 20,
  utilization: 1,
  sharding: "layers",
  batchTokens: 512,
};

/** vLLM: 2.3 GiB and 2 % as KAITO measured; the share is vLLM's default --gpu-memory-utilization, the batch its default too. */
const vllm: EngineMemory = {
  model: "vllm",
  weightFactor: 1.02,
  deviceOverheadBytes: 2.3 * 2 ** 30,
  hostOverheadBytes: 2.3 * 2 ** 30,
  utilization: 0.9,
  sharding: "tensors",
  batchTokens: 8192,
};

/** What the runtime's configuration says of its memory, else the engine that is usual for the format. */
export function engineMemory(definition: RuntimeDefinition | undefined, format: ModelFormat): EngineMemory {
  const stated = definition?.memory ?? {};
  const model = stated.model ?? (format === "gguf" ? "llama.cpp" : "vllm");
  const engine = model === "llama.cpp" ? llamaCpp : vllm;
  const overheadBytes = parseQuantity(stated.overhead);
  return {
    ...engine,
    ...(overheadBytes === undefined
      ? {}
      : { deviceOverheadBytes: overheadBytes, hostOverheadBytes: overheadBytes }),
    ...(stated.utilization === undefined ? {} : { utilization: stated.utilization }),
    ...(stated.sharding === undefined ? {} : { sharding: stated.sharding }),
    ...(stated.batchTokens === undefined ? {} : { batchTokens: stated.batchTokens }),
  };
}
