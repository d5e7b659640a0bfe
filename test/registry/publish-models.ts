// Model artifacts as the tools of their formats write them, byte for byte: Docker model v0.1 and v0.2, ModelPack.

import { basename } from "node:path";
import { digestOf, publishArtifact, type Content, type Published, type Target } from "./push.ts";

export type ModelFile = {
  /** With folders where the format has them, parted by slashes. */
  readonly name: string;
  readonly content: Content;
  /** In place of what the name says. */
  readonly mediaType?: string;
  /** RFC 3339; default a fixed time, so that the same files give the same digest. */
  readonly modifiedAt?: string;
};

type Sized = ModelFile & { readonly digest: string; readonly size: number };

async function measure(files: readonly ModelFile[]): Promise<readonly Sized[]> {
  return Promise.all(files.map(async (file) => ({ ...file, ...(await digestOf(file.content)) })));
}

const fixedTime = "2026-01-01T00:00:00Z";

function fileAnnotations({ name, size, modifiedAt = fixedTime }: Sized): Readonly<Record<string, string>> {
  return {
    "org.cncf.model.file.mediatype.untested": "false",
    "org.cncf.model.file.metadata+json": JSON.stringify({
      name: basename(name),
      mode: 420,
      uid: 0,
      gid: 0,
      size,
      mtime: modifiedAt,
      typeflag: 0,
    }),
    "org.cncf.model.filepath": name,
  };
}

/** The kind of a file by its name, as packagers tell it: the first that fits. */
function kindOf(name: string): "gguf" | "safetensors" | "dduf" | "template" | "license" | "other" {
  const lower = name.toLowerCase();
  if (lower.endsWith(".gguf")) return "gguf";
  if (lower.endsWith(".safetensors")) return "safetensors";
  if (lower.endsWith(".dduf")) return "dduf";
  if (lower.endsWith(".jinja") || lower.includes("chat_template")) return "template";
  if (/licen[sc]e|copying|notice/.test(lower)) return "license";
  return "other";
}

export type DockerModel = {
  readonly repository: string;
  readonly tag: string;
  /** In the order of the layers: weights first, then licenses, template, projector, as the tool does for v0.1. */
  readonly files: readonly ModelFile[];
  /** v0.1: GGUF, named by position. v0.2: any files, named by annotation. */
  readonly version?: "v0.1" | "v0.2";
  // Display strings of the config, which is `omitempty` all over.
  readonly format?: string;
  readonly quantization?: string;
  readonly parameters?: string;
  readonly architecture?: string;
  readonly size?: string;
  readonly gguf?: Readonly<Record<string, string>>;
  readonly safetensors?: Readonly<Record<string, string>>;
  readonly contextSize?: number;
  readonly createdAt?: string;
};

const dockerTypes = {
  gguf: "application/vnd.docker.ai.gguf.v3",
  safetensors: "application/vnd.docker.ai.safetensors",
  dduf: "application/vnd.docker.ai.dduf",
  template: "application/vnd.docker.ai.chat.template.jinja",
  license: "application/vnd.docker.ai.license",
  other: "application/vnd.docker.ai.model.file",
} as const;

function dockerLayerType({ name, mediaType }: ModelFile, version: "v0.1" | "v0.2"): string {
  if (mediaType !== undefined) return mediaType;
  // Only `--gguf` has an option for the projector; a directory is told by endings.
  if (version === "v0.1" && /mmproj/i.test(basename(name))) return "application/vnd.docker.ai.mmproj";
  return dockerTypes[kindOf(name)];
}

/** Pushes a Docker model artifact as `docker model package` writes it. */
export async function publishDockerModel(target: Target, model: DockerModel): Promise<Published> {
  const version = model.version ?? "v0.1";
  const files = await measure(model.files);
  const weights = files.map(({ name }) => kindOf(name)).find((kind) => /gguf|safetensors|dduf/.test(kind));
  // Undefined members are left out of JSON, as `omitempty` does.
  const config = {
    config: {
      format: model.format ?? weights ?? "safetensors",
      quantization: model.quantization,
      parameters: model.parameters,
      architecture: model.architecture,
      size: model.size ?? `${files.reduce((sum, { size }) => sum + size, 0)}B`,
      gguf: model.gguf,
      safetensors: model.safetensors,
      context_size: model.contextSize,
    },
    descriptor: { created: model.createdAt ?? fixedTime },
    rootfs: { type: "rootfs", diff_ids: files.map(({ digest }) => digest) },
  };
  return publishArtifact(target, {
    repository: model.repository,
    tag: model.tag,
    config: { mediaType: `application/vnd.docker.ai.model.config.${version}+json`, content: config },
    layers: files.map((file) => ({
      mediaType: dockerLayerType(file, version),
      content: file.content,
      annotations: fileAnnotations(file),
    })),
  });
}

export type ModelPack = {
  readonly repository: string;
  readonly tag: string;
  readonly files: readonly ModelFile[];
  readonly createdAt?: string;
  readonly family?: string;
  readonly architecture?: string;
  readonly format?: string;
  readonly paramSize?: string;
  readonly quantization?: string;
};

function modelPackLayerType({ name, mediaType }: ModelFile): string {
  if (mediaType !== undefined) return mediaType;
  const kind = kindOf(name);
  const role = { gguf: "weight", safetensors: "weight", dduf: "weight", license: "doc" } as const;
  return `application/vnd.cncf.model.${kind in role ? role[kind as keyof typeof role] : "weight.config"}.v1.raw`;
}

/** Pushes a ModelPack artifact with raw layers, one per file, as `docker model package --format cncf` writes it. */
export async function publishModelPack(target: Target, model: ModelPack): Promise<Published> {
  const files = await measure(model.files);
  const config = {
    descriptor: { createdAt: model.createdAt ?? fixedTime, family: model.family },
    modelfs: { type: "layers", diffIds: files.map(({ digest }) => digest) },
    config: {
      architecture: model.architecture,
      format: model.format,
      paramSize: model.paramSize,
      quantization: model.quantization,
    },
  };
  return publishArtifact(target, {
    repository: model.repository,
    tag: model.tag,
    artifactType: "application/vnd.cncf.model.manifest.v1+json",
    config: { mediaType: "application/vnd.cncf.model.config.v1+json", content: config },
    layers: files.map((file) => ({
      mediaType: modelPackLayerType(file),
      content: file.content,
      annotations: fileAnnotations(file),
    })),
  });
}
