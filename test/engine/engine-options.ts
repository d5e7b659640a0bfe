// Reads the flags and environment variables of llama-server that the engine serves. Opens nothing.

import { parseArgs } from "node:util";

export type EngineOptions = {
  readonly modelPath: string;
  readonly host: string;
  readonly port: number;
  /** Tokens per request; 0 takes the model's own context length. */
  readonly contextLength: number;
  /** Name under which the model is served. */
  readonly alias: string | undefined;
  /** Requests generated at once; each has a whole context of its own. */
  readonly parallel: number;
  /** 0 takes one per core. */
  readonly threads: number;
};

/** A flag that is missing, unknown or not understood; the message says which and what to do. */
export class EngineUsageError extends Error {
  override name = "EngineUsageError";
}

function wholeNumber(flag: string, text: string, most: number): number {
  const value = Number(text);
  if (!/^\d+$/.test(text) || value > most) {
    throw new EngineUsageError(`${flag} is ${JSON.stringify(text)}: give a whole number from 0 to ${most}`);
  }
  return value;
}

const flags = {
  model: { type: "string", short: "m" },
  host: { type: "string" },
  port: { type: "string" },
  "ctx-size": { type: "string", short: "c" },
  alias: { type: "string", short: "a" },
  parallel: { type: "string" },
  threads: { type: "string", short: "t" },
  // Accepted since llama-server's callers give it; a CPU build has no layer to put on a GPU, there as here.
  "n-gpu-layers": { type: "string" },
} as const;

// llama-server has short flags of more than one letter, which node's parser does not know.
const longerNames = new Map([
  ["-np", "--parallel"],
  ["-ngl", "--n-gpu-layers"],
  ["--gpu-layers", "--n-gpu-layers"],
]);

/** Flags win over environment variables (llama-server's own, and MODEL_PATH). Throws EngineUsageError. */
export function engineOptions(
  args: readonly string[],
  environment: Readonly<Record<string, string | undefined>>,
): EngineOptions {
  const given = ((): Partial<Record<keyof typeof flags, string>> => {
    try {
      const known = args.map((argument) => longerNames.get(argument) ?? argument);
      return parseArgs({ args: known, options: flags, allowPositionals: false }).values;
    } catch (error) {
      throw new EngineUsageError(error instanceof Error ? error.message : String(error));
    }
  })();
  const modelPath = given.model ?? environment["LLAMA_ARG_MODEL"] ?? environment["MODEL_PATH"];
  if (modelPath === undefined || modelPath === "") {
    throw new EngineUsageError("no model: give --model PATH or set MODEL_PATH");
  }
  return {
    modelPath,
    host: given.host ?? environment["LLAMA_ARG_HOST"] ?? "127.0.0.1",
    port: wholeNumber("--port", given.port ?? environment["LLAMA_ARG_PORT"] ?? "8080", 65535),
    contextLength: wholeNumber(
      "--ctx-size",
      given["ctx-size"] ?? environment["LLAMA_ARG_CTX_SIZE"] ?? "0",
      1 << 20,
    ),
    alias: given.alias ?? environment["LLAMA_ARG_ALIAS"],
    parallel: Math.max(
      1,
      wholeNumber("--parallel", given.parallel ?? environment["LLAMA_ARG_N_PARALLEL"] ?? "1", 64),
    ),
    threads: wholeNumber("--threads", given.threads ?? environment["LLAMA_ARG_THREADS"] ?? "0", 1024),
  };
}
