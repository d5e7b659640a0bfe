// puller repack from a real registry to a real registry: what the image is, that its bytes are the artifact's, what broken
// networks, kills and refusals lead to.

import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import type { RepackReport } from "../../../puller/repack/repack.ts";
import { runCommand, waitFor } from "../../cluster/run-command.ts";
import { describeUnless } from "../../cluster/suites.ts";
import { startFaultProxy, type FaultProxy } from "../../registry/fault-proxy.ts";
import { publishArtifact, type Published } from "../../registry/publish.ts";
import { publishDockerModel, publishModelPack } from "../../registry/publish-models.ts";
import { registryUnavailable, startRegistry, type TestRegistry } from "../../registry/registry.ts";
import { tinyModel } from "../../models/tiny-model.ts";
import { ggufBytes } from "../../models/gguf-writer.ts";
import { archive } from "../artifact/tar-builder.ts";
import { runInProcess, type InProcessRun } from "../run-in-process.ts";
import { runPuller } from "../run-puller.ts";
import { filesBelow, noise, sha256 } from "../store-assertions.ts";

type ImageManifest = {
  readonly config: { readonly digest: string; readonly mediaType: string };
  readonly layers: readonly {
    readonly digest: string;
    readonly size: number;
    readonly mediaType: string;
    readonly annotations: Readonly<Record<string, string>>;
  }[];
  readonly annotations: Readonly<Record<string, string>>;
};

const mebibyte = 2 ** 20;
const weights = ggufBytes(tinyModel());
const large = noise("repack", 5 * mebibyte + 12_345);
type Files = Readonly<Record<string, Buffer>>;
/** Compared by their digests: an assertion over megabytes takes a minute. */
function digests(all: Files, prefix = ""): Readonly<Record<string, string>> {
  return Object.fromEntries(Object.entries(all).map(([path, bytes]) => [prefix + path, sha256(bytes)]));
}
const files: Files = {
  "model.gguf": Buffer.from(weights),
  "nested/mmproj-model.gguf": noise("projector", 70_000),
  "nested/empty.json": Buffer.alloc(0),
  "extra.bin": large,
};

