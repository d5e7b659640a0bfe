// What a failed connection means in the closed set of codes, and name resolution that dials only what was judged. No HTTP client.

import { lookup as dnsLookup, type LookupAddress } from "node:dns";
import type { FailureCode } from "../contract.ts";
import { judgeAddress } from "./egress.ts";
import { AppError } from "./errors.ts";
import { limits } from "./limits.ts";
import { proxyWantsCredentials } from "./proxy.ts";

type LookupCallback = (error: Error | null, address: string | LookupAddress[], family?: number) => void;

/** Name resolution that refuses addresses which are not public; the addresses it gives are the ones that are dialled. */
export function guardedLookup(hostname: string, options: object, callback: LookupCallback): void {
  dnsLookup(hostname, { ...options, all: true }, (error, addresses) => {
    if (error !== null) {
      callback(error, []);
      return;
    }
    try {
      for (const { address } of addresses) judgeAddress(hostname, address);
    } catch (refusal) {
      callback(refusal as Error, []);
      return;
    }
    if ("all" in options && options.all === true) callback(null, addresses);
    else callback(null, addresses[0]?.address ?? "", addresses[0]?.family);
  });
}

const certificateCodes =
  /^(?:CERT_|ERR_TLS_CERT|SELF_SIGNED_CERT|DEPTH_ZERO|UNABLE_TO_(?:GET|VERIFY|DECRYPT|DECODE)|ERROR_IN_CERT|INVALID_(?:CA|PURPOSE)|HOSTNAME_MISMATCH)/;
const protocolCodes = /^(?:EPROTO|ERR_SSL_|ERR_TLS_)/;

function codeOf(error: unknown): string {
  if (!(error instanceof Error)) return "";
  if ("code" in error && typeof error.code === "string") return error.code;
  if (error instanceof AggregateError && error.errors.length > 0) return codeOf(error.errors[0]);
  return error.cause === undefined ? "" : codeOf(error.cause);
}

/** The reason of a failed exchange in the closed set of codes. No text of a remote server is used. */
export function networkError(
  error: unknown,
  host: string,
  stallCode: FailureCode,
  signal?: AbortSignal,
): unknown {
  if (signal?.aborted === true) return signal.reason;
  if (error instanceof AppError) return error;
  if (error instanceof Error && error.cause instanceof AppError) return error.cause;
  const code = codeOf(error);
  const context = { host, errno: code };
  // undici tells of a proxy's answer in words only, in two ways.
  if (error instanceof Error && /^Proxy .*\(407\)/.test(error.message)) return proxyWantsCredentials(host);
  if (certificateCodes.test(code)) {
    return new AppError(
      "TLSUntrusted",
      `the certificate of ${host} is not trusted (${code}); give its authority with --ca-file`,
      { cause: error, context },
    );
  }
  if (protocolCodes.test(code)) {
    return new AppError(
      "TLSUntrusted",
      `no TLS connection to ${host} (${code}); if it speaks plain http, name it with --plain-http ${host}`,
      { cause: error, context },
    );
  }
  if (code === "UND_ERR_HEADERS_OVERFLOW" || code === "HPE_HEADER_OVERFLOW") {
    return new AppError(
      "InvalidArtifact",
      `${host} answers with more than ${limits.headerBytes} bytes of headers`,
      {
        cause: error,
        context,
      },
    );
  }
  if (code === "UND_ERR_HEADERS_TIMEOUT" || code === "UND_ERR_BODY_TIMEOUT") {
    return new AppError(stallCode, `${host} sent no byte for too long`, { cause: error, context });
  }
  return new AppError("RegistryUnreachable", `${host} cannot be reached${code === "" ? "" : ` (${code})`}`, {
    cause: error,
    context,
  });
}
