// Estimates the memory that serving an artifact needs, term by term. Pure.

import type { InspectFacts } from "../../puller/contract.ts";
import type { Footprint } from "./types.ts";

/** Context length used when neither the user nor the artifact states a smaller one, tokens. The trained maximum is never taken blindly: a 256k context costs more than the weights. */
export const defaultContextLength = 8192;

/** Bytes of one element of the key/value cache: engines keep it in 16-bit floats unless told otherwise. */
const cacheElementBytes = 2;

/** Fixed and relative overhead by format: llama.cpp's compute buffers for GGUF, vLLM's CUDA context and graphs otherwise. */
const overheads = {
  gguf: { baseBytes: 0.5 * 2 ** 30, share: 0.1 },
  other: { baseBytes: 2.3 * 2 ** 30, share: 0.12 },
} as const;

/**
 * Weights + key/value cache + overhead, bytes. The cache is layers x key/value heads x (key + value length) x
 * 2 bytes per token and sequence; it is 0 when the artifact does not state its shape.
 */
export function estimateFootprint(
  artifact: InspectFacts,
  selection: { readonly contextLength?: number; readonly parallel?: number },
): Footprint {
  const facts = artifact.facts ?? {};
  const contextLength =
    selection.contextLength ?? Math.min(facts.contextLength ?? defaultContextLength, defaultContextLength);
  const headLength =
    facts.embeddingLength !== undefined && facts.heads !== undefined && facts.heads > 0
      ? facts.embeddingLength / facts.heads
      : 0;
  const keyLength = facts.keyLength ?? headLength;
  const valueLength = facts.valueLength ?? headLength;
  const perTokenBytes =
    (facts.layers ?? 0) *
    (facts.keyValueHeads ?? facts.heads ?? 0) *
    (keyLength + valueLength) *
    cacheElementBytes;
  const keyValueCacheBytes = Math.ceil(perTokenBytes * contextLength * (selection.parallel ?? 1));
  const overhead = artifact.format === "gguf" ? overheads.gguf : overheads.other;
  const overheadBytes = Math.ceil(overhead.baseBytes + overhead.share * artifact.weightBytes);
  return {
    weightBytes: artifact.weightBytes,
    keyValueCacheBytes,
    overheadBytes,
    totalBytes: artifact.weightBytes + keyValueCacheBytes + overheadBytes,
    contextLength,
  };
}
