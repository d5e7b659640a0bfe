// The one error class of the puller: a code that is API, whether a retry may help, and context that is safe to show.

import { failureExitCodes, isRetryable, type FailureCode } from "../contract.ts";

/** What to do after a failure: nothing, back off, or wait as long as the server asked. */
export type Retry = "never" | "backoff" | { readonly afterMs: number };

/** Values that name what failed; shown in logs. Never a header, token, URL query or text of a remote server. */
export type ErrorContext = Readonly<Record<string, string | number | boolean | undefined>>;

/** A failure with a closed set of codes; each maps to one exit code (see `failureExitCodes`). */
export class AppError extends Error {
  readonly code: FailureCode;
  readonly retry: Retry;
  readonly context: ErrorContext;

  constructor(
    code: FailureCode,
    message: string,
    options: { readonly retry?: Retry; readonly context?: ErrorContext; readonly cause?: unknown } = {},
  ) {
    super(message, options.cause === undefined ? {} : { cause: options.cause });
    this.name = "AppError";
    this.code = code;
    this.retry = options.retry ?? (isRetryable(code) ? "backoff" : "never");
    this.context = options.context ?? {};
  }

  /** Exit code of a process that ends with this failure. */
  get exitCode(): number {
    return failureExitCodes[this.code];
  }
}

/** The server did not give the range that was asked for: what is there is to be fetched from its beginning. */
export class RangeRefused extends AppError {
  constructor(message: string, options: { readonly context?: ErrorContext } = {}) {
    super("RegistryUnreachable", message, options);
    this.name = "RangeRefused";
  }
}

/** An answer, or a way to a server, that a quicker client does not speak: the registry's own client has to take it. */
export class FastPathRefused extends AppError {
  /** What it was: a few words of ours. */
  readonly odd: string;

  constructor(odd: string) {
    // Asking again would give the same: the slower path is to take it at once.
    super("RegistryUnreachable", `the fast path does not take this: ${odd}`, { retry: "never" });
    this.name = "FastPathRefused";
    this.odd = odd;
  }
}
