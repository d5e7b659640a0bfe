// Loads a GGUF file with llama.cpp and prints what it says of its buffers. Arguments: FILE:TOKENS:SEQUENCES...
// Only for tests of the memory estimate: it generates nothing.

// The package lives beside this file's copy, not in the project; only what is used is described.
type NodeLlamaCpp = {
  readonly getLlama: (options: Readonly<Record<string, unknown>>) => Promise<{
    readonly loadModel: (options: Readonly<Record<string, unknown>>) => Promise<{
      readonly createContext: (
        options: Readonly<Record<string, unknown>>,
      ) => Promise<{ readonly dispose: () => Promise<void> }>;
      readonly dispose: () => Promise<void>;
    }>;
    readonly dispose: () => Promise<void>;
  }>;
  readonly LlamaLogLevel: { readonly debug: string };
};

const packageName: string = "node-llama-cpp";
const native = (await import(packageName)) as NodeLlamaCpp;
const llama = await native.getLlama({
  gpu: false,
  build: "never",
  skipDownload: true,
  progressLogs: false,
  logLevel: native.LlamaLogLevel.debug,
  maxThreads: 1,
  logger: (_level: string, message: string) => {
    if (/buffer size/.test(message)) process.stdout.write(`${message.trim()}\n`);
  },
});
for (const argument of process.argv.slice(2)) {
  const [modelPath, contextSize, sequences] = argument.split(":");
  process.stdout.write(`load ${argument}\n`);
  const model = await llama.loadModel({ modelPath, gpuLayers: 0 });
  // As llama-server does by default: flash attention, batches of 512.
  const context = await model.createContext({
    contextSize: Number(contextSize),
    sequences: Number(sequences),
    threads: 1,
    batchSize: 512,
    flashAttention: true,
  });
  await context.dispose();
  await model.dispose();
}
await llama.dispose();
