// How good a quantization is, for ordering variants of one model: one table for `inspect`, which keeps the best, and for the
// operator, which chooses. Pure.

/** What the order needs of a variant. */
export type Graded = {
  /** Normalised, as `inspect` tells it (`Q4_K_M`); absent: not stated. */
  readonly quantization?: string;
  /** Display string (`8.03B`); absent: not stated. */
  readonly parameters?: string;
  /** Sum of the sizes of weight layers, bytes; absent: not known. */
  readonly weightBytes?: number;
};

/**
 * Effective bits of one weight, by name: the mean over a file as llama.cpp's `quantize` prints it for an 8B model, with
 * the older `_0` and `_1` kinds below the K-quants of their size, since their error is larger. Two names never share a number
 * unless they are the same thing.
 */
const effectiveBits: ReadonlyMap<string, number> = new Map([
  ["F64", 64],
  ["F32", 32],
  ["BF16", 16.1],
  ["F16", 16],
  ["Q8_K_XL", 8.8],
  ["Q8_1", 8.6],
  ["Q8_0", 8.5],
  ["FP8", 8.2],
  ["INT8", 8],
  ["Q6_K_XL", 6.8],
  ["Q6_K_L", 6.7],
  ["Q6_K", 6.56],
  ["Q5_K_XL", 5.8],
  ["Q5_K_L", 5.75],
  ["Q5_K_M", 5.7],
  ["Q5_K_S", 5.57],
  ["Q5_1", 5.4],
  ["Q5_0", 5.3],
  ["Q4_K_XL", 4.97],
  ["Q4_K_L", 4.94],
  ["Q4_K_M", 4.89],
  ["Q4_K_S", 4.67],
  ["IQ4_NL", 4.66],
  ["MXFP4", 4.6],
  ["NVFP4", 4.58],
  ["IQ4_XS", 4.46],
  ["AWQ", 4.4],
  ["GPTQ", 4.35],
  ["INT4", 4.33],
  ["Q4_1", 4.31],
  ["Q4_0", 4.3],
  ["Q3_K_XL", 4.29],
  ["Q3_K_L", 4.22],
  ["Q3_K_M", 3.96],
  ["IQ3_M", 3.76],
  ["IQ3_S", 3.66],
  ["Q3_K_S", 3.6],
  ["IQ3_XS", 3.5],
  ["IQ3_XXS", 3.25],
  ["Q2_K_XL", 3.2],
  ["Q2_K_L", 3.15],
  ["Q2_K", 3.1],
  ["Q2_K_S", 2.97],
  ["IQ2_M", 2.93],
  ["IQ2_S", 2.74],
  ["IQ2_XS", 2.59],
  ["IQ2_XXS", 2.38],
  ["TQ2_0", 2.2],
  ["IQ1_M", 2.15],
  ["IQ1_S", 2],
  ["TQ1_0", 1.8],
]);

const synonyms: ReadonlyMap<string, string> = new Map([
  ["FP32", "F32"],
  ["FLOAT32", "F32"],
  ["FP16", "F16"],
  ["FLOAT16", "F16"],
  ["BFLOAT16", "BF16"],
  ["F8_E4M3", "FP8"],
  ["F8_E5M2", "FP8"],
  ["FLOAT8_E4M3", "FP8"],
  ["FLOAT8_E5M2", "FP8"],
  ["I8", "INT8"],
  ["I4", "INT4"],
  ["Q6_K_M", "Q6_K"],
  ["MXFP4_MOE", "MXFP4"],
]);

/** Names of the table, best first. */
export const knownQuantizations: readonly string[] = [...effectiveBits.keys()];

/**
 * Effective bits of a weight for a quantization's name in any case, with `MOSTLY_` or `UD-` before it or not; of two names
 * (`IQ2_XXS/Q4_K_M`: the tool was not sure) the fewer. Undefined for names that are not in the table.
 */
export function quantizationBits(quantization: string): number | undefined {
  const bits = quantization
    .toUpperCase()
    .split("/")
    .map((name) =>
      name
        .trim()
        .replace(/^MOSTLY_/u, "")
        .replace(/^UD[-_]/u, ""),
    )
    .map((name) => effectiveBits.get(synonyms.get(name) ?? name));
  return bits.reduce((least, each) =>
    least === undefined || each === undefined ? undefined : Math.min(least, each),
  );
}

/** Number of parameters that a display string means (`8.03B`, `361.82 M`, `183`, `30B-A3B`: all experts); undefined for none. */
export function parameterCount(parameters: string): number | undefined {
  const match = /^(\d+(?:\.\d+)?)\s*([KMBTQ]?)(?:-A\d+(?:\.\d+)?[KMBT])?$/iu.exec(parameters.trim());
  if (match === null) return undefined;
  const scale = { "": 1, K: 1e3, M: 1e6, B: 1e9, T: 1e12, Q: 1e15 }[(match[2] ?? "").toUpperCase()] ?? 1;
  return Math.round(Number(match[1]) * scale);
}

/** Bits of a weight: by name, else from the size of the weights; 0 where neither tells, so that the unknown comes last. */
function bitsOf({ quantization, parameters, weightBytes }: Graded): number {
  const named = quantization === undefined ? undefined : quantizationBits(quantization);
  if (named !== undefined) return named;
  const count = parameters === undefined ? undefined : parameterCount(parameters);
  return count === undefined || count === 0 || weightBytes === undefined ? 0 : (weightBytes * 8) / count;
}

/** Sizes of models in steps of one half: two tools that count the embeddings differently are in one class. 0: not stated. */
function sizeClass({ parameters }: Graded): number {
  const count = parameters === undefined ? undefined : parameterCount(parameters);
  return count === undefined || count < 1 ? 0 : Math.round(Math.log(count) / Math.log(1.5));
}

/**
 * Orders variants by quality, best first: more parameters (by a step of one half or more), then more bits of a weight, then
 * more bytes. 0 for variants that are equal in all three. A total order: for `sort`.
 */
export function compareQuality(one: Graded, other: Graded): number {
  return (
    sizeClass(other) - sizeClass(one) ||
    bitsOf(other) - bitsOf(one) ||
    (other.weightBytes ?? 0) - (one.weightBytes ?? 0)
  );
}
