// Detection and layer types: every Docker type, the whole ModelPack cross product, and what must not be taken.

import { describe, expect, it } from "vitest";

import { classifyLayer, detectArtifact, isModelConfig } from "../../../puller/artifact/media-types.ts";

describe("classifyLayer", () => {
  const roles = {
    weight: "weights",
    "weight.config": "config",
    doc: "documentation",
    code: "code",
    dataset: "dataset",
  };
  for (const prefix of ["cncf", "cnai"])
    for (const [kind, role] of Object.entries(roles))
      for (const encoding of ["raw", "tar", "tar+gzip", "tar+zstd"])
        it(`${prefix} ${kind} ${encoding}`, () => {
          expect(classifyLayer(`application/vnd.${prefix}.model.${kind}.v1.${encoding}`)).toMatchObject({
            role,
            encoding,
          });
        });

  it.each([
    ["application/vnd.docker.ai.gguf.v3", "gguf", "raw", "weights"],
    ["application/vnd.docker.ai.model.file.v1+gguf", "gguf", "raw", "weights"],
    ["application/vnd.docker.ai.gguf.v3.lora", "adapter", "raw", "adapter"],
    ["application/vnd.docker.ai.gguf.v3.mmproj", "projector", "raw", "projector"],
    ["application/vnd.docker.ai.mmproj", "projector", "raw", "projector"],
    ["application/vnd.docker.ai.safetensors", "safetensors", "raw", "weights"],
    ["application/vnd.docker.ai.dduf", "dduf", "raw", "weights"],
    ["application/vnd.docker.ai.chat.template.jinja", "chat-template", "raw", "chat-template"],
    ["application/vnd.docker.ai.license", "license", "raw", "license"],
    ["application/vnd.docker.ai.vllm.config.tar", "config-tar", "tar", "config"],
    ["application/vnd.docker.ai.dir.tar", "directory-tar", "tar", "other"],
    ["application/vnd.docker.ai.model.file", "file", "raw", "other"],
    ["application/vnd.cncf.model.weight.v1.gguf", "gguf", "raw", "weights"],
    ["application/vnd.cncf.model.weight.v1.safetensors", "safetensors", "raw", "weights"],
    ["application/octet-stream", "unknown", "raw", "other"],
    ["text/plain", "unknown", "raw", "other"],
    ["", "unknown", "raw", "other"],
  ])("%s", (mediaType, kind, encoding, role) => {
    expect(classifyLayer(mediaType)).toEqual({ kind, encoding, role });
  });

  it.each([
    "application/vnd.cncf.model.weight.v1.raw+gzip",
    "application/vnd.cncf.model.weight.v1.tar+xz",
    "application/vnd.cncf.model.doc.v1.tar+gzip+gzip",
    "application/vnd.docker.ai.gguf.v3+gzip",
    "application/vnd.oci.image.layer.v1.tar+zstd",
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
    "application/gzip",
    "application/zip",
    "application/x-tar; charset=binary",
  ])("%s is not taken as a raw file", (mediaType) => {
    expect(classifyLayer(mediaType)).toBeUndefined();
  });
});

describe("detectArtifact", () => {
  const detect = (configType: string, artifactType?: string, ...layerTypes: string[]) =>
    detectArtifact({
      ...(artifactType === undefined ? {} : { artifactType }),
      config: { mediaType: configType },
      layers: layerTypes.map((mediaType) => ({ mediaType })),
    });
  const empty = "application/vnd.oci.empty.v1+json";
  const pack = { packaging: "modelpack", naming: "annotated" };

  it.each([
    ["application/vnd.docker.ai.model.config.v1+json", "positional"],
    ["application/vnd.docker.ai.model.config.v0.1+json", "positional"],
    ["application/vnd.docker.ai.model.config.v0.2+json", "annotated"],
  ])("takes %s for Docker's, whatever the artifact type", (configType, naming) => {
    const docker = { packaging: "docker", naming };
    expect(detect(configType)).toEqual(docker);
    expect(detect(configType, "application/vnd.cncf.model.manifest.v1+json")).toEqual(docker);
    expect(isModelConfig(configType)).toBe(true);
  });

  it.each(["cncf", "cnai"])("takes ModelPack by config, artifact or layer type (%s)", (prefix) => {
    const config = `application/vnd.${prefix}.model.config.v1+json`;
    expect(detect(config)).toEqual(pack);
    expect(isModelConfig(config)).toBe(true);
    expect(detect(empty, `application/vnd.${prefix}.model.manifest.v1+json`)).toEqual(pack);
    expect(detect(empty, undefined, "text/plain", `application/vnd.${prefix}.model.weight.v1.raw`)).toEqual(
      pack,
    );
    expect(isModelConfig(empty)).toBe(false);
  });

  it.each([
    ["application/vnd.docker.ai.model.config.v99.0+json", undefined, "application/vnd.docker.ai.gguf.v3"],
    ["application/vnd.docker.ai.model.config.v0.1+json ", undefined, "application/vnd.docker.ai.gguf.v3"],
    ["application/vnd.oci.image.config.v1+json", undefined, "application/vnd.oci.image.layer.v1.tar+gzip"],
    ["application/vnd.docker.container.image.v1+json", undefined, "application/vnd.ollama.image.model"],
    [
      "application/vnd.kitops.modelkit.config.v1+json",
      undefined,
      "application/vnd.kitops.modelkit.model.v1.tar",
    ],
    [empty, "application/vnd.cncf.model.manifest.v2+json", "application/octet-stream"],
    [empty, "x/application/vnd.cncf.model.manifest.v1+json", "x/application/vnd.cncf.model.weight.v1.raw"],
    ["", undefined, ""],
  ])("does not take %j, %j, %j", (configType, artifactType, layerType) => {
    expect(detect(configType, artifactType, layerType)).toBeUndefined();
  });
});
