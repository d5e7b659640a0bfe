import { describe, expect, test } from "vitest";
import { readGgufHeader } from "../../../puller/artifact/gguf.ts";
import { readTransformerConfig } from "../../../puller/artifact/transformer-config.ts";
import type { ArchitectureFacts } from "../../../puller/contract.ts";
import { ggufHeader, ggufSizeBytes, type GgufFile } from "../../models/gguf-writer.ts";
import {
  expertsModel,
  latentAttentionModel,
  recurrentModel,
  slidingWindowModel,
} from "../../models/shaped-model.ts";

const shape = {
  embeddingLength: 128,
  layers: 8,
  feedForwardLength: 256,
  heads: 8,
  keyValueHeads: 2,
  headLength: 16,
  contextLength: 4096,
  vocabularySize: 300,
};

async function factsOf(file: GgufFile): Promise<ArchitectureFacts> {
  const header = ggufHeader(file);
  const bytes = Buffer.concat([header, Buffer.alloc(ggufSizeBytes(file) - header.length)]);
  const read = async (start: number, length: number): Promise<Uint8Array> =>
    bytes.subarray(start, start + length);
  return (await readGgufHeader(read, bytes.length)).facts;
}

describe("a GGUF header tells", () => {
  test("the vocabulary and the network, which buffers depend on", async () => {
    expect(await factsOf(expertsModel(shape, 16, 4))).toMatchObject({
      vocabularySize: 300,
      feedForwardLength: 256,
      experts: 16,
      expertsUsed: 4,
      expertLength: 256,
    });
  });
  test("a sliding window; how many layers have it is the architecture's affair", async () => {
    const facts = await factsOf(slidingWindowModel(shape, 1024));
    expect(facts).toMatchObject({ architecture: "gemma3", slidingWindow: 1024 });
    expect(facts).not.toHaveProperty("slidingLayers");
  });
  test("windows layer by layer, as booleans or as an interval", async () => {
    const { metadata, tensors } = slidingWindowModel(shape, 1024);
    const key = "gemma3.attention.sliding_window_pattern";
    const interval = new Map([...metadata, [key, { type: "uint32", value: 4 }] as const]);
    expect(await factsOf({ metadata: interval, tensors })).toMatchObject({ slidingLayers: 6 });
    const list = new Map([...metadata, [key, { type: "int32s", value: [1, 1, 1, 1, 1, 0, 1, 1] }] as const]);
    expect(await factsOf({ metadata: list, tensors })).toMatchObject({ slidingLayers: 7 });
  });
  test("the length of a latent vector", async () => {
    expect(await factsOf(latentAttentionModel(shape, 64, 32))).toMatchObject({ latentLength: 96 });
  });
  test("which layers are recurrent, and how large their state is", async () => {
    const facts = await factsOf(recurrentModel(shape, 4));
    // 3 x 256 of the convolution and 256 x 16 of the state, in 32-bit floats.
    expect(facts).toMatchObject({
      attentionLayers: 2,
      keyValueHeads: 2,
      recurrentLayers: 6,
      recurrentStateBytes: (3 * 256 + 256 * 16) * 4,
    });
    expect(facts).not.toHaveProperty("keyValueHeadsSum");
  });
  test("no fact that grows beyond what a status can hold: it is left out", async () => {
    const { metadata, tensors } = recurrentModel(shape, 4);
    const most = { type: "uint32", value: 2 ** 32 - 1 } as const;
    const huge = new Map([
      ...metadata,
      ["jamba.ssm.inner_size", most],
      ["jamba.ssm.state_size", most],
    ] as const);
    const facts = await factsOf({ metadata: huge, tensors });
    expect(facts).toMatchObject({ recurrentLayers: 6, heads: 8 });
    expect(facts).not.toHaveProperty("recurrentStateBytes");
    const config = {
      hidden_size: 64,
      num_hidden_layers: 4,
      mamba_d_ssm: 2 ** 31 - 1,
      mamba_d_state: 2 ** 31 - 1,
    };
    expect(readTransformerConfig(Buffer.from(JSON.stringify(config)))).toEqual({
      embeddingLength: 64,
      layers: 4,
      attentionLayers: 0,
      recurrentLayers: 4,
    });
  });
  test("heads of each layer where they differ", async () => {
    const { metadata, tensors } = expertsModel(shape, 16, 4);
    const key = "qwen3moe.attention.head_count_kv";
    const uneven = new Map([
      ...metadata,
      [key, { type: "int32s", value: [8, 8, 4, 4, 2, 2, 1, 0] }] as const,
    ]);
    expect(await factsOf({ metadata: uneven, tensors })).toMatchObject({
      keyValueHeads: 8,
      keyValueHeadsSum: 29,
      attentionLayers: 7,
    });
  });
});

