// What registries do with uploads that the real one cannot be made to do: no chunks, chunks of a least size, parts of a chunk,
// requests that are too large, uploads elsewhere. And what of a journal is read.

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { entriesOf, PlacedPaths, readArtifact } from "../../../puller/artifact/index.ts";
import { digestOf } from "../../../puller/oci/digest.ts";
import { parseManifest } from "../../../puller/oci/manifest.ts";
import { createRegistry } from "../../../puller/oci/registry.ts";
import { parseReference } from "../../../puller/oci/reference.ts";
import { planPull } from "../../../puller/pull/plan.ts";
import { readJournal } from "../../../puller/repack/journal.ts";
import { layerContent } from "../../../puller/repack/layer-content.ts";
import { maxImageLayers, planLayers } from "../../../puller/repack/plan.ts";
import { uploadLayer } from "../../../puller/repack/upload-layer.ts";
import type { RecordedRequest } from "../../registry/recorded-request.ts";
import {
  startScriptedRegistry,
  type ScriptedAnswer,
  type ScriptedRegistry,
} from "../../registry/scripted-registry.ts";
import { json } from "../artifact/manifest-builder.ts";
import { descriptor, manifestJson, weight } from "../bad-input.ts";
import { noise } from "../store-assertions.ts";

/** Small, since a test server keeps little of a request. */
const unitBytes = 100_000;
const content = noise("upload", 5 * unitBytes + 77);
const digest = digestOf(content);

let server: ScriptedRegistry;
let directory = "";
beforeAll(async () => {
  server = await startScriptedRegistry();
  directory = mkdtempSync(join(tmpdir(), "ocimodel-upload-"));
});
afterAll(async () => {
  await server?.stop();
  rmSync(directory, { recursive: true, force: true });
});

/** A registry that keeps what it is sent, and does `odd` instead where that gives an answer. */
function accept(odd: (request: RecordedRequest, held: number) => ScriptedAnswer | undefined): {
  readonly taken: () => Buffer;
  readonly ended: () => string | undefined;
} {
  let held = Buffer.alloc(0);
  let ended: string | undefined;
  server.setScript((request) => {
    const strange = odd(request, held.length);
    // Taken, but not answered for.
    if (strange?.raw !== undefined) held = Buffer.concat([held, request.body()]);
    if (strange !== undefined && strange.headers?.["x-keeps"] === undefined) return strange;
    const location = "/v2/ai/image/blobs/uploads/1";
    switch (request.method) {
      case "POST":
        held = Buffer.alloc(0);
        return { status: 202, headers: { location, ...strange?.headers } };
      case "PATCH": {
        const body = request.body().subarray(0, Number(strange?.headers?.["x-keeps"] ?? Infinity));
        held = Buffer.concat([held, body]);
        return { status: 202, headers: { location, range: `0-${held.length - 1}` } };
      }
      case "GET":
        return { status: 204, headers: { location, range: `0-${held.length - 1}` } };
      case "PUT":
        ended = new URL(request.path, server.url).searchParams.get("digest") ?? "";
        return { status: 201 };
      default:
        return { status: 404 };
    }
  });
  return { taken: () => held, ended: () => ended };
}

async function upload(): Promise<{ readonly digest: string; readonly bytes: number }> {
  const registry = createRegistry({ plainHTTPHosts: [server.host], stallTimeoutMs: 10_000 });
  let bytes = 0;
  try {
    const layer = await uploadLayer(
      async function* () {
        for (let at = 0; at < content.length; at += 33_333) yield content.subarray(at, at + 33_333);
      },
      {
        registry,
        target: parseReference(`${server.host}/ai/image:x`),
        chunkBytes: 2 * unitBytes,
        policy: { firstWaitMs: 1, longestWaitMs: 2, budgetMs: 2_000 },
        onRetry: () => undefined,
        onBytes: (count) => (bytes += count),
        signal: AbortSignal.timeout(20_000),
      },
    );
    return { digest: layer.digest, bytes };
  } finally {
    await registry.close();
  }
}
const patches = (): readonly number[] =>
  server.requests.filter(({ method }) => method === "PATCH").map((request) => request.body().length);

