// Asks a puller in a pod for its progress over HTTP. Never fails: no answer is no progress.

import { request } from "undici";
import { z } from "zod";
import { contractVersion, progressPort, type PullProgress } from "../../puller/contract.ts";
import type { Pod } from "./workload-types.ts";

const timeoutMs = 1_000;
const maxBodyBytes = 16 * 1024;

const schema = z.object({
  v: z.literal(contractVersion),
  phase: z.enum(["resolving", "planning", "fetching", "verifying", "publishing", "ready", "failed"]),
  reference: z.string(),
  totalBytes: z.number().min(0),
  completedBytes: z.number().min(0),
  bytesPerSecond: z.number().min(0),
  remainingSeconds: z.number().min(0).optional(),
  filesTotal: z.number().min(0),
  filesCompleted: z.number().min(0),
});

/** The puller's progress; undefined when it does not answer in a second, or answers anything else. */
export async function askProgress(pod: Pod): Promise<PullProgress | undefined> {
  const address = pod.status?.podIP;
  if (address === undefined) return undefined;
  const host = address.includes(":") ? `[${address}]` : address;
  try {
    const { statusCode, body } = await request(`http://${host}:${progressPort}/progress`, {
      signal: AbortSignal.timeout(timeoutMs),
    });
    const chunks: Buffer[] = [];
    let size = 0;
    for await (const chunk of body as AsyncIterable<Buffer>) {
      size += chunk.length;
      if (size > maxBodyBytes) return undefined;
      chunks.push(chunk);
    }
    if (statusCode !== 200) return undefined;
    const parsed = schema.safeParse(JSON.parse(Buffer.concat(chunks).toString("utf8")));
    if (!parsed.success) return undefined;
    const { remainingSeconds, ...rest } = parsed.data;
    return remainingSeconds === undefined ? rest : { ...rest, remainingSeconds };
  } catch {
    return undefined;
  }
}
