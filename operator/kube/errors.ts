// Failures of the API server as one class: what kind, and what the server said. Never a header or a token.

/** What a failure means to a caller. */
export type KubeErrorKind =
  | "alreadyExists"
  | "conflict"
  | "forbidden"
  | "gone"
  | "invalid"
  | "notFound"
  | "throttled"
  | "unauthorized"
  | "unavailable";

/** Longest message taken from a Status object, characters. */
const maxMessageLength = 1024;

export class KubeError extends Error {
  readonly kind: KubeErrorKind;
  /** HTTP status; 0 when no answer came. */
  readonly status: number;
  readonly retryAfterMs: number | undefined;

  constructor(
    kind: KubeErrorKind,
    message: string,
    options: { readonly status?: number; readonly retryAfterMs?: number; readonly cause?: unknown } = {},
  ) {
    super(message, options.cause === undefined ? {} : { cause: options.cause });
    this.name = "KubeError";
    this.kind = kind;
    this.status = options.status ?? 0;
    this.retryAfterMs = options.retryAfterMs;
  }
}

function kindOf(status: number, reason: string | undefined): KubeErrorKind {
  if (status === 409) return reason === "AlreadyExists" ? "alreadyExists" : "conflict";
  if (status === 401) return "unauthorized";
  if (status === 403) return "forbidden";
  if (status === 404) return "notFound";
  if (status === 410) return "gone";
  if (status === 429) return "throttled";
  if (status >= 400 && status < 500) return "invalid";
  return "unavailable";
}

/** Seconds of a Retry-After header as milliseconds, at most five minutes; undefined when there is none. */
export function retryAfterMs(header: string | undefined): number | undefined {
  if (header === undefined || !/^\d+$/.test(header)) return undefined;
  return Math.min(Number(header), 300) * 1000;
}

/** A failure from an answer: `body` is a metav1.Status, or anything else, which is then not shown. */
export function kubeErrorOf(status: number, body: string, retryAfter: string | undefined): KubeError {
  let message = `the API server answered ${status}`;
  let reason: string | undefined;
  try {
    const parsed = JSON.parse(body) as { kind?: unknown; message?: unknown; reason?: unknown };
    if (parsed.kind === "Status" && typeof parsed.message === "string") {
      message = parsed.message.slice(0, maxMessageLength);
    }
    if (typeof parsed.reason === "string") reason = parsed.reason;
  } catch {
    // Not JSON: a proxy's page, which is nobody's message.
  }
  const after = retryAfterMs(retryAfter);
  return new KubeError(kindOf(status, reason), message, {
    status,
    ...(after === undefined ? {} : { retryAfterMs: after }),
  });
}
