// Takes architecture facts from the config.json of a transformers-style repository. Lenient: what is missing or of a
// wrong type is left out. Pure.

import type { ArchitectureFacts } from "../contract.ts";
import { AppError } from "../oci/errors.ts";
import { decodeJson } from "../oci/strict-json.ts";
import { countableFacts } from "./countable-facts.ts";

/** Largest config.json that is read, bytes. */
export const maxTransformerConfigBytes = 1024 * 1024;

/** Names under which configs state a number, the first valid one wins. */
const names = {
  contextLength: [
    "max_position_embeddings",
    "n_ctx",
    "n_positions",
    "max_length",
    "max_sequence_length",
    "model_max_length",
  ],
  layers: ["num_hidden_layers", "n_layer", "n_layers", "num_layers"],
  heads: ["num_attention_heads", "n_head", "n_heads"],
  keyValueHeads: ["num_key_value_heads", "num_kv_heads", "n_head_kv"],
  keyLength: ["head_dim"],
  valueLength: ["head_dim"],
  embeddingLength: ["hidden_size", "n_embd", "d_model"],
  vocabularySize: ["vocab_size", "padded_vocab_size"],
  feedForwardLength: ["intermediate_size", "ffn_hidden_size", "n_inner", "d_ff"],
  experts: ["num_experts", "n_routed_experts", "num_local_experts", "moe_num_experts"],
  expertsUsed: ["num_experts_per_tok", "experts_per_token", "moe_topk", "num_experts_per_token"],
  expertLength: ["moe_intermediate_size"],
} as const satisfies Partial<Record<keyof ArchitectureFacts, readonly string[]>>;

/** Where models of several parts keep the numbers of their language model. */
const nestings = ["text_config", "llm_config", "language_config"] as const;

/** Words of `layer_types` and `layers_block_type`. */
const layerKinds: Readonly<Record<string, "full" | "sliding" | "recurrent" | "none">> = {
  full_attention: "full",
  attention: "full",
  hybrid: "full",
  sliding_attention: "sliding",
  chunked_attention: "sliding",
  linear_attention: "recurrent",
  mamba: "recurrent",
  mamba2: "recurrent",
  recurrent: "recurrent",
  conv: "recurrent",
  mlp: "none",
  moe: "none",
};
const patternKinds: Readonly<Record<string, "full" | "recurrent" | "none">> = {
  M: "recurrent",
  "*": "full",
  "-": "none",
  E: "none",
};
/** Layers listed at most; no model has as many. */
const maxLayers = 4096;
/** Recurrent state is counted in 32-bit floats. */
const stateElementBytes = 4;

type Config = Readonly<Record<string, unknown>>;
type Facts = { -readonly [Key in keyof ArchitectureFacts]: ArchitectureFacts[Key] };

/** Reads the facts of a config.json. Throws AppError InvalidArtifact where it is no JSON object. */
export function readTransformerConfig(bytes: Uint8Array): ArchitectureFacts {
  const root = asRecord(decodeJson(bytes, "config.json"));
  if (root === undefined) throw new AppError("InvalidArtifact", "config.json is not a JSON object");
  const records: Config[] = [root];
  for (const name of nestings) {
    const nested = asRecord(root[name]);
    if (nested !== undefined) records.push(nested);
  }
  const facts: Facts = {};
  const architecture = readArchitecture(root);
  if (architecture !== undefined) facts.architecture = architecture;
  const number = (...keys: readonly string[]): number | undefined =>
    records.flatMap((record) => keys.map((key) => record[key])).find(isPositiveInteger);
  for (const [fact, keys] of Object.entries(names) as [keyof typeof names, readonly string[]][]) {
    const value = number(...keys);
    if (value !== undefined) facts[fact] = value;
  }
  const found = (key: string): unknown =>
    records.map((record) => record[key]).find((value) => value !== undefined);
  const rank = number("kv_lora_rank");
  if (rank !== undefined) facts.latentLength = rank + (number("qk_rope_head_dim") ?? 0);
  const window =
    found("use_sliding_window") === false ? undefined : number("sliding_window", "attention_chunk_size");
  if (window !== undefined) facts.slidingWindow = window;
  addLayerKinds(facts, found, number);
  return countableFacts(facts);
}

