// Writing that cannot lose a byte silently: every count that the kernel gives back is looked at.

import { writeSync } from "node:fs";
import { storageError } from "../store/storage-error.ts";

/** Writes all bytes at a position; continues short writes and interrupted ones. Fails with AppError. */
export function writeAll(descriptor: number, bytes: Uint8Array, position: number, doing: string): void {
  let written = 0;
  while (written < bytes.length) {
    let count: number;
    try {
      count = writeSync(descriptor, bytes, written, bytes.length - written, position + written);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === "EINTR" || code === "EAGAIN") continue;
      throw storageError(error, doing);
    }
    if (count === 0) {
      throw storageError(Object.assign(new Error("a write of no bytes"), { code: "EIO" }), doing);
    }
    written += count;
  }
}
