// safePath and PlacedPaths: the conformance table of the reference client, the bad-name corpus, and properties.

import { join, normalize } from "node:path";

import fc from "fast-check";
import { describe, expect, it } from "vitest";

import { checkCollisions, safePath, safePathWithoutParents } from "../../../puller/artifact/index.ts";
import type { SafePath } from "../../../puller/artifact/index.ts";

const again = "; the artifact must be packaged again";

describe("safePath accepts", () => {
  it.each([
    ["model.safetensors", "model.safetensors"],
    ["a/b/c/d/model.safetensors", "a/b/c/d/model.safetensors"],
    ["foo/../bar/x", "bar/x"],
    ["text_encoder/", "text_encoder"],
    ["./a//b/./c", "a/b/c"],
    ["-rf", "-rf"],
    ["~", "~"],
    ["...", "..."],
    ["a/..b/c..", "a/..b/c.."],
    ["große/ﬁ/نموذج", "große/ﬁ/نموذج"],
    ["with space:$(x)`y`%2e%2e", "with space:$(x)`y`%2e%2e"],
    ["x/.ocimodel", "x/.ocimodel"],
    ["ready.json", "ready.json"],
    [`${"a".repeat(255)}/b`, `${"a".repeat(255)}/b`],
    [`${"ab/".repeat(341)}x`, `${"ab/".repeat(341)}x`],
  ])("%j", (path, expected) => {
    expect(safePath(path)).toBe(expected);
  });
});

describe("safePath refuses", () => {
  it.each([
    ["", '"" is empty'],
    [".", '"." names the model directory itself'],
    ["./", '"./" names the model directory itself'],
    ["a/..", '"a/.." names the model directory itself'],
    ["..", '".." leaves the model directory'],
    ["../x", '"../x" leaves the model directory'],
    ["a/../../x", '"a/../../x" leaves the model directory'],
    ["a/b/../../../a", '"a/b/../../../a" leaves the model directory'],
    ["/etc/passwd", '"/etc/passwd" is absolute'],
    ["/", '"/" is absolute'],
    ["//x", '"//x" is absolute'],
    ["a\u0000b", '"a\\u0000b" holds a control character'],
    ["a\nb", '"a\\nb" holds a control character'],
    ["a\u007f", '"a\\u{7f}" holds a control character'],
    ["a\u0085", '"a\\u{85}" holds a control character'],
    ["gpj.\u202eexe", '"gpj.\\u{202e}exe" holds a control character'],
    ["a\u2028b", '"a\\u{2028}b" holds a control character'],
    ["a\ud800", '"a\\ud800" is not valid Unicode'],
    ["..\\x", '"..\\\\x" holds a backslash'],
    ["C:x", '"C:x" starts with a drive letter'],
    [".ocimodel/blobs/sha256/x", '".ocimodel/blobs/sha256/x" starts with a name that belongs to the store'],
    [".OCIModel", '".OCIModel" starts with a name that belongs to the store'],
    ["a/../.ocimodel/x", '"a/../.ocimodel/x" starts with a name that belongs to the store'],
    ["a".repeat(256), `"${"a".repeat(96)}"… has a segment longer than 255 bytes`],
    ["ü".repeat(128), `"${"\\u{fc}".repeat(96)}"… has a segment longer than 255 bytes`],
    ["abc/".repeat(256) + "x", `"${"abc/".repeat(24)}"… is longer than 1024 bytes`],
    ["d/".repeat(5000) + "x", `"${"d/".repeat(48)}"… is longer than 1024 bytes`],
  ])("%j", (path, message) => {
    expect(() => safePath(path)).toThrow(
      expect.objectContaining({
        code: "InvalidArtifact",
        exitCode: 65,
        message: `file path ${message}${again}`,
      }),
    );
  });
});

describe("safePathWithoutParents", () => {
  it.each([
    ["../../home/u/m.gguf", "home/u/m.gguf"],
    ["../model.gguf", "model.gguf"],
    ["..//../x", "x"],
    ["a/b", "a/b"],
  ])("strips the front of %j", (path, expected) => {
    expect(safePathWithoutParents(path)).toBe(expected);
  });

  it.each([
    ["../../..", "\"../../..\" is empty without its leading '..'"],
    ["..", "\"..\" is empty without its leading '..'"],
    ["", '"" is empty'],
    ["/etc/passwd", '"/etc/passwd" is absolute'],
    ["..//etc/passwd/../../..", '"etc/passwd/../../.." leaves the model directory'],
    ["../a/../../x", '"a/../../x" leaves the model directory'],
    ["../.ocimodel/x", '".ocimodel/x" starts with a name that belongs to the store'],
  ])("refuses %j", (path, message) => {
    expect(() => safePathWithoutParents(path)).toThrow(`file path ${message}${again}`);
  });
});