test("chunks are as large as was said, and all that was sent counts once", async () => {
  const registry = accept(() => undefined);
  expect(await upload()).toEqual({ digest, bytes: content.length });
  expect(digestOf(registry.taken())).toBe(digest);
  expect(registry.ended()).toBe(digest);
  expect(patches()).toEqual([2 * unitBytes, 2 * unitBytes, unitBytes + 77]);
});

test("a registry that wants larger chunks gets them", async () => {
  const registry = accept(({ method }) =>
    method === "POST"
      ? { headers: { "x-keeps": "Infinity", "oci-chunk-min-length": String(3 * unitBytes) } }
      : undefined,
  );
  expect(await upload()).toEqual({ digest, bytes: content.length });
  expect(digestOf(registry.taken())).toBe(digest);
  expect(patches()).toEqual([3 * unitBytes, 2 * unitBytes + 77]);
});

test("one that wants more than is held in memory is refused", async () => {
  accept(({ method }) =>
    method === "POST"
      ? { headers: { "x-keeps": "Infinity", "oci-chunk-min-length": "999999999" } }
      : undefined,
  );
  await expect(upload()).rejects.toMatchObject({
    code: "PolicyRefused",
    message: expect.stringContaining("takes no chunks of less than 999999999 bytes"),
  });
});

test("the rest of a chunk of which only a part was kept is sent again", async () => {
  let count = 0;
  const registry = accept(({ method }) =>
    method === "PATCH" && (count += 1) === 2 ? { headers: { "x-keeps": "1000" } } : undefined,
  );
  expect(await upload()).toEqual({ digest, bytes: content.length });
  expect(digestOf(registry.taken())).toBe(digest);
});

test.each([400, 405, 416])(
  "a registry that answers %i to the first chunk gets the blob in one request",
  async (status) => {
    const registry = accept(({ method, headers }) =>
      method === "PATCH" && headers["content-range"] !== undefined ? { status } : undefined,
    );
    expect(await upload()).toEqual({ digest, bytes: content.length });
    expect(digestOf(registry.taken())).toBe(digest);
    expect(patches().at(-1)).toBe(content.length);
  },
);

test("what was taken and not answered for is not sent twice", async () => {
  let count = 0;
  const registry = accept(({ method }) =>
    method === "PATCH" && (count += 1) === 2 ? { raw: "" } : undefined,
  );
  await upload();
  expect(patches()).toEqual([2 * unitBytes, 2 * unitBytes, unitBytes + 77]);
  expect(digestOf(registry.taken())).toBe(digest);
});

test.each([
  [413, "PolicyRefused", "make it smaller with --chunk-size"],
  [405, "PolicyRefused", "takes no pushes (405)"],
  [404, "ManifestNotFound", "has no repository ai/image that could be pushed to (404); create it first"],
  [403, "RegistryForbidden", "refuses the upload of a layer to these credentials (403)"],
])("%i is told as what it is", async (status, code, says) => {
  accept(({ method }) => (method === (status === 413 ? "PATCH" : "POST") ? { status } : undefined));
  await expect(upload()).rejects.toMatchObject({ code, message: expect.stringContaining(says) });
});

test("an upload that leads to an address that is not public is refused, and takes no credentials there", async () => {
  accept(({ method }) =>
    method === "POST" ? { status: 202, headers: { location: "http://169.254.169.254/upload" } } : undefined,
  );
  await expect(upload()).rejects.toMatchObject({ code: "PolicyRefused" });
});

