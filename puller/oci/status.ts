// What an HTTP status means, and reading bodies up to a limit. No text of a remote server enters a message.

import { AppError } from "./errors.ts";
import { limits } from "./limits.ts";
import { proxyWantsCredentials } from "./proxy.ts";
import { header, type Answer, type AnswerHead } from "./transport.ts";

/** What was asked for. */
export type Asked = "manifest" | "blob" | "token" | "tags" | "referrers" | "upload" | "push";

const names: Partial<Record<Asked, string>> = {
  tags: "tag list",
  referrers: "list of referrers",
  upload: "upload of a layer",
  push: "push of the manifest",
};

/** Waiting time that a Retry-After header asks for, milliseconds, at most five minutes; undefined when it is none. */
export function parseRetryAfter(value: string | undefined, nowMs: number): number | undefined {
  if (value === undefined) return undefined;
  const text = value.trim();
  if (/^\d+$/.test(text)) return Math.min(Number(text) * 1000, limits.retryAfterMs);
  // An HTTP date begins with the name of a day (RFC 9110 section 5.6.7).
  const dateMs = /^[A-Z][a-z]{2,8},? /.test(text) ? Date.parse(text) : Number.NaN;
  return Number.isNaN(dateMs) ? undefined : Math.max(0, Math.min(dateMs - nowMs, limits.retryAfterMs));
}

/** The failure that an answer's status stands for. */
export function statusError(
  answer: Pick<AnswerHead, "status" | "headers">,
  asked: Asked,
  host: string,
): AppError {
  const { status } = answer;
  const what = names[asked] ?? asked;
  const context = { host, status };
  const afterMs = parseRetryAfter(header(answer, "retry-after"), Date.now());
  const retry = afterMs === undefined ? ({} as const) : ({ retry: { afterMs } } as const);
  if (status === 429) {
    return new AppError("RegistryRateLimited", `${host} asks to slow down (429) for the ${what}`, {
      context,
      ...retry,
    });
  }
  if (status === 401) {
    return new AppError(
      "RegistryUnauthorized",
      `${host} wants other credentials (401) for the ${what}; check the pull secret filed under ${host}`,
      { context },
    );
  }
  if (status === 407) return proxyWantsCredentials(host);
  if (status === 403) {
    return new AppError("RegistryForbidden", `${host} refuses the ${what} to these credentials (403)`, {
      context,
    });
  }
  if (status === 451) {
    return new AppError("PolicyRefused", `${host} withholds the ${what} for legal reasons (451)`, {
      context,
    });
  }
  if (status === 404 || status === 410) {
    if (asked === "blob")
      return new AppError("BlobNotFound", `${host} does not have the blob (${status})`, { context });
    return new AppError(
      "ManifestNotFound",
      asked === "token"
        ? `token server ${host} is not where the registry says (${status})`
        : `${host} has no such repository, tag or digest (${status}); tags are case-sensitive`,
      { context },
    );
  }
  if (status >= 500 || status === 408 || status === 499) {
    return new AppError("RegistryUnreachable", `${host} answered ${status} for the ${what}`, {
      context,
      ...retry,
    });
  }
  return new AppError(
    "InvalidArtifact",
    `${host} answered ${status} for the ${what}, which makes no sense there`,
    {
      context,
    },
  );
}

/** Reads a body into memory; refuses the first byte beyond `maxBytes` and any Content-Encoding. */
export async function readCapped(answer: Answer, maxBytes: number, what: string): Promise<Uint8Array> {
  refuseEncoding(answer, what);
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of answer.body) {
    size += chunk.length;
    if (size > maxBytes) throw new AppError("InvalidArtifact", `${what} is larger than ${maxBytes} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

/** We ask for identity: anything else would make the digest one of other bytes. */
export function refuseEncoding(answer: Pick<AnswerHead, "headers">, what: string): void {
  const encoding = answer.headers["content-encoding"];
  if (encoding === undefined || encoding === "" || encoding === "identity") return;
  throw new AppError("InvalidArtifact", `${what} came with a Content-Encoding although none was asked for`);
}