describe("a config.json tells", () => {
  const read = (config: unknown): ArchitectureFacts =>
    readTransformerConfig(Buffer.from(JSON.stringify(config)));
  const plain = { num_hidden_layers: 4, num_attention_heads: 8, hidden_size: 64 };
  test.each<[string, Record<string, unknown>, ArchitectureFacts]>([
    ["latent attention (DeepSeek)", { kv_lora_rank: 512, qk_rope_head_dim: 64 }, { latentLength: 576 }],
    [
      "experts",
      {
        n_routed_experts: 64,
        num_experts_per_tok: 6,
        moe_intermediate_size: 1408,
        intermediate_size: 10_944,
      },
      { experts: 64, expertsUsed: 6, expertLength: 1408, feedForwardLength: 10_944 },
    ],
    [
      "a window in words for each layer (Gemma 3, gpt-oss)",
      {
        sliding_window: 128,
        layer_types: ["sliding_attention", "full_attention", "sliding_attention", "full_attention"],
      },
      { slidingWindow: 128, slidingLayers: 2 },
    ],
    [
      "a window by interval",
      { sliding_window: 512, sliding_window_pattern: 2 },
      { slidingWindow: 512, slidingLayers: 2 },
    ],
    ["no window where it is not used (Qwen 2)", { sliding_window: 4096, use_sliding_window: false }, {}],
    [
      "linear attention (Qwen 3 Next)",
      {
        layer_types: ["linear_attention", "linear_attention", "linear_attention", "full_attention"],
        linear_num_key_heads: 2,
        linear_num_value_heads: 4,
        linear_key_head_dim: 8,
        linear_value_head_dim: 8,
        linear_conv_kernel_dim: 4,
      },
      {
        attentionLayers: 1,
        recurrentLayers: 3,
        recurrentStateBytes: (4 * 8 * 8 + 3 * (2 * 2 * 8 + 4 * 8)) * 4,
      },
    ],
    [
      "letters for each layer (Nemotron-H)",
      {
        hybrid_override_pattern: "M-M*",
        mamba_num_heads: 4,
        mamba_head_dim: 16,
        ssm_state_size: 8,
        n_groups: 2,
        conv_kernel: 4,
      },
      {
        attentionLayers: 1,
        recurrentLayers: 2,
        recurrentStateBytes: (64 * 8 + 3 * (64 + 2 * 2 * 8)) * 4,
      },
    ],
    [
      "an interval of attention (Jamba)",
      { attn_layer_period: 4, mamba_d_state: 16, mamba_d_conv: 4, mamba_expand: 2 },
      { attentionLayers: 1, recurrentLayers: 3, recurrentStateBytes: (128 * 16 + 3 * 128) * 4 },
    ],
  ])("%s", (_name, config, expected) => {
    expect(read({ ...plain, ...config })).toEqual({
      layers: 4,
      heads: 8,
      embeddingLength: 64,
      ...expected,
    });
  });
  test("a model without attention", () => {
    const mamba = { num_hidden_layers: 2, hidden_size: 64, state_size: 16, conv_kernel: 4, expand: 2 };
    expect(read(mamba)).toEqual({
      layers: 2,
      embeddingLength: 64,
      attentionLayers: 0,
      recurrentLayers: 2,
      recurrentStateBytes: (128 * 16 + 3 * 128) * 4,
    });
  });
  test("no more than it states: words we do not know count as the dearest kind", () => {
    const config = { ...plain, layer_types: ["full_attention", "quantum", "mlp", 7] };
    expect(read(config)).toMatchObject({ attentionLayers: 3 });
    expect(read({ ...plain, layer_types: ["mlp"] })).not.toHaveProperty("attentionLayers");
  });
});
