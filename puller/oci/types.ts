// Types that the registry client gives to the rest of the puller. Data and ports only.

import type { AppError } from "./errors.ts";
import type { Asked } from "./status.ts";
import type { Answer, AnswerHead, Asker, Body, Method } from "./transport.ts";

declare const digestBrand: unique symbol;
/** A validated digest, `sha256:` + 64 or `sha512:` + 128 lower-case hex characters. Made only by `parseDigest`. */
export type Digest = string & { readonly [digestBrand]: true };

/** A parsed reference: where to ask and for what. Docker Hub short names are already expanded. */
export type Reference = {
  /** Host with optional port, lower case: `registry-1.docker.io` is written `docker.io` here. */
  readonly registry: string;
  readonly repository: string;
  /** Kept beside a digest for display; the digest alone decides. */
  readonly tag?: string;
  readonly digest?: Digest;
};

/** An OCI content descriptor after validation (image-spec v1.1 descriptor.md). `urls` are ignored on purpose. */
export type Descriptor = {
  readonly mediaType: string;
  readonly digest: Digest;
  /** Bytes; a safe integer >= 0. */
  readonly sizeBytes: number;
  readonly annotations: Readonly<Record<string, string>>;
  readonly artifactType?: string;
};

/** An OCI image manifest or Docker v2 schema 2 manifest after validation. */
export type Manifest = {
  readonly kind: "manifest";
  readonly digest: Digest;
  readonly mediaType: string;
  readonly artifactType?: string;
  readonly config: Descriptor;
  readonly layers: readonly Descriptor[];
  readonly annotations: Readonly<Record<string, string>>;
  /** The exact verified bytes. */
  readonly raw: Uint8Array;
};

/** A child of an index. */
export type IndexEntry = Descriptor & {
  /** Absent where none is stated, or it is malformed. */
  readonly platform?: { readonly architecture: string; readonly os: string };
  /** KitOps' own field beside the standard ones: an open map. */
  readonly modelMetadata?: Readonly<Record<string, unknown>>;
};

/** An OCI image index or Docker manifest list after validation. */
export type Index = {
  readonly kind: "index";
  readonly digest: Digest;
  readonly mediaType: string;
  readonly artifactType?: string;
  readonly manifests: readonly IndexEntry[];
  readonly annotations: Readonly<Record<string, string>>;
  readonly raw: Uint8Array;
};

/** An answer to a blob request, checked against the request (status, Content-Range, Content-Encoding), not yet against the digest. */
export type BlobStream = {
  /** Offset of the first byte of `body` in the blob. May be 0 although more was asked for: the server ignored Range. */
  readonly offset: number;
  readonly body: AsyncIterable<Uint8Array>;
};

/**
 * The part of a blob that is asked for. Never with If-Range: a digest names one content for good, and what two servers of a content
 * network, or a mirror and its registry, call it is not the same, so that a resumed pull would begin anew.
 */
export type BlobRange = {
  readonly offset: number;
  /** Absent: to the end. */
  readonly endExclusive?: number;
  /** Ask the registry itself: what mirrors gave had another digest. */
  readonly skipsMirrors?: boolean;
};

/** A client's answer that was checked against what was asked: where its first byte lies in the blob. */
export type BlobAnswer<A extends AnswerHead> = {
  readonly answer: A;
  readonly offset: number;
};

/**
 * Where blob bytes come from. One call is one HTTP exchange with its redirects, mirrors and at most one token refresh; retries
 * belong to the caller. Fails with AppError.
 */
export interface BlobSource {
  /** Asks with the client of the registry. */
  open(
    reference: Reference,
    descriptor: Descriptor,
    range: BlobRange,
    signal: AbortSignal,
  ): Promise<BlobStream>;
  /** Asks with another client: `ask` performs each request that the exchange consists of. */
  request<A extends AnswerHead>(
    reference: Reference,
    descriptor: Descriptor,
    range: BlobRange,
    ask: Asker<A>,
    signal: AbortSignal,
  ): Promise<BlobAnswer<A>>;
}

/** What the puller asks of a registry. Every answer is verified against its digest and capped before it is parsed. */
export interface Registry extends BlobSource {
  /** Fetches the manifest or index a reference names, follows nothing, verifies its digest. */
  fetchManifest(reference: Reference, signal: AbortSignal): Promise<Manifest | Index>;
  /** Fetches a whole small blob into memory and verifies it; refuses more than `maxBytes`. */
  fetchBlob(
    reference: Reference,
    descriptor: Descriptor,
    maxBytes: number,
    signal: AbortSignal,
  ): Promise<Uint8Array>;
  /**
   * Descriptors of the artifacts of one type that are attached to a manifest: by the referrers API, else by its tag schema
   * (distribution-spec 1.1, "Listing Referrers"). Empty where there are none.
   */
  listReferrers(
    reference: Reference,
    subject: Digest,
    artifactType: string,
    signal: AbortSignal,
  ): Promise<readonly Descriptor[]>;
  /** Tags of a repository, at most 100 pages. */
  listTags(reference: Reference, signal: AbortSignal): Promise<readonly string[]>;
  /** Closes all connections. */
  close(): Promise<void>;
}

/** One request of a push. */
export type WriteRequest = {
  readonly method: Method;
  /** A path below the repository (`blobs/uploads/`), or a URL that an answer named as `location`. */
  readonly target: string | URL;
  readonly asked: Asked;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: Body;
  /** Another repository of the registry that is to be read by it. */
  readonly mountFrom?: string;
  /** Longest wait for the answer, the sending of the body included, milliseconds. */
  readonly answerTimeoutMs?: number;
};

/** The answer to a WriteRequest, whatever its status, and where the upload goes on, judged by the egress policy. */
export type WriteAnswer = { readonly answer: Answer; readonly location?: URL };

/** A registry that may be written to: always itself, never a mirror. */
export interface WritableRegistry extends Registry {
  /** One HTTP exchange with at most one token refresh; retries belong to the caller. Fails with AppError. */
  write(reference: Reference, request: WriteRequest, signal: AbortSignal): Promise<WriteAnswer>;
}

/** Told of each failed attempt that is going to be retried. */
export type RetryListener = (error: AppError, attempt: number, waitMs: number) => void;
