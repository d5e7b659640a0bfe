// The registry client: manifests, small blobs, blob streams and tags, with authentication and mirrors. Verifies all it returns whole.
// https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md

import { checkBlobAnswer } from "./blob-answer.ts";
import { parseChallenges } from "./challenge.ts";
import { credentialFor, type CredentialEntry } from "./credentials.ts";
import { digestOf, isDigest, verifyBytes } from "./digest.ts";
import { isSameOrigin, judgeUrl } from "./egress.ts";
import { Endpoints, urlAt, type Endpoint, type EndpointOptions } from "./endpoints.ts";
import { AppError, FastPathRefused } from "./errors.ts";
import { limits } from "./limits.ts";
import { mediaTypes, parseManifest } from "./manifest.ts";
import { nextPage } from "./next-page.ts";
import { referrersAccept, referrersAt } from "./referrers.ts";
import { formatReference, manifestName } from "./reference.ts";
import { defaultRetryPolicy, withRetries, type RetryClock, type RetryPolicy } from "./retry.ts";
import { readCapped, statusError, type Asked } from "./status.ts";
import { parseJsonObject } from "./strict-json.ts";
import { basicAuthorization, pullScope, pushScope, TokenCache } from "./token.ts";
import {
  defaultConnectTimeoutMs,
  header,
  Transport,
  type Answer,
  type AnswerHead,
  type Asker,
  type Body,
  type Landed,
  type Method,
} from "./transport.ts";
import type {
  BlobAnswer,
  BlobRange,
  BlobStream,
  Descriptor,
  Digest,
  Index,
  Manifest,
  Reference,
  RetryListener,
  WritableRegistry,
  WriteAnswer,
  WriteRequest,
} from "./types.ts";

export type RegistryOptions = EndpointOptions & {
  readonly credentials?: readonly CredentialEntry[];
  /** PEM files, added to the system's authorities. */
  readonly caFiles?: readonly string[];
  readonly connectTimeoutMs?: number;
  /** No byte for this long, before the first one too, is a failure, milliseconds. */
  readonly stallTimeoutMs?: number;
  readonly retryPolicy?: RetryPolicy;
  readonly clock?: RetryClock;
  readonly userAgent?: string;
  /** For HTTP_PROXY, HTTPS_PROXY and NO_PROXY. */
  readonly environment?: Readonly<Record<string, string | undefined>>;
  readonly onRetry?: RetryListener;
};

/** What storage behind a redirect answers when the signature of its URL has run out; a new redirect has a new one. */
const expiredStatuses: ReadonlySet<number> = new Set([400, 401, 403]);
const manifestAccept = Object.values(mediaTypes).join(", ");
/** A request to a registry, and what it is sent for. */
type Request = {
  readonly method: Method;
  readonly url: URL;
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: Body;
  readonly answerTimeoutMs?: number;
  readonly asked: Asked;
  /** What a token is to allow; default: to read the repository. */
  readonly scopes?: readonly string[];
};

class HttpRegistry implements WritableRegistry {
  readonly #options: RegistryOptions;
  readonly #transport: Transport;
  readonly #tokens: TokenCache;
  readonly #endpoints: Endpoints;
  /** Registries that take Basic credentials themselves. */
  readonly #basic = new Set<string>();

