// One HTTP exchange with its redirects: egress policy, TLS, proxies, timeouts, and failures as AppError. Knows no registry API.

import { lookup as dnsLookup, type LookupAddress } from "node:dns";
import { readFileSync } from "node:fs";
import { X509Certificate } from "node:crypto";
import { rootCertificates } from "node:tls";
import { Agent, ProxyAgent, request, type Dispatcher } from "undici";
import { isSameOrigin, judgeAddress, judgeUrl, type EgressContext } from "./egress.ts";
import { AppError } from "./errors.ts";
import { limits } from "./limits.ts";
import { chooseProxies, proxyWantsCredentials } from "./proxy.ts";
import type { FailureCode } from "../contract.ts";

export type TransportOptions = {
  readonly caFiles: readonly string[];
  readonly connectTimeoutMs: number;
  /** Longest wait for the head of an answer, and between two pieces of its body, milliseconds. */
  readonly stallTimeoutMs: number;
  readonly userAgent: string;
  /** HTTP_PROXY, HTTPS_PROXY and NO_PROXY, in either case. */
  readonly environment: Readonly<Record<string, string | undefined>>;
};

export type Exchange = {
  readonly method: "GET" | "POST";
  readonly url: URL;
  readonly context: EgressContext;
  readonly headers: Readonly<Record<string, string>>;
  /** Sent only to the origin of `url`, never to a redirect's target of another origin. */
  readonly authorization?: string;
  readonly body?: string;
  /** Code of a failure to get an answer, or to go on with it. */
  readonly stallCode?: FailureCode;
};

export type Answer = {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly body: AsyncIterable<Uint8Array>;
  /** Reads the rest, if it is little, so that the connection can be used again; else closes it. */
  discard(): Promise<void>;
  /** Whether redirects led to another origin than the one asked. */
  readonly isOtherOrigin: boolean;
};

const redirectStatuses: ReadonlySet<number> = new Set([301, 302, 303, 307, 308]);

/** Value of a header that may have been sent once only; several are refused as undefined. */
export function header(answer: Pick<Answer, "headers">, name: string): string | undefined {
  const value = answer.headers[name];
  return typeof value === "string" ? value : undefined;
}

function readAuthorities(files: readonly string[]): readonly string[] {
  return files.map((file) => {
    let text: string;
    try {
      text = readFileSync(file, "utf8");
    } catch (error) {
      const code = (error as NodeJS.ErrnoException).code ?? "unknown";
      throw new AppError("InvalidConfiguration", `CA file ${file} cannot be read (${code})`, {
        cause: error,
      });
    }
    const blocks = text.match(/-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----/g) ?? [];
    if (blocks.length === 0) {
      throw new AppError(
        "InvalidConfiguration",
        `CA file ${file} holds no PEM certificate; it must have -----BEGIN CERTIFICATE----- in it`,
      );
    }
    for (const [index, block] of blocks.entries()) {
      try {
        new X509Certificate(block);
      } catch (error) {
        throw new AppError(
          "InvalidConfiguration",
          `CA file ${file}: certificate ${index + 1} of ${blocks.length} is damaged; write the file again`,
          { cause: error },
        );
      }
    }
    return blocks.join("\n");
  });
}

type LookupCallback = (error: Error | null, address: string | LookupAddress[], family?: number) => void;

