// Reads the config blob of a model artifact, leniently: a field of a wrong type counts as absent, except the list of
// diff ids, which must fit the layers. Pure.

import * as z from "zod";

import type { ModelFormat } from "../contract.ts";
import { digestProblem, isDigest } from "../oci/digest.ts";
import { AppError } from "../oci/errors.ts";
import { limits } from "../oci/limits.ts";
import type { Digest } from "../oci/types.ts";
import { decodeJson } from "../oci/strict-json.ts";

/** Largest config blob that is read, bytes. Real ones are tens of KB: Docker's copy the whole GGUF header. */
export const maxConfigBytes = limits.configBytes;

/** What a config states. Everything is for display and for choosing; nothing here is trusted for sizes. */
export type ModelConfig = {
  /** Undefined for none, and for formats we do not know (ONNX, PyTorch). */
  readonly format: ModelFormat | undefined;
  readonly quantization: string | undefined;
  readonly parameters: string | undefined;
  readonly architecture: string | undefined;
  /** Tokens; undefined too for -1, which means "no limit". */
  readonly contextLength: number | undefined;
  /** One per layer in order, where the config has the list. */
  readonly diffIds: readonly Digest[] | undefined;
};

export const emptyModelConfig: ModelConfig = {
  format: undefined,
  quantization: undefined,
  parameters: undefined,
  architecture: undefined,
  contextLength: undefined,
  diffIds: undefined,
};

// Words as tools write them ("IQ2_XXS/Q4_K_M", "361.82 M"). Others are dropped, not shown: they would travel into messages.
const displayString = z
  .string()
  .trim()
  .regex(/^[\w.+:,/ -]{1,64}$/u)
  .optional()
  .catch(undefined);

const record = z.record(z.string(), z.unknown()).catch({});

const configSchema = z.object({
  config: z
    .object({
      format: displayString,
      quantization: displayString,
      precision: displayString,
      parameters: displayString,
      paramSize: displayString,
      architecture: displayString,
      context_size: z.number().int().positive().max(Number.MAX_SAFE_INTEGER).optional().catch(undefined),
      gguf: record.optional().catch(undefined),
    })
    .catch({}),
  rootfs: record.optional().catch(undefined),
  modelfs: record.optional().catch(undefined),
});

/**
 * Reads a config blob of either family; which one it is does not matter, since their keys do not clash.
 * Throws AppError InvalidArtifact when it is no JSON object, or its diff ids are no digests or not one per layer.
 */
export function parseModelConfig(bytes: Uint8Array, layerCount: number): ModelConfig {
  if (bytes.byteLength > maxConfigBytes)
    throw new AppError(
      "InvalidArtifact",
      `model config has ${bytes.byteLength} bytes; at most ${maxConfigBytes} are read`,
    );
  const parsed = configSchema.safeParse(decodeJson(bytes, "model config"));
  if (!parsed.success) throw new AppError("InvalidArtifact", "model config is not a JSON object");
  const { config, rootfs, modelfs } = parsed.data;
  return {
    format: normaliseFormat(config.format),
    quantization: normaliseQuantization(config.quantization) ?? precisionName(config.precision),
    parameters: statedOrUndefined(config.parameters ?? config.paramSize),
    architecture: statedOrUndefined(config.architecture),
    contextLength: config.context_size,
    diffIds: readDiffIds(rootfs?.["diff_ids"] ?? modelfs?.["diffIds"] ?? modelfs?.["diff_ids"], layerCount),
  };
}

/** The format that a config's word means; undefined for words we do not know. */
export function normaliseFormat(word: string | undefined): ModelFormat | undefined {
  return word === undefined ? undefined : formats.get(word.toLowerCase());
}

const formats: ReadonlyMap<string, ModelFormat> = new Map<string, ModelFormat>([
  ["gguf", "gguf"],
  ["safetensors", "safetensors"],
  ["dduf", "dduf"],
  ["diffusers", "dduf"],
]);

/** `MOSTLY_Q4_K_M` -> `Q4_K_M`; undefined for the words by which tools say that they do not know. */
export function normaliseQuantization(word: string | undefined): string | undefined {
  return statedOrUndefined(word)?.replace(/^MOSTLY_/iu, "");
}

function statedOrUndefined(word: string | undefined): string | undefined {
  return word === undefined || /^(?:unknown|n\/a)$/iu.test(word) ? undefined : word;
}

/** ModelPack states unquantized weights by `precision` only. */
function precisionName(precision: string | undefined): string | undefined {
  return statedOrUndefined(
    precision === undefined
      ? undefined
      : (precisions.get(precision.toLowerCase()) ?? precision.toUpperCase()),
  );
}

const precisions: ReadonlyMap<string, string> = new Map([
  ["float32", "F32"],
  ["fp32", "F32"],
  ["float16", "F16"],
  ["fp16", "F16"],
  ["bfloat16", "BF16"],
]);

function readDiffIds(value: unknown, layerCount: number): readonly Digest[] | undefined {
  if (value === undefined || value === null) return undefined;
  if (!Array.isArray(value))
    throw new AppError("InvalidArtifact", "diff ids of the model config are not a list");
  if (value.length === 0) return undefined;
  if (value.length !== layerCount)
    throw new AppError(
      "InvalidArtifact",
      `model config lists ${value.length} diff ids for ${layerCount} layers; the artifact must be packaged again`,
    );
  return value.map((item: unknown, index) => {
    if (!isDigest(item))
      throw new AppError(
        "InvalidArtifact",
        `diff id ${index + 1} of the model config: ${digestProblem(item)}; the artifact must be packaged again`,
      );
    return item;
  });
}