describe("for any string", () => {
  const nasty = fc.oneof(
    fc.string({ unit: "binary", maxLength: 60 }),
    fc
      .array(
        fc.constantFrom("..", ".", "", "a", "B", ".ocimodel", "/", "\\", "\u0000", "~", "é", "e\u0301"),
        { maxLength: 12 },
      )
      .map((parts) => parts.join("/")),
  );

  it.each([safePath, safePathWithoutParents])(
    "%o stays inside, is its own shortest form, or refuses",
    (check) => {
      fc.assert(
        fc.property(nasty, (text) => {
          let path: string;
          try {
            path = check(text);
          } catch (error) {
            expect(error).toMatchObject({ code: "InvalidArtifact" });
            return;
          }
          expect(join("/models/x", path).startsWith("/models/x/")).toBe(true);
          expect(normalize(path)).toBe(path);
          expect(path.split("/")).not.toContain("..");
          expect(path.toLowerCase().startsWith(".ocimodel/")).toBe(false);
          expect(path).not.toContain("\\");
          expect(path).not.toContain("\u0000");
          expect(check(path)).toBe(path);
        }),
        { numRuns: 3000 },
      );
    },
  );
});

describe("checkCollisions", () => {
  const check =
    (...files: readonly (readonly [string, string?])[]) =>
    () => {
      checkCollisions(files.map(([path, content]) => ({ path: path as SafePath, content })));
    };

  it("takes different paths, and one file twice", () => {
    check(["a/b", "1"], ["a/c", "1"], ["a.b", "2"], ["a/b", "1"], ["große", "3"], ["grosze", "4"])();
  });

  it.each([
    [
      [
        ["a", "1"],
        ["a", "2"],
      ],
      'two files of unknown or different content are to be placed at "a"',
    ],
    [[["a"], ["a"]], 'two files of unknown or different content are to be placed at "a"'],
    [
      [
        ["README", "1"],
        ["readme", "1"],
      ],
      'file paths "README" and "readme" differ only in case or Unicode form',
    ],
    [
      [
        ["\u00e9", "1"],
        ["e\u0301", "1"],
      ],
      'file paths "\\u{e9}" and "e\\u{301}" differ only in case or Unicode form',
    ],
    [
      [
        ["straße", "1"],
        ["STRASSE", "1"],
      ],
      'file paths "stra\\u{df}e" and "STRASSE" differ only in case or Unicode form',
    ],
    [
      [
        ["ﬁ", "1"],
        ["FI", "1"],
      ],
      'file paths "\\u{fb01}" and "FI" differ only in case or Unicode form',
    ],
    [
      [
        ["A/x", "1"],
        ["a/y", "1"],
      ],
      'file paths "A" and "a" differ only in case or Unicode form',
    ],
    [
      [
        ["a", "1"],
        ["a/b", "2"],
      ],
      'path "a" is to be a file and a directory at once',
    ],
    [
      [
        ["a/b/c", "1"],
        ["a/b", "2"],
      ],
      'path "a/b" is to be a file and a directory at once',
    ],
  ] as const)("refuses %j", (files, message) => {
    expect(check(...files)).toThrow(
      expect.objectContaining({
        code: "InvalidArtifact",
        message: `${message}; the artifact must be packaged again`,
      }),
    );
  });

  it("does not depend on the order", () => {
    const path = fc
      .array(fc.constantFrom("a", "A", "b", "é", "e\u0301"), { minLength: 1, maxLength: 3 })
      .map((parts) => parts.join("/"));
    fc.assert(
      fc.property(fc.array(fc.tuple(path, fc.constantFrom("1", "2")), { maxLength: 6 }), (files) => {
        const refuses = (list: readonly (readonly [string, string])[]): boolean => {
          try {
            check(...list)();
            return false;
          } catch {
            return true;
          }
        };
        expect(refuses(files.toReversed())).toBe(refuses(files));
      }),
    );
  });
});
