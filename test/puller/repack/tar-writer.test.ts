// Tar headers of image layers: read by our own reader and by GNU tar, the same bytes for the same files.

import { spawnSync } from "node:child_process";
import fc from "fast-check";
import { expect, test } from "vitest";
import { tarEntries } from "../../../puller/artifact/index.ts";
import { endOfArchive, entryHeader, padding, type LayerEntry } from "../../../puller/repack/tar-writer.ts";

async function read(bytes: Uint8Array): Promise<readonly unknown[]> {
  const entries: unknown[] = [];
  for await (const entry of tarEntries(
    (async function* () {
      yield bytes;
    })(),
    "tar",
  )) {
    if (entry.type !== "file") {
      entries.push(entry);
      continue;
    }
    const parts: Uint8Array[] = [];
    for await (const part of entry.content) parts.push(part);
    entries.push({ type: "file", path: entry.path, content: Buffer.concat(parts).toString("latin1") });
  }
  return entries;
}

const segment = fc
  .string({
    unit: fc.constantFrom("a", "b", "X", "0", "9", "-", "_", ".", " ", "ä", "ß", "漢", "🙂"),
    minLength: 1,
    maxLength: 60,
  })
  .filter((text) => !/^\.+$/.test(text) && Buffer.byteLength(text) <= 200);

test("whatever the names and sizes, our reader finds what was written", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.tuple(fc.array(segment, { minLength: 1, maxLength: 4 }), fc.string({ maxLength: 1500 })), {
        maxLength: 6,
      }),
      async (files) => {
        const named = files.map(([path, content], index) => ({
          path: `models/${index}/${path.join("/")}`,
          content: Buffer.from(content),
        }));
        const bytes = Buffer.concat([
          ...named.flatMap(({ path, content }) => [
            entryHeader({ type: "file", path, sizeBytes: content.length }),
            content,
            padding(content.length),
          ]),
          endOfArchive,
        ]);
        expect(bytes.length % 512).toBe(0);
        expect(await read(bytes)).toEqual(
          named.map(({ path, content }) => ({ type: "file", path, content: content.toString("latin1") })),
        );
      },
    ),
    { numRuns: 100 },
  );
});

test("GNU tar reads long names, other scripts, links, folders and sizes beyond 8 GiB", () => {
  const long = `models/${"d".repeat(90)}/${"f".repeat(120)}.safetensors`;
  const entries: readonly LayerEntry[] = [
    { type: "directory", path: "models" },
    { type: "file", path: "models/モデル.gguf", sizeBytes: 0 },
    { type: "file", path: long, sizeBytes: 0 },
    { type: "symlink", path: "models/latest", target: "モデル.gguf" },
  ];
  const { stdout, stderr, status } = spawnSync(
    "tar",
    ["-tvf", "-", "--numeric-owner", "--quoting-style=literal"],
    {
      input: Buffer.concat([...entries.map(entryHeader), endOfArchive]),
      env: { ...process.env, TZ: "UTC", LC_ALL: "C.UTF-8" },
      encoding: "utf8",
    },
  );
  expect({ stderr, status }).toEqual({ stderr: "", status: 0 });
  expect(stdout.split("\n").map((line) => line.replaceAll(/ +/g, " "))).toEqual([
    "dr-xr-xr-x 0/0 0 1970-01-01 00:00 models/",
    "-r--r--r-- 0/0 0 1970-01-01 00:00 models/モデル.gguf",
    `-r--r--r-- 0/0 0 1970-01-01 00:00 ${long}`,
    "lrwxrwxrwx 0/0 0 1970-01-01 00:00 models/latest -> モデル.gguf",
    "",
  ]);
  // The header alone: GNU tar tells the size before it misses the content.
  const large = spawnSync("tar", ["-tvf", "-", "--numeric-owner"], {
    input: entryHeader({ type: "file", path: "models/large.gguf", sizeBytes: 140_000_000_000 }),
    encoding: "utf8",
  });
  expect(large.stdout).toContain(" 140000000000 ");
});
