// One HTTP exchange with its redirects: egress policy, TLS, proxies, timeouts, and failures as AppError. Knows no registry API.

import { readFileSync } from "node:fs";
import { X509Certificate } from "node:crypto";
import { Readable } from "node:stream";
import type { Dispatcher } from "undici";
import { isSameOrigin, judgeUrl, type EgressContext } from "./egress.ts";
import { AppError } from "./errors.ts";
import { Agent, ProxyAgent, request } from "./http-client.ts";
import { limits } from "./limits.ts";
import { guardedLookup, networkError } from "./network-error.ts";
import { chooseProxies, type ProxyChoice } from "./proxy.ts";
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

/** GET and HEAD follow redirects, the others do not. */
export type Method = "GET" | "HEAD" | "POST" | "PATCH" | "PUT";

export type Exchange = {
  readonly method: Method;
  readonly url: URL;
  readonly context: EgressContext;
  readonly headers: Readonly<Record<string, string>>;
  /** Sent only to the origin of `url`, never to a redirect's target of another origin. */
  readonly authorization?: string;
  /** A function gives the body anew for each time that it is sent. */
  readonly body?: Body;
  /** Code of a failure to get an answer, or to go on with it. */
  readonly stallCode?: FailureCode;
  /** Longest wait for the head of the answer, milliseconds, where it is another than for all; the body is sent within it. */
  readonly answerTimeoutMs?: number;
};

/** What a request carries. */
export type Body = string | Uint8Array | (() => AsyncIterable<Uint8Array>);

/** The head of an answer, whoever brought it. */
export type AnswerHead = {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  /** Reads the rest, if it is little, so that the connection can be used again; else closes it. */
  discard(): Promise<void>;
};

export type Answer = AnswerHead & {
  readonly body: AsyncIterable<Uint8Array>;
};

/** One request of an exchange, judged: what a client has to send and nothing else. */
export type Hop = {
  readonly method: Method;
  readonly url: URL;
  /** The user named this target; else its address is judged before it is dialled. */
  readonly anyAddress: boolean;
  /** Whether the environment names a proxy for it. */
  readonly isProxied: boolean;
  /** All headers but Host; with credentials only where they belong. */
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: Body;
  readonly stallCode: FailureCode;
  readonly answerTimeoutMs?: number;
};

/** Performs one hop. Fails with AppError. */
export type Asker<A extends AnswerHead> = (hop: Hop, signal: AbortSignal) => Promise<A>;

/** An answer at the end of its redirects. */
export type Landed<A extends AnswerHead> = {
  readonly answer: A;
  /** Whether redirects led to another origin than the one asked. */
  readonly isOtherOrigin: boolean;
};

const redirectStatuses: ReadonlySet<number> = new Set([301, 302, 303, 307, 308]);

/** Value of a header that may have been sent once only; several are refused as undefined. */
export function header(answer: Pick<AnswerHead, "headers">, name: string): string | undefined {
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

/** Node's authorities with those of files; undefined: Node's alone. Fails with InvalidConfiguration. */
export function trustedAuthorities(files: readonly string[]): string[] | undefined {
  if (files.length === 0) return undefined;
  // Loaded here: whoever asks by plain HTTP, or finds its model on the volume, does without.
  const { rootCertificates } = process.getBuiltinModule("node:tls");
  return [...rootCertificates, ...readAuthorities(files)];
}

/** Longest wait for a connection, milliseconds. */
export const defaultConnectTimeoutMs = 15_000;

export class Transport {
  readonly #options: TransportOptions;
  /** For targets that the user named. */
  readonly #open: (url: URL) => Dispatcher;
  /** For targets that a server named: their addresses are judged. */
  readonly #guarded: (url: URL) => Dispatcher;
  readonly #dispatchers: Dispatcher[] = [];
  readonly #proxies: ProxyChoice;

  constructor(options: TransportOptions) {
    this.#options = options;
    const ca = trustedAuthorities(options.caFiles);
    this.#proxies = chooseProxies(options.environment);
    const { proxyFor } = this.#proxies;
    const make = (lookup?: typeof guardedLookup): ((url: URL) => Dispatcher) => {
      // The image holds no HTTP/2. Here too: a proxy that is reached by TLS would be offered it.
      const tls = {
        timeout: options.connectTimeoutMs,
        allowH2: false,
        ...(ca === undefined ? {} : { ca }),
      };
      const common = {
        connect: { ...tls, ...(lookup === undefined ? {} : { lookup: lookup as never }) },
        maxHeaderSize: limits.headerBytes,
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

  /** Sends a request and follows at most five redirects, each judged; `ask` performs each hop. Fails with AppError. */
  async send<A extends AnswerHead>(
    exchange: Exchange,
    ask: Asker<A>,
    signal: AbortSignal,
  ): Promise<Landed<A>> {
    const { context } = exchange;
    let { url, anyAddress } = judgeUrl(exchange.url, exchange.url, context);
    for (let hop = 0; ; hop += 1) {
      const isAsked = isSameOrigin(url, exchange.url);
      const answer = await ask(this.#hop(exchange, url, anyAddress, isAsked), signal);
      if (!redirectStatuses.has(answer.status)) return { answer, isOtherOrigin: !isAsked };
      const location = header(answer, "location");
      await answer.discard();
      if (location === undefined || location === "") {
        throw new AppError(
          "PolicyRefused",
          `${url.host} answered ${answer.status} without one Location header`,
        );
      }
      if (exchange.method !== "GET" && exchange.method !== "HEAD") {
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

  #hop(exchange: Exchange, url: URL, anyAddress: boolean, isAsked: boolean): Hop {
    return {
      method: exchange.method,
      url,
      anyAddress,
      isProxied: this.#proxies.proxyFor(url) !== undefined,
      headers: {
        ...exchange.headers,
        "accept-encoding": "identity",
        "user-agent": this.#options.userAgent,
        ...(isAsked && exchange.authorization !== undefined ? { authorization: exchange.authorization } : {}),
      },
      ...(exchange.body === undefined ? {} : { body: exchange.body }),
      stallCode: exchange.stallCode ?? "RegistryUnreachable",
      ...(exchange.answerTimeoutMs === undefined ? {} : { answerTimeoutMs: exchange.answerTimeoutMs }),
    };
  }

  /** Performs a hop with undici. */
  readonly ask: Asker<Answer> = async (hop, signal) => {
    const { url, stallCode } = hop;
    const { body: sent } = hop;
    let answer: Dispatcher.ResponseData;
    try {
      answer = await request((hop.anyAddress ? this.#open : this.#guarded)(url), url, {
        method: hop.method,
        headers: hop.headers,
        ...(sent === undefined ? {} : { body: typeof sent === "function" ? Readable.from(sent()) : sent }),
        // Of each request: a client that goes through a proxy by plain http takes those of its agent for none.
        headersTimeout: hop.answerTimeoutMs ?? this.#options.stallTimeoutMs,
        bodyTimeout: this.#options.stallTimeoutMs,
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
  };
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
