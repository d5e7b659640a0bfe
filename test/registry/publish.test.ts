// Publishing on a real registry: what was pushed is what the registry serves, byte by byte, for every packaging.

import { createHash } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { request } from "undici";
import { afterAll, beforeAll, expect, test } from "vitest";
import { describeUnless } from "../cluster/suites.ts";
import {
  publishArtifact,
  publishDockerModel,
  publishIndex,
  publishLayout,
  publishModelPack,
  publishRaw,
} from "./publish.ts";
import { registryUnavailable, startRegistry, type TestRegistry } from "./registry.ts";

const layout = fileURLToPath(new URL("../fixtures/layout", import.meta.url));
const manifestType = "application/vnd.oci.image.manifest.v1+json";
const indexType = "application/vnd.oci.image.index.v1+json";

type Manifest = {
  readonly artifactType?: string;
  readonly config: { readonly digest: string; readonly mediaType: string };
  readonly layers: readonly {
    readonly digest: string;
    readonly size: number;
    readonly mediaType: string;
    readonly annotations?: Readonly<Record<string, string>>;
  }[];
};

function sha256(bytes: Uint8Array): string {
  return `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
}

describeUnless(registryUnavailable(), "publishing", () => {
  let registry: TestRegistry;
  const directory = mkdtempSync(join(tmpdir(), "ocimodel-publish-"));
  beforeAll(async () => {
    registry = await startRegistry();
  });
  afterAll(async () => {
    await registry.stop();
    rmSync(directory, { recursive: true, force: true });
  });

  const read = async (path: string, accept = manifestType): Promise<Buffer> => {
    const answer = await request(`${registry.url}/v2/${path}`, { headers: { accept } });
    const bytes = Buffer.from(await answer.body.arrayBuffer());
    expect(answer.statusCode, path).toBe(200);
    return bytes;
  };
  const readJson = async <T>(path: string): Promise<T> =>
    JSON.parse((await read(path)).toString("utf8")) as T;

  test.each(["tiny-docker", "tiny-cncf", "tinyst-docker"])(
    "the layout's %s makes the round trip unchanged",
    async (tag) => {
      const published = await publishLayout(registry, layout, tag, `layout/${tag}`);
      const served = await read(`layout/${tag}/manifests/${tag}`);
      expect(sha256(served)).toBe(published.digest);
      expect(served.equals(published.manifest)).toBe(true);
      const manifest = JSON.parse(served.toString("utf8")) as Manifest;
      expect(manifest.layers.length).toBeGreaterThan(0);
      for (const { digest } of [manifest.config, ...manifest.layers]) {
        const bytes = await read(`layout/${tag}/blobs/${digest}`);
        expect(bytes.equals(readFileSync(join(layout, "blobs", digest.replace(":", "/"))))).toBe(true);
      }
    },
  );

  test("a tag that the layout lacks is refused by name", async () => {
    await expect(publishLayout(registry, layout, "absent", "layout/absent")).rejects.toThrow(/absent/);
  });

  test("an artifact from a file keeps type, annotations and bytes", async () => {
    const file = join(directory, "layer");
    const content = Buffer.alloc(300_000, "0123456789abcdef");
    writeFileSync(file, content);
    const published = await publishArtifact(registry, {
      repository: "artifact/file",
      tag: "v1",
      artifactType: "application/vnd.example.thing",
      config: { mediaType: "application/vnd.oci.empty.v1+json", content: "{}" },
      layers: [{ mediaType: "application/octet-stream", content: { file }, annotations: { a: "b" } }],
    });
    const manifest = await readJson<Manifest>(`artifact/file/manifests/${published.digest}`);
    expect(manifest.artifactType).toBe("application/vnd.example.thing");
    expect(manifest.layers).toEqual([
      {
        mediaType: "application/octet-stream",
        digest: sha256(content),
        size: content.length,
        annotations: { a: "b" },
      },
    ]);
    expect(published.layerDigests).toEqual([sha256(content)]);
    expect(published.reference).toBe(`${registry.host}/artifact/file:v1`);
    expect((await read(`artifact/file/blobs/${sha256(content)}`)).equals(content)).toBe(true);
  });

  test.each(["v0.1", "v0.2"] as const)(
    "a Docker model %s: config, diff ids and file names",
    async (version) => {
      const content = Buffer.from(`weights of ${version}`);
      const published = await publishDockerModel(registry, {
        repository: `docker/${version}`,
        tag: "q4",
        version,
        quantization: "MOSTLY_Q4_0",
        parameters: "1.10B",
        architecture: "llama",
        files: [{ name: "nested/model.gguf", content }],
      });
      const manifest = await readJson<Manifest>(`docker/${version}/manifests/q4`);
      expect(manifest.config.mediaType).toBe(`application/vnd.docker.ai.model.config.${version}+json`);
      expect(manifest.layers[0]?.mediaType).toBe("application/vnd.docker.ai.gguf.v3");
      expect(manifest.layers[0]?.annotations?.["org.cncf.model.filepath"]).toBe("nested/model.gguf");
      expect(await readJson(`docker/${version}/blobs/${manifest.config.digest}`)).toMatchObject({
        config: { format: "gguf", quantization: "MOSTLY_Q4_0", parameters: "1.10B", architecture: "llama" },
        rootfs: { type: "rootfs", diff_ids: published.layerDigests },
      });
    },
  );

  test("a ModelPack artifact: artifact type, diffIds and raw layers", async () => {
    const published = await publishModelPack(registry, {
      repository: "modelpack",
      tag: "v1",
      files: [
        { name: "model.safetensors", content: Buffer.from("weights") },
        { name: "config.json", content: Buffer.from("{}") },
      ],
    });
    const manifest = await readJson<Manifest>("modelpack/manifests/v1");
    expect(manifest.artifactType).toBe("application/vnd.cncf.model.manifest.v1+json");
    expect(manifest.layers.map(({ mediaType }) => mediaType)).toEqual([
      "application/vnd.cncf.model.weight.v1.raw",
      "application/vnd.cncf.model.weight.config.v1.raw",
    ]);
    expect(await readJson(`modelpack/blobs/${manifest.config.digest}`)).toMatchObject({
      modelfs: { type: "layers", diffIds: published.layerDigests },
    });
  });

  test("an index over two artifacts, and raw bytes as they are", async () => {
    const children = await Promise.all(
      ["a", "b"].map((tag) =>
        publishDockerModel(registry, {
          repository: "index",
          tag,
          files: [{ name: "model.gguf", content: Buffer.from(tag) }],
        }),
      ),
    );
    const digest = await publishIndex(
      registry,
      "index",
      "all",
      children.map((child) => ({ digest: child.digest, size: child.manifest.length })),
    );
    const served = await read("index/manifests/all", indexType);
    expect(sha256(served)).toBe(digest);
    const { manifests } = JSON.parse(served.toString("utf8")) as { manifests: { digest: string }[] };
    expect(manifests.map((each) => each.digest)).toEqual(children.map((child) => child.digest));

    // The registry keeps spacing and key order: raw means raw.
    const odd = Buffer.from(` ${Buffer.from(children[0]?.manifest ?? []).toString("utf8")}\n`);
    expect(await publishRaw(registry, "index", "odd", manifestType, odd)).toBe(sha256(odd));
    expect((await read("index/manifests/odd")).equals(odd)).toBe(true);
  });
});
