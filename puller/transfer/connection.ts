// One HTTP/1.1 connection that receives bodies into a slab of its own, without a copy and without an allocation per read.
// It sends one request at a time and frames bodies by Content-Length only; every other framing is refused to the slower path.

import type { Socket } from "node:net";
import type { SecureContext } from "node:tls";
import type { FailureCode } from "../contract.ts";
import { AppError, FastPathRefused } from "../oci/errors.ts";
import { limits } from "../oci/limits.ts";
import { networkError } from "../oci/network-error.ts";
import { mayRead, readBytes } from "./bandwidth.ts";
import { headEnd, parseResponseHead, type ResponseHead } from "./response-head.ts";
import type { LaneTarget } from "./messages.ts";
import { openSocket } from "./open-socket.ts";

/** A slab is passed on when less than this is free in it, so that no read is a small one. */
const slackBytes = 128 * 1024;
/** An unfinished slab is passed on after this long, so that little is lost when the process is killed, milliseconds. */
const flushAfterMs = 250;
/** A body that nobody wants is read up to this size, so that its connection can be used again, bytes. */
const drainBytes = 64 * 1024;

/** Who takes an answer. Errors thrown by `write` end the exchange with them. */
export type ExchangeListener = {
  /** Returns how many bytes of the body are wanted, 0 for none, or throws. */
  readonly head: (head: ResponseHead, contentLength: number) => number;
  /** Takes bytes, which are valid during the call only. False: no more are wanted. */
  readonly write: (bytes: Buffer) => boolean;
  /** Everything wanted was passed to `write`; with an error, everything that came until then. */
  readonly end: (error: unknown) => void;
};

export type ConnectionSettings = {
  readonly secureContext: SecureContext | undefined;
  readonly connectTimeoutMs: number;
  readonly stallTimeoutMs: number;
  readonly slowest: { readonly bytes: number; readonly windowMs: number };
  /** Bytes that this lane may still receive, negative after too many; undefined: no limit. */
  readonly allowance: Int32Array | undefined;
};

type State = "connecting" | "idle" | "head" | "parsing" | "body" | "drain" | "closed";

export class Connection {
  readonly target: LaneTarget;
  readonly #settings: ConnectionSettings;
  readonly #slab: Buffer;
  readonly #socket: Socket;
  #state: State = "connecting";
  /** Bytes in the slab, and those of them that were passed on. */
  #filled = 0;
  #passed = 0;
  /** Of the body: bytes to come, and bytes of those that are wanted. */
  #bodyLeft = 0;
  #wantedLeft = 0;
  #isKeptAlive = false;
  #isFresh = true;
  #listener: ExchangeListener | undefined;
  #stallCode: FailureCode = "TransferStalled";
  #pending = "";
  #isPaused = false;
  #failure: unknown;
  // For `tick`.
  #lastTickMs = 0;
  #silentMs = 0;
  #heardSinceTick = false;
  #unpassedSinceMs = 0;
  #windowMs = 0;
  #windowBytes = 0;
  #ageMs = 0;