describeUnless(registryUnavailable(), "repack", () => {
  let directory = "";
  let source: TestRegistry;
  let target: TestRegistry;
  let proxy: FaultProxy;
  let published: Published;
  let count = 0;
  let tag = "";
  beforeAll(async () => {
    directory = mkdtempSync(join(tmpdir(), "ocimodel-repack-"));
    [source, target] = await Promise.all([
      startRegistry({ authentication: "htpasswd" }),
      startRegistry({ authentication: "token" }),
    ]);
    proxy = await startFaultProxy({ target: target.url });
    writeFileSync(join(directory, "source.json"), source.dockerConfig());
    writeFileSync(join(directory, "target.json"), target.dockerConfig());
    writeFileSync(join(directory, "proxy.json"), target.dockerConfig({ host: proxy.host }));
    published = await publishDockerModel(source, {
      repository: "ai/model",
      tag: "v1",
      version: "v0.2",
      format: "gguf",
      quantization: "F16",
      files: Object.entries(files).map(([name, content]) => ({ name, content })),
    });
  });
  afterAll(async () => {
    await proxy?.stop();
    await Promise.all([source?.stop(), target?.stop()]);
    rmSync(directory, { recursive: true, force: true });
  });
  beforeEach(() => {
    tag = `t${(count += 1)}`;
    proxy.setFaults([]);
  });
  afterEach(() => {
    expect(proxy.unmet()).toEqual([]);
  });

  const line = (host: string, more: readonly string[] = []): readonly string[] => [
    "repack",
    `--reference=${published.reference}`,
    `--to=${host}/images/model:${tag}`,
    ...[source.host, target.host, proxy.host].map((each) => `--plain-http=${each}`),
    `--trusted-host=${new URL(target.tokenServer?.url ?? "http://none").host}`,
    ...["source", "target", "proxy"].map((name) => `--docker-config=${join(directory, `${name}.json`)}`),
    "--chunk-size=1Mi",
    "--retry-budget=20",
    "--stall-timeout=20",
    ...more,
  ];
  /** Flags that the other commands have too. */
  const common = (): readonly string[] =>
    line(target.host).filter((flag) => /^--(?:plain|trusted|docker)/.test(flag));
  const repack = async (more: readonly string[] = [], host = target.host): Promise<InProcessRun> =>
    runInProcess(line(host, more));
  const report = ({ stdout }: Pick<InProcessRun, "stdout">): RepackReport =>
    JSON.parse(stdout) as RepackReport;

  let token = "";
  const get = async (path: string, repository = "images/model"): Promise<Buffer> => {
    if (token === "") {
      const basic = Buffer.from(`${target.username ?? ""}:${target.password ?? ""}`).toString("base64");
      const url = `${target.tokenServer?.url ?? ""}/token?service=test-registry&scope=repository:${repository}:pull`;
      const answer = await fetch(url, { headers: { authorization: `Basic ${basic}` } });
      token = ((await answer.json()) as { token: string }).token;
    }
    const answer = await fetch(`${target.url}/v2/${repository}/${path}`, {
      headers: {
        authorization: `Bearer ${token}`,
        accept: "application/vnd.oci.image.manifest.v1+json",
      },
    });
    expect(answer.status).toBe(200);
    return Buffer.from(await answer.arrayBuffer());
  };
  const manifestOf = async (name = tag): Promise<ImageManifest> =>
    JSON.parse((await get(`manifests/${name}`)).toString()) as ImageManifest;
  /** Unpacks the layers one over the other, as a container runtime does, with the system's own tar. */
  const unpacked = async (manifest: ImageManifest): Promise<Files> => {
    const root = mkdtempSync(join(directory, "root-"));
    for (const { digest, size } of manifest.layers) {
      const bytes = await get(`blobs/${digest}`);
      expect(bytes.length).toBe(size);
      expect(`sha256:${sha256(bytes)}`).toBe(digest);
      const file = join(root, "..", "layer.tar");
      writeFileSync(file, bytes);
      await runCommand("tar", ["-xf", file, "-C", root, "--no-same-permissions", "--mode=u+w"]);
    }
    return Object.fromEntries(filesBelow(root).map((path) => [path, readFileSync(join(root, path))]));
  };
  const expectWhole = async (name = tag, expected = files): Promise<void> => {
    expect(digests(await unpacked(await manifestOf(name)))).toEqual(digests(expected, "models/"));
  };
  const expectNothing = async (): Promise<void> => {
    expect(
      target.requests().filter(({ method, path }) => method === "PUT" && path.endsWith(`/manifests/${tag}`)),
    ).toEqual([]);
  };

  test("makes an image with a layer for each file, byte for byte, that says where it is from", async () => {
    const run = await repack();
    expect(run).toMatchObject({ exitCode: 0, termination: { command: "repack", code: "Ready" } });
    const manifest = await manifestOf();
    expect(manifest.config.mediaType).toBe("application/vnd.oci.image.config.v1+json");
    expect(manifest.annotations).toEqual({
      "dev.ocimodel.model.format": "gguf",
      "dev.ocimodel.model.quantization": "F16",
      "dev.ocimodel.source.digest": published.digest,
    });
    expect(
      manifest.layers.map(({ mediaType, annotations }) => [
        mediaType,
        annotations["org.cncf.model.filepath"],
        annotations["dev.ocimodel.layer.role"],
        annotations["dev.ocimodel.layer.source"],
      ]),
    ).toEqual(
      Object.keys(files).map((path, index) => [
        "application/vnd.oci.image.layer.v1.tar",
        path,
        path === "model.gguf"
          ? "weights"
          : path.includes("mmproj")
            ? "projector"
            : path.endsWith("json")
              ? "config"
              : "other",
        published.layerDigests[index],
      ]),
    );
    expect(JSON.parse((await get(`blobs/${manifest.config.digest}`)).toString())).toEqual({
      architecture: "amd64",
      os: "linux",
      config: {},
      created: "1970-01-01T00:00:00Z",
      rootfs: { type: "layers", diff_ids: manifest.layers.map(({ digest }) => digest) },
    });
    await expectWhole();
    expect(report(run)).toMatchObject({ source: published.digest, layers: 4, reusedBytes: 0 });
    for (const secret of [source.password, target.password, source.username, target.username])
      expect(run.said).not.toContain(secret);

    // The puller reads and pulls it like the artifact.
    const reference = report(run).reference;
    const inspected = async (each: string): Promise<unknown> =>
      (
        JSON.parse(
          (
            await runInProcess([
              "inspect",
              `--reference=${each}`,
              "--output=json",
              "--requirements",
              ...common(),
            ])
          ).stdout,
        ) as unknown[]
      )[0];
    const { facts, format, quantization, entry, parameters } = (await inspected(
      published.reference,
    )) as Record<string, unknown>;
    expect(await inspected(reference)).toMatchObject({
      packaging: "image",
      digest: report(run).digest,
      facts,
      format,
      quantization,
      entry,
      parameters,
    });
    const store = join(directory, "store");
    mkdirSync(store);
    const pulled = await runInProcess(["pull", `--reference=${reference}`, `--store=${store}`, ...common()]);
    expect(pulled.exitCode).toBe(0);
    const model = (JSON.parse(pulled.stdout) as { directory: string }).directory;
    const pulledFiles = Object.fromEntries(
      filesBelow(model).map((path) => [path, readFileSync(join(model, path))]),
    );
    expect(digests(pulledFiles)).toEqual(digests(files));
  });

  test("of an image that is one already is refused", async () => {
    const first = report(await repack());
    const run = await runInProcess([
      ...line(target.host).filter((flag) => !flag.startsWith("--reference")),
      `--reference=${first.reference}`,
    ]);
    expect(run.termination).toMatchObject({
      code: "UnsupportedArtifact",
      message: expect.stringContaining("is an image that was repacked already"),
    });
  });

  test("what is under the tag already, or noted in a journal, is not uploaded again; of another repository it is mounted", async () => {
    const journal = join(directory, "journal");
    const first = report(await repack([`--journal=${journal}`]));
    expect(first.uploadedBytes).toBe(first.totalBytes);
    const uploads = (): number => target.requests().filter(({ method }) => method === "PATCH").length;
    await waitFor("the log to have the uploads", () => (uploads() >= 9 ? true : undefined), {
      timeoutMs: 10_000,
    });
    const before = uploads();
    expect(report(await repack())).toEqual({ ...first, uploadedBytes: 0, reusedBytes: first.totalBytes });
    // Another platform is another config of the same layers.
    const moved = report(await repack(["--platform=linux/arm64/v8"]));
    expect(moved).toMatchObject({ uploadedBytes: 0 });
    expect(moved.digest).not.toBe(first.digest);
    tag = `${tag}-other`;
    const other = line(target.host, [`--journal=${journal}`]).map((flag) =>
      flag.replace("/images/model:", "/images/other:"),
    );
    const mounted = await runInProcess(other);
    expect(report(mounted)).toMatchObject({
      digest: first.digest,
      uploadedBytes: 0,
      reusedBytes: first.totalBytes,
    });
    expect(uploads()).toBe(before);
  });

  test("a run that was killed is gone on with by its journal", async () => {
    const journal = join(directory, "journal-killed");
    // The large layer hangs; the small ones are noted meanwhile.
    proxy.setFaults([{ when: { method: "PATCH", path: /./, skip: 3, times: 20 }, do: { kind: "stall" } }]);
    const noted = (): number => {
      try {
        return readFileSync(journal, "utf8").split("\n").length - 1;
      } catch {
        return 0;
      }
    };
    const killed = await runPuller(line(proxy.host, [`--journal=${journal}`]), {
      onStart: (child) => {
        void waitFor("layers to be noted", () => (noted() >= 1 ? true : undefined), { timeoutMs: 30_000 })
          .catch(() => undefined)
          .then(() => child.kill("SIGKILL"));
      },
    });
    expect(killed.exitCode).toBe(137);
    await expectNothing();
    proxy.setFaults([]);
    const known = noted();
    const run = await repack([`--journal=${journal}`], proxy.host);
    expect(run.exitCode).toBe(0);
    expect(known).toBeGreaterThan(0);
    expect(report(run).reusedBytes).toBeGreaterThan(0);
    expect(report(run).uploadedBytes).toBeLessThan(report(run).totalBytes);
    await expectWhole();
  });

  test("is the same image whatever breaks on the way to the target", async () => {
    const { digest } = report(await repack());
    for (const fault of [
      { when: { method: "PATCH", path: /./, skip: 2 }, do: { kind: "cut", afterBytes: 0 } },
      { when: { method: "PATCH", path: /./, skip: 3 }, do: { kind: "refuse", reset: true } },
      { when: { method: "PATCH", path: /./, skip: 1, times: 2 }, do: { kind: "status", status: 503 } },
      { when: { method: "PATCH", path: /./, skip: 2 }, do: { kind: "status", status: 404 } },
      { when: { method: "POST", path: /uploads/, times: 2 }, do: { kind: "status", status: 500 } },
      { when: { method: "PUT", path: /uploads/ }, do: { kind: "cut", afterBytes: 0 } },
      { when: { method: "PUT", path: /uploads/, skip: 1 }, do: { kind: "status", status: 502 } },
      { when: { method: "PUT", path: /manifests/ }, do: { kind: "status", status: 429 } },
      { when: { method: "HEAD", path: /blobs/ }, do: { kind: "refuse" } },
    ] as const) {
      tag = `fault-${(count += 1)}`;
      proxy.setFaults([fault]);
      const run = await repack([], proxy.host);
      expect({ fault, message: run.termination.message, exitCode: run.exitCode }).toMatchObject({
        exitCode: 0,
      });
      expect(report(run).digest).toBe(digest);
      expect(proxy.unmet()).toEqual([]);
    }
  });

  test("goes on where the source breaks off, and keeps nothing of wrong bytes", async () => {
    const front = await startFaultProxy({ target: source.url });
    writeFileSync(join(directory, "front.json"), source.dockerConfig({ host: front.host }));
    const from = async (): Promise<InProcessRun> =>
      runInProcess([
        ...line(target.host).filter((flag) => !flag.startsWith("--reference")),
        `--reference=${published.reference.replace(source.host, front.host)}`,
        `--plain-http=${front.host}`,
        `--docker-config=${join(directory, "front.json")}`,
      ]);
    try {
      const blob = new RegExp(`/blobs/${published.layerDigests[3] ?? ""}`);
      front.setFaults([
        { when: { path: blob }, do: { kind: "cut", afterBytes: 3 * mebibyte } },
        { when: { path: blob, skip: 0 }, do: { kind: "ignore-range" } },
      ]);
      const run = await from();
      expect(run.exitCode).toBe(0);
      expect(front.unmet()).toEqual([]);
      await expectWhole();
      tag = `wrong-${tag}`;
      const blobsBefore = target
        .requests()
        .filter(({ method, status }) => method === "PUT" && status === 201).length;
      front.setFaults([{ when: { path: blob, times: 2 }, do: { kind: "corrupt", atByte: 4 * mebibyte } }]);
      const wrong = await from();
      expect(wrong).toMatchObject({
        exitCode: 65,
        termination: { code: "DigestMismatch", retryable: false },
      });
      expect(wrong.termination.message).toContain(published.layerDigests[3] ?? "none");
      expect(front.unmet()).toEqual([]);
      await expectNothing();
      // The small layers may be there; the one with wrong bytes was never ended.
      const puts = target
        .requests()
        .filter(({ method, status }) => method === "PUT" && status === 201).length;
      expect(puts - blobsBefore).toBeLessThanOrEqual(3);
    } finally {
      await front.stop();
    }
  });

  test("archives become layers of their own, with links behind the files and without what is excluded", async () => {
    const pack = await publishArtifact(source, {
      repository: "ai/archives",
      tag: "v1",
      artifactType: "application/vnd.cncf.model.manifest.v1+json",
      config: { mediaType: "application/vnd.cncf.model.config.v1+json", content: Buffer.from("{}") },
      layers: [
        {
          mediaType: "application/vnd.cncf.model.weight.v1.raw",
          content: noise("shard", 9000),
          annotations: { "org.cncf.model.filepath": "model.safetensors" },
        },
        {
          mediaType: "application/vnd.cncf.model.weight.config.v1.tar",
          content: archive([
            ["config/a.json", "{}"],
            ["config/b.txt", "b"],
          ]),
          annotations: { "org.cncf.model.filepath": "config" },
        },
        {
          // A lone file whose folder only the annotation names.
          mediaType: "application/vnd.cncf.model.doc.v1.tar",
          content: archive([["README.md", "read me"]]),
          annotations: { "org.cncf.model.filepath": "docs/README.md" },
        },
      ],
    });
    const run = await runInProcess([
      ...line(target.host, ["--exclude=**/b.txt"]).filter((flag) => !flag.startsWith("--reference")),
      `--reference=${pack.reference}`,
    ]);
    expect(run).toMatchObject({ exitCode: 0 });
    await expectWhole(tag, {
      "model.safetensors": noise("shard", 9000),
      "config/a.json": Buffer.from("{}"),
      "docs/README.md": Buffer.from("read me"),
    });
  });

  test("is refused precisely", async () => {
    const rows: readonly [more: readonly string[], exitCode: number, code: string, says: string][] = [
      [["--platform=linux"], 64, "InvalidUsage", '--platform "linux" is not OS/ARCH'],
      [["--chunk-size=1k"], 64, "InvalidUsage", '--chunk-size "1k" is no number of bytes from 1Mi to 256Mi'],
      [
        ["--journal=/none/journal"],
        78,
        "InvalidConfiguration",
        "journal /none/journal cannot be read and written",
      ],
    ];
    for (const [more, exitCode, code, says] of rows) {
      const base = line(target.host).filter(
        (flag) => !more.some((each) => each.split("=")[0] === flag.split("=")[0]),
      );
      const run = await runInProcess([...base, ...more]);
      expect(run).toMatchObject({ exitCode, termination: { code, message: expect.stringContaining(says) } });
    }
    const foreign = join(directory, "foreign");
    writeFileSync(foreign, "a letter\n");
    expect((await repack([`--journal=${foreign}`])).termination).toMatchObject({
      code: "InvalidConfiguration",
      message: expect.stringContaining("is none: line 1 is not of the form that repack writes"),
    });
    const noRights = await runInProcess(line(target.host).filter((flag) => !flag.includes("target.json")));
    expect(noRights.termination).toMatchObject({ code: "RegistryUnauthorized" });
    const digestTarget = await runInProcess([
      ...line(target.host).filter((flag) => !flag.startsWith("--to")),
      `--to=${target.host}/images/model@${published.digest}`,
    ]);
    expect(digestTarget.termination).toMatchObject({
      code: "InvalidUsage",
      message: expect.stringContaining("has a digest, which only the finished image has; name a tag"),
    });
    const whiteout = await publishModelPack(source, {
      repository: "ai/whiteout",
      tag: "v1",
      files: [
        { name: "model.safetensors", content: noise("w", 100) },
        { name: "x/.wh.model", content: noise("x", 10) },
      ],
    });
    const deleting = await runInProcess([
      ...line(target.host).filter((flag) => !flag.startsWith("--reference")),
      `--reference=${whiteout.reference}`,
    ]);
    expect(deleting.termination).toMatchObject({
      code: "UnsupportedArtifact",
      message: expect.stringContaining('"x/.wh.model" cannot be in an image'),
    });
    await expectNothing();
  });
});
