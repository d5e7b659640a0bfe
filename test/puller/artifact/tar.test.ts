// tarEntries on archives of real tar writers and on archives no writer would make.

import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, truncateSync, writeFileSync, linkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync, zstdCompressSync } from "node:zlib";

import { describe, expect, it, onTestFinished } from "vitest";

import {
  defaultTarLimits,
  placeExtracted,
  tarEntries,
  type TarLimits,
} from "../../../puller/artifact/index.ts";
import type { LayerEncoding, SafePath } from "../../../puller/artifact/index.ts";
import { archive, endOfArchive, header, paxHeader } from "./tar-builder.ts";

type Encoding = Exclude<LayerEncoding, "raw">;

async function* inChunks(bytes: Uint8Array, chunkBytes: number): AsyncGenerator<Uint8Array> {
  for (let offset = 0; offset < bytes.byteLength; offset += chunkBytes) {
    await Promise.resolve();
    yield bytes.subarray(offset, offset + chunkBytes);
  }
}

async function read(
  bytes: Uint8Array,
  encoding: Encoding = "tar",
  chunkBytes = 1 << 16,
  limits: TarLimits = defaultTarLimits,
): Promise<string[]> {
  const seen: string[] = [];
  for await (const entry of tarEntries(inChunks(bytes, chunkBytes), encoding, limits)) {
    if (entry.type === "directory") seen.push(`${entry.path}/`);
    else if (entry.type === "symlink") seen.push(`${entry.path} -> ${entry.target}`);
    else {
      const parts: Uint8Array[] = [];
      for await (const part of entry.content) parts.push(Uint8Array.from(part));
      seen.push(`${entry.path}=${Buffer.concat(parts).toString()}`);
    }
  }
  return seen;
}