  /** Begins to connect. `slab` belongs to this connection until it is closed. */
  constructor(target: LaneTarget, slab: Buffer, settings: ConnectionSettings) {
    this.target = target;
    this.#slab = slab;
    this.#settings = settings;
    this.#socket = openSocket(target, settings.secureContext, {
      buffer: () => this.#room(),
      callback: (bytes: number, buffer: Uint8Array) => this.#received(bytes, buffer),
    });
    this.#socket.once(target.isSecure ? "secureConnect" : "connect", () => {
      if (this.#state !== "connecting") return;
      this.#state = "idle";
      this.#socket.setKeepAlive(true, 15_000);
      if (this.#pending !== "") this.#send();
    });
    this.#socket.on("error", (error) => {
      this.#failure ??= error;
    });
    this.#socket.on("close", () => {
      this.#closed();
    });
  }

  /** Whether a further request can be sent. */
  get isUsable(): boolean {
    return this.#state === "idle" && this.#listener === undefined && !this.#socket.destroyed;
  }

  /** Whether no request was answered on it so far. A used one may have been closed by the server meanwhile. */
  get isFresh(): boolean {
    return this.#isFresh;
  }

  /** Sends a request; `head` is the request line with the header lines. */
  exchange(head: string, stallCode: FailureCode, listener: ExchangeListener): void {
    this.#listener = listener;
    this.#stallCode = stallCode;
    this.#pending = head;
    this.#silentMs = 0;
    this.#ageMs = 0;
    this.#windowMs = 0;
    this.#windowBytes = 0;
    if (this.#state === "idle") this.#send();
    else if (this.#state === "closed") this.#finish(this.#failure ?? new Error("closed"));
  }

  /** Ends the exchange; what has arrived is passed on before. */
  cancel(reason: unknown): void {
    this.#fail(reason);
  }

  close(): void {
    this.#state = "closed";
    this.#socket.destroy();
  }

  /**
   * To be called some times a second: finds stalls, passes on what lies around, resumes after a pause. A late call, after the
   * thread was busy, says nothing about the server, and is not held against it.
   */
  tick(nowMs: number): void {
    const elapsedMs = nowMs - this.#lastTickMs;
    this.#lastTickMs = nowMs;
    if (this.#listener === undefined || this.#state === "closed") return;
    const wasPaused = this.#isPaused;
    if (wasPaused) {
      if (this.#mayReceive()) {
        this.#isPaused = false;
        this.#socket.resume();
      }
      this.#heardSinceTick = true;
    }
    if (this.#state === "idle") {
      this.#send();
      this.#heardSinceTick = true;
    }
    if (this.#filled > this.#passed && nowMs - this.#unpassedSinceMs > flushAfterMs) this.#pass(nowMs);
    const wasBusy = elapsedMs > 1_000;
    if (this.#heardSinceTick || wasBusy) this.#silentMs = 0;
    else this.#silentMs += elapsedMs;
    this.#heardSinceTick = false;
    if (wasBusy) return;
    const { host } = this.#host();
    this.#ageMs += elapsedMs;
    if (this.#state === "connecting") {
      if (this.#ageMs > this.#settings.connectTimeoutMs)
        this.#fail(new AppError("RegistryUnreachable", `${host} cannot be reached (no connection in time)`));
      return;
    }
    if (this.#silentMs > this.#settings.stallTimeoutMs) {
      this.#fail(new AppError(this.#stallCode, `${host} sent no byte for too long`, { context: { host } }));
      return;
    }
    // A pause is ours, and no time in which the server could have sent more.
    if (this.#state !== "body" || wasPaused) return;
    this.#windowMs += elapsedMs;
    const { bytes, windowMs } = this.#settings.slowest;
    if (this.#windowMs < windowMs) return;
    if (this.#windowBytes < bytes) {
      this.#fail(
        new AppError(
          "TransferStalled",
          `only ${this.#windowBytes} bytes came in ${Math.round(this.#windowMs / 1000)} s; the connection is given up`,
          { context: { host } },
        ),
      );
      return;
    }
    this.#windowMs = 0;
    this.#windowBytes = 0;
  }

  #host(): { readonly host: string } {
    const { hostname, port, isSecure } = this.target;
    return { host: port === (isSecure ? 443 : 80) ? hostname : `${hostname}:${port}` };
  }

  /** Sends what is pending, or leaves it to a later tick: small bodies come with their heads, before anybody could pause. */
  #send(): void {
    if (!this.#mayReceive()) return;
    this.#state = "head";
    this.#filled = 0;
    this.#passed = 0;
    this.#socket.write(`${this.#pending}\r\n\r\n`, "latin1");
    this.#pending = "";
  }

  /**
   * Where the next bytes go. Called after each read, also after the last one and after a pause; never empty, or the next read
   * would fail. Before a body there is room for a head and little more: what follows it in the same read has to be moved.
   */
  #room(): Buffer {
    const { allowance } = this.#settings;
    const mostBytes = this.#state === "body" && allowance === undefined ? this.#slab.length : slackBytes;
    const bytes = allowance === undefined ? mostBytes : readBytes(Atomics.load(allowance, 0), mostBytes);
    return this.#slab.subarray(this.#filled, Math.min(this.#filled + bytes, this.#slab.length));
  }

  #mayReceive(): boolean {
    const { allowance } = this.#settings;
    return allowance === undefined || mayRead(Atomics.load(allowance, 0));
  }

  /** Told that bytes are in the slab, at the place that `#room` gave after the read before. False pauses. */
  #received(bytes: number, buffer: Uint8Array): boolean {
    this.#heardSinceTick = true;
    this.#windowBytes += bytes;
    const { allowance } = this.#settings;
    if (allowance !== undefined) Atomics.sub(allowance, 0, bytes);
    const from = this.#filled;
    // The slab was emptied since: the read still went to where it was to go before.
    const landed = buffer.byteOffset - this.#slab.byteOffset;
    if (landed !== from) this.#slab.copyWithin(from, landed, landed + bytes);
    this.#filled += bytes;
    switch (this.#state) {
      case "head":
        return this.#receivedHead(from);
      case "parsing":
        return false;
      case "body":
      case "drain":
        return this.#receivedBody(bytes);
      case "connecting":
      case "idle":
      case "closed":
        // Nothing was asked: whatever this is, the connection is of no use.
        this.#filled = 0;
        this.close();
        return false;
    }
  }

  #receivedHead(from: number): boolean {
    const end = headEnd(this.#slab.subarray(0, this.#filled), from);
    if (end === -1) {
      if (this.#filled <= limits.headerBytes * 2) return true;
      this.#fail(
        new AppError(
          "InvalidArtifact",
          `${this.#host().host} answers with more than ${limits.headerBytes} bytes of headers`,
        ),
      );
      return false;
    }
    this.#state = "parsing";
    // In its place: what comes meanwhile goes behind it.
    parseResponseHead(this.#slab.subarray(0, end), limits.headerBytes).then(
      (parsed) => {
        if (this.#state === "parsing") this.#begin(parsed, end);
      },
      (error: unknown) => {
        if (this.#state === "parsing") this.#fail(networkError(error, this.#host().host, this.#stallCode));
      },
    );
    return false;
  }

  #begin(head: ResponseHead, end: number): void {
    this.#isFresh = false;
    try {
      const { status, headers } = head;
      const stated = headers["content-length"];
      const length = typeof stated === "string" && /^\d{1,15}$/.test(stated) ? Number(stated) : undefined;
      const isFramed = headers["transfer-encoding"] === undefined && length !== undefined;
      const isBodiless = status === 204 || status === 304;
      if (status < 200) throw new FastPathRefused("an interim answer");
      if (!isFramed && (status === 200 || status === 206))
        throw new FastPathRefused(length === undefined ? "a body without a length" : "a transfer coding");
      this.#isKeptAlive = head.isKeptAlive && (isFramed || isBodiless);
      this.#bodyLeft = isBodiless ? 0 : (length ?? 0);
      this.#wantedLeft = this.#listener?.head(head, this.#bodyLeft) ?? 0;
    } catch (error) {
      this.#fail(error);
      return;
    }
    if (this.#wantedLeft === 0) {
      if (!this.#isKeptAlive || this.#bodyLeft > drainBytes) {
        this.#finish(undefined, true);
        return;
      }
      this.#state = "drain";
    } else this.#state = "body";
    const early = this.#filled - end;
    this.#slab.copyWithin(0, end, this.#filled);
    this.#filled = early;
    this.#passed = 0;
    this.#windowBytes = early;
    this.#windowMs = 0;
    if (this.#receivedBody(early)) this.#socket.resume();
  }

  #receivedBody(bytes: number): boolean {
    // Bytes behind the body were never asked for; they are not passed on, since no more are wanted than the body has.
    if (bytes > this.#bodyLeft) this.#isKeptAlive = false;
    this.#bodyLeft -= bytes;
    if (this.#state === "drain") {
      this.#filled = 0;
      if (this.#bodyLeft > 0) return true;
      this.#finish(undefined);
      return true;
    }
    if (this.#filled - this.#passed === bytes) this.#unpassedSinceMs = performance.now();
    const isAll = this.#filled - this.#passed >= this.#wantedLeft || this.#bodyLeft <= 0;
    if (isAll || this.#slab.length - this.#filled < slackBytes) {
      if (!this.#pass(performance.now())) return false;
    }
    if (isAll) {
      this.#finish(undefined);
      return true;
    }
    if (this.#mayReceive()) return true;
    this.#isPaused = true;
    return false;
  }

  /** Passes on what is in the slab. False when the exchange ended by it. */
  #pass(nowMs: number): boolean {
    const from = this.#passed;
    const bytes = Math.min(this.#filled - from, this.#wantedLeft);
    if (bytes > 0 && this.#state === "body") {
      let goesOn: boolean;
      try {
        goesOn = this.#listener?.write(this.#slab.subarray(from, from + bytes)) ?? false;
      } catch (error) {
        this.#passed = this.#filled;
        this.#fail(error);
        return false;
      }
      this.#wantedLeft -= bytes;
      this.#passed = from + bytes;
      if (!goesOn && this.#wantedLeft > 0) {
        this.#finish(undefined, true);
        return false;
      }
    }
    this.#unpassedSinceMs = nowMs;
    if (this.#passed === this.#filled) {
      this.#filled = 0;
      this.#passed = 0;
    }
    return true;
  }

  #closed(): void {
    const wasConnecting = this.#state === "connecting";
    if (this.#state === "body") this.#pass(performance.now());
    this.#state = "closed";
    const reason =
      this.#failure ??
      Object.assign(new Error("closed early"), { code: wasConnecting ? "ECONNRESET" : "UND_ERR_SOCKET" });
    this.#finish(networkError(reason, this.#host().host, this.#stallCode));
  }

  /** Ends the exchange with an error, after passing on what has arrived. */
  #fail(error: unknown): void {
    if (this.#listener === undefined) {
      this.close();
      return;
    }
    if (this.#state === "body" && this.#passed < this.#filled && !(error instanceof FastPathRefused)) {
      const bytes = Math.min(this.#filled - this.#passed, this.#wantedLeft);
      const from = this.#passed;
      this.#passed = this.#filled;
      try {
        if (bytes > 0) this.#listener.write(this.#slab.subarray(from, from + bytes));
      } catch {
        // The first failure is the one that is told.
      }
    }
    this.#finish(error, true);
  }

  #finish(error: unknown, isBroken = false): void {
    const listener = this.#listener;
    this.#listener = undefined;
    if (isBroken || error !== undefined || !this.#isKeptAlive) this.close();
    else if (this.#state !== "closed") {
      this.#state = "idle";
      this.#filled = 0;
      this.#passed = 0;
    }
    listener?.end(error);
  }
}
