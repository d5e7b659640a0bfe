// Turns the metadata of a GGUF header into architecture facts: shapes of attention, windows, latents, recurrent layers. Pure.
// Keys: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md and the architectures of llama.cpp.

import type { ArchitectureFacts } from "../contract.ts";
import { countableFacts } from "./countable-facts.ts";

/** What is kept of a list of integers: heads, widths and windows that differ by layer. */
export type ListSummary = {
  readonly length: number;
  readonly largest: number;
  readonly sum: number;
  /** Elements above 0. */
  readonly positives: number;
};

/** A kept value of the metadata. */
export type GgufValue = number | string | ListSummary;

const attentionKeys =
  "head_count|head_count_kv|key_length|value_length|key_length_mla|sliding_window|sliding_window_pattern";
const ssmKeys = "conv_kernel|inner_size|state_size|group_count";

/** Keys whose values are facts, by their end; the architecture in front is only known once all are read. */
export const factKeys: RegExp = new RegExp(
  `^(?:general\\.architecture|tokenizer\\.ggml\\.tokens|.+\\.(?:context_length|block_count|embedding_length|feed_forward_length|vocab_size|expert_count|expert_used_count|expert_feed_forward_length|full_attention_interval|wkv\\.head_size|shortconv\\.l_cache|attention\\.(?:${attentionKeys})|ssm\\.(?:${ssmKeys})))$`,
  "u",
);

/** Vectors that RWKV keeps of the previous token in each layer. */
const tokenShifts = 2;
/** Recurrent state is kept in 32-bit floats. */
const stateElementBytes = 4;

/** Architecture facts from kept values; `architecture` is the prefix of the keys. */
export function ggufFacts(values: ReadonlyMap<string, GgufValue>, architecture: string): ArchitectureFacts {
  const value = (key: string): GgufValue | undefined => values.get(`${architecture}.${key}`);
  const positive = (key: string): number | undefined => {
    const found = value(key);
    const number = typeof found === "object" ? found.largest : found;
    return typeof number === "number" && number > 0 ? number : undefined;
  };
  const layers = positive("block_count");
  const tokens = values.get("tokenizer.ggml.tokens");
  const cache = layers === undefined ? {} : layerFacts(layers, architecture, value, positive);
  const expertsUsed = positive("expert_used_count");
  const facts = {
    architecture: architecture === "" ? undefined : architecture,
    contextLength: positive("context_length"),
    layers,
    heads: positive("attention.head_count"),
    keyValueHeads: positive("attention.head_count_kv"),
    keyLength: positive("attention.key_length"),
    valueLength: positive("attention.value_length"),
    embeddingLength: positive("embedding_length"),
    vocabularySize: positive("vocab_size") ?? (typeof tokens === "object" ? tokens.length : undefined),
    feedForwardLength: positive("feed_forward_length"),
    experts: positive("expert_count"),
    expertsUsed,
    expertLength: expertsUsed === undefined ? undefined : positive("expert_feed_forward_length"),
    // With it, llama.cpp keeps one compressed vector of this length for all heads; older files are kept head by head.
    latentLength:
      positive("attention.key_length_mla") === undefined ? undefined : positive("attention.key_length"),
    slidingWindow: positive("attention.sliding_window"),
    ...cache,
  };
  return countableFacts(facts);
}

/** Which layers keep what: keys and values, a window of them, or a recurrent state. */
function layerFacts(
  layers: number,
  architecture: string,
  value: (key: string) => GgufValue | undefined,
  positive: (key: string) => number | undefined,
): Partial<ArchitectureFacts> {
  const embeddingLength = positive("embedding_length") ?? 0;
  const heads = value("attention.head_count_kv");
  const list = typeof heads === "object" && heads.length >= layers ? heads : undefined;
  const pattern = value("attention.sliding_window_pattern");
  const interval = positive("full_attention_interval");
  const convolution = positive("ssm.conv_kernel") ?? 1;
  const inner = positive("ssm.inner_size") ?? 0;
  const state = positive("ssm.state_size") ?? 0;
  const groups = positive("ssm.group_count") ?? 0;
  const headSize = positive("wkv.head_size");
  const shortConvolution = positive("shortconv.l_cache");
  const elements =
    headSize !== undefined
      ? embeddingLength * (tokenShifts + headSize)
      : shortConvolution !== undefined
        ? embeddingLength * (shortConvolution - 1)
        : (convolution - 1) * (inner + 2 * groups * state) + inner * state;
  const isRecurrent = elements > 0;
  const attention =
    list?.positives ??
    (interval !== undefined
      ? Math.floor(layers / interval)
      : isRecurrent && /^(?:mamba|rwkv|arwkv)/u.test(architecture)
        ? 0
        : undefined);
  const isUneven = list !== undefined && list.sum !== list.largest * list.positives;
  return {
    ...(attention === undefined || attention >= layers ? {} : { attentionLayers: attention }),
    ...(isUneven ? { keyValueHeadsSum: list.sum } : {}),
    ...(typeof pattern === "object" ? { slidingLayers: pattern.positives } : {}),
    ...(typeof pattern === "number" && pattern > 0
      ? { slidingLayers: layers - Math.floor(layers / pattern) }
      : {}),
    ...(isRecurrent
      ? {
          // Falcon-H1 has both in each layer.
          recurrentLayers: attention === undefined || attention >= layers ? layers : layers - attention,
          recurrentStateBytes: elements * stateElementBytes,
        }
      : {}),
  };
}