function folder(): string {
  const path = mkdtempSync(join(tmpdir(), "ocimodel-tar-"));
  onTestFinished(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

function gnuTar(directory: string, ...args: string[]): Uint8Array {
  return execFileSync("tar", ["-C", directory, "--sort=name", "-cf", "-", ...args, "."], {
    maxBuffer: 1 << 28,
  });
}

it("an archive that leads through more directories than a volume has inodes is refused", async () => {
  const files = Array.from({ length: 300 }, (_, index) => [
    paxHeader("path", `${index}/${"a/".repeat(400)}f`),
    header({ name: "f" }),
  ]);
  await expect(read(Buffer.concat([...files.flat(), endOfArchive]))).rejects.toMatchObject({
    code: "InvalidArtifact",
    message: "the model has more than 100000 files and directories, which is no model",
  });
});

describe("archives of GNU tar", () => {
  for (const format of ["gnu", "posix", "ustar"]) {
    const long = "long".repeat(format === "ustar" ? 24 : 40);
    it(`are read in ${format} format, whatever the chunks`, async () => {
      const root = folder();
      mkdirSync(join(root, "a", long), { recursive: true });
      writeFileSync(join(root, "a", "empty"), "");
      writeFileSync(join(root, "a", "große.txt"), "x".repeat(1000));
      symlinkSync("a/empty", join(root, "link"));
      if (format !== "ustar") writeFileSync(join(root, "a", long, `${long}.bin`), "deep");
      const bytes = gnuTar(root, `--format=${format}`);
      const expected = [
        "a/",
        "a/empty=",
        `a/große.txt=${"x".repeat(1000)}`,
        `a/${long}/`,
        ...(format === "ustar" ? [] : [`a/${long}/${long}.bin=deep`]),
        "link -> a/empty",
      ].sort();
      for (const chunkBytes of [1, 511, 513, 1 << 20])
        expect((await read(bytes, "tar", chunkBytes)).sort()).toEqual(expected);
      expect((await read(gzipSync(bytes), "tar+gzip", 7)).sort()).toEqual(expected);
      expect((await read(zstdCompressSync(bytes), "tar+zstd", 7)).sort()).toEqual(expected);
    });
  }

  it("with hard links or holes are refused", async () => {
    const linked = folder();
    writeFileSync(join(linked, "a"), "a");
    linkSync(join(linked, "a"), join(linked, "b"));
    await expect(read(gnuTar(linked))).rejects.toThrow(
      'tar layer holds a hard link at "./b"; only files, directories and inner symbolic links are taken',
    );
    const sparse = folder();
    writeFileSync(join(sparse, "a"), "");
    truncateSync(join(sparse, "a"), 1 << 20);
    await expect(read(gnuTar(sparse, "--sparse", "--format=gnu"))).rejects.toThrow(
      "tar layer holds a sparse file",
    );
    await expect(read(gnuTar(sparse, "--sparse", "--format=posix"))).rejects.toThrow(
      "tar layer holds a sparse file",
    );
  });
});

describe("compressed archives", () => {
  const first = archive([["a", "1".repeat(3000)]]).subarray(0, 1024);
  const whole = archive([["a", "1".repeat(3000)]]);
  const second = whole.subarray(1024);

  it("may have several gzip members and zstd frames, cut anywhere", async () => {
    const zstd = Buffer.concat([zstdCompressSync(first), zstdCompressSync(second)]);
    const gzip = Buffer.concat([gzipSync(first), gzipSync(second)]);
    for (const chunkBytes of [1, 5, zstdCompressSync(first).byteLength, 1 << 16]) {
      expect(await read(zstd, "tar+zstd", chunkBytes)).toEqual([`a=${"1".repeat(3000)}`]);
      expect(await read(gzip, "tar+gzip", chunkBytes)).toEqual([`a=${"1".repeat(3000)}`]);
    }
  });

  it.each([
    ["tar+gzip", Buffer.concat([gzipSync(whole), Buffer.from("junk!")]), "layer is not valid gzip data"],
    [
      "tar+zstd",
      Buffer.concat([zstdCompressSync(whole), Buffer.from("junk!")]),
      "layer is not valid zstd data",
    ],
    ["tar+gzip", gzipSync(whole).subarray(0, 30), "layer is not valid gzip data"],
    ["tar+zstd", zstdCompressSync(whole).subarray(0, 20), "layer is not valid zstd data"],
    ["tar+gzip", whole, "layer is not valid gzip data"],
    ["tar+zstd", gzipSync(whole), "layer is not valid zstd data"],
  ] as const)("are refused when broken (%s)", async (encoding, bytes, message) => {
    for (const chunkBytes of [1, 1 << 16])
      await expect(read(bytes, encoding, chunkBytes)).rejects.toMatchObject({
        code: "InvalidArtifact",
        message,
      });
  });

  it("are refused when they grow too much", async () => {
    const bomb = archive([["a", Buffer.alloc(1 << 22)]]);
    const limits = { ...defaultTarLimits, ratioFreeBytes: 1 << 20 };
    for (const [encoding, bytes] of [
      ["tar+gzip", gzipSync(bomb)],
      ["tar+zstd", zstdCompressSync(bomb)],
    ] as const) {
      await expect(read(bytes, encoding, 1 << 16, limits)).rejects.toThrow(
        "layer grows more than 100 times when decompressed; it is refused as a decompression bomb",
      );
      expect(await read(bytes, encoding)).toHaveLength(1);
    }
  });
});

describe("the end", () => {
  const whole = archive([["a", "text"]]);

  it("is found by two empty blocks, by one, or by the end of the stream; all bytes behind it are read", async () => {
    for (const tail of ["", "x".repeat(2000), archive([["b", "second"]])]) {
      let readBytes = 0;
      const bytes = Buffer.concat([whole, Buffer.from(tail)]);
      const counting = async function* () {
        for await (const chunk of inChunks(bytes, 100)) {
          readBytes += chunk.byteLength;
          yield chunk;
        }
      };
      const paths: string[] = [];
      for await (const entry of tarEntries(counting(), "tar")) paths.push(entry.path);
      expect(paths).toEqual(["a"]);
      expect(readBytes).toBe(bytes.byteLength);
    }
    expect(await read(whole.subarray(0, 1024))).toEqual(["a=text"]);
    expect(await read(whole.subarray(0, 1536))).toEqual(["a=text"]);
    expect(await read(new Uint8Array())).toEqual([]);
  });

  it("skips content that nobody reads", async () => {
    const paths: string[] = [];
    for await (const entry of tarEntries(
      inChunks(
        archive([
          ["a", "x".repeat(5000)],
          ["b", "y"],
        ]),
        99,
      ),
      "tar",
    ))
      paths.push(entry.path);
    expect(paths).toEqual(["a", "b"]);
  });

  it("closes the source when the reader stops", async () => {
    let closed = 0;
    const source = async function* () {
      try {
        for (;;) yield Buffer.concat([header({ name: "a", size: 1 << 30 }), Buffer.alloc(1 << 16)]);
      } finally {
        closed += 1;
      }
    };
    for await (const entry of tarEntries(source(), "tar")) {
      expect(entry.path).toBe("a");
      break;
    }
    expect(closed).toBe(1);
    const failing = async function* () {
      yield gzipSync(whole).subarray(0, 20);
      throw new Error("connection lost");
    };
    await expect(async () => {
      for await (const entry of tarEntries(failing(), "tar+gzip")) expect(entry).toBeDefined();
    }).rejects.toThrow("connection lost");
  });
});

const links = "; only files, directories and inner symbolic links are taken";
describe("bad archives", () => {
  it.each<[string, Uint8Array, string]>([
    ["truncated header", archive([["a", "x"]]).subarray(0, 100), "tar layer ends within a header"],
    ["truncated file", archive([["a", "x".repeat(600)]]).subarray(0, 900), "tar layer ends within a file"],
    [
      "zip",
      Buffer.concat([Buffer.from("PK\u0003\u0004"), Buffer.alloc(600, 1)]),
      "tar layer is not a tar archive, or is damaged: a header has a wrong checksum",
    ],
    [
      "lone empty block",
      Buffer.concat([Buffer.alloc(512), header({ name: "a" }), endOfArchive]),
      "tar layer has an empty block between entries",
    ],
    [
      "negative size",
      archive([], header({ name: "a", rawSize: Buffer.alloc(12, 0xff) })),
      "tar layer has a size that cannot be",
    ],
    [
      "size of 2^60",
      archive([], header({ name: "a", rawSize: Buffer.from("801000000000000000000000", "hex") })),
      "tar layer has a size that cannot be",
    ],
    [
      "size of text",
      archive([], header({ name: "a", rawSize: Buffer.from("00000000-12\0") })),
      "tar layer has a size that cannot be",
    ],
    [
      "character device",
      archive([], header({ name: "d", type: "3" })),
      `tar layer holds a character device at "d"${links}`,
    ],
    [
      "block device",
      archive([], header({ name: "d", type: "4" })),
      `tar layer holds a block device at "d"${links}`,
    ],
    ["pipe", archive([], header({ name: "d", type: "6" })), `tar layer holds a pipe at "d"${links}`],
    [
      "hard link",
      archive([], header({ name: "d", type: "1", link: "/etc/passwd" })),
      `tar layer holds a hard link at "d"${links}`,
    ],
    [
      "unknown type",
      archive([], header({ name: "d", type: "V" })),
      `tar layer holds an entry of an unknown type at "d"${links}`,
    ],
    [
      "directory with content",
      archive([], header({ name: "d/", type: "5", size: 1 })),
      'tar layer has a directory "d/" with content',
    ],
    [
      "absolute path",
      archive([["/etc/passwd", "x"]]),
      'file path "/etc/passwd" is absolute; the artifact must be packaged again',
    ],
    [
      "path outside",
      archive([["a/../../x", "x"]]),
      'file path "a/../../x" leaves the model directory; the artifact must be packaged again',
    ],
    [
      "parent as a directory",
      archive([], header({ name: "../", type: "5" })),
      'file path "../" leaves the model directory; the artifact must be packaged again',
    ],
    [
      "store name",
      archive([[".ocimodel/blobs", "x"]]),
      'file path ".ocimodel/blobs" starts with a name that belongs to the store; the artifact must be packaged again',
    ],
    [
      "root as a file",
      archive([["./.", "x"]]),
      'file path "./." names the model directory itself; the artifact must be packaged again',
    ],
    [
      "same path twice",
      archive([
        ["a", "x"],
        ["./a", "x"],
      ]),
      'two files of unknown or different content are to be placed at "a"; the artifact must be packaged again',
    ],
    [
      "file below a file",
      archive([
        ["a", "x"],
        ["a/b", "x"],
      ]),
      'path "a" is to be a file and a directory at once; the artifact must be packaged again',
    ],
    [
      "name that is not UTF-8",
      archive([[Buffer.from([0x61, 0xff]), "x"]]),
      "tar layer has a file name that is not UTF-8",
    ],
    [
      "PAX size that cannot be",
      archive([], paxHeader("size", "-1"), header({ name: "a" })),
      "tar layer has a size that cannot be",
    ],
    [
      "PAX record without a length",
      archive([], header({ name: "p", type: "x", size: 5 }), Buffer.concat([Buffer.from("abc=d")], 512)),
      "tar layer has a malformed PAX record",
    ],
    [
      "PAX record longer than the header",
      archive([], header({ name: "p", type: "x", size: 8 }), Buffer.concat([Buffer.from("99 a=bc\n")], 512)),
      "tar layer has a malformed PAX record",
    ],
    [
      "PAX header of 2 GiB",
      archive([], header({ name: "p", type: "x", size: 2 ** 31 })),
      "tar layer has a header extension of 2147483648 bytes; at most 1048576 are read",
    ],
    [
      "PAX path for all",
      archive([], paxHeader("path", "b", "g"), header({ name: "a" })),
      "tar layer sets names or sizes for all entries at once",
    ],
    [
      "header extension at the end",
      archive([], paxHeader("path", "b")),
      "tar layer ends after a header extension",
    ],
    [
      "PAX path outside",
      archive([], paxHeader("path", "../b"), header({ name: "a" })),
      'file path "../b" leaves the model directory; the artifact must be packaged again',
    ],
    [
      "link to an absolute path",
      archive([], header({ name: "l", type: "2", link: "/etc" })),
      'tar layer holds a symbolic link "l" to "/etc", which is not surely inside the model directory',
    ],
    [
      "link to the outside",
      archive([], header({ name: "a/l", type: "2", link: "../../x" })),
      'tar layer holds a symbolic link "a/l" to "../../x", which is not surely inside the model directory',
    ],
    [
      "link to the root",
      archive([], header({ name: "a/l", type: "2", link: ".." })),
      'tar layer holds a symbolic link "a/l" to "..", which is not surely inside the model directory',
    ],
    [
      "link that goes up after down",
      archive([], header({ name: "a/l", type: "2", link: "x/../y" })),
      'tar layer holds a symbolic link "a/l" to "x/../y", which is not surely inside the model directory',
    ],
    [
      "file through a link",
      archive([["l/x", "x"]], header({ name: "l", type: "2", link: "d" })),
      'path "l" is to be a file and a directory at once; the artifact must be packaged again',
    ],
    [
      "link in place of a directory",
      archive([], header({ name: "l/", type: "5" }), header({ name: "l", type: "2", link: "d" })),
      'path "l" is to be a file and a directory at once; the artifact must be packaged again',
    ],
  ])("%s", async (_, bytes, message) => {
    await expect(read(bytes)).rejects.toMatchObject({ code: "InvalidArtifact", exitCode: 65, message });
  });

  it("are refused by number of entries and by size", async () => {
    const bytes = archive([
      ["a", "x"],
      ["b", "x"],
      ["c", "x"],
    ]);
    await expect(read(bytes, "tar", 512, { ...defaultTarLimits, maxEntries: 2 })).rejects.toThrow(
      "tar layer has more than 2 entries",
    );
    await expect(read(bytes, "tar", 512, { ...defaultTarLimits, maxBytes: 2048 })).rejects.toThrow(
      "tar layer holds more than 2048 bytes",
    );
  });
});

it("an inner link keeps its target, made short", async () => {
  const bytes = archive([], header({ name: "a/b/l", type: "2", link: ".././../c//d" }));
  expect(await read(bytes)).toEqual(["a/b/l -> ../../c/d"]);
});

it("a lone file whose directory was lost goes where the annotation says", () => {
  const path = (text: string) => text as SafePath;
  expect(placeExtracted([path("model.bin")], path("unet/model.bin"))).toEqual(["unet/model.bin"]);
  expect(placeExtracted([path("model.bin")], undefined)).toEqual(["model.bin"]);
  expect(placeExtracted([path("other.bin")], path("unet/model.bin"))).toEqual(["other.bin"]);
  expect(placeExtracted([path("unet/model.bin")], path("unet/model.bin"))).toEqual(["unet/model.bin"]);
  expect(placeExtracted([path("model.bin"), path("b")], path("unet/model.bin"))).toEqual(["model.bin", "b"]);
});
