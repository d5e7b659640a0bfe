// The body of a watch as lines, each an event. Knows what a dead or broken connection looks like, and nothing of events.

import { KubeError } from "./errors.ts";

/** Longest line of a watch: an object is at most 1.5 MiB in etcd, more as JSON. */
const maxLineBytes = 16 * 1024 * 1024;

/** Lines of a body, cut at bytes so that a character split between chunks stays whole; fails when nothing comes for too long. */
export async function* watchLines(
  body: AsyncIterable<Uint8Array>,
  inactivityTimeoutMs: number,
  signal: AbortSignal,
): AsyncGenerator<string> {
  let pending: Buffer[] = [];
  let size = 0;
  const chunks = body[Symbol.asyncIterator]();
  for (;;) {
    const next = await withTimeout(nextChunk(chunks), inactivityTimeoutMs);
    if (next.done === true || signal.aborted) break;
    let chunk = Buffer.from(next.value);
    for (let end = chunk.indexOf(10); end !== -1; end = chunk.indexOf(10)) {
      const line = Buffer.concat([...pending, chunk.subarray(0, end)]).toString("utf8");
      pending = [];
      size = 0;
      chunk = chunk.subarray(end + 1);
      if (line.trim() !== "") yield line;
    }
    if (chunk.length > 0) pending.push(chunk);
    size += chunk.length;
    if (size > maxLineBytes) throw new Error(`a watch line of more than ${maxLineBytes} bytes`);
  }
  // Half a line at the end means that the connection broke in it.
  if (size > 0 && !signal.aborted)
    throw new KubeError("unavailable", "the watch broke off in the middle of a line");
}

async function nextChunk(chunks: AsyncIterator<Uint8Array>): Promise<IteratorResult<Uint8Array>> {
  try {
    return await chunks.next();
  } catch (error) {
    throw new KubeError("unavailable", "the connection of a watch broke", { cause: error });
  }
}

/** Bookmarks come every minute. Where they do not, more may be wrong than a connection, so the caller must list. */
async function withTimeout<T>(promise: Promise<T>, ms: number): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const limit = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => {
      reject(new Error(`the watch sent nothing for ${ms / 1000} s`));
    }, ms);
  });
  // The loser of the race is of no interest any more.
  promise.catch(() => undefined);
  try {
    return await Promise.race([promise, limit]);
  } finally {
    clearTimeout(timer);
  }
}
