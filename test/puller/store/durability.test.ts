import type { FileHandle } from "node:fs/promises";
import { expect, test } from "vitest";
import { writeWhole } from "../../../puller/store/durability.ts";

/** A file that takes at most so many bytes of each write. */
function file(...takes: readonly number[]) {
  const written: [text: string, position: number][] = [];
  const write = async (bytes: Uint8Array, offset: number, length: number, position: number) => {
    const most = takes[written.length];
    if (most === undefined) throw new Error("asked for ever");
    const part = bytes.subarray(offset, offset + Math.min(length, most));
    written.push([Buffer.from(part).toString(), position]);
    return Promise.resolve({ bytesWritten: part.length, buffer: bytes });
  };
  return { handle: { write } as unknown as FileHandle, written };
}

test("a short write is continued where it ended; one of nothing fails, and is not asked for ever", async () => {
  const short = file(2, 3, 9);
  await writeWhole(short.handle, Buffer.from("abcdefg"), 100);
  expect(short.written).toEqual([
    ["ab", 100],
    ["cde", 102],
    ["fg", 105],
  ]);
  const full = file(2, 0);
  await expect(writeWhole(full.handle, Buffer.from("abcdefg"), 0)).rejects.toMatchObject({ code: "EIO" });
});
