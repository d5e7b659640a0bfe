// B8: manifests and configs that break the specification or a limit, or could be read in two ways.

import type { Script } from "../registry/scripted-registry.ts";
import { describe } from "vitest";
import { dockerV01, filepath, json, modelPackConfig } from "./artifact/manifest-builder.ts";
import {
  blobsOf,
  descriptor,
  manifestJson,
  serve,
  serveManifest,
  testBadInputs,
  weight,
  type BadInput,
} from "./bad-input.ts";

const index = "application/vnd.oci.image.index.v1+json";
const good = JSON.stringify(manifestJson());
const layer = (
  more: Readonly<Record<string, unknown>>,
  content = "weights",
): Readonly<Record<string, unknown>> =>
  descriptor(`${weight}raw`, content, { annotations: { [filepath]: "model.safetensors" }, ...more });
const bytes = (text: string): Uint8Array => Buffer.from(text);
const limit = 4 * 1024 * 1024;

type Row = readonly [name: string, manifest: unknown, ...says: readonly string[]];

const invalid: readonly Row[] = [
  ["empty", bytes(""), "not valid JSON in UTF-8"],
  ["HTML", bytes("<html>sign in</html>"), "not valid JSON in UTF-8"],
  ["cut", bytes(good.slice(0, -1)), "not valid JSON in UTF-8"],
  ["something behind", bytes(`${good}x`), "not valid JSON in UTF-8"],
  ["two documents", bytes(`${good}${good}`), "not valid JSON in UTF-8"],
  ["a byte order mark", bytes(`\uFEFF${good}`), "not valid JSON in UTF-8"],
  ["UTF-16", Buffer.from(good, "utf16le"), "not valid JSON in UTF-8"],
  ["a byte that is no UTF-8", Buffer.concat([bytes('{"a":"'), Buffer.from([0xff]), bytes('"}')]), "UTF-8"],
  ["NaN", bytes(good.replace('"schemaVersion":2', '"schemaVersion":NaN')), "not valid JSON in UTF-8"],
  ["a list", [manifestJson()], "not a JSON object"],
  ["null", null, "not a JSON object"],
  ["a string", "manifest", "not a JSON object"],
  ["a million levels", bytes("[".repeat(1_000_000)), "not valid JSON in UTF-8"],
  [
    "a million levels, closed",
    bytes(`{"x":${"[".repeat(1_000_000)}${"]".repeat(1_000_000)}}`),
    "the manifest is invalid at schemaVersion",
  ],
  [
    "4 MiB and one byte",
    bytes(`${good}${" ".repeat(limit + 1 - good.length)}`),
    "manifest is larger than 4194304 bytes",
  ],
  ["schemaVersion 3", manifestJson({ schemaVersion: 3 }), "invalid at schemaVersion", "expected 2"],
  ["schemaVersion as text", manifestJson({ schemaVersion: "2" }), "invalid at schemaVersion"],
  ["no schemaVersion", manifestJson({ schemaVersion: undefined }), "invalid at schemaVersion"],
  ["no config", manifestJson({ config: undefined }), "invalid at config"],
  ["config null", manifestJson({ config: null }), "invalid at config"],
  ["no layers", manifestJson({ layers: undefined }), "invalid at layers"],
  ["layers null", manifestJson({ layers: null }), "invalid at layers"],
  ["layers as an object", manifestJson({ layers: { 0: layer({}) } }), "invalid at layers"],
  ["a layer null", manifestJson({ layers: [null] }), "invalid at layers.0"],
  [
    "4,097 layers",
    manifestJson({ layers: Array.from({ length: 4097 }, () => layer({})) }),
    "invalid at layers",
    "4096",
  ],
  ["a negative size", manifestJson({ layers: [layer({ size: -1 })] }), "layers.0.size", ">=0"],
  ["half a byte", manifestJson({ layers: [layer({ size: 0.5 })] }), "layers.0.size", "expected int"],
  ["2^53 + 1 bytes", bytes(good.replace('"size":7', '"size":9007199254740993')), "layers.0.size"],
  ["1e400 bytes", bytes(good.replace('"size":7', '"size":1e400')), "layers.0.size"],
  ["a size as text", manifestJson({ layers: [layer({ size: "7" })] }), "layers.0.size", "expected number"],
  ["no size", manifestJson({ layers: [layer({ size: undefined })] }), "layers.0.size"],
  [
    "no media type of a layer",
    manifestJson({ layers: [layer({ mediaType: undefined })] }),
    "layers.0.mediaType",
  ],
  ["an empty media type", manifestJson({ layers: [layer({ mediaType: "" })] }), "layers.0.mediaType"],
  [
    "a media type of 10,000",
    manifestJson({ layers: [layer({ mediaType: "a".repeat(10_000) })] }),
    "layers.0.mediaType",
  ],
  [
    "annotations as a list",
    manifestJson({ layers: [layer({ annotations: ["a"] })] }),
    "layers.0.annotations",
  ],
  [
    "an annotation as a number",
    manifestJson({ layers: [layer({ annotations: { [filepath]: 7 } })] }),
    "layers.0.annotations",
  ],
  [
    "an annotation of 100,000",
    manifestJson({ layers: [layer({ annotations: { x: "a".repeat(100_000) } })] }),
    "layers.0.annotations",
  ],
  [
    "a key of an annotation of 100,000",
    manifestJson({ annotations: { ["a".repeat(100_000)]: "x" } }),
    "invalid at annotations",
  ],
  [
    "control characters in a key",
    manifestJson({ annotations: { "\u001b[31m\n": 7 } }),
    "invalid at annotations",
  ],
  ["an artifact type as a list", manifestJson({ artifactType: ["x"] }), "invalid at artifactType"],
  ["manifest and index at once", manifestJson({ manifests: [] }), "both a manifest and an index"],
  [
    "prototypes in place of fields",
    bytes('{"__proto__":{"config":{}},"constructor":{"layers":[]},"schemaVersion":2}'),
    "invalid at config",
  ],
  [
    "more bytes in all than can be counted",
    manifestJson({
      layers: ["a", "b"].map((name) =>
        layer({ size: Number.MAX_SAFE_INTEGER, annotations: { [filepath]: `${name}.safetensors` } }, name),
      ),
    }),
    "states more than 9007199254740991 bytes in all",
  ],
  [
    "control characters in a media type",
    manifestJson({ config: descriptor("application/\u001b[2Jx", "{}") }),
    "invalid at config.mediaType",
  ],
  [
    "two sizes of one digest",
    manifestJson({ layers: [layer({}), layer({ size: 8, annotations: { [filepath]: "b.safetensors" } })] }),
    "two sizes for sha256:",
    "7 and 8",
  ],
];

