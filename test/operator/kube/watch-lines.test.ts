// Lines of a watch out of whatever pieces a connection brings them in.

import { describe, expect, test } from "vitest";
import { watchLines } from "../../../operator/kube/watch-lines.ts";

const { signal } = new AbortController();

async function linesOf(
  pieces: readonly (string | Uint8Array | Error)[],
  { inactivityMs = 5_000, aborted = signal } = {},
): Promise<readonly string[]> {
  async function* body(): AsyncGenerator<Uint8Array> {
    for (const each of pieces) {
      if (each instanceof Error) throw each;
      yield await Promise.resolve(typeof each === "string" ? Buffer.from(each) : each);
    }
  }
  const found: string[] = [];
  for await (const line of watchLines(body(), inactivityMs, aborted)) found.push(line);
  return found;
}

describe("lines of a watch", () => {
  test("are whole wherever they are cut, in the middle of a character too, and empty ones are none", async () => {
    const bytes = Buffer.from('{"a":"ä€"}\n\n{"b":1}\n');
    for (let at = 1; at < bytes.length; at += 1)
      expect(await linesOf([bytes.subarray(0, at), bytes.subarray(at)])).toEqual(['{"a":"ä€"}', '{"b":1}']);
  });

  test("are refused where the connection ends in one, unless somebody ended it", async () => {
    const broken = ['{"a":1}\n{"b', '":'];
    await expect(linesOf(broken)).rejects.toMatchObject({
      kind: "unavailable",
      message: "the watch broke off in the middle of a line",
    });
    expect(await linesOf(broken, { aborted: AbortSignal.abort() })).toEqual([]);
  });

  test("are refused where one is longer than any object", async () => {
    const piece = Buffer.alloc(1024 * 1024, "x");
    await expect(linesOf(Array.from({ length: 17 }, () => piece))).rejects.toThrow(
      "a watch line of more than",
    );
  });

  test("end with what broke the connection as its cause", async () => {
    const cause = new Error("reset");
    await expect(linesOf(['{"a":1}\n', cause])).rejects.toMatchObject({ kind: "unavailable", cause });
  });

  test("end where nothing comes for too long", async () => {
    const silent: AsyncIterable<Uint8Array> = {
      [Symbol.asyncIterator]: () => ({ next: () => new Promise(() => undefined) }),
    };
    await expect(watchLines(silent, 20, signal).next()).rejects.toThrow("the watch sent nothing for 0.02 s");
  });
});
