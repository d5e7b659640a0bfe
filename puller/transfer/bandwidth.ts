// A limit of bytes per second, as a bucket that fills by time and that all lanes take from. Pure; the clock is given.

/** What a read may take at least, bytes: a TLS record. */
const leastReadBytes = 16 * 1024;
/** A read takes this part of what is unused: as many lanes may see it at the same moment, and together take no more than there is. */
const lanesAtOnce = 16;
/** So much of a second's worth may lie unused, for a timer that comes late; no more, or a pause would be followed by a burst. */
const mostUnusedSeconds = 0.2;
const leastUnusedBytes = 64 * 1024;

/**
 * The refills of a limit that begins at `startMs`. Each is told the time, and what of the bytes that were given is unused, which is
 * negative after lanes took too much; it tells the whole bytes to add. Parts of a byte are kept for the next one.
 */
export function refillAt(
  bytesPerSecond: number,
  startMs: number,
): (nowMs: number, unusedBytes: number) => number {
  // The unused bytes are a number of 32 bits.
  const most = Math.min(2 ** 30, Math.max(leastUnusedBytes, bytesPerSecond * mostUnusedSeconds));
  let lastMs = startMs;
  let due = 0;
  return (nowMs, unusedBytes) => {
    due += ((nowMs - lastMs) * bytesPerSecond) / 1000;
    lastMs = nowMs;
    const bytes = Math.max(0, Math.floor(Math.min(due, most - unusedBytes)));
    due -= Math.floor(due);
    return bytes;
  };
}

/** How much one read may take of what is unused, bytes; at most `mostBytes`. */
export function readBytes(unusedBytes: number, mostBytes: number): number {
  return Math.max(leastReadBytes, Math.min(mostBytes, Math.floor(unusedBytes / lanesAtOnce)));
}
