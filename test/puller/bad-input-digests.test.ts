// B1: digests that are none. None of them becomes a path or a request.

import { describe } from "vitest";
import { filepath, json, modelPackConfig } from "./artifact/manifest-builder.ts";
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

const hex = "a".repeat(64);
const remedy = "expected sha256: with 64 or sha512: with 128 lower-case hex characters";

const texts: readonly (readonly [name: string, digest: string])[] = [
  ["empty", ""],
  ["no colon", `sha256${hex}`],
  ["nothing after the colon", "sha256:"],
  ["only a colon", ":"],
  ["an algorithm nobody registered", `md5:${"a".repeat(32)}`],
  ["sha384", `sha384:${"a".repeat(96)}`],
  ["one character short", `sha256:${hex.slice(1)}`],
  ["one character long", `sha256:${hex}a`],
  ["capital hex", `sha256:${"A".repeat(64)}`],
  ["a capital algorithm", `SHA256:${hex}`],
  ["a parent directory", "../../../etc/passwd"],
  ["a path after the algorithm", `sha256:../../${"a".repeat(58)}`],
  ["a path after the hex", `sha256:${hex}/../../x`],
  ["percent-encoded dots", `sha256:%2e%2e%2f${"a".repeat(55)}`],
  ["a NUL", `sha256:${"a".repeat(63)}\u0000`],
  ["a line break behind", `sha256:${hex}\n`],
  ["a space in front", ` sha256:${hex}`],
  ["two colons", `sha256::${hex.slice(1)}`],
  ["full-width digits", `sha256:${"１".repeat(64)}`],
  ["sha512 with 64 characters", `sha512:${hex}`],
  ["letters that are no hex", `sha256:${"g".repeat(64)}`],
  ["100,000 characters", `sha256:${"a".repeat(100_000)}`],
];

const others: readonly (readonly [name: string, digest: unknown])[] = [
  ["a list", [`sha256:${hex}`]],
  ["an object", { sha256: hex }],
  ["a number", 64],
  ["null", null],
  ["true", true],
];

/** As JSON shows it, cut as the program cuts it. */
function shown(digest: unknown): string {
  if (digest === null) return "null";
  if (typeof digest !== "string") return `a value of type ${Array.isArray(digest) ? "list" : typeof digest}`;
  return JSON.stringify(digest.slice(0, 40))
    .slice(0, -1)
    .replaceAll(/[^ -~]/g, "")
    .slice(0, 20);
}

const layer = (digest: unknown): Readonly<Record<string, unknown>> =>
  descriptor(`${weight}raw`, "weights", { digest, annotations: { [filepath]: "model.safetensors" } });

describe("a digest in a reference", () => {
  testBadInputs(
    "bad-digests-reference",
    texts
      .filter(([, digest]) => !digest.endsWith("\n"))
      .map(([name, digest]): BadInput => ({
        name,
        args: [`--reference=REGISTRY/ai/model@${digest}`],
        exitCode: 64,
        code: "InvalidReference",
        // What stands between two @ or before a path may be a password: it is not told apart, and not shown.
        says: [digest.startsWith("..") ? digest : shown(digest), "[@digest]"],
        asks: [],
      })),
  );
});

describe("a digest of a layer", () => {
  testBadInputs(
    "bad-digests-layer",
    [...texts, ...others].map(([name, digest]): BadInput => ({
      name,
      script: serveManifest(manifestJson({ layers: [layer(digest)] })),
      exitCode: 65,
      code: "InvalidArtifact",
      says: ["layers.0.digest", shown(digest), remedy],
      asks: [/\/manifests\/x$/],
    })),
  );
});

describe("a digest of a config, of a child of an index and of a diff id", () => {
  const configOf = (digest: unknown): BadInput => ({
    name: `config: ${shown(digest)}`,
    script: serveManifest(manifestJson({ config: descriptor(modelPackConfig, "{}", { digest }) })),
    exitCode: 65,
    code: "InvalidArtifact",
    says: ["config.digest", shown(digest), remedy],
    asks: [/\/manifests\/x$/],
  });
  const childOf = (digest: unknown): BadInput => ({
    name: `child: ${shown(digest)}`,
    script: serveManifest(
      {
        schemaVersion: 2,
        mediaType: "application/vnd.oci.image.index.v1+json",
        manifests: [descriptor("application/vnd.oci.image.manifest.v1+json", "child", { digest })],
      },
      "application/vnd.oci.image.index.v1+json",
    ),
    exitCode: 65,
    code: "InvalidArtifact",
    says: ["manifests.0.digest", shown(digest), remedy],
    asks: [/\/manifests\/x$/],
  });
  const diffIdOf = (digest: unknown): BadInput => {
    const config = json({ modelfs: { type: "layers", diffIds: [digest] } });
    return {
      name: `diff id: ${shown(digest)}`,
      script: serve({
        manifest: json(manifestJson({ config: descriptor(modelPackConfig, config) })),
        blobs: blobsOf(config, "weights"),
      }),
      exitCode: 65,
      code: "InvalidArtifact",
      says: ["diff id 1", shown(digest), remedy],
      asks: [/\/manifests\/x$/, /\/blobs\/sha256:[0-9a-f]{64}$/],
    };
  };
  const chosen = ["", "../../../etc/passwd", `sha256:${hex}/..`, [], 7];
  testBadInputs("bad-digests-others", [
    ...chosen.map(configOf),
    ...chosen.map(childOf),
    ...chosen.map(diffIdOf),
  ]);
});