test("a journal's line that a kill has cut is passed over, and anything else is refused", async () => {
  const file = join(directory, "journal");
  const line = JSON.stringify({
    v: 1,
    recipe: "sha256:x",
    digest,
    sizeBytes: 3,
    registry: "r.io",
    repository: "ai/x",
  });
  expect(await readJournal(join(directory, "none-yet"))).toEqual([]);
  for (const cut of ["", line.slice(0, 40), `${line.slice(0, 40)}${line}`]) {
    writeFileSync(file, `${line}\n${cut}`);
    expect(await readJournal(file)).toHaveLength(1);
  }
  writeFileSync(file, `${line}\nsomething else\n`);
  await expect(readJournal(file)).rejects.toMatchObject({
    code: "InvalidConfiguration",
    message: expect.stringContaining("line 2 is not of the form that repack writes"),
  });
});

test("more files than an image can have layers share some, the smallest of each role, and are whole there", async () => {
  const contents = new Map(
    Array.from({ length: 130 }, (_, index) => [`part-${index}`, noise(`${index}`, 50 + index)]),
  );
  const raw = json(
    manifestJson({
      layers: [...contents].map(([name, bytes], index) =>
        descriptor(`${weight}raw`, bytes, {
          annotations: {
            "org.cncf.model.filepath": index === 3 ? `deep/${name}.mmproj` : `${name}.safetensors`,
          },
        }),
      ),
    }),
  );
  const manifest = parseManifest(raw, digestOf(raw), undefined);
  if (manifest.kind !== "manifest") throw new Error("no manifest");
  const artifact = readArtifact(manifest, Buffer.from("{}"));
  const plan = planPull(manifest, artifact, { include: [], exclude: [] });
  const layers = planLayers(plan, artifact, { include: [], exclude: [] });
  expect(layers).toHaveLength(maxImageLayers);
  expect(
    layers.slice(0, 2).map(({ role, content }) => [role, content.kind === "files" && content.files.length]),
  ).toEqual([
    ["weights", 31],
    ["projector", 1],
  ]);
  const byDigest = new Map([...contents.values()].map((bytes) => [digestOf(bytes) as string, bytes]));
  const placed = new PlacedPaths();
  const found: string[] = [];
  for (const layer of layers) {
    const made = layerContent(layer, {
      read: async function* ({ digest: wanted }) {
        yield byDigest.get(wanted) ?? Buffer.alloc(0);
      },
      isWanted: () => true,
      placed,
      onArchivedFile: () => undefined,
    });
    for await (const entry of entriesOf(made, { encoding: "tar", root: "models" })) {
      if (entry.type !== "file") continue;
      const parts: Uint8Array[] = [];
      for await (const part of entry.content) parts.push(part);
      found.push(`${entry.path} ${digestOf(Buffer.concat(parts))}`);
    }
  }
  expect(found.toSorted()).toEqual(
    plan.files.map(({ path, descriptor: { digest: wanted } }) => `${path} ${wanted}`).toSorted(),
  );
});

test("the recipe of a layer is that of its bytes: path, content and what is left out of an archive", () => {
  const recipes = (path: string, bytes: string, exclude: readonly string[]): readonly string[] => {
    const raw = json(
      manifestJson({
        layers: [
          descriptor(`${weight}raw`, bytes, { annotations: { "org.cncf.model.filepath": path } }),
          descriptor("application/vnd.cncf.model.doc.v1.tar", "archive", { annotations: {} }),
        ],
      }),
    );
    const manifest = parseManifest(raw, digestOf(raw), undefined);
    if (manifest.kind !== "manifest") throw new Error("no manifest");
    const artifact = readArtifact(manifest, Buffer.from("{}"));
    const globs = { include: [], exclude };
    return planLayers(planPull(manifest, artifact, globs), artifact, globs).map(({ recipe }) => recipe);
  };
  const [file, archive] = recipes("a.safetensors", "bytes", []);
  expect(recipes("a.safetensors", "bytes", [])).toEqual([file, archive]);
  expect(recipes("b.safetensors", "bytes", [])[0]).not.toBe(file);
  expect(recipes("a.safetensors", "other", [])[0]).not.toBe(file);
  const [sameFile, otherArchive] = recipes("a.safetensors", "bytes", ["x"]);
  expect(sameFile).toBe(file);
  expect(otherArchive).not.toBe(archive);
});
