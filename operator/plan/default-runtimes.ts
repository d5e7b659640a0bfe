// The runtimes of the chart's default values, as far as a plan depends on them: what `plan` takes without a configuration.
// A test holds them against the chart.

import { z } from "zod";
import { runtimeSchema, type RuntimeDefinition } from "../configuration.ts";

export const defaultRuntimes: Readonly<Record<string, RuntimeDefinition>> = z
  .record(z.string(), runtimeSchema)
  .parse({
    "llama.cpp": { image: "llama.cpp", formats: ["gguf"], cpu: true, port: 8080 },
    vllm: { image: "vllm", formats: ["safetensors"], cpu: false, port: 8000 },
  });
