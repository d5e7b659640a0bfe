// One lane: one request at a time, its body written to its place in a blob's file, hashed on the way where it is in order.

import { createHash, type Hash } from "node:crypto";
import { createSecureContext, type SecureContext } from "node:tls";
import { parseContentRange } from "../oci/content-range.ts";
import { Connection, type ConnectionSettings } from "./connection.ts";
import type { FromLane, LaneBlob, LaneTarget, ThreadSettings, ToLane } from "./messages.ts";
import { sendFailure } from "./messages.ts";
import { PieceMap } from "./piece-map.ts";
import { readSome } from "./read-file.ts";
import type { ResponseHead } from "./response-head.ts";
import { writeAll } from "./write-all.ts";

type Fetch = Extract<ToLane, { kind: "fetch" }>;

/** A blob that lanes of this thread write to. */
export class OpenBlob {
  readonly descriptor: number;
  readonly map: PieceMap;
  readonly #journalOffset: number | undefined;
  readonly #hash: Hash | undefined;
  #hashedBytes = 0;
  readonly #entry = Buffer.alloc(4);

  constructor({ descriptor, map, journalOffset, inlineHash }: LaneBlob) {
    this.descriptor = descriptor;
    this.map = PieceMap.from(map);
    this.#journalOffset = journalOffset;
    this.#hash = inlineHash === undefined ? undefined : createHash(inlineHash);
  }

