// A pull that was killed in its middle, for what the next one costs.

import { spawn } from "node:child_process";
import { once } from "node:events";
import type { PullProgress } from "../../puller/contract.ts";
import { waitFor } from "../cluster/run-command.ts";
import type { Artifact } from "./artifact.ts";
import type { Bench } from "./bench.ts";
import { pullArguments, type Target } from "./clients.ts";
import { cleanEnvironment } from "./measure.ts";
import { freePort } from "./servers/blob-server.ts";

/** Pulls exactly half of the artifact's bytes into a store, and kills the puller (SIGKILL) when it stands still. */
export async function pullHalf(bench: Bench, artifact: Artifact, store: string): Promise<void> {
  const bytes = artifact.sizeBytes / 2;
  const halting = await bench.origin([artifact], { haltAfterBytes: bytes });
  try {
    await pullAndKill(bench, { server: halting, artifact }, () => halting.sentBytes() >= bytes, store);
  } finally {
    await halting.stop();
  }
}

/** Pulls until the server has sent what it sends and the puller has taken it all, and kills the puller then. */
async function pullAndKill(
  bench: Bench,
  target: Target,
  isAllSent: () => boolean,
  store: string,
): Promise<void> {
  const address = `127.0.0.1:${await freePort()}`;
  const [program = "", ...args] = [...bench.puller.argv, ...pullArguments(target, store)];
  const child = spawn(program, [...args, `--progress-address=${address}`], {
    stdio: "ignore",
    env: { ...cleanEnvironment(bench.scratch), ...bench.puller.env },
  });
  const ended = once(child, "exit");
  try {
    let former = -1;
    await waitFor(
      "the pull to stand still",
      async () => {
        if (child.exitCode !== null) throw new Error(`the puller ended with ${child.exitCode}`);
        const progress = await fetch(`http://${address}/progress`)
          .then(async (answer) => (await answer.json()) as PullProgress)
          .catch(() => undefined);
        const bytes = progress?.completedBytes ?? 0;
        const stands = isAllSent() && bytes > 0 && bytes === former;
        former = bytes;
        return stands;
      },
      { timeoutMs: 120_000, intervalMs: bench.isTiny ? 100 : 500 },
    );
  } finally {
    child.kill("SIGKILL");
    await ended;
  }
}