/** Name resolution that refuses addresses which are not public; the addresses it gives are the ones that are dialled. */
function guardedLookup(hostname: string, options: object, callback: LookupCallback): void {
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

export class Transport {
  readonly #options: TransportOptions;
  /** For targets that the user named. */
  readonly #open: (url: URL) => Dispatcher;
  /** For targets that a server named: their addresses are judged. */
  readonly #guarded: (url: URL) => Dispatcher;
  readonly #dispatchers: Dispatcher[] = [];

  constructor(options: TransportOptions) {
    this.#options = options;
    const own = readAuthorities(options.caFiles);
    const ca = own.length === 0 ? undefined : [...rootCertificates, ...own];
    const { proxyFor } = chooseProxies(options.environment);
    const make = (lookup?: typeof guardedLookup): ((url: URL) => Dispatcher) => {
      const tls = { timeout: options.connectTimeoutMs, ...(ca === undefined ? {} : { ca }) };
      const common = {
        connect: { ...tls, ...(lookup === undefined ? {} : { lookup: lookup as never }) },
        maxHeaderSize: limits.headerBytes,
        headersTimeout: options.stallTimeoutMs,
        bodyTimeout: options.stallTimeoutMs,
        keepAliveTimeout: 4_000,
        pipelining: 1,
        allowH2: false,
      };
      const made = new Map<string, Dispatcher>();
      return (url) => {
        const proxy = proxyFor(url)?.href ?? "";
        let dispatcher = made.get(proxy);
        if (dispatcher === undefined) {
          // The proxy resolves names itself, and is a target that the user named.
          dispatcher =
            proxy === ""
              ? new Agent(common)
              : new ProxyAgent({ ...common, connect: tls, uri: proxy, requestTls: tls, proxyTls: tls });
          made.set(proxy, dispatcher);
          this.#dispatchers.push(dispatcher);
        }
        return dispatcher;
      };
    };
    this.#open = make();
    this.#guarded = make(guardedLookup);
  }

  /** Sends a request and follows at most five redirects, each judged. Fails with AppError. */
  async send(exchange: Exchange, signal: AbortSignal): Promise<Answer> {
    const { context } = exchange;
    let { url, anyAddress } = judgeUrl(exchange.url, exchange.url, context);
    for (let hop = 0; ; hop += 1) {
      const isAsked = isSameOrigin(url, exchange.url);
      const answer = await this.#once(exchange, url, anyAddress, isAsked, signal);
      if (!redirectStatuses.has(answer.status)) return { ...answer, isOtherOrigin: !isAsked };
      const location = header(answer, "location");
      await answer.discard();
      if (location === undefined || location === "") {
        throw new AppError(
          "PolicyRefused",
          `${url.host} answered ${answer.status} without one Location header`,
        );
      }
      if (exchange.method !== "GET") {
        throw new AppError(
          "PolicyRefused",
          `${url.host} redirects a ${exchange.method} request, which is refused`,
        );
      }
      if (hop === limits.redirects) {
        throw new AppError(
          "PolicyRefused",
          `${exchange.url.host} redirects more than ${limits.redirects} times`,
        );
      }
      ({ url, anyAddress } = judgeUrl(location, url, context));
    }
  }

  async close(): Promise<void> {
    await Promise.allSettled(this.#dispatchers.map(async (dispatcher) => dispatcher.destroy()));
  }

  async #once(
    exchange: Exchange,
    url: URL,
    anyAddress: boolean,
    isAsked: boolean,
    signal: AbortSignal,
  ): Promise<Omit<Answer, "isOtherOrigin">> {
    const stallCode = exchange.stallCode ?? "RegistryUnreachable";
    let answer: Dispatcher.ResponseData;
    try {
      answer = await request(url, {
        method: exchange.method,
        dispatcher: (anyAddress ? this.#open : this.#guarded)(url),
        headers: {
          ...exchange.headers,
          "accept-encoding": "identity",
          "user-agent": this.#options.userAgent,
          ...(isAsked && exchange.authorization !== undefined
            ? { authorization: exchange.authorization }
            : {}),
        },
        ...(exchange.body === undefined ? {} : { body: exchange.body }),
        signal,
      });
    } catch (error) {
      throw networkError(error, url.host, stallCode, signal);
    }
    const { body } = answer;
    return {
      status: answer.statusCode,
      headers: answer.headers,
      body: readBody(body, url.host, stallCode, signal),
      discard: async () => {
        await body
          .dump({ limit: limits.errorBytes, signal: AbortSignal.timeout(2_000) })
          .catch(() => undefined);
      },
    };
  }
}

async function* readBody(
  body: AsyncIterable<Uint8Array>,
  host: string,
  stallCode: FailureCode,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  try {
    yield* body;
  } catch (error) {
    throw networkError(error, host, stallCode, signal);
  }
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
  signal: AbortSignal,
): unknown {
  if (signal.aborted) return signal.reason;
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