const unsupported: readonly Row[] = [
  ["schema 1", { schemaVersion: 1, name: "x", fsLayers: [] }, "Docker schema 1 manifest"],
  [
    "another media type",
    manifestJson({ mediaType: "application/json" }),
    '"application/json" is not supported',
  ],
  [
    "an empty index",
    { schemaVersion: 2, mediaType: index, manifests: [] },
    "image index of 0 manifests",
    "name one of them",
  ],
  [
    "an index that names itself",
    { schemaVersion: 2, mediaType: index, manifests: [descriptor(index, "self")] },
    "image index of 1 manifests",
    "digest or tag",
  ],
  ["no layers at all", manifestJson({ layers: [] }), "has no layers", "artifact type"],
  [
    "a config of an image",
    manifestJson({
      artifactType: undefined,
      config: descriptor("application/vnd.oci.image.config.v1+json", "{}"),
      layers: [descriptor("application/vnd.oci.image.layer.v1.tar+gzip", "x")],
    }),
    "is no model artifact that is known",
    "images are read only where puller repack made them",
  ],
  [
    "a config of a later version",
    manifestJson({
      artifactType: undefined,
      config: descriptor("application/vnd.docker.ai.model.config.v99.0+json", "{}"),
      layers: [descriptor("application/vnd.docker.ai.gguf.v3", "x")],
    }),
    "config.v99.0+json",
  ],
  [
    "a layer type nobody knows, in Docker's format",
    manifestJson({
      artifactType: undefined,
      config: descriptor(dockerV01, "{}"),
      layers: [descriptor("application/x-pickle", "x")],
    }),
    '"application/x-pickle", which cannot be placed',
  ],
  [
    "only a license",
    manifestJson({
      layers: [
        descriptor("application/vnd.cncf.model.doc.v1.raw", "x", { annotations: { [filepath]: "LICENSE" } }),
      ],
    }),
    "holds no model weights",
  ],
];

