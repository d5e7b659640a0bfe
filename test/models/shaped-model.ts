// Describes GGUF files of other shapes than the tiny model's: sliding windows, latent attention, experts, recurrent layers. All
// weights are zero, meant for sparse files: llama.cpp loads them and allocates for them as for real ones; nothing is generated.

import type { GgufFile, GgufTensor, GgufValue } from "./gguf-writer.ts";
import { tinyModel } from "./tiny-model.ts";

const uint32 = (value: number): GgufValue => ({ type: "uint32", value });

function zeros(name: string, dimensions: readonly number[], elementType: "F16" | "F32" = "F16"): GgufTensor {
  return {
    name,
    dimensions,
    elementType,
    values: () => [new Float32Array(dimensions.reduce((product, length) => product * length, 1))],
  };
}
const vector = (name: string, length: number): GgufTensor => zeros(name, [length], "F32");

/** Dimensions that all shapes have. */
export type ShapeOptions = {
  readonly embeddingLength: number;
  readonly layers: number;
  readonly heads: number;
  readonly keyValueHeads: number;
  readonly headLength: number;
  readonly feedForwardLength: number;
  readonly vocabularySize: number;
  readonly contextLength: number;
};

type Layer = (prefix: string, index: number) => readonly GgufTensor[];

/** A file of one architecture: the vocabulary of the tiny model, padded, and the layers that `layer` gives. */
function shaped(
  architecture: string,
  options: ShapeOptions,
  facts: Readonly<Record<string, GgufValue>>,
  layer: Layer,
): GgufFile {
  const { embeddingLength, layers, vocabularySize } = options;
  const metadata = new Map<string, GgufValue>([
    ["general.architecture", { type: "string", value: architecture }],
    ["general.file_type", uint32(1)],
  ]);
  const numbers: Readonly<Record<string, GgufValue>> = {
    context_length: uint32(options.contextLength),
    embedding_length: uint32(embeddingLength),
    block_count: uint32(layers),
    feed_forward_length: uint32(options.feedForwardLength),
    "attention.head_count": uint32(options.heads),
    "attention.head_count_kv": uint32(options.keyValueHeads),
    "attention.key_length": uint32(options.headLength),
    "attention.value_length": uint32(options.headLength),
    "attention.layer_norm_rms_epsilon": { type: "float32", value: 1e-6 },
    "rope.dimension_count": uint32(options.headLength),
    ...facts,
  };
  for (const [key, value] of Object.entries(numbers)) metadata.set(`${architecture}.${key}`, value);
  for (const [key, value] of tinyModel({ shape: { vocabularySize } }).metadata) {
    if (key.startsWith("tokenizer.")) metadata.set(key, value);
  }
  return {
    metadata,
    tensors: [
      zeros("token_embd.weight", [embeddingLength, vocabularySize]),
      vector("output_norm.weight", embeddingLength),
      zeros("output.weight", [embeddingLength, vocabularySize]),
      ...Array.from({ length: layers }, (_, index) => layer(`blk.${index}.`, index)).flat(),
    ],
  };
}

const attention = (at: string, { embeddingLength, heads, keyValueHeads, headLength }: ShapeOptions) => [
  vector(`${at}attn_norm.weight`, embeddingLength),
  zeros(`${at}attn_q.weight`, [embeddingLength, heads * headLength]),
  zeros(`${at}attn_k.weight`, [embeddingLength, keyValueHeads * headLength]),
  zeros(`${at}attn_v.weight`, [embeddingLength, keyValueHeads * headLength]),
  zeros(`${at}attn_output.weight`, [heads * headLength, embeddingLength]),
];
const headNorms = (at: string, { headLength }: ShapeOptions) => [
  vector(`${at}attn_q_norm.weight`, headLength),
  vector(`${at}attn_k_norm.weight`, headLength),
];
const feedForward = (at: string, { embeddingLength, feedForwardLength }: ShapeOptions) => [
  vector(`${at}ffn_norm.weight`, embeddingLength),
  zeros(`${at}ffn_gate.weight`, [embeddingLength, feedForwardLength]),
  zeros(`${at}ffn_up.weight`, [embeddingLength, feedForwardLength]),
  zeros(`${at}ffn_down.weight`, [feedForwardLength, embeddingLength]),
];

/** Grouped-query attention, every layer alike. */
export function groupedQueryModel(options: ShapeOptions): GgufFile {
  return shaped("llama", options, {}, (at) => [...attention(at, options), ...feedForward(at, options)]);
}

/** Gemma 3: five of six layers see a window of the past only. */
export function slidingWindowModel(options: ShapeOptions, windowTokens: number): GgufFile {
  return shaped("gemma3", options, { "attention.sliding_window": uint32(windowTokens) }, (at) => [
    ...attention(at, options),
    ...headNorms(at, options),
    vector(`${at}post_attention_norm.weight`, options.embeddingLength),
    ...feedForward(at, options),
    vector(`${at}post_ffw_norm.weight`, options.embeddingLength),
  ]);
}

