// Makes a real llama-architecture model small enough for tests, from nothing but a seed: llama.cpp loads it and generates with it.
// Its weights are set so that it recites one sentence, so an answer proves which file was loaded. It is no language model.

import type { GgufElementType, GgufFile, GgufTensor, GgufValue } from "./gguf-writer.ts";

export type TinyModelShape = {
  readonly embeddingLength: number;
  readonly blockCount: number;
  readonly feedForwardLength: number;
  readonly headCount: number;
  readonly headCountKv: number;
  /** Tokens the model says it was trained for. */
  readonly contextLength: number;
  /** At least 260 and the words of the sentence. */
  readonly vocabularySize: number;
};

export type TinyModelOptions = {
  readonly shape?: Partial<TinyModelShape>;
  readonly name?: string;
  /** What it answers to any prompt, then end of text. Its words, split at spaces, must differ from each other. */
  readonly sentence?: string;
  readonly seed?: number;
  /** Type of the matrices; vectors are always F32, as llama.cpp expects. */
  readonly elementType?: GgufElementType;
  /** `general.file_type` where it is to claim another quantization than the data has (15 is Q4_K_M). */
  readonly fileType?: number;
  /** Added to the metadata, or replacing entries of it. */
  readonly metadata?: Readonly<Record<string, GgufValue>>;
};

export const tinyModelShape: TinyModelShape = {
  embeddingLength: 64,
  blockCount: 2,
  feedForwardLength: 128,
  headCount: 4,
  headCountKv: 2,
  contextLength: 2048,
  vocabularySize: 300,
};

export const tinyModelSentence = "The model was pulled, verified and served on this node.";

const tokenTypes = { normal: 1, unknown: 2, control: 3, byte: 6 } as const;
const endOfTextToken = 2;
const space = "\u2581";

type Vocabulary = {
  readonly tokens: readonly string[];
  readonly types: readonly number[];
  /** Tokens of the sentence, in order. */
  readonly wordTokens: readonly number[];
};

function sentencePieceVocabulary(size: number, sentence: string): Vocabulary {
  const words = sentence.split(" ").filter((word) => word !== "");
  if (words.length === 0 || new Set(words).size !== words.length) {
    throw new RangeError(`the sentence ${JSON.stringify(sentence)} must have words, each of them once`);
  }
  const bytes = Array.from(
    { length: 256 },
    (_, byte) => `<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`,
  );
  const named = ["<unk>", "<s>", "</s>", ...bytes, space, ...words.map((word) => space + word)];
  if (size < named.length) {
    throw new RangeError(
      `a vocabulary of ${size} tokens is too small for this sentence; it needs ${named.length}`,
    );
  }
  const filler = Array.from({ length: size - named.length }, (_, index) => `<|filler-${index}|>`);
  const tokens = [...named, ...filler];
  const types = tokens.map((_, token) => {
    if (token === 0) return tokenTypes.unknown;
    if (token < 3) return tokenTypes.control;
    return token < 259 ? tokenTypes.byte : tokenTypes.normal;
  });
  return { tokens, types, wordTokens: words.map((_, index) => 260 + index) };
}

/** Small, fast, good enough: mulberry32 (public domain), uniform in [0, 1). */
function seededRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}

/** One row of the embedding: what the residual stream starts with, and, the blocks adding little, about what it ends with. */
function embeddingRow(token: number, isWord: boolean, length: number, seed: number): Float32Array {
  const random = seededRandom(seed + 7919 * (token + 1));
  const row = new Float32Array(length);
  for (let index = 1; index < length; index++) row[index] = (random() < 0.5 ? -1 : 1) * (isWord ? 1 : 0.25);
  // Every token outside the sentence shares this direction, from which the first word follows.
  if (!isWord) row[0] = Math.sqrt(length);
  return row;
}

const outputGain = 4;

function outputRow(token: number, vocabulary: Vocabulary, length: number, seed: number): Float32Array {
  const row = new Float32Array(length);
  const { wordTokens } = vocabulary;
  if (token === wordTokens[0]) {
    row[0] = outputGain;
    return row;
  }
  const position = token === endOfTextToken ? wordTokens.length : wordTokens.indexOf(token);
  const previous = wordTokens[position - 1];
  if (previous === undefined) return row;
  return embeddingRow(previous, true, length, seed).map((value) => (value * outputGain) / Math.sqrt(length));
}

function* rows(count: number, row: (index: number) => Float32Array): Generator<Float32Array> {
  for (let index = 0; index < count; index++) yield row(index);
}

/**
 * Describes the model; `writeGguf` writes it. The same options give the same bytes on every machine.
 * Throws RangeError when the shape cannot be a model.
 */
