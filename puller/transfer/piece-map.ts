// How far each piece of a blob is, in memory that all threads share. Bytes are counted only after they were written.

import { tuning } from "./tuning.ts";

/** Cells before those of the pieces. */
const tickCell = 0;
const hashedCell = 1;
const stopCell = 2;
const headCells = 4;

/** What a thread needs to see the same map. */
export type SharedPieceMap = {
  readonly sizeBytes: number;
  readonly pieceBytes: number;
  readonly shared: SharedArrayBuffer;
};

const largestPieceBytes = 1024 * 1024 * 1024;
/** Beyond this the pieces grow: a map and its journal stay small for blobs of any size. */
const pieceTarget = 4096;

/** Length of the pieces of a blob, bytes: 16 MiB, more where that would be over 4096 pieces. A power of two. */
export function pieceBytesFor(sizeBytes: number): number {
  let bytes = tuning.pieceBytes;
  while (sizeBytes / bytes > pieceTarget && bytes < largestPieceBytes) bytes *= 2;
  return bytes;
}

export class PieceMap {
  readonly sizeBytes: number;
  readonly pieceBytes: number;
  readonly count: number;
  readonly #cells: Int32Array;
  readonly #shared: SharedArrayBuffer;

  constructor(sizeBytes: number, pieceBytes = pieceBytesFor(sizeBytes), shared?: SharedArrayBuffer) {
    this.sizeBytes = sizeBytes;
    this.pieceBytes = pieceBytes;
    this.count = Math.ceil(sizeBytes / pieceBytes);
    this.#shared = shared ?? new SharedArrayBuffer(4 * (headCells + 2 * this.count));
    this.#cells = new Int32Array(this.#shared);
  }

  /** A map of a blob that is there as a whole. */
  static whole(sizeBytes: number): PieceMap {
    const map = new PieceMap(sizeBytes);
    for (let piece = 0; piece < map.count; piece += 1) map.setDone(piece, map.length(piece));
    return map;
  }

  /** A map of its own with the same bytes written, whose threads know nothing of this one's. */
  copy(): PieceMap {
    const map = new PieceMap(this.sizeBytes, this.pieceBytes);
    for (let piece = 0; piece < map.count; piece += 1) map.setDone(piece, this.done(piece));
    return map;
  }

  static from({ sizeBytes, pieceBytes, shared }: SharedPieceMap): PieceMap {
    return new PieceMap(sizeBytes, pieceBytes, shared);
  }

  share(): SharedPieceMap {
    return { sizeBytes: this.sizeBytes, pieceBytes: this.pieceBytes, shared: this.#shared };
  }

  start(piece: number): number {
    return piece * this.pieceBytes;
  }

  length(piece: number): number {
    return Math.min(this.pieceBytes, this.sizeBytes - this.start(piece));
  }

  /** Bytes from the beginning of a piece that are written. */
  done(piece: number): number {
    return Atomics.load(this.#cells, headCells + piece);
  }

  setDone(piece: number, bytes: number): void {
    Atomics.store(this.#cells, headCells + piece, bytes);
    this.#wake();
  }

  isComplete(piece: number): boolean {
    return this.done(piece) === this.length(piece);
  }

  /** Takes a piece that nobody has and that lacks bytes; false when it is not to be had. */
  claim(piece: number): boolean {
    if (piece >= this.count || this.isComplete(piece)) return false;
    return Atomics.compareExchange(this.#cells, headCells + this.count + piece, 0, 1) === 0;
  }

  release(piece: number): void {
    Atomics.store(this.#cells, headCells + this.count + piece, 0);
  }

  /** The first piece that is not complete and that nobody has, at most `lead` pieces past what is hashed. */
  claimNext(lead = Number.POSITIVE_INFINITY): number | undefined {
    const end = Math.min(this.count, this.hashedPieces + lead);
    for (let piece = this.firstIncomplete(); piece < end; piece += 1) {
      if (this.claim(piece)) return piece;
    }
    return undefined;
  }

  /** Whether there is a piece that `claimNext` would find. */
  hasUnclaimed(lead = Number.POSITIVE_INFINITY): boolean {
    const end = Math.min(this.count, this.hashedPieces + lead);
    for (let piece = this.firstIncomplete(); piece < end; piece += 1) {
      if (!this.isComplete(piece) && Atomics.load(this.#cells, headCells + this.count + piece) === 0)
        return true;
    }
    return false;
  }

  /** Index of the first piece that lacks bytes; `count` when none does. */
  firstIncomplete(from = 0): number {
    let piece = from;
    while (piece < this.count && this.isComplete(piece)) piece += 1;
    return piece;
  }

  /** Bytes from the blob's beginning that are written without a gap. `from` is a piece before which none is missing. */
  contiguousBytes(from = 0): number {
    const piece = this.firstIncomplete(from);
    return piece === this.count ? this.sizeBytes : this.start(piece) + this.done(piece);
  }

  /** All bytes that are written, gaps or not. */
  doneBytes(): number {
    let sum = 0;
    for (let piece = 0; piece < this.count; piece += 1) sum += this.done(piece);
    return sum;
  }

  /** Forgets everything. */
  reset(): void {
    this.#cells.fill(0);
  }

  /** Pieces that the hasher is through with. */
  get hashedPieces(): number {
    return Atomics.load(this.#cells, hashedCell);
  }

  setHashedPieces(pieces: number): void {
    Atomics.store(this.#cells, hashedCell, pieces);
    Atomics.notify(this.#cells, hashedCell);
  }

  /** Blocks the thread until the hasher is further than `pieces`, or for some milliseconds. */
  waitForHash(pieces: number, timeoutMs: number): void {
    Atomics.wait(this.#cells, hashedCell, pieces, timeoutMs);
  }

  /** A number that changes with each progress; for `waitForTick`. */
  get tick(): number {
    return Atomics.load(this.#cells, tickCell);
  }

  /** Blocks the thread until there is progress since `tick`, or for some milliseconds. */
  waitForTick(tick: number, timeoutMs: number): void {
    Atomics.wait(this.#cells, tickCell, tick, timeoutMs);
  }

  /** Waits for progress since `tick`, or for some milliseconds, without blocking the thread. */
  async afterTick(tick: number, timeoutMs: number): Promise<void> {
    await Atomics.waitAsync(this.#cells, tickCell, tick, timeoutMs).value;
  }

  /** Tells every thread to leave this blob alone. */
  stop(): void {
    Atomics.store(this.#cells, stopCell, 1);
    Atomics.notify(this.#cells, hashedCell);
    this.#wake();
  }

  get isStopped(): boolean {
    return Atomics.load(this.#cells, stopCell) === 1;
  }

  #wake(): void {
    Atomics.add(this.#cells, tickCell, 1);
    Atomics.notify(this.#cells, tickCell);
  }
}
