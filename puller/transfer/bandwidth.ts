// A limit of bytes per second: filled by time and divided among the lanes, each of which takes from its own part only. Were there
// one for all, whoever reads first would empty it, and a lane that always comes late would hold up what waits for its piece.
// Pure, but for the cells that the threads share; the clock is given.

/** A read takes at least so much, bytes: a TLS record. */
const leastReadBytes = 16 * 1024;
/**
 * A lane reads when it may take so much, bytes: half of the records that can come of a TLS connection before it heeds a pause, so
 * that it is at most this much behind or ahead of its limit.
 */
const leastToReadBytes = 24 * 1024;
/** A lane can have at least so much, bytes: one that takes a few bytes now and then is not told to pause after each of them. */
const leastCeiling = leastToReadBytes + leastReadBytes;
/** Each connection has at least this part of a limit, bytes per second: servers turn away from one that is read more slowly. */
const leastOfLane = 512 * 1024;
/**
 * So much of a second's worth may lie unused besides what lanes cannot read yet, for a timer that comes late; no more, or a pause
 * would be followed by a burst.
 */
const mostUnusedSeconds = 0.2;
const mostUnused = (bytesPerSecond: number, lanes: number): number =>
  // A number of 32 bits.
  Math.min(2 ** 30, lanes * leastCeiling + Math.floor(bytesPerSecond * mostUnusedSeconds));
/** What a lane may have besides what it needs grows at once with what it reads, and shrinks by this from refill to refill. */
const shrinking = 0.9;

/**
 * The refills of a limit that begins at `startMs`. Each is told the time, and what of the bytes that were given is unused, which is
 * negative after lanes took too much; it tells the whole bytes to add. Parts of a byte are kept for the next one.
 */
export function refillAt(
  bytesPerSecond: number,
  startMs: number,
  lanes = 1,
): (nowMs: number, unusedBytes: number) => number {
  const most = mostUnused(bytesPerSecond, lanes);
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

/** How bytes are divided among those who have `levels` already, so that the poorest of them have the same: what each gets. All is given out. */
export function divide(bytes: number, levels: readonly number[]): readonly number[] {
  const shares = levels.map(() => 0);
  const poorestFirst = levels.map((level, index) => ({ level, index })).sort((a, b) => a.level - b.level);
  let count = 0;
  let sum = bytes;
  for (const { level } of poorestFirst) {
    // Whoever has more than the poorer ones will have is given nothing.
    if (count > 0 && level * count >= sum) break;
    sum += level;
    count += 1;
  }
  const same = Math.floor(sum / count);
  let over = sum - same * count;
  for (const { level, index } of poorestFirst.slice(0, count)) {
    shares[index] = same - level + (over > 0 ? 1 : 0);
    over -= 1;
  }
  return shares;
}

/** What each lane may still receive. */
export class Allowance {
  /** An Int32 of each lane: bytes; negative after too many. */
  readonly shared: SharedArrayBuffer;
  readonly #cells: Int32Array;
  readonly #refill: (nowMs: number, unusedBytes: number) => number;
  readonly #most: number;
  /** What each lane had after the last refill. */
  #given: readonly number[] = [];
  /** What each lane could have at most then. */
  #ceilings: readonly number[] = [];
  /** What no lane has: nobody could use it, or it was left or owed by lanes that are not in use any more. */
  #unallotted = 0;

  constructor(bytesPerSecond: number, lanes: number, startMs: number) {
    this.shared = new SharedArrayBuffer(4 * lanes);
    this.#cells = new Int32Array(this.shared);
    this.#most = mostUnused(bytesPerSecond, lanes);
    this.#refill = refillAt(bytesPerSecond, startMs, lanes);
  }

  /**
   * Divides what time has brought among the lanes in use, the poorest first. A lane has enough to read, or twice what it takes
   * between two refills: more would lie idle there, while another lane could use it. To be called some times a second.
   */
  refill(nowMs: number, inUse: ReadonlySet<number>): void {
    const levels = [...this.#cells].map((_, lane) => Atomics.load(this.#cells, lane));
    const give = (lane: number, bytes: number): void => {
      Atomics.add(this.#cells, lane, bytes);
      levels[lane] = (levels[lane] ?? 0) + bytes;
      this.#unallotted -= bytes;
    };
    const ceilings = levels.map((level, lane) => {
      const read = (this.#given[lane] ?? 0) - level;
      return Math.max(leastCeiling, 2 * read, Math.floor((this.#ceilings[lane] ?? this.#most) * shrinking));
    });
    const room = (lane: number): number =>
      (inUse.has(lane) ? (ceilings[lane] ?? 0) : 0) - (levels[lane] ?? 0);
    for (const lane of levels.keys()) if (room(lane) < 0 || !inUse.has(lane)) give(lane, room(lane));
    this.#unallotted += this.#refill(
      nowMs,
      levels.reduce((sum, level) => sum + level, this.#unallotted),
    );
    for (;;) {
      const lanes = [...inUse].filter((lane) => room(lane) > 0);
      if (lanes.length === 0 || this.#unallotted <= 0) break;
      const shares = divide(
        this.#unallotted,
        lanes.map((lane) => levels[lane] ?? 0),
      );
      for (const [index, lane] of lanes.entries()) give(lane, Math.min(room(lane), shares[index] ?? 0));
    }
    this.#given = levels;
    this.#ceilings = ceilings.map((ceiling, lane) => (inUse.has(lane) ? ceiling : this.#most));
  }

  /** Whether the lanes would take more than there is: what they receive is the limit then, and says nothing of their servers. */
  get isUsedUp(): boolean {
    return this.#unallotted <= 0;
  }

  /** A lane's part. */
  of(lane: number): Int32Array {
    return allowanceOf(this.shared, lane);
  }
}

/** A lane's part of a shared allowance, as its thread sees it. */
export function allowanceOf(shared: SharedArrayBuffer, lane: number): Int32Array {
  return new Int32Array(shared, 4 * lane, 1);
}

/** Whether a lane may read that may still receive so much. */
export function mayRead(unusedBytes: number): boolean {
  return unusedBytes >= leastToReadBytes;
}

/** How much one read may take of what a lane has, bytes; at most `mostBytes`. */
export function readBytes(unusedBytes: number, mostBytes: number): number {
  return Math.max(leastReadBytes, Math.min(mostBytes, unusedBytes));
}

/** Connections at once of a pull that may have `mostLanes`: with a limit, no more than have a part of it that is worth having. */
export function lanesWithin(bytesPerSecond: number | undefined, mostLanes: number): number {
  if (bytesPerSecond === undefined) return mostLanes;
  return Math.max(1, Math.min(mostLanes, Math.floor(bytesPerSecond / leastOfLane)));
}