  constructor(options: RegistryOptions) {
    this.#options = options;
    this.#transport = new Transport({
      caFiles: options.caFiles ?? [],
      connectTimeoutMs: options.connectTimeoutMs ?? defaultConnectTimeoutMs,
      stallTimeoutMs: options.stallTimeoutMs ?? 30_000,
      userAgent: options.userAgent ?? "ocimodel-puller",
      environment: options.environment ?? {},
    });
    this.#tokens = new TokenCache(this.#transport);
    this.#endpoints = new Endpoints(options);
  }

  async fetchManifest(reference: Reference, signal: AbortSignal): Promise<Manifest | Index> {
    return this.#retrying(signal, async () =>
      this.#atAnyEndpoint(this.#endpoints.all(reference), signal, async (endpoint) => {
        const url = urlAt(endpoint, reference, `manifests/${manifestName(reference)}`);
        const { answer } = await this.#authorized(
          endpoint,
          reference,
          url,
          { accept: manifestAccept },
          "manifest",
          this.#transport.ask,
          signal,
        );
        if (answer.status !== 200) {
          await answer.discard();
          throw statusError(answer, "manifest", endpoint.context.registry.host);
        }
        const raw = await readCapped(answer, limits.manifestBytes, "the manifest");
        const digest = this.#checkManifest(raw, reference, header(answer, "docker-content-digest"));
        return parseManifest(raw, digest, header(answer, "content-type"));
      }),
    );
  }

  #checkManifest(raw: Uint8Array, reference: Reference, stated: string | undefined): Manifest["digest"] {
    if (reference.digest !== undefined) {
      verifyBytes(raw, { digest: reference.digest, sizeBytes: raw.length });
      return reference.digest;
    }
    // By tag the header may name another algorithm; what it names must be what came.
    if (isDigest(stated)) {
      verifyBytes(raw, { digest: stated, sizeBytes: raw.length });
      return stated;
    }
    return digestOf(raw);
  }

  async fetchBlob(
    reference: Reference,
    descriptor: Descriptor,
    maxBytes: number,
    signal: AbortSignal,
  ): Promise<Uint8Array> {
    if (descriptor.sizeBytes > maxBytes) {
      throw new AppError(
        "InvalidArtifact",
        `blob ${descriptor.digest} of ${descriptor.sizeBytes} bytes is larger than the ${maxBytes} allowed for its kind`,
      );
    }
    return this.#retrying(signal, async () => {
      const { body } = await this.open(reference, descriptor, { offset: 0 }, signal);
      const chunks: Uint8Array[] = [];
      let size = 0;
      for await (const chunk of body) {
        size += chunk.length;
        chunks.push(chunk);
        if (size > descriptor.sizeBytes) break;
      }
      const bytes = Buffer.concat(chunks);
      verifyBytes(bytes, descriptor);
      return bytes;
    });
  }

  async open(
    reference: Reference,
    descriptor: Descriptor,
    range: BlobRange,
    signal: AbortSignal,
  ): Promise<BlobStream> {
    const { answer, ...rest } = await this.request(reference, descriptor, range, this.#transport.ask, signal);
    return { ...rest, body: answer.body };
  }

  async request<A extends AnswerHead>(
    reference: Reference,
    descriptor: Descriptor,
    range: BlobRange,
    ask: Asker<A>,
    signal: AbortSignal,
  ): Promise<BlobAnswer<A>> {
    const ways: readonly [...Endpoint[], Endpoint] =
      range.skipsMirrors === true ? [this.#endpoints.origin(reference)] : this.#endpoints.all(reference);
    return this.#atAnyEndpoint(ways, signal, async (endpoint) => {
      const isRange = range.offset > 0 || range.endExclusive !== undefined;
      // Always closed: there are registries that answer an open range with 416.
      const last = (range.endExclusive ?? descriptor.sizeBytes) - 1;
      const headers = {
        accept: "*/*",
        ...(isRange ? { range: `bytes=${range.offset}-${last}` } : {}),
      };
      const url = urlAt(endpoint, reference, `blobs/${descriptor.digest}`);
      const get = async (): Promise<Landed<A>> =>
        this.#authorized(endpoint, reference, url, headers, "blob", ask, signal);
      let landed = await get();
      if (landed.isOtherOrigin && expiredStatuses.has(landed.answer.status)) {
        await landed.answer.discard();
        landed = await get();
      }
      return checkBlobAnswer(landed.answer, descriptor, range, isRange, endpoint.context.registry.host);
    });
  }

  async listTags(reference: Reference, signal: AbortSignal): Promise<readonly string[]> {
    const endpoint = this.#endpoints.origin(reference);
    const tags: string[] = [];
    let bytes = 0;
    let next: URL | undefined = urlAt(endpoint, reference, "tags/list?n=1000");
    for (let page = 0; next !== undefined; page += 1) {
      if (page === limits.tagPages || bytes > limits.tagListBytes) {
        const most = page === limits.tagPages ? `${limits.tagPages} pages` : `${limits.tagListBytes} bytes`;
        throw new AppError(
          "InvalidArtifact",
          `${endpoint.context.registry.host} lists more than ${most} of tags for ${reference.repository}; name the variants one by one, or in an index`,
        );
      }
      const url: URL = next;
      const { names, link, size } = await this.#retrying(signal, async () => {
        const { answer } = await this.#authorized(
          endpoint,
          reference,
          url,
          { accept: "application/json" },
          "tags",
          this.#transport.ask,
          signal,
        );
        if (answer.status !== 200) {
          await answer.discard();
          throw statusError(answer, "tags", endpoint.context.registry.host);
        }
        const body = await readCapped(answer, limits.tagPageBytes, "the tag list");
        const document = parseJsonObject(body, "tag list");
        return { names: document["tags"], link: header(answer, "link"), size: body.length };
      });
      bytes += size;
      if (Array.isArray(names))
        tags.push(...names.filter((name): name is string => typeof name === "string"));
      next = nextPage(link, url);
    }
    return tags;
  }

  async listReferrers(
    reference: Reference,
    subject: Digest,
    artifactType: string,
    signal: AbortSignal,
  ): Promise<readonly Descriptor[]> {
    let hasAnswer = false;
    let failure: unknown;
    for (const endpoint of this.#endpoints.all(reference)) {
      const ask = async (path: string | URL): Promise<Answer> => {
        const url = path instanceof URL ? path : urlAt(endpoint, reference, path);
        const headers = { accept: referrersAccept };
        const own = this.#transport.ask;
        return (await this.#authorized(endpoint, reference, url, headers, "referrers", own, signal)).answer;
      };
      const { host } = endpoint.context.registry;
      const next = (link: string | undefined): URL | undefined => nextPage(link, new URL(endpoint.base));
      const work = async (): Promise<readonly Descriptor[]> =>
        referrersAt({ host, ask, next }, subject, artifactType);
      try {
        // Behind a mirror that has none, the registry itself may be out of reach: asked, but not waited for.
        const found = hasAnswer ? await work() : await this.#retrying(signal, work);
        if (found.length > 0) return found;
        hasAnswer = true;
      } catch (error) {
        if (signal.aborted || !(error instanceof AppError)) throw error;
        failure = error;
      }
    }
    if (!hasAnswer) throw failure;
    return [];
  }

  async write(reference: Reference, request: WriteRequest, signal: AbortSignal): Promise<WriteAnswer> {
    const endpoint = this.#endpoints.origin(reference);
    const { method, target, body, mountFrom, answerTimeoutMs } = request;
    const url = target instanceof URL ? target : urlAt(endpoint, reference, target);
    const { answer } = await this.#ask(
      endpoint,
      reference,
      {
        method,
        url,
        headers: request.headers ?? {},
        ...(body === undefined ? {} : { body }),
        ...(answerTimeoutMs === undefined ? {} : { answerTimeoutMs }),
        asked: request.asked,
        scopes: [pushScope(reference.repository), ...(mountFrom === undefined ? [] : [pullScope(mountFrom)])],
      },
      this.#transport.ask,
      signal,
    );
    const location = header(answer, "location");
    return {
      answer,
      // Where the upload goes on may be anywhere that the policy allows.
      ...(location === undefined || location === ""
        ? {}
        : { location: judgeUrl(location, url, endpoint.context).url }),
    };
  }

  async close(): Promise<void> {
    await this.#transport.close();
  }

  async #retrying<T>(signal: AbortSignal, work: () => Promise<T>): Promise<T> {
    return withRetries(work, {
      policy: this.#options.retryPolicy ?? defaultRetryPolicy,
      signal,
      ...(this.#options.clock === undefined ? {} : { clock: this.#options.clock }),
      onRetry: this.#options.onRetry,
    });
  }

  /** Asks mirrors in their order and then the registry itself; the last one's failure is the answer. */
  async #atAnyEndpoint<T>(
    endpoints: readonly [...Endpoint[], Endpoint],
    signal: AbortSignal,
    ask: (endpoint: Endpoint) => Promise<T>,
  ): Promise<T> {
    for (const endpoint of endpoints.slice(0, -1)) {
      try {
        return await ask(endpoint);
      } catch (error) {
        if (signal.aborted || !(error instanceof AppError) || error instanceof FastPathRefused) throw error;
        this.#options.onRetry?.(error, 1, 0);
      }
    }
    return ask(endpoints.at(-1) as Endpoint);
  }

  /** A GET of `#ask`. */
  async #authorized<A extends AnswerHead>(
    endpoint: Endpoint,
    reference: Reference,
    url: URL,
    headers: Readonly<Record<string, string>>,
    asked: Asked,
    ask: Asker<A>,
    signal: AbortSignal,
  ): Promise<Landed<A>> {
    return this.#ask(endpoint, reference, { method: "GET", url, headers, asked }, ask, signal);
  }

  /** One request with what the registry wants to know of us: at most one new token, or Basic once it asks for it. */
  async #ask<A extends AnswerHead>(
    endpoint: Endpoint,
    reference: Reference,
    request: Request,
    ask: Asker<A>,
    signal: AbortSignal,
  ): Promise<Landed<A>> {
    const { context } = endpoint;
    const { asked, scopes = [pullScope(reference.repository)], ...sent } = request;
    const credential = credentialFor(this.#options.credentials ?? [], {
      registry: endpoint.credentialHost,
      repository: reference.repository,
    });
    const key = `${context.registry.origin} ${scopes.join(" ")}`;
    const stallCode = asked === "blob" ? "TransferStalled" : "RegistryUnreachable";
    // An upload may be led to another origin, which is nobody to present credentials to.
    const isOwn = isSameOrigin(request.url, context.registry);
    const send = async (authorization: string | undefined): Promise<Landed<A>> =>
      this.#transport.send(
        {
          ...sent,
          context,
          stallCode,
          ...(authorization === undefined || !isOwn ? {} : { authorization }),
        },
        ask,
        signal,
      );
    const known =
      credential?.kind === "registry-token"
        ? `Bearer ${credential.token}`
        : credential?.kind === "basic" && this.#basic.has(key)
          ? basicAuthorization(credential)
          : this.#tokens.get(key);
    const first = await send(known);
    // A redirect's target is nobody to present credentials to.
    if (first.answer.status !== 401 || first.isOtherOrigin || !isOwn) return first;
    // Several lines of this header are one list (RFC 9110 section 5.3).
    const challenges = parseChallenges([first.answer.headers["www-authenticate"] ?? ""].flat().join(", "));
    await first.answer.discard();
    this.#tokens.forget(key, known);
    const bearer = challenges.find(({ scheme }) => scheme === "bearer");
    if (bearer !== undefined && credential?.kind !== "registry-token") {
      // Another request may have brought a new one since this one was sent.
      const token =
        this.#tokens.get(key) ?? (await this.#tokens.fetch(key, bearer, scopes, credential, context, signal));
      return send(token);
    }
    const takesBasic = challenges.some(({ scheme }) => scheme === "basic");
    if (takesBasic && credential?.kind === "basic" && !this.#basic.has(key)) {
      const landed = await send(basicAuthorization(credential));
      if (landed.answer.status !== 401) this.#basic.add(key);
      return landed;
    }
    const host = endpoint.credentialHost;
    throw new AppError(
      "RegistryUnauthorized",
      credential === undefined
        ? `${host} wants credentials for ${reference.repository} and there are none; add a pull secret for ${host}`
        : `${host} does not take the credentials of the pull secret for ${reference.repository}`,
      { context: { host, reference: formatReference(reference) } },
    );
  }
}
/** A client for all registries; it keeps connections and tokens until closed. */
export function createRegistry(options: RegistryOptions = {}): WritableRegistry {
  return new HttpRegistry(options);
}