/** Which layers keep what: from a list of words, a pattern of letters, or an interval. */
function addLayerKinds(
  facts: Facts,
  found: (key: string) => unknown,
  number: (...keys: readonly string[]) => number | undefined,
): void {
  const { layers } = facts;
  if (layers === undefined || layers > maxLayers) return;
  const stateBytes = recurrentStateBytes(facts, number);
  const kinds = listedKinds(found);
  if (kinds !== undefined && kinds.length === layers) {
    const count = (kind: string): number => kinds.filter((each) => each === kind).length;
    const attention = count("full") + count("sliding");
    if (attention < layers) facts.attentionLayers = attention;
    if (facts.slidingWindow !== undefined) facts.slidingLayers = count("sliding");
    if (count("recurrent") > 0 && stateBytes > 0) {
      facts.recurrentLayers = count("recurrent");
      facts.recurrentStateBytes = stateBytes;
    }
    return;
  }
  const pattern = number("sliding_window_pattern");
  if (facts.slidingWindow !== undefined && pattern !== undefined)
    facts.slidingLayers = layers - Math.floor(layers / pattern);
  const interval = number("full_attention_interval", "attn_layer_period");
  const indices = found("attn_layer_indices");
  const attention = Array.isArray(indices)
    ? Math.min(indices.length, layers)
    : interval === undefined
      ? undefined
      : Math.floor(layers / interval);
  if (attention !== undefined) facts.attentionLayers = attention;
  const isPure = facts.heads === undefined;
  if (stateBytes > 0 && (attention !== undefined || isPure)) {
    if (isPure) facts.attentionLayers = 0;
    facts.recurrentLayers = layers - (attention ?? 0);
    facts.recurrentStateBytes = stateBytes;
  }
}

function listedKinds(
  found: (key: string) => unknown,
): readonly ("full" | "sliding" | "recurrent" | "none")[] | undefined {
  const words = found("layer_types") ?? found("layers_block_type");
  if (Array.isArray(words) && words.length <= maxLayers)
    // A word we do not know is taken for the dearest kind.
    return words.map((word: unknown) => layerKinds[typeof word === "string" ? word : ""] ?? "full");
  const letters = found("hybrid_override_pattern");
  if (typeof letters === "string" && letters.length <= maxLayers)
    return letters.split("").map((letter) => patternKinds[letter] ?? "full");
  return undefined;
}

/** State of one recurrent layer for one sequence, bytes; 0 where the config does not tell. */
function recurrentStateBytes(
  facts: Facts,
  number: (...keys: readonly string[]) => number | undefined,
): number {
  const keyHeads = number("linear_num_key_heads");
  const valueHeads = number("linear_num_value_heads");
  const keyLength = number("linear_key_head_dim");
  const valueLength = number("linear_value_head_dim");
  const kernel =
    number("mamba_d_conv", "linear_conv_kernel_dim", "conv_kernel", "d_conv", "conv_L_cache") ?? 1;
  if (
    keyHeads !== undefined &&
    valueHeads !== undefined &&
    keyLength !== undefined &&
    valueLength !== undefined
  ) {
    const channels = 2 * keyHeads * keyLength + valueHeads * valueLength;
    return (valueHeads * keyLength * valueLength + (kernel - 1) * channels) * stateElementBytes;
  }
  const state = number("mamba_d_state", "ssm_state_size", "state_size", "d_state");
  const heads = number("mamba_n_heads", "mamba_num_heads");
  const headLength = number("mamba_d_head", "mamba_head_dim");
  const inner =
    heads !== undefined && headLength !== undefined
      ? heads * headLength
      : (number("mamba_d_ssm", "d_inner") ??
        (facts.embeddingLength ?? 0) * (number("mamba_expand", "expand") ?? 2));
  if (state === undefined)
    return kernel > 1 ? (kernel - 1) * (facts.embeddingLength ?? 0) * stateElementBytes : 0;
  const groups = number("mamba_n_groups", "n_groups") ?? 0;
  return (inner * state + (kernel - 1) * (inner + 2 * groups * state)) * stateElementBytes;
}

function readArchitecture(root: Config): string | undefined {
  const list: unknown = root["architectures"];
  const candidates: readonly unknown[] = [
    ...(Array.isArray(list) ? list.slice(0, 1) : []),
    root["model_type"],
  ];
  return candidates.find((name): name is string => typeof name === "string" && /^[\w.+-]{1,64}$/u.test(name));
}

function asRecord(value: unknown): Config | undefined {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Config) : undefined;
}

/** 32-bit, as engines take these numbers; some repositories state 1e30 for "no limit". */
function isPositiveInteger(value: unknown): value is number {
  return Number.isInteger(value) && (value as number) > 0 && (value as number) < 2 ** 31;
}
