// How far a pull is: counted in one place, told as a bar, as log lines and as JSON over HTTP.

import type { Server } from "node:http";
import type { Logger } from "pino";
import { contractVersion, type FailureCode, type PullPhase, type PullProgress } from "../contract.ts";
import { AppError } from "../oci/errors.ts";

/** The speed is that of the last so many milliseconds. */
const windowMs = 10_000;

/** Where the time of a pull went, seconds. */
export type PullSeconds = {
  readonly [phase in Exclude<PullPhase, "ready" | "failed">]?: number;
} & {
  /** From the last byte that came over the network until the model was published: what hashing, syncing and placing took yet. */
  readonly settling?: number;
};

export class ProgressTracker {
  readonly #reference: string;
  #phase: PullPhase = "resolving";
  #phaseStartMs = performance.now();
  #lastByteMs: number | undefined;
  #seconds: PullSeconds = {};
  #digest: string | undefined;
  #totalBytes = 0;
  #completedBytes = 0;
  #filesTotal = 0;
  #filesCompleted = 0;
  #lastFailure: { code: FailureCode; message: string } | undefined;
  readonly #samples: { readonly atMs: number; readonly bytes: number }[] = [];
  #fetchedBytes = 0;

  constructor(reference: string) {
    this.#reference = reference;
  }

