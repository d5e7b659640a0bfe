// readArtifact against the conformance vectors of what docker/model-runner writes and unpacks.

import { describe, expect, it } from "vitest";

import { readArtifact, requireManifest } from "../../../puller/artifact/index.ts";
import { dockerV01, digestOf, index, json, layer, manifest } from "./manifest-builder.ts";

const gguf = "application/vnd.docker.ai.gguf.v3";
const paths = (artifact: ReturnType<typeof readArtifact>) =>
  artifact.layers.map((item) => item.path ?? (item.isPlaced ? "(archive)" : "(not placed)"));

describe("docker v0.1", () => {
  it("names one GGUF layer model.gguf whatever its annotation says", () => {
    const artifact = readArtifact(
      manifest(dockerV01, [layer(gguf, "a", "tiny-F16.gguf")]),
      json({ config: { format: "gguf", quantization: "MOSTLY_Q4_K_M", parameters: "112.45K" } }),
    );
    expect(paths(artifact)).toEqual(["model.gguf"]);
    expect(artifact).toMatchObject({
      packaging: "docker",
      format: "gguf",
      entry: "model.gguf",
      quantization: "Q4_K_M",
      parameters: "112.45K",
    });
  });

  it("names shards in the order of the layers, and the entry is shard 1", () => {
    const artifact = readArtifact(
      manifest(dockerV01, [
        layer(gguf, "a"),
        layer("application/vnd.docker.ai.license", "l"),
        layer(gguf, "b"),
        layer("application/vnd.docker.ai.mmproj", "p"),
        layer("application/vnd.docker.ai.chat.template.jinja", "t"),
      ]),
      undefined,
    );
    expect(paths(artifact)).toEqual([
      "model-00001-of-00002.gguf",
      "(not placed)",
      "model-00002-of-00002.gguf",
      "model.mmproj",
      "template.jinja",
    ]);
    expect(artifact.entry).toBe("model-00001-of-00002.gguf");
  });
});

describe("anything else", () => {
  it("is refused with the types that were found", () => {
    expect(() =>
      readArtifact(
        manifest(
          "application/vnd.oci.image.config.v1+json",
          [layer("application/x-tar", "a")],
          "application/x-thing",
        ),
        undefined,
      ),
    ).toThrow(
      `${digestOf("manifest")} is no model artifact that is known: artifact type "application/x-thing", ` +
        `config type "application/vnd.oci.image.config.v1+json", layer types "application/x-tar"`,
    );
  });

  it("is refused as an index with the number of its children", () => {
    expect(() => requireManifest(index(3))).toThrow(
      `${digestOf("index")} is an image index of 3 manifests, not a model; name one of them by its digest or tag`,
    );
  });
});
