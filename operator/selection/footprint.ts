// Estimates the memory that serving an artifact needs, term by term. Pure. docs/selection.md has the formula with an example.

import type { ArchitectureFacts, InspectFacts } from "../../puller/contract.ts";
import type { CacheType, FootprintSpec } from "../api/model.ts";
import { parseQuantity } from "../kube/quantity.ts";
import type { EngineMemory } from "./engine-memory.ts";
import type { Footprint } from "./types.ts";

/** Context length wanted when the user states none, tokens. The trained maximum is never taken blindly: a 256k context costs more than the weights. */
export const defaultContextLength = 8192;
/** Least context length that is tried when the user states none and nothing larger fits, tokens. */
export const leastContextLength = 2048;

/** Bytes of one element of the cache, blocks included. */
const cacheElementBytes: Readonly<Record<CacheType, number>> = {
  f32: 4,
  f16: 2,
  bf16: 2,
  fp8: 1,
  q8_0: 34 / 32,
  q5_1: 24 / 32,
  q5_0: 22 / 32,
  q4_1: 20 / 32,
  q4_0: 18 / 32,
};

/** Caches are allocated in cells of this many tokens. */
const cellTokens = 256;
/** Bytes of one element of activations. */
const activationBytes = 4;
/** Activations of vLLM, as a share of the weights (KAITO). */
const vllmActivationShare = 0.05;
/** Share of the weights for a cache or buffers whose shape the artifact does not state. */
const unknownShare = 0.1;
const unknownBytes = 0.25 * 2 ** 30;

/** One layer in so many sees everything, where architectures have it in their code and not in their files. */
const fullLayerIntervals: Readonly<Record<string, number>> = {
  gemma2: 2,
  Gemma2ForCausalLM: 2,
  gemma3: 6,
  Gemma3ForCausalLM: 6,
  Gemma3ForConditionalGeneration: 6,
  "gpt-oss": 2,
  GptOssForCausalLM: 2,
  cohere2: 4,
  Cohere2ForCausalLM: 4,
  exaone4: 4,
  olmo2: 4,
  smallthinker: 4,
};

export type FootprintInput = {
  readonly artifact: InspectFacts;
  /** Tokens of one sequence. */
  readonly contextLength: number;
  /** Sequences at once. */
  readonly parallel: number;
  /** Devices of one pod; 0: on CPUs. */
  readonly devices: number;
  readonly engine: EngineMemory;
  /** What the user states instead of an estimate. */
  readonly stated?: FootprintSpec;
};

/** Context lengths that may be served, the wanted one first: what the user asks and nothing less, else down to 2048. */
export function contextLengths(
  facts: ArchitectureFacts | undefined,
  stated: number | undefined,
): readonly number[] {
  if (stated !== undefined) return [stated];
  const wanted = Math.min(facts?.contextLength ?? defaultContextLength, defaultContextLength);
  const lengths = [wanted];
  for (let length = wanted / 2; length >= leastContextLength; length /= 2) lengths.push(Math.floor(length));
  return lengths;
}

/** Whole bytes; an artifact may state shapes of which the product is no integer of the API any more. */
function wholeBytes(bytes: number): number {
  return Math.min(Math.ceil(bytes), Number.MAX_SAFE_INTEGER);
}

function roundUp(value: number, unit: number): number {
  return Math.ceil(value / unit) * unit;
}

/** Cache of one sequence, elements; undefined where the artifact does not state its shape. */
function cacheElements(
  facts: ArchitectureFacts,
  contextLength: number,
  batchTokens: number,
): number | undefined {
  const { layers, heads, embeddingLength, slidingWindow, architecture = "" } = facts;
  if (layers === undefined) return undefined;
  const attentionLayers = facts.attentionLayers ?? layers;
  if (attentionLayers === 0) return 0;
  const headLength =
    embeddingLength !== undefined && heads !== undefined ? embeddingLength / heads : undefined;
  const keyLength = facts.keyLength ?? headLength;
  const valueLength = facts.valueLength ?? keyLength;
  const headCount =
    facts.keyValueHeadsSum === undefined
      ? (facts.keyValueHeads ?? heads)
      : facts.keyValueHeadsSum / attentionLayers;
  const perLayer =
    facts.latentLength ??
    (headCount === undefined || keyLength === undefined || valueLength === undefined
      ? undefined
      : headCount * (keyLength + valueLength));
  if (perLayer === undefined) return undefined;
  const interval = fullLayerIntervals[architecture];
  const sliding =
    slidingWindow === undefined
      ? 0
      : (facts.slidingLayers ??
        (interval === undefined ? 0 : attentionLayers - Math.floor(attentionLayers / interval)));
  const tokens = roundUp(contextLength, cellTokens);
  const windowTokens = Math.min(tokens, roundUp((slidingWindow ?? 0) + batchTokens + 1, cellTokens));
  const slidingLayers = Math.min(sliding, attentionLayers);
  return perLayer * (tokens * (attentionLayers - slidingLayers) + windowTokens * slidingLayers);
}

