// Pushes artifacts to a registry by the distribution protocol: what test suites and the demo pull afterwards.

import { createHash } from "node:crypto";
import { createReadStream, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { Agent, request, type Dispatcher } from "undici";
import type { TestRegistry } from "./registry.ts";

export type Target = Pick<TestRegistry, "url" | "host" | "caFile" | "username" | "password" | "tokenServer">;
export type Content = Uint8Array | { readonly file: string };
export type DigestAlgorithm = "sha256" | "sha512";
export type Layer = {
  readonly mediaType: string;
  readonly content: Content;
  /** Default sha256. */
  readonly digestAlgorithm?: DigestAlgorithm;
  readonly annotations?: Readonly<Record<string, string>>;
};
export type Published = {
  /** Of the manifest. */
  readonly digest: string;
  /** `host/repository:tag` */
  readonly reference: string;
  readonly manifest: Uint8Array;
  readonly layerDigests: readonly string[];
};
/** In the order in which Go programs write it. */
type BlobDescriptor = { readonly mediaType: string; readonly size: number; readonly digest: string };

/** JSON as Go writes it: compact, with characters of HTML escaped. */
export function goJson(value: unknown): string {
  return JSON.stringify(value).replaceAll(
    /[<>&\u2028\u2029]/g,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}

const manifestType = "application/vnd.oci.image.manifest.v1+json";
const indexType = "application/vnd.oci.image.index.v1+json";

/** Digest and size in bytes; a file is read as a stream. */
export async function digestOf(
  content: Content,
  algorithm: DigestAlgorithm = "sha256",
): Promise<{ readonly digest: string; readonly size: number }> {
  const hash = createHash(algorithm);
  if (content instanceof Uint8Array) {
    return { digest: `${algorithm}:${hash.update(content).digest("hex")}`, size: content.length };
  }
  for await (const chunk of createReadStream(content.file) as AsyncIterable<Buffer>) hash.update(chunk);
  return { digest: `${algorithm}:${hash.digest("hex")}`, size: statSync(content.file).size };
}

class Pusher {
  readonly #target: Target;
  readonly #repository: string;
  readonly #dispatcher: Dispatcher;
  #authorization: string | undefined;

  constructor(target: Target, repository: string) {
    this.#target = target;
    this.#repository = repository;
    this.#dispatcher = new Agent(
      target.caFile === undefined ? {} : { connect: { ca: readFileSync(target.caFile) } },
    );
  }

  async #authorize(): Promise<string | undefined> {
    const { username, password, tokenServer } = this.#target;
    if (username === undefined) return undefined;
    const basic = `Basic ${Buffer.from(`${username}:${password ?? ""}`).toString("base64")}`;
    if (tokenServer === undefined) return basic;
    const url = `${tokenServer.url}/token?service=test-registry&scope=repository:${this.#repository}:pull,push`;
    const { body } = await request(url, { headers: { authorization: basic } });
    const { token } = (await body.json()) as { token: string };
    return `Bearer ${token}`;
  }

  async send(
    method: "HEAD" | "POST" | "PUT",
    url: string,
    headers: Record<string, string>,
    body?: Content,
  ): Promise<{ readonly status: number; readonly location: string | undefined }> {
    const ask = async (): Promise<Dispatcher.ResponseData> => {
      this.#authorization ??= await this.#authorize();
      return request(new URL(url, this.#target.url), {
        method,
        dispatcher: this.#dispatcher,
        headers: {
          ...headers,
          ...(this.#authorization === undefined ? {} : { authorization: this.#authorization }),
        },
        ...(body === undefined
          ? {}
          : { body: body instanceof Uint8Array ? body : createReadStream(body.file) }),
      });
    };
    let answer = await ask();
    if (answer.statusCode === 401 && this.#authorization?.startsWith("Bearer ") === true) {
      // The token's time is over.
      await answer.body.dump();
      this.#authorization = undefined;
      answer = await ask();
    }
    const text = await answer.body.text();
    if (answer.statusCode >= 400 && !(method === "HEAD" && answer.statusCode === 404)) {
      throw new Error(`${method} ${url} answered ${answer.statusCode}: ${text}`);
    }
    const { location } = answer.headers;
    return { status: answer.statusCode, location: typeof location === "string" ? location : undefined };
  }

  async blob(
    content: Content,
    mediaType: string,
    algorithm: DigestAlgorithm = "sha256",
  ): Promise<BlobDescriptor> {
    const { digest, size } = await digestOf(content, algorithm);
    const { status } = await this.send("HEAD", `/v2/${this.#repository}/blobs/${digest}`, {});
    if (status === 404) {
      const { location } = await this.send("POST", `/v2/${this.#repository}/blobs/uploads/`, {
        "content-length": "0",
      });
      const url = new URL(location ?? "", this.#target.url);
      url.searchParams.set("digest", digest);
      await this.send(
        "PUT",
        url.href,
        { "content-type": "application/octet-stream", "content-length": String(size) },
        content,
      );
    }
    return { mediaType, size, digest };
  }

  async manifest(reference: string, mediaType: string, bytes: Uint8Array): Promise<string> {
    await this.send(
      "PUT",
      `/v2/${this.#repository}/manifests/${reference}`,
      { "content-type": mediaType },
      bytes,
    );
    return `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
  }

  async close(): Promise<void> {
    await this.#dispatcher.close();
  }
}

/** Pushes exact manifest bytes whose blobs are there already, or do not matter. */
export async function publishRaw(
  target: Target,
  repository: string,
  tag: string,
  mediaType: string,
  bytes: Uint8Array,
): Promise<string> {
  const pusher = new Pusher(target, repository);
  try {
    return await pusher.manifest(tag, mediaType, bytes);
  } finally {
    await pusher.close();
  }
}

/** Pushes blobs alone. */
export async function publishBlobs(
  target: Target,
  repository: string,
  contents: readonly Uint8Array[],
): Promise<void> {
  const pusher = new Pusher(target, repository);
  try {
    for (const content of contents) await pusher.blob(content, "application/octet-stream");
  } finally {
    await pusher.close();
  }
}

export type Artifact = {
  readonly repository: string;
  readonly tag: string;
  readonly artifactType?: string;
  /** Default: that of OCI image manifests. */
  readonly manifestMediaType?: string;
  /** An object is written as Go programs write it. */
  readonly config: { readonly mediaType: string; readonly content: string | Uint8Array | object };
  readonly layers: readonly Layer[];
  readonly annotations?: Readonly<Record<string, string>>;
  readonly subject?: { readonly mediaType: string; readonly digest: string; readonly size: number };
};

/** Pushes config, layers and a manifest over them. */
export async function publishArtifact(target: Target, artifact: Artifact): Promise<Published> {
  const manifestMediaType = artifact.manifestMediaType ?? manifestType;
  const { content: configContent } = artifact.config;
  const pusher = new Pusher(target, artifact.repository);
  try {
    const isBytes = typeof configContent === "string" || configContent instanceof Uint8Array;
    const configBytes = Buffer.from(isBytes ? (configContent as string) : goJson(configContent));
    const config = await pusher.blob(configBytes, artifact.config.mediaType);
    const layers = [];
    for (const { content, mediaType, annotations, digestAlgorithm } of artifact.layers) {
      const descriptor = await pusher.blob(content, mediaType, digestAlgorithm);
      layers.push(annotations === undefined ? descriptor : { ...descriptor, annotations });
    }
    const manifest = Buffer.from(
      goJson({
        schemaVersion: 2,
        mediaType: manifestMediaType,
        ...(artifact.artifactType === undefined ? {} : { artifactType: artifact.artifactType }),
        config,
        layers,
        ...(artifact.subject === undefined ? {} : { subject: artifact.subject }),
        ...(artifact.annotations === undefined ? {} : { annotations: artifact.annotations }),
      }),
    );
    const digest = await pusher.manifest(artifact.tag, manifestMediaType, manifest);
    return {
      digest,
      reference: `${target.host}/${artifact.repository}:${artifact.tag}`,
      manifest,
      layerDigests: layers.map((layer) => layer.digest),
    };
  } finally {
    await pusher.close();
  }
}

/** Pushes an index over manifests that are in the repository. */
export async function publishIndex(
  target: Target,
  repository: string,
  tag: string,
  children: readonly { readonly digest: string; readonly size: number; readonly mediaType?: string }[],
): Promise<string> {
  const manifests = children.map((child) => ({ mediaType: manifestType, ...child }));
  const bytes = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: indexType, manifests }));
  return publishRaw(target, repository, tag, indexType, bytes);
}

/** Copies one tag of an OCI image layout. */
export async function publishLayout(
  target: Target,
  layoutDirectory: string,
  layoutTag: string,
  repository: string,
  tag: string = layoutTag,
): Promise<Published> {
  type Index = { manifests: { digest: string; annotations?: Record<string, string> }[] };
  type Manifest = { config: BlobDescriptor; layers: BlobDescriptor[] };
  const blob = (digest: string): string => join(layoutDirectory, "blobs", digest.replace(":", "/"));
  const index = JSON.parse(readFileSync(join(layoutDirectory, "index.json"), "utf8")) as Index;
  const entry = index.manifests.find(
    ({ annotations }) => annotations?.["org.opencontainers.image.ref.name"] === layoutTag,
  );
  if (entry === undefined) throw new Error(`the layout has no tag ${layoutTag}`);
  const bytes = readFileSync(blob(entry.digest));
  const manifest = JSON.parse(bytes.toString("utf8")) as Manifest;
  const pusher = new Pusher(target, repository);
  try {
    for (const { digest, mediaType } of [manifest.config, ...manifest.layers]) {
      await pusher.blob({ file: blob(digest) }, mediaType);
    }
    const digest = await pusher.manifest(tag, manifestType, bytes);
    return {
      digest,
      reference: `${target.host}/${repository}:${tag}`,
      manifest: bytes,
      layerDigests: manifest.layers.map((layer) => layer.digest),
    };
  } finally {
    await pusher.close();
  }
}
