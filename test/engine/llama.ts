// Loads a GGUF file with llama.cpp and generates text with it. Knows no HTTP.

import { open } from "node:fs/promises";
import { availableParallelism } from "node:os";
import type { EngineOptions } from "./engine-options.ts";

export type Generation = {
  readonly text: string;
  readonly promptTokens: number;
  readonly completionTokens: number;
  /** "stop": the model ended the text itself or a stop text came up; "length": the limit did. */
  readonly finishReason: "stop" | "length";
};

export type GenerationRequest = {
  readonly prompt: string;
  /** Most tokens to generate; undefined: to the end of the context. */
  readonly maxTokens: number | undefined;
  readonly temperature: number;
  readonly seed: number | undefined;
  readonly stopTexts: readonly string[];
};

/** A loaded model. */
export type LlamaEngine = {
  readonly name: string;
  readonly sizeBytes: number;
  /** Tokens per request. */
  readonly contextLength: number;
  readonly trainedContextLength: number;
  readonly embeddingLength: number;
  readonly vocabularySize: number;
  readonly generate: (request: GenerationRequest, signal: AbortSignal) => Promise<Generation>;
  readonly close: () => Promise<void>;
};

/** The prompt leaves no room to answer. */
export class PromptTooLongError extends Error {
  override name = "PromptTooLongError";
}

// The part of node-llama-cpp that is used here. Its package lives beside this file in the engine's image and not in the
// project's own dependencies, so its types are not at hand when the project is type-checked.
type ContextSequence = {
  readonly clearHistory: () => Promise<void>;
  readonly tokenMeter: { readonly getState: () => { usedInputTokens: number; usedOutputTokens: number } };
};
type NativeContext = {
  readonly contextSize: number;
  readonly getSequence: () => ContextSequence;
};
type NativeModel = {
  readonly size: number;
  readonly trainContextSize: number;
  readonly embeddingVectorSize: number;
  readonly fileInfo: { readonly metadata: { readonly general?: { readonly name?: string } } };
  readonly vocabularyType: string;
  readonly iterateAllTokens: () => Iterable<number>;
  readonly tokenize: (text: string, specialTokens?: boolean) => readonly number[];
  readonly createContext: (options: {
    readonly contextSize: number;
    readonly sequences: number;
    readonly threads: number;
  }) => Promise<NativeContext>;
};
type NodeLlamaCpp = {
  readonly getLlama: (options: Readonly<Record<string, unknown>>) => Promise<{
    readonly loadModel: (options: {
      readonly modelPath: string;
      readonly gpuLayers: number;
    }) => Promise<NativeModel>;
    readonly dispose: () => Promise<void>;
  }>;
  readonly LlamaLogLevel: { readonly warn: string };
  readonly LlamaCompletion: new (options: { readonly contextSequence: ContextSequence }) => {
    readonly generateCompletionWithMeta: (
      prompt: string,
      options: Readonly<Record<string, unknown>>,
    ) => Promise<{ readonly response: string; readonly metadata: { readonly stopReason: string } }>;
    readonly dispose: (options: { readonly disposeSequence: boolean }) => void;
  };
};

/** Gives out `count` things one request each; the others wait in order. */
class Slots<Slot> {
  readonly #free: Slot[];
  readonly #waiting: ((slot: Slot) => void)[] = [];

  constructor(slots: readonly Slot[]) {
    this.#free = [...slots];
  }

  async use<Result>(work: (slot: Slot) => Promise<Result>): Promise<Result> {
    const slot = this.#free.pop() ?? (await new Promise<Slot>((resolve) => this.#waiting.push(resolve)));
    try {
      return await work(slot);
    } finally {
      const next = this.#waiting.shift();
      if (next === undefined) this.#free.push(slot);
      else next(slot);
    }
  }
}

// node-llama-cpp reads a file of another kind or version without end instead of refusing it.
async function refuseOtherFiles(modelPath: string): Promise<void> {
  const file = await open(modelPath);
  try {
    const { buffer } = await file.read(Buffer.alloc(8), 0, 8, 0);
    const version = buffer.readUInt32LE(4);
    if (buffer.toString("latin1", 0, 4) !== "GGUF" || version < 2 || version > 3) {
      throw new Error(`${modelPath} is no GGUF file of version 2 or 3`);
    }
  } finally {
    await file.close();
  }
}

/** Loads the model; rejects with llama.cpp's error when the file is none that it can run. */
export async function loadLlamaEngine(options: EngineOptions): Promise<LlamaEngine> {
  await refuseOtherFiles(options.modelPath);
  const packageName: string = "node-llama-cpp";
  const native = (await import(packageName)) as NodeLlamaCpp;
  // About one thread per core, as llama-server: its threads wait by spinning, so one too many costs a hundredfold.
  const threads =
    options.threads === 0 ? Math.max(1, Math.floor(availableParallelism() / 2)) : options.threads;
  // Never compile and never download: what the image does not hold is an error.
  const llama = await native.getLlama({
    gpu: false,
    build: "never",
    skipDownload: true,
    progressLogs: false,
    logLevel: native.LlamaLogLevel.warn,
    maxThreads: threads,
  });
  const model = await llama.loadModel({ modelPath: options.modelPath, gpuLayers: 0 });
  const contextLength = options.contextLength === 0 ? model.trainContextSize : options.contextLength;
  const context = await model.createContext({
    contextSize: contextLength,
    sequences: options.parallel,
    threads,
  });
  const slots = new Slots(Array.from({ length: options.parallel }, () => context.getSequence()));

  const generate = (request: GenerationRequest, signal: AbortSignal): Promise<Generation> =>
    slots.use(async (contextSequence) => {
      signal.throwIfAborted();
      const promptTokens = model.tokenize(request.prompt).length + 1;
      const room = contextLength - promptTokens;
      if (room < 1) {
        throw new PromptTooLongError(
          `the prompt has ${promptTokens} tokens and the context ${contextLength}; send less or raise --ctx-size`,
        );
      }
      await contextSequence.clearHistory();
      const before = contextSequence.tokenMeter.getState();
      const completion = new native.LlamaCompletion({ contextSequence });
      try {
        const { response, metadata } = await completion.generateCompletionWithMeta(request.prompt, {
          maxTokens: Math.min(request.maxTokens ?? room, room),
          temperature: request.temperature,
          ...(request.seed === undefined ? {} : { seed: request.seed }),
          ...(request.stopTexts.length === 0 ? {} : { customStopTriggers: request.stopTexts }),
          signal,
        });
        const after = contextSequence.tokenMeter.getState();
        return {
          text: response,
          promptTokens,
          completionTokens: after.usedOutputTokens - before.usedOutputTokens,
          finishReason: metadata.stopReason === "maxTokens" ? "length" : "stop",
        };
      } finally {
        completion.dispose({ disposeSequence: false });
      }
    });

  return {
    name: options.alias ?? model.fileInfo.metadata.general?.name ?? options.modelPath,
    sizeBytes: model.size,
    contextLength,
    trainedContextLength: model.trainContextSize,
    embeddingLength: model.embeddingVectorSize,
    vocabularySize: [...model.iterateAllTokens()].length,
    generate,
    close: () => llama.dispose(),
  };
}
