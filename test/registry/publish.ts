// Pushes artifacts to a registry by the distribution protocol: what test suites and the demo pull afterwards.

import { createHash } from "node:crypto";
import { createReadStream, readFileSync, statSync } from "node:fs";
import { basename, join } from "node:path";
import { Agent, request, type Dispatcher } from "undici";
import type { TestRegistry } from "./registry.ts";

export type Target = Pick<TestRegistry, "url" | "host" | "caFile" | "username" | "password" | "tokenServer">;
export type Content = Uint8Array | { readonly file: string };
export type Layer = {
  readonly mediaType: string;
  readonly content: Content;
  readonly annotations?: Readonly<Record<string, string>>;
};
export type Published = {
  readonly digest: string;
  /** `host/repository:tag` */
  readonly reference: string;
  readonly manifest: Uint8Array;
  readonly layerDigests: readonly string[];
};
type BlobDescriptor = { readonly mediaType: string; readonly digest: string; readonly size: number };

const manifestType = "application/vnd.oci.image.manifest.v1+json";
const indexType = "application/vnd.oci.image.index.v1+json";

async function digestOf(content: Content): Promise<{ readonly digest: string; readonly size: number }> {
  const hash = createHash("sha256");
  if (content instanceof Uint8Array) {
    return { digest: `sha256:${hash.update(content).digest("hex")}`, size: content.length };
  }
  for await (const chunk of createReadStream(content.file) as AsyncIterable<Buffer>) hash.update(chunk);
  return { digest: `sha256:${hash.digest("hex")}`, size: statSync(content.file).size };
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
    this.#authorization ??= await this.#authorize();
    const answer = await request(new URL(url, this.#target.url), {
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
    const text = await answer.body.text();
    if (answer.statusCode >= 400 && answer.statusCode !== 404) {
      throw new Error(`${method} ${url} answered ${answer.statusCode}: ${text}`);
    }
    const { location } = answer.headers;
    return { status: answer.statusCode, location: typeof location === "string" ? location : undefined };
  }

  async blob(content: Content, mediaType: string): Promise<BlobDescriptor> {
    const { digest, size } = await digestOf(content);
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
    return { mediaType, digest, size };
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
  for (const content of contents) await pusher.blob(content, "application/octet-stream");
  await pusher.close();
}

export async function publishArtifact(
  target: Target,
  artifact: {
    readonly repository: string;
    readonly tag: string;
    readonly artifactType?: string;
    readonly config: { readonly mediaType: string; readonly content: string | Uint8Array };
    readonly layers: readonly Layer[];
    readonly annotations?: Readonly<Record<string, string>>;
  },
): Promise<Published> {
  const pusher = new Pusher(target, artifact.repository);
  try {
    const config = await pusher.blob(Buffer.from(artifact.config.content), artifact.config.mediaType);
    const layers = [];
    for (const { content, mediaType, annotations } of artifact.layers) {
      const descriptor = await pusher.blob(content, mediaType);
      layers.push(annotations === undefined ? descriptor : { ...descriptor, annotations });
    }
    const manifest = Buffer.from(
      JSON.stringify({
        schemaVersion: 2,
        mediaType: manifestType,
        ...(artifact.artifactType === undefined ? {} : { artifactType: artifact.artifactType }),
        config,
        layers,
        ...(artifact.annotations === undefined ? {} : { annotations: artifact.annotations }),
      }),
    );
    const digest = await pusher.manifest(artifact.tag, manifestType, manifest);
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

function fileAnnotations(name: string, size: number): Readonly<Record<string, string>> {
  return {
    "org.cncf.model.file.mediatype.untested": "false",
    "org.cncf.model.file.metadata+json": JSON.stringify({
      name: basename(name),
      mode: 420,
      uid: 0,
      gid: 0,
      size,
      mtime: "2026-01-01T00:00:00Z",
      typeflag: 0,
    }),
    "org.cncf.model.filepath": name,
  };
}

export type ModelFile = { readonly name: string; readonly content: Content };
export type DockerModel = {
  readonly repository: string;
  readonly tag: string;
  readonly files: readonly ModelFile[];
  /** v0.1: GGUF, named by position. v0.2: any files, named by annotation. */
  readonly version?: "v0.1" | "v0.2";
  readonly format?: string;
  readonly quantization?: string;
  readonly parameters?: string;
  readonly architecture?: string;
};

function dockerLayerType(name: string): string {
  if (name.endsWith(".gguf")) return "application/vnd.docker.ai.gguf.v3";
  if (name.endsWith(".safetensors")) return "application/vnd.docker.ai.safetensors";
  if (name.endsWith(".jinja")) return "application/vnd.docker.ai.chat.template.jinja";
  if (/license/i.test(name)) return "application/vnd.docker.ai.license";
  return "application/vnd.docker.ai.model.file";
}

/** Pushes a Docker model artifact as `docker model package` writes it. */
export async function publishDockerModel(target: Target, model: DockerModel): Promise<Published> {
  const sized = await Promise.all(
    model.files.map(async (file) => ({ ...file, ...(await digestOf(file.content)) })),
  );
  const config = {
    config: {
      format:
        model.format ?? (model.files.some(({ name }) => name.endsWith(".gguf")) ? "gguf" : "safetensors"),
      ...(model.quantization === undefined ? {} : { quantization: model.quantization }),
      ...(model.parameters === undefined ? {} : { parameters: model.parameters }),
      ...(model.architecture === undefined ? {} : { architecture: model.architecture }),
      size: `${sized.reduce((sum, { size }) => sum + size, 0)}B`,
    },
    descriptor: { created: "2026-01-01T00:00:00Z" },
    rootfs: { type: "rootfs", diff_ids: sized.map(({ digest }) => digest) },
  };
  return publishArtifact(target, {
    repository: model.repository,
    tag: model.tag,
    config: {
      mediaType: `application/vnd.docker.ai.model.config.${model.version ?? "v0.1"}+json`,
      content: JSON.stringify(config),
    },
    layers: sized.map(({ name, content, size }) => ({
      mediaType: dockerLayerType(name),
      content,
      annotations: fileAnnotations(name, size),
    })),
  });
}

/** Pushes a ModelPack artifact with raw layers, one per file. */
export async function publishModelPack(
  target: Target,
  model: {
    readonly repository: string;
    readonly tag: string;
    readonly files: readonly (ModelFile & { readonly mediaType?: string })[];
  },
): Promise<Published> {
  const sized = await Promise.all(
    model.files.map(async (file) => ({ ...file, ...(await digestOf(file.content)) })),
  );
  const isWeight = (name: string): boolean => /\.(gguf|safetensors)$/.test(name);
  return publishArtifact(target, {
    repository: model.repository,
    tag: model.tag,
    artifactType: "application/vnd.cncf.model.manifest.v1+json",
    config: {
      mediaType: "application/vnd.cncf.model.config.v1+json",
      content: JSON.stringify({
        descriptor: { createdAt: "2026-01-01T00:00:00Z" },
        modelfs: { type: "layers", diffIds: sized.map(({ digest }) => digest) },
        config: {},
      }),
    },
    layers: sized.map(({ name, content, size, mediaType }) => ({
      mediaType:
        mediaType ?? `application/vnd.cncf.model.${isWeight(name) ? "weight" : "weight.config"}.v1.raw`,
      content,
      annotations: fileAnnotations(name, size),
    })),
  });
}
