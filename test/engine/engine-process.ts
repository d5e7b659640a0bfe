// Starts the engine as a plain process on a free port of 127.0.0.1 and waits until it says that the model is loaded.

import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import path from "node:path";
import { createInterface } from "node:readline";
import { nodeBinary } from "../images/app-context.ts";
import { prepareEngine } from "./prepare-engine.ts";

export type EngineProcess = {
  readonly url: string;
  readonly process: ChildProcess;
  /** Ends it and gives its exit code. */
  readonly stop: () => Promise<number | null>;
};

/** Rejects with the engine's last log line when it ends before the model is loaded. `args` are llama-server's flags. */
export async function startEngine(
  args: readonly string[],
  environment: Readonly<Record<string, string>> = {},
): Promise<EngineProcess> {
  const { directory } = await prepareEngine();
  const child = spawn(nodeBinary, [path.join(directory, "server.ts"), "--port", "0", ...args], {
    env: { ...process.env, ...environment },
    stdio: ["ignore", "ignore", "pipe"],
  });
  const exited = once(child, "exit") as Promise<[number | null]>;
  let port: number | undefined;
  let lastLine = "";
  const lines = createInterface({ input: child.stderr });
  const loaded = new Promise<void>((resolve, reject) => {
    lines.on("line", (line) => {
      if (!line.startsWith("{")) return;
      lastLine = line;
      const entry = JSON.parse(line) as { message: string; port?: number };
      port ??= entry.port;
      if (entry.message === "model loaded") resolve();
    });
    lines.once("close", () => reject(new Error(`the engine ended: ${lastLine}`)));
  });
  await loaded;
  return {
    url: `http://127.0.0.1:${port ?? 0}`,
    process: child,
    stop: async () => {
      child.kill("SIGTERM");
      const [exitCode] = await exited;
      return exitCode;
    },
  };
}