  enter(phase: PullPhase): void {
    const nowMs = performance.now();
    const former = this.#phase;
    if (former !== "ready" && former !== "failed") {
      const seconds = roundSeconds((this.#seconds[former] ?? 0) + (nowMs - this.#phaseStartMs) / 1000);
      this.#seconds = { ...this.#seconds, [former]: seconds };
    }
    if (phase === "ready" && this.#lastByteMs !== undefined)
      this.#seconds = { ...this.#seconds, settling: roundSeconds((nowMs - this.#lastByteMs) / 1000) };
    this.#phase = phase;
    this.#phaseStartMs = nowMs;
    // The speed counts from here: the first bytes have taken time too.
    if (phase === "fetching") this.#samples.push({ atMs: nowMs, bytes: this.#fetchedBytes });
  }

  /** Of the phases that are over. */
  get seconds(): PullSeconds {
    return this.#seconds;
  }

  plan(digest: string, totalBytes: number, filesTotal: number): void {
    this.#digest = digest;
    this.#totalBytes = totalBytes;
    this.#filesTotal = filesTotal;
  }

  /** Bytes that were on the volume before, or have been fetched now. Negative when a partial was thrown away. */
  add(bytes: number, source: "volume" | "network"): void {
    this.#completedBytes += bytes;
    if (source !== "network" || bytes < 0) return;
    this.#fetchedBytes += bytes;
    const nowMs = performance.now();
    this.#lastByteMs = nowMs;
    const last = this.#samples.at(-1);
    if (last === undefined || nowMs - last.atMs > 250)
      this.#samples.push({ atMs: nowMs, bytes: this.#fetchedBytes });
    while (this.#samples.length > 2 && nowMs - (this.#samples[0]?.atMs ?? nowMs) > windowMs)
      this.#samples.shift();
  }

  completeFile(): void {
    this.#filesCompleted += 1;
  }

  fail(error: AppError): void {
    this.#lastFailure = { code: error.code, message: error.message };
  }

  get completedBytes(): number {
    return this.#completedBytes;
  }

  get totalBytes(): number {
    return this.#totalBytes;
  }

  /** Bytes that came over the network in this run. */
  get fetchedBytes(): number {
    return this.#fetchedBytes;
  }

  snapshot(): PullProgress {
    const first = this.#samples[0];
    const spanMs = first === undefined ? 0 : performance.now() - first.atMs;
    const bytesPerSecond =
      first === undefined || spanMs < 100
        ? 0
        : Math.round(((this.#fetchedBytes - first.bytes) * 1000) / spanMs);
    const left = this.#totalBytes - this.#completedBytes;
    return {
      v: contractVersion,
      phase: this.#phase,
      reference: this.#reference,
      ...(this.#digest === undefined ? {} : { digest: this.#digest }),
      totalBytes: this.#totalBytes,
      completedBytes: this.#completedBytes,
      bytesPerSecond,
      ...(bytesPerSecond > 0 && left > 0 ? { remainingSeconds: Math.ceil(left / bytesPerSecond) } : {}),
      filesTotal: this.#filesTotal,
      filesCompleted: this.#filesCompleted,
      ...(this.#lastFailure === undefined ? {} : { lastFailure: this.#lastFailure }),
    };
  }
}

function roundSeconds(seconds: number): number {
  return Math.round(seconds * 1e4) / 1e4;
}

function percent({ completedBytes, totalBytes }: PullProgress): number {
  return totalBytes === 0 ? 0 : Math.floor((completedBytes * 100) / totalBytes);
}

/** One line for a terminal, `width` characters at most. */
export function progressBar(progress: PullProgress, width: number): string {
  const mebibytes = (bytes: number): string => (bytes / 2 ** 20).toFixed(1);
  const tail = ` ${String(percent(progress)).padStart(3)}% ${mebibytes(progress.completedBytes)}/${mebibytes(progress.totalBytes)} MiB ${mebibytes(progress.bytesPerSecond)} MiB/s${progress.remainingSeconds === undefined ? "" : ` ${progress.remainingSeconds} s left`}`;
  const room = Math.max(0, Math.min(40, width - tail.length - progress.phase.length - 4));
  const done = Math.round((room * percent(progress)) / 100);
  return `${progress.phase} [${"#".repeat(done)}${".".repeat(room - done)}]${tail}`.slice(0, width);
}

/** Where the bar goes; what is no terminal gets none. */
export type Terminal = {
  write(text: string): unknown;
  readonly isTTY?: boolean | undefined;
  /** Characters of a line. */
  readonly columns?: number | undefined;
};

/** Tells progress until stopped: a bar on a terminal, else a line in the log every five seconds. */
export function reportProgress(
  tracker: ProgressTracker,
  terminal: Terminal,
  log: Pick<Logger, "info">,
): { stop(): void } {
  const isTerminal = terminal.isTTY === true;
  const timer = setInterval(
    () => {
      const progress = tracker.snapshot();
      if (isTerminal) terminal.write(`\r${progressBar(progress, terminal.columns ?? 80)}\u001b[K`);
      else log.info({ ...progress, percent: percent(progress) }, "progress");
    },
    isTerminal ? 200 : 5_000,
  );
  timer.unref();
  return {
    stop: () => {
      clearInterval(timer);
      if (isTerminal) terminal.write("\r\u001b[K");
    },
  };
}

/** Serves `GET /progress` at `host:port`. Fails with InvalidUsage when the address cannot be used. */
export async function serveProgress(tracker: ProgressTracker, address: string): Promise<Server> {
  const match = /^(.*):(\d{1,5})$/.exec(address);
  const port = Number(match?.[2]);
  if (match === null || port > 65535) {
    throw new AppError("InvalidUsage", `--progress-address ${JSON.stringify(address)} is not HOST:PORT`);
  }
  // Loaded only here, and not by an import, which makes names of all its exports and so loads the fetch within Node.
  const { createServer } = process.getBuiltinModule("node:http");
  const server = createServer((request, response) => {
    if (request.method !== "GET" || request.url !== "/progress") {
      response.writeHead(404).end();
      return;
    }
    response
      .writeHead(200, { "content-type": "application/json" })
      .end(`${JSON.stringify(tracker.snapshot())}\n`);
  });
  server.unref();
  await new Promise<void>((resolve, reject) => {
    server.once("error", (error: NodeJS.ErrnoException) => {
      reject(
        new AppError(
          "InvalidUsage",
          `--progress-address ${address} cannot be listened on (${error.code ?? "unknown"})`,
          {
            cause: error,
          },
        ),
      );
    });
    server.listen(port, (match[1] ?? "").replace(/^\[|\]$/g, ""), resolve);
  });
  return server;
}