export function tinyModel(options: TinyModelOptions = {}): GgufFile {
  const shape = { ...tinyModelShape, ...options.shape };
  const { embeddingLength, headCount, headCountKv } = shape;
  if (embeddingLength % (2 * headCount) !== 0 || headCount % headCountKv !== 0) {
    throw new RangeError(
      `${embeddingLength} dimensions, ${headCount} heads and ${headCountKv} key/value heads do not divide evenly`,
    );
  }
  const seed = options.seed ?? 1;
  const elementType = options.elementType ?? "F16";
  const vocabulary = sentencePieceVocabulary(shape.vocabularySize, options.sentence ?? tinyModelSentence);
  const firstWord = vocabulary.wordTokens[0] ?? 0;
  const isWord = (token: number): boolean =>
    token >= firstWord && token < firstWord + vocabulary.wordTokens.length;

  const headLength = embeddingLength / headCount;
  const metadata = new Map<string, GgufValue>([
    ["general.architecture", { type: "string", value: "llama" }],
    ["general.name", { type: "string", value: options.name ?? "tiny" }],
    ["general.file_type", { type: "uint32", value: options.fileType ?? (elementType === "F16" ? 1 : 0) }],
    ["llama.context_length", { type: "uint32", value: shape.contextLength }],
    ["llama.embedding_length", { type: "uint32", value: embeddingLength }],
    ["llama.block_count", { type: "uint32", value: shape.blockCount }],
    ["llama.feed_forward_length", { type: "uint32", value: shape.feedForwardLength }],
    ["llama.attention.head_count", { type: "uint32", value: headCount }],
    ["llama.attention.head_count_kv", { type: "uint32", value: headCountKv }],
    ["llama.attention.layer_norm_rms_epsilon", { type: "float32", value: 1e-5 }],
    ["llama.rope.dimension_count", { type: "uint32", value: headLength }],
    ["llama.vocab_size", { type: "uint32", value: shape.vocabularySize }],
    ["tokenizer.ggml.model", { type: "string", value: "llama" }],
    ["tokenizer.ggml.tokens", { type: "strings", value: vocabulary.tokens }],
    ["tokenizer.ggml.scores", { type: "float32s", value: vocabulary.tokens.map(() => 0) }],
    ["tokenizer.ggml.token_type", { type: "int32s", value: vocabulary.types }],
    ["tokenizer.ggml.bos_token_id", { type: "uint32", value: 1 }],
    ["tokenizer.ggml.eos_token_id", { type: "uint32", value: endOfTextToken }],
    ["tokenizer.ggml.unknown_token_id", { type: "uint32", value: 0 }],
  ]);
  for (const [key, value] of Object.entries(options.metadata ?? {})) metadata.set(key, value);

  const matrix = (
    name: string,
    columns: number,
    rowCount: number,
    row: (index: number) => Float32Array,
  ): GgufTensor => ({
    name,
    dimensions: [columns, rowCount],
    elementType,
    values: () => rows(rowCount, row),
  });
  const norm = (name: string): GgufTensor => ({
    name,
    dimensions: [embeddingLength],
    elementType: "F32",
    values: () => [new Float32Array(embeddingLength).fill(1)],
  });
  // Small weights: the blocks really run, and change little of what the embedding and the output say.
  const random = (name: string, block: number, kind: number, columns: number, rowCount: number): GgufTensor =>
    matrix(`blk.${block}.${name}.weight`, columns, rowCount, (index) => {
      const next = seededRandom(seed + 104729 * (block + 1) + 1299709 * kind + 15485863 * index);
      return new Float32Array(columns).map(() => (next() - 0.5) * 0.04);
    });
  const keyValueLength = headLength * headCountKv;
  const tensors: GgufTensor[] = [
    matrix("token_embd.weight", embeddingLength, shape.vocabularySize, (token) =>
      embeddingRow(token, isWord(token), embeddingLength, seed),
    ),
    norm("output_norm.weight"),
    matrix("output.weight", embeddingLength, shape.vocabularySize, (token) =>
      outputRow(token, vocabulary, embeddingLength, seed),
    ),
  ];
  for (let block = 0; block < shape.blockCount; block++) {
    tensors.push(
      norm(`blk.${block}.attn_norm.weight`),
      random("attn_q", block, 1, embeddingLength, embeddingLength),
      random("attn_k", block, 2, embeddingLength, keyValueLength),
      random("attn_v", block, 3, embeddingLength, keyValueLength),
      random("attn_output", block, 4, embeddingLength, embeddingLength),
      norm(`blk.${block}.ffn_norm.weight`),
      random("ffn_gate", block, 5, embeddingLength, shape.feedForwardLength),
      random("ffn_up", block, 6, embeddingLength, shape.feedForwardLength),
      random("ffn_down", block, 7, shape.feedForwardLength, embeddingLength),
    );
  }
  return { metadata, tensors };
}