/** Buffers for the activations of one batch, bytes; undefined where the artifact does not state its shape. */
function computeBytes(input: FootprintInput): number | undefined {
  const { artifact, engine, contextLength } = input;
  const facts = artifact.facts ?? {};
  if (engine.model === "vllm") return vllmActivationShare * engine.weightFactor * artifact.weightBytes;
  const { vocabularySize, embeddingLength, feedForwardLength, expertsUsed, expertLength } = facts;
  if (vocabularySize === undefined || embeddingLength === undefined) return undefined;
  const network = Math.max(feedForwardLength ?? 0, (expertsUsed ?? 0) * (expertLength ?? 0));
  // Logits of a whole batch come last; before that, three activations of the network and the mask of the attention, or
  // the queries of all heads in the length of the latent vector.
  const logits = vocabularySize + 2 * embeddingLength;
  const layer = 3 * network + 4 * embeddingLength + contextLength / 2;
  const latent = 3 * (facts.heads ?? 0) * (facts.latentLength ?? 0) + embeddingLength;
  return Math.max(logits, layer, latent) * engine.batchTokens * activationBytes;
}

/** Largest part of the layers that one of `devices` holds, when whole layers are dealt out; the output counts as one. */
function largestShare(layers: number | undefined, devices: number): number {
  if (layers === undefined) return 1 / devices;
  return Math.ceil((layers + 1) / devices) / (layers + 1);
}

/**
 * Weights + cache + recurrent state + buffers + overhead, bytes, for the whole pod and for each of its devices. A term
 * that the user states goes before the estimate; a term whose shape the artifact does not state is assumed, and named.
 */
export function estimateFootprint(input: FootprintInput): Footprint {
  const { artifact, contextLength, parallel, devices, engine, stated = {} } = input;
  const facts = artifact.facts ?? {};
  const assumed: ("cache" | "compute")[] = [];
  const assume = (term: "cache" | "compute"): number => {
    assumed.push(term);
    return unknownBytes + unknownShare * artifact.weightBytes;
  };
  const projectorBytes = artifact.projectorBytes ?? 0;
  const adapterBytes = artifact.adapterBytes ?? 0;
  const weightBytes = wholeBytes(
    parseQuantity(stated.weights) ?? engine.weightFactor * (artifact.weightBytes - projectorBytes),
  );
  const elementBytes = cacheElementBytes[stated.cacheType ?? "f16"];
  const perToken = parseQuantity(stated.cachePerToken);
  const elements =
    perToken === undefined ? cacheElements(facts, contextLength, engine.batchTokens) : undefined;
  const cacheBytes = wholeBytes(
    perToken !== undefined
      ? perToken * contextLength * parallel
      : elements === undefined
        ? assume("cache")
        : elements * elementBytes * parallel,
  );
  const stateBytes = wholeBytes((facts.recurrentLayers ?? 0) * (facts.recurrentStateBytes ?? 0) * parallel);
  const ownComputeBytes = wholeBytes(
    parseQuantity(stated.compute) ?? computeBytes(input) ?? assume("compute"),
  );
  const overheadBytes = wholeBytes(
    parseQuantity(stated.overhead) ?? (devices === 0 ? engine.hostOverheadBytes : engine.deviceOverheadBytes),
  );
  const terms = {
    weightBytes,
    projectorBytes,
    adapterBytes,
    cacheBytes,
    stateBytes,
    computeBytes: ownComputeBytes,
    overheadBytes,
  };
  const count = Math.max(1, devices);
  const utilization =
    devices === 0 ? 1 : stated.utilization === undefined ? engine.utilization : stated.utilization / 100;
  // Tensor parallel engines copy heads where there are fewer than devices; a latent vector is one head.
  const cacheHeads = facts.latentLength === undefined ? (facts.keyValueHeads ?? facts.heads ?? count) : 1;
  const share =
    engine.sharding === "none"
      ? { weights: 1, cache: 1, compute: 1 }
      : engine.sharding === "tensors"
        ? { weights: 1 / count, cache: Math.max(1 / count, 1 / cacheHeads), compute: 1 / count }
        : {
            weights: largestShare(facts.layers, count),
            cache: largestShare(facts.layers, count),
            compute: 1,
          };
  const eachBytes =
    (weightBytes + adapterBytes) * share.weights +
    projectorBytes +
    (cacheBytes + stateBytes) * share.cache +
    ownComputeBytes * share.compute +
    overheadBytes;
  const perDeviceBytes = wholeBytes(eachBytes / utilization);
  return {
    ...terms,
    devices,
    utilization,
    perDeviceBytes,
    totalBytes: perDeviceBytes * count,
    contextLength,
    parallel,
    assumed,
  };
}
