// Reading a file's bytes in order into one buffer, for hashing what is really there.

import { readSync } from "node:fs";
import { storageError } from "../store/storage-error.ts";

/** Reads at most `bytes` at a position. Fails with AppError; at the end of the file too, since what is asked for was written. */
export function readSome(descriptor: number, buffer: Buffer, bytes: number, position: number): Buffer {
  for (;;) {
    try {
      const count = readSync(descriptor, buffer, 0, Math.min(bytes, buffer.length), position);
      if (count > 0) return buffer.subarray(0, count);
      throw Object.assign(new Error("the file ends before what was written to it"), { code: "EIO" });
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === "EINTR" || code === "EAGAIN") continue;
      throw storageError(error, "reading back what was written");
    }
  }
}
