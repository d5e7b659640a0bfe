// Changes of a body on its way through the fault proxy, as streams of its bytes. Knows no sockets and no HTTP.

import { setTimeout as wait } from "node:timers/promises";
import type { ChosenFault } from "./faults.ts";

/** How the exchange ends when the chunks are through. */
export type BodyEnd = "finish" | "cut" | "reset" | "hang";

export type FaultyBody = {
  readonly chunks: AsyncIterable<Uint8Array>;
  /** To be asked after the last chunk: a cut behind the end of a body does not happen. */
  end(): BodyEnd;
};

/** The body as the fault makes it. `signal` ends waits. */
export function faultyBody(
  source: AsyncIterable<Uint8Array>,
  fault: ChosenFault | undefined,
  signal: AbortSignal,
): FaultyBody {
  const finish = (chunks: AsyncIterable<Uint8Array>): FaultyBody => ({ chunks, end: () => "finish" });
  if (fault === undefined) return finish(source);
  const { action, tookEffect } = fault;
  switch (action.kind) {
    case "cut":
      return upTo(source, action.afterBytes, action.reset === true ? "reset" : "cut", tookEffect);
    case "stall":
      return upTo(source, typeof action.afterBytes === "number" ? action.afterBytes : 0, "hang", tookEffect);
    case "corrupt":
      return finish(corrupted(source, action, tookEffect));
    case "drip":
      return finish(dripped(source, action.bytesPerSecond, signal, tookEffect));
    case "append-bytes":
      return finish(appended(source, action.count, signal, tookEffect));
    case "replace-body":
      tookEffect();
      return finish(replaced(source, Buffer.from(action.body)));
    case "inject-line":
      return finish(injected(source, action.afterLines, action.line, tookEffect));
    case "close-after-lines":
      return finish(firstLines(source, action.lines, tookEffect));
    case "content-length":
    case "content-range":
    case "delay":
    case "header":
    case "ignore-range":
    case "raw":
    case "redirect":
    case "redirect-origin":
    case "refuse":
    case "status":
      return finish(source);
  }
}

function upTo(
  source: AsyncIterable<Uint8Array>,
  bytes: number,
  end: BodyEnd,
  tookEffect: () => void,
): FaultyBody {
  let isReached = false;
  const reached = (): void => {
    isReached = true;
    tookEffect();
  };
  async function* chunks(): AsyncGenerator<Uint8Array> {
    let left = bytes;
    if (left === 0) {
      reached();
      return;
    }
    for await (const chunk of source) {
      const part = chunk.subarray(0, left);
      left -= part.length;
      // Counted before the bytes go out: the client may look as soon as it has them.
      if (left === 0) reached();
      yield part;
      if (left === 0) return;
    }
  }
  return { chunks: chunks(), end: () => (isReached ? end : "finish") };
}

async function* corrupted(
  source: AsyncIterable<Uint8Array>,
  {
    atByte,
    lengthBytes = 1,
    mask = 0xff,
  }: { readonly atByte: number; readonly lengthBytes?: number; readonly mask?: number | "zero" },
  tookEffect: () => void,
): AsyncGenerator<Uint8Array> {
  let position = 0;
  for await (const chunk of source) {
    const copy = Buffer.from(chunk);
    const first = Math.max(atByte - position, 0);
    const last = Math.min(atByte + lengthBytes - position, copy.length);
    for (let index = first; index < last; index += 1) {
      const before = copy[index] ?? 0;
      copy[index] = mask === "zero" ? 0 : before ^ mask;
      if (copy[index] !== before) tookEffect();
    }
    position += copy.length;
    yield copy;
  }
}

async function* dripped(
  source: AsyncIterable<Uint8Array>,
  bytesPerSecond: number,
  signal: AbortSignal,
  tookEffect: () => void,
): AsyncGenerator<Uint8Array> {
  const step = Math.max(1, Math.floor(bytesPerSecond / 10));
  for await (const chunk of source) {
    for (let start = 0; start < chunk.length; start += step) {
      const part = chunk.subarray(start, start + step);
      yield part;
      tookEffect();
      await wait((part.length * 1000) / bytesPerSecond, undefined, { signal });
    }
  }
}

async function* appended(
  source: AsyncIterable<Uint8Array>,
  count: number,
  signal: AbortSignal,
  tookEffect: () => void,
): AsyncGenerator<Uint8Array> {
  yield* source;
  tookEffect();
  for (let left = count; left > 0 && !signal.aborted; left -= 65_536) {
    yield Buffer.alloc(Math.min(left, 65_536), 0x78);
  }
}

async function* replaced(source: AsyncIterable<Uint8Array>, body: Uint8Array): AsyncGenerator<Uint8Array> {
  for await (const _chunk of source) continue;
  if (body.length > 0) yield body;
}

/** Whole lines with their line feed; what is left at the end without one too. */
async function* lines(source: AsyncIterable<Uint8Array>): AsyncGenerator<Buffer> {
  let parts: Buffer[] = [];
  for await (const chunk of source) {
    let rest = Buffer.from(chunk);
    for (let end = rest.indexOf(10); end !== -1; end = rest.indexOf(10)) {
      yield Buffer.concat([...parts, rest.subarray(0, end + 1)]);
      parts = [];
      rest = rest.subarray(end + 1);
    }
    if (rest.length > 0) parts.push(rest);
  }
  if (parts.length > 0) yield Buffer.concat(parts);
}

async function* injected(
  source: AsyncIterable<Uint8Array>,
  afterLines: number,
  line: string,
  tookEffect: () => void,
): AsyncGenerator<Uint8Array> {
  let count = 0;
  const own = (): Buffer => {
    tookEffect();
    return Buffer.from(`${line}\n`);
  };
  if (afterLines === 0) yield own();
  for await (const each of lines(source)) {
    yield each;
    count += 1;
    if (count === afterLines) yield own();
  }
}

async function* firstLines(
  source: AsyncIterable<Uint8Array>,
  count: number,
  tookEffect: () => void,
): AsyncGenerator<Uint8Array> {
  let left = count;
  if (left === 0) tookEffect();
  else {
    for await (const each of lines(source)) {
      left -= 1;
      if (left === 0) tookEffect();
      yield each;
      if (left === 0) return;
    }
  }
}