/** DeepSeek 2: keys and values are kept as one compressed vector for all heads. */
export function latentAttentionModel(options: ShapeOptions, rank: number, ropeLength: number): GgufFile {
  const { embeddingLength, heads, headLength } = options;
  const queryRank = 256;
  const keyLength = headLength + ropeLength;
  return shaped(
    "deepseek2",
    options,
    {
      "attention.head_count_kv": uint32(1),
      "attention.q_lora_rank": uint32(queryRank),
      "attention.kv_lora_rank": uint32(rank),
      "attention.key_length": uint32(rank + ropeLength),
      "attention.value_length": uint32(rank),
      "attention.key_length_mla": uint32(keyLength),
      "attention.value_length_mla": uint32(headLength),
      "rope.dimension_count": uint32(ropeLength),
      leading_dense_block_count: uint32(options.layers),
      expert_feed_forward_length: uint32(128),
      expert_count: uint32(8),
      expert_used_count: uint32(2),
      expert_shared_count: uint32(1),
      expert_weights_scale: { type: "float32", value: 1 },
    },
    (at) => [
      vector(`${at}attn_norm.weight`, embeddingLength),
      vector(`${at}attn_q_a_norm.weight`, queryRank),
      vector(`${at}attn_kv_a_norm.weight`, rank),
      zeros(`${at}attn_q_a.weight`, [embeddingLength, queryRank]),
      zeros(`${at}attn_q_b.weight`, [queryRank, heads * keyLength]),
      zeros(`${at}attn_kv_a_mqa.weight`, [embeddingLength, rank + ropeLength]),
      zeros(`${at}attn_k_b.weight`, [headLength, rank, heads]),
      zeros(`${at}attn_v_b.weight`, [rank, headLength, heads]),
      zeros(`${at}attn_output.weight`, [heads * headLength, embeddingLength]),
      ...feedForward(at, options),
    ],
  );
}

/** Qwen 3 with a mixture of experts. */
export function expertsModel(options: ShapeOptions, experts: number, used: number): GgufFile {
  const { embeddingLength, feedForwardLength } = options;
  return shaped(
    "qwen3moe",
    options,
    {
      expert_count: uint32(experts),
      expert_used_count: uint32(used),
      expert_feed_forward_length: uint32(feedForwardLength),
    },
    (at) => [
      ...attention(at, options),
      ...headNorms(at, options),
      vector(`${at}ffn_norm.weight`, embeddingLength),
      zeros(`${at}ffn_gate_inp.weight`, [embeddingLength, experts], "F32"),
      zeros(`${at}ffn_gate_exps.weight`, [embeddingLength, feedForwardLength, experts]),
      zeros(`${at}ffn_up_exps.weight`, [embeddingLength, feedForwardLength, experts]),
      zeros(`${at}ffn_down_exps.weight`, [feedForwardLength, embeddingLength, experts]),
    ],
  );
}

/** Jamba: one attention layer in `interval`, the others recurrent. */
export function recurrentModel(options: ShapeOptions, interval: number): GgufFile {
  const { embeddingLength, layers, keyValueHeads } = options;
  const inner = 2 * embeddingLength;
  const state = 16;
  const convolution = 4;
  const rank = embeddingLength / 16;
  const isAttention = (index: number): boolean => index % interval === interval - 1;
  return shaped(
    "jamba",
    options,
    {
      "attention.head_count_kv": {
        type: "int32s",
        value: Array.from({ length: layers }, (_, index) => (isAttention(index) ? keyValueHeads : 0)),
      },
      "ssm.conv_kernel": uint32(convolution),
      "ssm.inner_size": uint32(inner),
      "ssm.state_size": uint32(state),
      "ssm.time_step_rank": uint32(rank),
      expert_count: uint32(0),
      expert_used_count: uint32(0),
    },
    (at, index) => [
      ...(isAttention(index)
        ? attention(at, options)
        : [
            vector(`${at}attn_norm.weight`, embeddingLength),
            zeros(`${at}ssm_in.weight`, [embeddingLength, 2 * inner]),
            zeros(`${at}ssm_conv1d.weight`, [convolution, inner], "F32"),
            vector(`${at}ssm_conv1d.bias`, inner),
            zeros(`${at}ssm_x.weight`, [inner, rank + 2 * state]),
            vector(`${at}ssm_dt_norm.weight`, rank),
            zeros(`${at}ssm_dt.weight`, [rank, inner]),
            vector(`${at}ssm_dt.bias`, inner),
            vector(`${at}ssm_b_norm.weight`, state),
            vector(`${at}ssm_c_norm.weight`, state),
            zeros(`${at}ssm_a`, [state, inner], "F32"),
            vector(`${at}ssm_d`, inner),
            zeros(`${at}ssm_out.weight`, [inner, embeddingLength]),
          ]),
      ...feedForward(at, options),
    ],
  );
}
