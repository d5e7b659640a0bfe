// What crosses between the main thread and the threads of the data plane. Data only; errors cross as values.

import type { FailureCode } from "../contract.ts";
import { AppError, FastPathRefused, type ErrorContext, type Retry } from "../oci/errors.ts";
import type { DigestAlgorithm } from "../oci/digest.ts";
import type { UnpackedEntry, UnpackOrder } from "./unpack-archive.ts";
import type { SharedPieceMap } from "./piece-map.ts";

/** Settings of a thread, given at its start. */
export type ThreadSettings = {
  /** Authorities in PEM, instead of Node's own; absent: Node's. */
  readonly authorities?: readonly string[];
  readonly connectTimeoutMs: number;
  /** No byte for this long is a stall, before the first one too. */
  readonly stallTimeoutMs: number;
  /** Fewer bytes than this in each window are a stall as well. */
  readonly slowest: { readonly bytes: number; readonly windowMs: number };
  /** Buffer of each lane, bytes. */
  readonly slabBytes: number;
  /** Bytes that each lane may still receive, refilled by the main thread; absent: no limit. An Int32 of each. */
  readonly allowance?: SharedArrayBuffer;
};

/** A file that lanes write to. */
export type LaneBlob = {
  readonly blob: number;
  /** Descriptor of the process, opened by the main thread, which also closes it. */
  readonly descriptor: number;
  readonly map: SharedPieceMap;
  /** Where each piece's progress is noted on the volume; absent for small blobs. */
  readonly journalOffset?: number;
  /** Hash what is written, in order: there is one lane for the whole blob. */
  readonly inlineHash?: DigestAlgorithm;
};

export type LaneTarget = {
  readonly isSecure: boolean;
  readonly hostname: string;
  readonly port: number;
  /** Refuse addresses that are not public. */
  readonly isGuarded: boolean;
};

export type ToLane =
  | { readonly kind: "open"; readonly blob: LaneBlob }
  /** Hashes the bytes that are there; answered by `hashed` or `failed`. */
  | { readonly kind: "hash-prefix"; readonly exchange: number; readonly blob: number; readonly bytes: number }
  | {
      readonly kind: "fetch";
      readonly exchange: number;
      readonly lane: number;
      readonly blob: number;
      readonly target: LaneTarget;
      /** Request line and header lines, without the empty line. */
      readonly head: string;
      readonly stallCode: FailureCode;
      readonly piece: number;
      readonly offset: number;
      /** End of the range that was asked for. */
      readonly endExclusive: number;
      /** Goes on into the next piece while nobody else has it. */
      readonly isRun: boolean;
      /** Pieces that may be written past what is hashed. */
      readonly lead: number;
    }
  /** Ends a fetch; what has arrived is written first. */
  | { readonly kind: "cancel"; readonly lane: number }
  /** The digest of all bytes; answered by `hashed`. */
  | { readonly kind: "finish"; readonly exchange: number; readonly blob: number }
  | { readonly kind: "close"; readonly blob: number };

export type FromLane =
  /** The thread has loaded what it needs. */
  | { readonly kind: "ready" }
  /** An answer; `taken` when it is exactly what was asked for and its body is being written. */
  | {
      readonly kind: "head";
      readonly exchange: number;
      readonly status: number;
      readonly headers: Readonly<Record<string, string | string[]>>;
      readonly taken: boolean;
    }
  /** The body, or what was wanted of it, is written. */
  | { readonly kind: "done"; readonly exchange: number }
  | { readonly kind: "hashed"; readonly exchange: number; readonly hex?: string }
  | { readonly kind: "unpacked"; readonly exchange: number; readonly entries: readonly UnpackedEntry[] }
  | { readonly kind: "failed"; readonly exchange: number; readonly failure: SentFailure };

export type ToHasher = {
  readonly kind: "hash";
  readonly exchange: number;
  readonly descriptor: number;
  readonly map: SharedPieceMap;
  readonly algorithm: DigestAlgorithm;
};

export type ToUnpacker = {
  readonly kind: "unpack";
  /** Answered by `unpacked` or `failed`. */
  readonly exchange: number;
  readonly descriptor: number;
  readonly map: SharedPieceMap;
  readonly order: UnpackOrder;
  /** Hash the blob as well; answered by `hashed` or `failed` to an exchange of its own. */
  readonly hash?: { readonly exchange: number; readonly algorithm: DigestAlgorithm };
};

/** A failure as a value; `odd` marks an answer that only the slower path can take. */
export type SentFailure = {
  readonly code: FailureCode;
  readonly message: string;
  readonly retry: Retry;
  readonly context: ErrorContext;
  readonly errno?: string;
  readonly odd?: string;
};

export function sendFailure(error: unknown): SentFailure {
  if (error instanceof AppError) {
    const { code, message, retry, context } = error;
    return { code, message, retry, context, ...(error instanceof FastPathRefused ? { odd: error.odd } : {}) };
  }
  const name = error instanceof Error ? error.name : typeof error;
  return {
    code: "InternalError",
    message: `a defect of the data plane (${name})`,
    retry: "never",
    context: error instanceof Error ? { stack: error.stack?.slice(0, 2000) } : {},
  };
}

export function receiveFailure(failure: SentFailure): AppError {
  if (failure.odd !== undefined) return new FastPathRefused(failure.odd);
  const { code, message, retry, context } = failure;
  return new AppError(code, message, { retry, context });
}