  /** Hashes bytes of the file that were written before. */
  hashPrefix(bytes: number, buffer: Buffer): void {
    while (this.#hashedBytes < bytes) {
      const read = readSome(this.descriptor, buffer, bytes - this.#hashedBytes, this.#hashedBytes);
      this.#hash?.update(read);
      this.#hashedBytes += read.length;
    }
  }

  /** Writes bytes of one piece and notes them, in memory and on the volume. */
  write(piece: number, bytes: Buffer): void {
    const { map } = this;
    const done = map.done(piece);
    const position = map.start(piece) + done;
    if (this.#hash !== undefined && position !== this.#hashedBytes)
      throw new Error("bytes out of order on a lane that hashes");
    // Part by part, while the processor's own cache has it. After a write that fails the hash may be ahead of the map: the blob is
    // given up then, since no failure of a volume is tried again.
    writeAll(this.descriptor, bytes, position, "writing a blob", (part) => {
      this.#hash?.update(part);
      this.#hashedBytes += part.length;
    });
    if (this.#journalOffset !== undefined) {
      this.#entry.writeInt32LE(done + bytes.length);
      writeAll(this.descriptor, this.#entry, this.#journalOffset + 4 * piece, "writing a blob's journal");
    }
    map.setDone(piece, done + bytes.length);
  }

  digestHex(): string {
    if (this.#hash === undefined) throw new Error("this lane does not hash");
    return this.#hash.digest("hex");
  }
}

/** Whether an answer is exactly the bytes that were asked for, so that its body can be written at once. */
export function isAsked(
  head: ResponseHead,
  contentLength: number,
  asked: { readonly offset: number; readonly endExclusive: number; readonly sizeBytes: number },
): boolean {
  const { status, headers } = head;
  const encoding = headers["content-encoding"];
  if (encoding !== undefined && encoding !== "" && encoding !== "identity") return false;
  const { offset, endExclusive, sizeBytes } = asked;
  // Fewer bytes than there are leave a gap, which is asked for again; more would be another blob.
  if (contentLength > endExclusive - offset) return false;
  if (status === 200) return offset === 0 && endExclusive === sizeBytes;
  if (status !== 206 || contentLength !== endExclusive - offset) return false;
  const range = headers["content-range"];
  const stated = parseContentRange(typeof range === "string" ? range : undefined);
  return (
    stated?.first === offset &&
    stated.last === endExclusive - 1 &&
    (stated.total === undefined || stated.total === sizeBytes)
  );
}

function isSameTarget(one: LaneTarget, other: LaneTarget): boolean {
  return (
    one.hostname === other.hostname &&
    one.port === other.port &&
    one.isSecure === other.isSecure &&
    one.isGuarded === other.isGuarded
  );
}

export class Lane {
  readonly #settings: ConnectionSettings;
  readonly #slab: Buffer;
  readonly #post: (message: FromLane) => void;
  #connection: Connection | undefined;

  constructor(settings: ConnectionSettings, slabBytes: number, post: (message: FromLane) => void) {
    this.#settings = settings;
    // A buffer of its own, not a part of a pool: it is reused for the life of the lane.
    this.#slab = Buffer.allocUnsafeSlow(slabBytes);
    this.#post = post;
  }

  fetch(message: Fetch, blob: OpenBlob): void {
    const connection = this.#connectionTo(message.target);
    const { exchange } = message;
    let isAnswered = false;
    let isTaken = false;
    let { piece } = message;
    connection.exchange(message.head, message.stallCode, {
      head: (head, contentLength) => {
        isAnswered = true;
        const { offset, endExclusive } = message;
        const { sizeBytes } = blob.map;
        const taken = isAsked(head, contentLength, { offset, endExclusive, sizeBytes });
        isTaken = taken;
        this.#post({ kind: "head", exchange, status: head.status, headers: { ...head.headers }, taken });
        return taken ? contentLength : 0;
      },
      write: (bytes) => {
        const next = this.#write(blob, piece, bytes, message);
        if (next === undefined) return false;
        piece = next;
        return true;
      },
      end: (error) => {
        // A server may close an idle connection at the moment it is used again: nothing was lost by that.
        if (error !== undefined && !isAnswered && !wasFresh && this.#isClosedEarly(error)) {
          this.#connection = undefined;
          this.fetch(message, blob);
          return;
        }
        // From the answer on the piece was this lane's.
        if (isTaken) blob.map.release(piece);
        if (error === undefined) this.#post({ kind: "done", exchange });
        else this.#post({ kind: "failed", exchange, failure: sendFailure(error) });
      },
    });
    const wasFresh = connection.isFresh;
  }

  cancel(reason: unknown): void {
    this.#connection?.cancel(reason);
  }

  tick(nowMs: number): void {
    this.#connection?.tick(nowMs);
  }

  close(): void {
    this.#connection?.close();
    this.#connection = undefined;
  }

  #isClosedEarly(error: unknown): boolean {
    return (
      error instanceof Error &&
      "context" in error &&
      ["ECONNRESET", "EPIPE", "UND_ERR_SOCKET"].includes(
        String((error.context as { readonly errno?: unknown } | undefined)?.errno),
      )
    );
  }

  #connectionTo(target: LaneTarget): Connection {
    if (this.#connection?.isUsable === true && isSameTarget(this.#connection.target, target))
      return this.#connection;
    this.#connection?.close();
    this.#connection = new Connection(target, this.#slab, this.#settings);
    return this.#connection;
  }

  /** Writes bytes to their pieces. The piece that comes next, or undefined when somebody else has it. */
  #write(blob: OpenBlob, first: number, bytes: Buffer, { isRun, lead }: Fetch): number | undefined {
    const { map } = blob;
    let piece = first;
    let rest = bytes;
    while (rest.length > 0) {
      if (map.isStopped) return undefined;
      const room = map.length(piece) - map.done(piece);
      if (room === 0) {
        if (!isRun) return undefined;
        for (;;) {
          const { hashedPieces } = map;
          if (piece + 1 < hashedPieces + lead || map.isStopped) break;
          map.waitForHash(hashedPieces, 100);
        }
        // Whoever has the next piece, or has begun it, goes on with it.
        if (map.done(piece + 1) > 0 || !map.claim(piece + 1)) return undefined;
        map.release(piece);
        piece += 1;
        continue;
      }
      blob.write(piece, rest.subarray(0, room));
      rest = rest.subarray(room);
    }
    return piece;
  }
}

/** Settings of a thread's connections, but for what each lane has of its own. */
export function connectionSettings(settings: ThreadSettings): Omit<ConnectionSettings, "allowance"> {
  const secureContext: SecureContext | undefined =
    settings.authorities === undefined ? undefined : createSecureContext({ ca: [...settings.authorities] });
  return {
    secureContext,
    connectTimeoutMs: settings.connectTimeoutMs,
    stallTimeoutMs: settings.stallTimeoutMs,
    slowest: settings.slowest,
  };
}
