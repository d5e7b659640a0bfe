// Buffers that were used up do not pile up, and no option of V8 is left behind.

import { cachedDataVersionTag } from "node:v8";
import { expect, test } from "vitest";
import { YoungBuffers } from "../../../puller/pull/young-buffers.ts";

const mebibyte = 1024 * 1024;

/** The most that buffers took while so many bytes of them came and went, bytes. */
function mostBytes(totalBytes: number, told: (bytes: number) => void): number {
  const chunkBytes = 64 * 1024;
  const before = process.memoryUsage().arrayBuffers;
  let most = 0;
  for (let bytes = 0; bytes < totalBytes; bytes += chunkBytes) {
    Buffer.allocUnsafeSlow(chunkBytes);
    told(chunkBytes);
    most = Math.max(most, process.memoryUsage().arrayBuffers - before);
  }
  return most;
}

// First: the option is set for the first collection of a process only.
test("V8 takes the code afterwards that was compiled before", () => {
  const before = cachedDataVersionTag();
  new YoungBuffers().add(8 * mebibyte);
  expect(cachedDataVersionTag()).toBe(before);
});

test("what a body brought is collected as it is used up", () => {
  const young = new YoungBuffers();
  const most = mostBytes(128 * mebibyte, (bytes) => {
    young.add(bytes);
  });
  // V8 itself lets 32 MiB pile up.
  expect(most).toBeLessThan(16 * mebibyte);
});
