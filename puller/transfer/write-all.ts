// Writing that cannot lose a byte silently: every count that the kernel gives back is looked at.

import { writeSync } from "node:fs";
import { storageError } from "../store/storage-error.ts";

/**
 * Most of one call, bytes. File systems take as much of the page cache in one piece as a call writes. From 1 MiB on that is whole
 * huge pages, which the host of a virtual machine has to find and clear again where it takes back what is free (free page
 * reporting): three times the CPU time of the whole call. Less is read by a hash from the processor's own cache, besides.
 */
export const mostWrittenBytes = 256 * 1024;

/**
 * Writes all bytes at a position; continues short writes and interrupted ones. `onWritten` is called with each part right after it
 * was written. Fails with AppError.
 */
export function writeAll(
  descriptor: number,
  bytes: Uint8Array,
  position: number,
  doing: string,
  onWritten?: (part: Uint8Array) => void,
): void {
  let written = 0;
  while (written < bytes.length) {
    const at = position + written;
    // Up to a multiple of it: a piece of the page cache begins at a multiple of its length.
    const most = Math.min(bytes.length - written, mostWrittenBytes - (at % mostWrittenBytes));
    let count: number;
    try {
      count = writeSync(descriptor, bytes, written, most, at);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === "EINTR" || code === "EAGAIN") continue;
      throw storageError(error, doing);
    }
    if (count === 0) {
      throw storageError(Object.assign(new Error("a write of no bytes"), { code: "EIO" }), doing);
    }
    onWritten?.(bytes.subarray(written, written + count));
    written += count;
  }
}
