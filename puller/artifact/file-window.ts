// Reads the front of a remote file in growing pieces, within a budget of bytes. Knows no format.

import { AppError } from "../oci/errors.ts";

/** Gives the bytes of a file from `offset`, at most `length` of them, fewer only at the file's end. */
export type ReadRange = (offset: number, lengthBytes: number) => Promise<Uint8Array>;

const firstReadBytes = 256 * 1024;
const largestReadBytes = 4 * 1024 * 1024;

/** A cursor over a file of known size; everything it reads is little-endian. */
export class FileWindow {
  readonly #readRange: ReadRange;
  readonly #fileBytes: number;
  readonly #what: string;
  #budgetBytes: number;
  #nextReadBytes = firstReadBytes;
  #bytes: Uint8Array = new Uint8Array();
  #view: DataView = new DataView(new ArrayBuffer(0));
  /** Position of the cursor within #bytes. May lie behind them after a skip. */
  #position = 0;
  /** Offset of #bytes in the file. */
  #start = 0;

  /** `what` names the file's kind in messages; `budgetBytes` is how much may be read in all. */
  constructor(readRange: ReadRange, fileBytes: number, what: string, budgetBytes: number) {
    this.#readRange = readRange;
    this.#fileBytes = fileBytes;
    this.#what = what;
    this.#budgetBytes = budgetBytes;
  }

  /** Offset of the cursor in the file. */
  get offset(): number {
    return this.#start + this.#position;
  }

  /** Bytes from the cursor to the end of the file. */
  get leftBytes(): number {
    return this.#fileBytes - this.offset;
  }

  /** Whether the next bytes are in memory, so that the read functions may be called. */
  has(lengthBytes: number): boolean {
    return this.#position + lengthBytes <= this.#bytes.byteLength;
  }

  /** Brings the next bytes into memory. Throws AppError InvalidArtifact where the file ends before, or the budget does. */
  async need(lengthBytes: number): Promise<void> {
    if (this.has(lengthBytes)) return;
    if (lengthBytes > this.leftBytes) this.refuse("ends within its header");
    const offset = this.offset;
    // Behind a jump it is not known that much will be wanted.
    if (this.#position > this.#bytes.byteLength) this.#nextReadBytes = firstReadBytes;
    const kept = this.#bytes.subarray(Math.min(this.#position, this.#bytes.byteLength));
    const from = offset + kept.byteLength;
    const wantedBytes = Math.min(
      Math.max(lengthBytes - kept.byteLength, this.#nextReadBytes),
      this.#fileBytes - from,
      Math.max(this.#budgetBytes, lengthBytes - kept.byteLength),
    );
    if (wantedBytes > this.#budgetBytes) this.refuse("has a header that is too large to be read");
    const read = await this.#readRange(from, wantedBytes);
    if (read.byteLength !== wantedBytes) this.refuse("ends within its header");
    this.#budgetBytes -= wantedBytes;
    this.#nextReadBytes = Math.min(this.#nextReadBytes * 2, largestReadBytes);
    this.#bytes = kept.byteLength === 0 ? read : Buffer.concat([kept, read]);
    this.#view = new DataView(this.#bytes.buffer, this.#bytes.byteOffset, this.#bytes.byteLength);
    this.#start = offset;
    this.#position = 0;
  }

  /** Moves the cursor without reading. Throws AppError InvalidArtifact when that is behind the file's end. */
  skip(lengthBytes: number): void {
    if (lengthBytes > this.leftBytes) this.refuse("ends within its header");
    this.#position += lengthBytes;
  }

  /** The next bytes; `need` them before. Valid until the next `need`. */
  bytes(lengthBytes: number): Uint8Array {
    const bytes = this.#bytes.subarray(this.#position, this.#position + lengthBytes);
    this.#position += lengthBytes;
    return bytes;
  }

  /** The next 4 bytes as an unsigned number; `need` them before. */
  uint32(): number {
    this.#position += 4;
    return this.#view.getUint32(this.#position - 4, true);
  }

  /** The next 8 bytes as an unsigned number; `need` them before. */
  uint64(): bigint {
    this.#position += 8;
    return this.#view.getBigUint64(this.#position - 8, true);
  }

  /** Throws AppError InvalidArtifact with the file's kind in front. */
  refuse(why: string): never {
    throw new AppError("InvalidArtifact", `${this.#what} ${why}`);
  }
}