describe("a manifest", () => {
  testBadInputs("bad-manifests", [
    ...invalid.map(([name, manifest, ...says]): BadInput => ({
      name,
      script: serveManifest(manifest),
      exitCode: 65,
      code: "InvalidArtifact",
      says,
    })),
    ...unsupported.map(([name, manifest, ...says]): BadInput => ({
      name,
      script: serveManifest(manifest, JSON.stringify(manifest).includes('"manifests"') ? index : undefined),
      exitCode: 65,
      code: "UnsupportedArtifact",
      says,
    })),
    {
      name: "a manifest served as an index",
      script: serveManifest(manifestJson(), index),
      exitCode: 65,
      code: "InvalidArtifact",
      says: ["shape of the other kind"],
    },
    {
      name: "an index served as a manifest, without a type of its own",
      script: serveManifest({ schemaVersion: 2, manifests: [] }),
      exitCode: 65,
      code: "InvalidArtifact",
      says: ["shape of the other kind"],
    },
    {
      name: "another type in the header than in the document",
      script: serveManifest(manifestJson(), "application/vnd.docker.distribution.manifest.v2+json"),
      exitCode: 65,
      code: "InvalidArtifact",
      says: ["but was served as application/vnd.docker.distribution.manifest.v2+json"],
    },
    {
      name: "exactly 4 MiB",
      script: serveManifest(bytes(`${good}${" ".repeat(limit - good.length)}`)),
      exitCode: 0,
      code: "Ready",
      says: ["is complete"],
    },
    {
      name: "fields that are ignored: data, urls, subject, platform",
      script: serveManifest(
        manifestJson({
          subject: descriptor("x/y", "self"),
          layers: [layer({ data: "bm90IHRoZSBjb250ZW50", urls: ["http://169.254.169.254/"], platform: {} })],
        }),
      ),
      exitCode: 0,
      code: "Ready",
      says: ["is complete"],
      asks: [/manifests/, /blobs/, /blobs/],
    },
    {
      name: "another manifest than the digest names",
      args: [`--reference=REGISTRY/ai/model@sha256:${"a".repeat(64)}`],
      script: () => ({ headers: { "docker-content-digest": `sha256:${"a".repeat(64)}` }, body: good }),
      exitCode: 65,
      code: "DigestMismatch",
      says: ["came as bytes that hash to sha256:", "discarded"],
    },
    {
      name: "another manifest than its header names",
      script: () => ({ headers: { "docker-content-digest": `sha256:${"b".repeat(64)}` }, body: good }),
      exitCode: 65,
      code: "DigestMismatch",
      says: [`sha256:${"b".repeat(64)} came as`],
    },
    {
      name: "a model of 2^53 - 1 bytes",
      script: serveManifest(manifestJson({ layers: [layer({ size: Number.MAX_SAFE_INTEGER })] })),
      exitCode: 73,
      code: "OutOfSpace",
      says: ["needs 9007199254740991 more bytes", "enlarge it"],
    },
  ]);
});

describe("a config", () => {
  const other = `sha256:${"c".repeat(64)}`;
  const withConfig = (config: Uint8Array, layers?: readonly unknown[], type = modelPackConfig): Script =>
    serve({
      manifest: json(
        manifestJson({ config: descriptor(type, config), ...(layers === undefined ? {} : { layers }) }),
      ),
      blobs: blobsOf(config, "weights", "{}"),
    });
  const row = (name: string, config: unknown, ...says: readonly string[]): BadInput => ({
    name,
    script: withConfig(config instanceof Uint8Array ? config : json(config)),
    exitCode: 65,
    code: "InvalidArtifact",
    says,
  });
  testBadInputs("bad-configs", [
    row("empty", bytes(""), "model config is not valid JSON in UTF-8"),
    row("a list", [], "model config is not a JSON object"),
    row("null", null, "model config is not a JSON object"),
    row("no UTF-8", Buffer.from([0x7b, 0xff, 0x7d]), "model config is not valid JSON in UTF-8"),
    row("a byte order mark", bytes("\uFEFF{}"), "model config is not valid JSON in UTF-8"),
    row(
      "two diff ids for one layer",
      { modelfs: { diffIds: [other, other] } },
      "2 diff ids for 1 layers",
      "packaged again",
    ),
    row(
      "a diff id of another content",
      { modelfs: { diffIds: [other] } },
      "not compressed but its diff id is",
      "packaged again",
    ),
    row("diff ids as text", { modelfs: { diffIds: other } }, "are not a list"),
    row("diff ids of Docker as an object", { rootfs: { diff_ids: {} } }, "are not a list"),
    {
      name: "4 MiB and one byte",
      script: serveManifest(manifestJson({ config: descriptor(modelPackConfig, "{}", { size: limit + 1 }) })),
      exitCode: 65,
      code: "InvalidArtifact",
      says: ["of 4194305 bytes is larger than the 4194304 allowed"],
      asks: [/manifests/],
    },
    {
      name: "other bytes than its digest",
      script: (request) => (request.path.includes("/blobs/") ? { body: "[]" } : serveManifest()(request)),
      exitCode: 65,
      code: "DigestMismatch",
      says: ["came as bytes that hash to"],
    },
    {
      name: "longer than its size",
      script: (request) => (request.path.includes("/blobs/") ? { body: "{}   " } : serveManifest()(request)),
      exitCode: 65,
      code: "DigestMismatch",
      says: ["came as more than the 2 bytes it should have"],
    },
    {
      name: "not there",
      script: (request) => (request.path.includes("/blobs/") ? undefined : serveManifest()(request)),
      exitCode: 66,
      code: "BlobNotFound",
      says: ["REGISTRY does not have the blob"],
    },
    {
      name: "strange values, which are ignored",
      script: withConfig(
        bytes(
          '{"config":{"size":"12 \\u001b[31m junk","format":"\\ud800","parameters":1e400,"context_size":-5},"__proto__":{"x":1}}',
        ),
      ),
      exitCode: 0,
      code: "Ready",
      says: ["is complete"],
    },
  ]);
});
