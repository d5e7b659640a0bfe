// The fixtures are what they are said to be: every blob has the digest of its name, every vector the digest beside it.

import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import {
  firstGenerationConfig,
  fixtures,
  fixturesDirectory,
  licenseFile,
  modelPackConfig,
} from "../fixtures/conformance.ts";

const sha256 = (bytes: Uint8Array | string): string => createHash("sha256").update(bytes).digest("hex");
const blobs = join(fixturesDirectory, "blobs/sha256");

test("every blob of the layout hashes to its name, and none is missing or left over", () => {
  const index = JSON.parse(readFileSync(join(fixturesDirectory, "index.json"), "utf8")) as {
    manifests: { digest: string; size: number; annotations: Record<string, string> }[];
  };
  const needed = new Set<string>();
  for (const { digest, size } of index.manifests) {
    const bytes = readFileSync(join(blobs, digest.slice(7)));
    expect(bytes.length).toBe(size);
    needed.add(digest.slice(7));
    const { config, layers } = JSON.parse(bytes.toString("utf8")) as {
      config: { digest: string; size: number };
      layers: { digest: string; size: number }[];
    };
    for (const each of [config, ...layers]) {
      expect(readFileSync(join(blobs, each.digest.slice(7))).length).toBe(each.size);
      needed.add(each.digest.slice(7));
    }
  }
  expect(readdirSync(blobs).sort()).toEqual([...needed].sort());
  for (const name of needed) expect(sha256(readFileSync(join(blobs, name)))).toBe(name);
  expect(
    Object.fromEntries(
      index.manifests.map((each) => [each.annotations["org.opencontainers.image.ref.name"], each.digest]),
    ),
  ).toEqual(Object.fromEntries(Object.entries(fixtures).map(([tag, { digest }]) => [tag, digest])));
});

test.each(Object.entries(fixtures))(
  "%s: the stated files are its layers",
  (_tag, { digest, files, entry }) => {
    const { layers } = JSON.parse(readFileSync(join(blobs, digest.slice(7)), "utf8")) as {
      layers: { digest: string }[];
    };
    expect(Object.values(files).sort()).toEqual(layers.map((layer) => layer.digest.slice(7)).sort());
    expect(Object.keys(files)).toContain(entry);
  },
);

test.each([firstGenerationConfig, modelPackConfig, licenseFile])(
  "a text of $size bytes has its digest",
  (vector) => {
    expect(Buffer.byteLength(vector.text)).toBe(vector.size);
    expect(`sha256:${sha256(vector.text)}`).toBe(vector.digest);
  },
);
