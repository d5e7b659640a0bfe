// Stands where llama-server stands in production: the same flags and HTTP answers, the same llama.cpp beneath, from an npm package.
// For tests and the demo. Listens at once, says 503 while it loads, ends with 1 when the model cannot be loaded.

import { once } from "node:events";
import { engineOptions, EngineUsageError, type EngineOptions } from "./engine-options.ts";
import { engineServer } from "./engine-server.ts";
import { loadLlamaEngine, type LlamaEngine } from "./llama.ts";

function log(level: string, message: string, fields: Readonly<Record<string, unknown>> = {}): void {
  console.error(JSON.stringify({ level, message, ...fields }));
}

async function serve(options: EngineOptions): Promise<number> {
  let engine: LlamaEngine | undefined;
  const server = engineServer(() => engine);
  // Listeners that stay: a library of the engine ends the process by the signal once it believes itself the only listener.
  const stopped = new Promise<void>((resolve) => {
    process.on("SIGTERM", () => resolve());
    process.on("SIGINT", () => resolve());
  });
  server.listen(options.port, options.host);
  await once(server, "listening");
  const address = server.address();
  const port = typeof address === "object" && address !== null ? address.port : options.port;
  log("info", "listening, loading model", { host: options.host, port, modelPath: options.modelPath });
  const startedAtMs = performance.now();
  try {
    const loaded = await Promise.race([loadLlamaEngine(options), stopped.then(() => undefined)]);
    if (loaded !== undefined) {
      engine = loaded;
      const milliseconds = Math.round(performance.now() - startedAtMs);
      log("info", "model loaded", { name: engine.name, contextLength: engine.contextLength, milliseconds });
      await stopped;
    }
    return 0;
  } catch (error) {
    log("error", "model cannot be loaded", { modelPath: options.modelPath, error: String(error) });
    return 1;
  } finally {
    server.close();
    server.closeAllConnections();
  }
}

try {
  // llama.cpp's threads need not be wound down: nothing is written, and a stopping pod should be gone at once.
  process.exit(await serve(engineOptions(process.argv.slice(2), process.env)));
} catch (error) {
  log("error", error instanceof EngineUsageError ? error.message : String(error));
  process.exit(1);
}
