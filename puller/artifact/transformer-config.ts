// Takes architecture facts from the config.json of a transformers-style repository. Lenient: what is missing or of a
// wrong type is left out. Pure.

import type { ArchitectureFacts } from "../contract.ts";
import { AppError } from "../oci/errors.ts";
import { decodeJson } from "./strict-json.ts";

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
} as const satisfies Partial<Record<keyof ArchitectureFacts, readonly string[]>>;

/** Where models of several parts keep the numbers of their language model. */
const nestings = ["text_config", "llm_config", "language_config"] as const;

/** Reads the facts of a config.json. Throws AppError InvalidArtifact where it is no JSON object. */
export function readTransformerConfig(bytes: Uint8Array): ArchitectureFacts {
  const root = asRecord(decodeJson(bytes, "config.json"));
  if (root === undefined) throw new AppError("InvalidArtifact", "config.json is not a JSON object");
  const records: Readonly<Record<string, unknown>>[] = [root];
  for (const name of nestings) {
    const nested = asRecord(root[name]);
    if (nested !== undefined) records.push(nested);
  }
  const facts: { -readonly [Key in keyof ArchitectureFacts]: ArchitectureFacts[Key] } = {};
  const architecture = readArchitecture(root);
  if (architecture !== undefined) facts.architecture = architecture;
  for (const [fact, keys] of Object.entries(names) as [keyof typeof names, readonly string[]][]) {
    const value = records.flatMap((record) => keys.map((key) => record[key])).find(isPositiveInteger);
    if (value !== undefined) facts[fact] = value;
  }
  return facts;
}

function readArchitecture(root: Readonly<Record<string, unknown>>): string | undefined {
  const list: unknown = root["architectures"];
  const candidates: readonly unknown[] = [
    ...(Array.isArray(list) ? list.slice(0, 1) : []),
    root["model_type"],
  ];
  return candidates.find((name): name is string => typeof name === "string" && /^[\w.+-]{1,64}$/u.test(name));
}

function asRecord(value: unknown): Readonly<Record<string, unknown>> | undefined {
  return typeof value === "object" && value !== null && !Array.isArray(value)
    ? (value as Readonly<Record<string, unknown>>)
    : undefined;
}

/** 32-bit, as engines take these numbers; some repositories state 1e30 for "no limit". */
function isPositiveInteger(value: unknown): value is number {
  return Number.isInteger(value) && (value as number) > 0 && (value as number) < 2 ** 31;
}
