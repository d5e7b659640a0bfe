// B5: file names and archives that want to be elsewhere, two at once, or endless. Nothing is written outside the volume.

import { readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { gzipSync, zstdCompressSync } from "node:zlib";
import type { Script } from "../registry/scripted-registry.ts";
import { describe, expect, test } from "vitest";
import { dockerV02, filepath, json } from "./artifact/manifest-builder.ts";
import { archive, header, paxHeader } from "./artifact/tar-builder.ts";
import {
  blobsOf,
  descriptor,
  manifestJson,
  serve,
  testBadInputs,
  weight,
  type BadInput,
} from "./bad-input.ts";

const again = "the artifact must be packaged again";
const title = "org.opencontainers.image.title";

function model(
  layers: readonly (readonly [annotations: Readonly<Record<string, string>>, content: string])[],
): Script {
  return serve({
    manifest: json(
      manifestJson({
        layers: layers.map(([annotations, content]) => descriptor(`${weight}raw`, content, { annotations })),
      }),
    ),
    blobs: blobsOf("{}", ...layers.map(([, content]) => content)),
  });
}

const named = (path: string): Script => model([[{ [filepath]: path }, "weights"]]);

const names: readonly (readonly [name: string, path: string, ...says: readonly string[]])[] = [
  ["absolute", "/etc/passwd", '"/etc/passwd" is absolute'],
  ["only a slash", "/", '"/" is absolute'],
  ["a parent in the middle", "a/../../x", '"a/../../x" leaves the model directory'],
  ["only parents", "../../..", "is empty without its leading '..'"],
  ["only a parent", "..", "is empty without its leading '..'"],
  ["the directory itself", ".", "names the model directory itself"],
  ["a long way to nothing", "./a/..", "names the model directory itself"],
  ["a backslash", "a\\..\\..\\x", "holds a backslash"],
  ["a drive", "C:/model.gguf", "starts with a drive letter"],
  ["relative to a drive", "c:model.gguf", "starts with a drive letter"],
  ["a NUL", "model\u0000.gguf", "holds a control character"],
  ["a line break", "model\n.gguf", "holds a control character"],
  ["a terminal escape", "\u001b[2Jmodel.gguf", "holds a control character"],
  ["right to left", "model\u202efugg.exe", "holds a control character"],
  ["a byte order mark", "\ufeffmodel.gguf", "holds a control character"],
  ["a lone surrogate", "model\ud800.gguf", "is not valid Unicode"],
  ["a segment of 256 bytes", "a".repeat(256), "has a segment longer than 255 bytes"],
  ["a segment of 256 bytes in 128 letters", "é".repeat(128), "has a segment longer than 255 bytes"],
  ["1,025 bytes", `${"a/".repeat(512)}a`, "is longer than 1024 bytes"],
  ["5,000 levels", "a/".repeat(5000), "is longer than 1024 bytes"],
  ["the store's own name", ".ocimodel/version", "starts with a name that belongs to the store"],
  ["the store's own name in capitals", ".OCIModel/x", "starts with a name that belongs to the store"],
  ["the store's own name behind a detour", "a/../.ocimodel/blobs", "belongs to the store"],
];

describe("a file name", () => {
  const pairs: readonly (readonly [string, string, string, ...(readonly string[])])[] = [
    ["the same path twice", "m.gguf", "m.gguf", "unknown or different content", '"m.gguf"'],
    ["the same path by detours", "a/m.gguf", "../a/./m.gguf", "unknown or different content"],
    ["case twins", "Model.gguf", "model.gguf", "differ only in case or Unicode form"],
    ["Unicode twins", "caf\u00e9.gguf", "cafe\u0301.gguf", "differ only in case or Unicode form"],
    ["ligature twins", "o\ufb03ce.gguf", "office.gguf", "differ only in case or Unicode form"],
    ["a directory that is a file", "a", "a/m.gguf", '"a" is to be a file and a directory at once'],
    ["a file that is a directory", "a/m.gguf", "a", '"a" is to be a file and a directory at once'],
  ];
  testBadInputs("bad-names", [
    ...names.map(([name, path, ...says]): BadInput => ({
      name,
      script: named(path),
      exitCode: 65,
      code: "InvalidArtifact",
      says: [...says, again],
      asks: [/\/manifests\/x$/],
    })),
    ...pairs.map(([name, one, other, ...says]): BadInput => ({
      name,
      script: model([
        [{ [filepath]: one }, "first"],
        [{ [filepath]: other }, "second"],
      ]),
      exitCode: 65,
      code: "InvalidArtifact",
      says: [...says, again],
      asks: [/\/manifests\/x$/],
    })),
    {
      name: "absolute, by the title",
      script: model([[{ [title]: "/etc/passwd" }, "weights"]]),
      exitCode: 65,
      code: "InvalidArtifact",
      says: ['"/etc/passwd" is absolute'],
    },
    {
      name: "absolute, by the metadata",
      script: model([[{ "org.cncf.model.file.metadata+json": '{"name":"/etc/passwd"}' }, "weights"]]),
      exitCode: 65,
      code: "InvalidArtifact",
      says: ['"/etc/passwd" is absolute'],
    },
    {
      name: "absolute, by the former key",
      script: model([[{ "org.cnai.model.filepath": "/etc/passwd" }, "weights"]]),
      exitCode: 65,
      code: "InvalidArtifact",
      says: ['"/etc/passwd" is absolute'],
    },
    {
      name: "none",
      script: model([[{}, "weights"]]),
      exitCode: 65,
      code: "InvalidArtifact",
      says: ["has no file name; it must have the annotation org.cncf.model.filepath"],
    },
    {
      name: "none, in Docker v0.2",
      script: serve({
        manifest: json({
          ...manifestJson({ artifactType: undefined }),
          config: descriptor(dockerV02, "{}"),
          layers: [descriptor("application/vnd.docker.ai.safetensors", "weights")],
        }),
        blobs: blobsOf("{}", "weights"),
      }),
      exitCode: 65,
      code: "InvalidArtifact",
      says: ["has no file name"],
    },
    {
      name: "leading parents are what packagers write for absolute paths: they go",
      script: named("../../home/someone/model.gguf"),
      exitCode: 0,
      code: "Ready",
      says: ["is complete"],
    },
    ...["-rf", "~root", "ready.json", "x.part", "$(id)", "nul", "model.gguf "].map((path): BadInput => ({
      name: `a name without meaning to us: ${path}`,
      script: named(path),
      exitCode: 0,
      code: "Ready",
      says: ["is complete"],
    })),
  ]);
});

const packed = (tar: Uint8Array, encoding: "tar" | "tar+gzip" | "tar+zstd" = "tar"): Script =>
  serve({
    manifest: json(
      manifestJson({
        layers: [
          descriptor(`${weight}raw`, "weights", { annotations: { [filepath]: "model.safetensors" } }),
          descriptor(`application/vnd.cncf.model.weight.config.v1.${encoding}`, tar),
        ],
      }),
    ),
    blobs: blobsOf("{}", "weights", tar),
  });

const tars: readonly (readonly [name: string, tar: Uint8Array, ...says: readonly string[]])[] = [
  ["an absolute entry", archive([["/etc/cron.d/x", "x"]]), '"/etc/cron.d/x" is absolute'],
  ["an entry outside", archive([["../../x", "x"]]), '"../../x"'],
  ["an entry outside, in the middle", archive([["a/../../x", "x"]]), '"a/../../x"'],
  ["an entry of the store", archive([[".ocimodel/version", "2"]]), "belongs to the store"],
  ["a long name of PAX outside", archive([["x", "x"]], paxHeader("path", "../../x")), '"../../x"'],
  ["a hard link", archive([], header({ name: "l", type: "1", link: "package.json" })), "hard link"],
  ["a link out", archive([], header({ name: "l", type: "2", link: "../../../etc/passwd" })), '"l"'],
  ["an absolute link", archive([], header({ name: "l", type: "2", link: "/etc/passwd" })), '"l"'],
  ["a file through a link", archive([["d/x", "x"]], header({ name: "d", type: "2", link: "e" })), '"d"'],
  ["a character device", archive([], header({ name: "zero", type: "3" })), '"zero"'],
  ["a block device", archive([], header({ name: "disk", type: "4" })), '"disk"'],
  ["a FIFO", archive([], header({ name: "pipe", type: "6" })), '"pipe"'],
  ["a sparse file", archive([], header({ name: "hole", type: "S" })), '"hole"'],
  ["a negative size", archive([], header({ name: "m", rawSize: Buffer.alloc(12, 0xff) })), "size"],
  [
    "a size of 2^63",
    archive(
      [],
      header({ name: "m", rawSize: Buffer.from([0x80, 0, 0, 0, 0x7f, 255, 255, 255, 255, 255, 255, 255]) }),
    ),
    "size",
  ],
  ["a size of letters", archive([], header({ name: "m", rawSize: Buffer.from("zzzzzzzzzzz\0") })), "size"],
  ["cut in a header", archive([["a", "x"]]).subarray(0, 700), "ends"],
  ["cut in a file", Buffer.concat([header({ name: "a", size: 5000 }), Buffer.alloc(512)]), "ends"],
  ["a wrong checksum", Buffer.concat([Buffer.alloc(512, 0x41), Buffer.alloc(1024)]), "checksum"],
  ["a zip", Buffer.concat([Buffer.from("PK\u0003\u0004"), Buffer.alloc(600, 1)]), "checksum"],
  [
    "one path twice",
    archive([
      ["a", "1"],
      ["a", "2"],
    ]),
    '"a"',
  ],
  ["the path of another layer", archive([["model.safetensors", "2"]]), '"model.safetensors"'],
  ["a case twin of another layer", archive([["MODEL.safetensors", "2"]]), "differ only in case"],
  ["a directory over another layer", archive([["model.safetensors/x", "2"]]), "file and a directory"],
];

describe("an archive", () => {
  testBadInputs("bad-archives", [
    ...tars.map(([name, tar, ...says]): BadInput => ({
      name,
      script: packed(tar),
      exitCode: 65,
      code: "InvalidArtifact",
      says,
    })),
    ...[
      ["gzip that is none", packed(archive([["a", "x"]]), "tar+gzip"), "gzip"] as const,
      [
        "gzip that ends early",
        packed(gzipSync(archive([["a", "x"]])).subarray(0, 60), "tar+gzip"),
        "gzip",
      ] as const,
      [
        "junk behind gzip",
        packed(Buffer.concat([gzipSync(archive([["a", "x"]])), Buffer.from("junk!")]), "tar+gzip"),
        "gzip",
      ] as const,
      ["zstd that is none", packed(archive([["a", "x"]]), "tar+zstd"), "zstd"] as const,
      ["a gzip in place of zstd", packed(gzipSync(archive([["a", "x"]])), "tar+zstd"), "zstd"] as const,
      [
        "a bomb of gzip",
        packed(gzipSync(archive([["a", Buffer.alloc(80 << 20)]])), "tar+gzip"),
        "times",
      ] as const,
      [
        "a bomb of zstd",
        packed(zstdCompressSync(archive([["a", Buffer.alloc(80 << 20)]])), "tar+zstd"),
        "times",
      ] as const,
    ].map(([name, script, says]): BadInput => ({
      name,
      script,
      exitCode: 65,
      code: "InvalidArtifact",
      says: [says],
    })),
  ]);

  test("a hard link to a file of the working directory shared no inode", () => {
    expect(statSync(join(import.meta.dirname, "../../package.json")).nlink).toBe(1);
    expect(readFileSync("package.json", "utf8")).toContain('"ocimodel"');
  });
});
