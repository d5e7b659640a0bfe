// Archives of artifacts on a volume, pulled from a real registry by the puller's own process: layouts, and layers that work
// together to get out.

import { existsSync, lstatSync, mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync, zstdCompressSync } from "node:zlib";

import { afterAll, beforeAll, expect, test } from "vitest";

import { describeUnless } from "../../cluster/suites.ts";
import { publishArtifact, type Layer } from "../../registry/publish.ts";
import { registryUnavailable, startRegistry, type TestRegistry } from "../../registry/registry.ts";
import { runPuller, type PullerRun } from "../run-puller.ts";
import { filesBelow } from "../store-assertions.ts";
import { dockerV01, filepath, modelPackConfig } from "./manifest-builder.ts";
import { archive, header } from "./tar-builder.ts";

const pack = "application/vnd.cncf.model.";
const docker = "application/vnd.docker.ai.";

describeUnless(registryUnavailable(), "archives pulled from a real registry", () => {
  let directory = "";
  let registry: TestRegistry | undefined;
  let count = 0;

  beforeAll(async () => {
    directory = mkdtempSync(join(tmpdir(), "ocimodel-archives-"));
    registry = await startRegistry();
  });
  afterAll(async () => {
    await registry?.stop();
    rmSync(directory, { recursive: true, force: true });
  });

  const layer = (mediaType: string, content: Uint8Array | string, path?: string): Layer => ({
    mediaType,
    content: Buffer.from(content as string),
    ...(path === undefined ? {} : { annotations: { [filepath]: path } }),
  });

  async function pull(
    layers: readonly Layer[],
    options: { readonly configType?: string; readonly args?: readonly string[] } = {},
  ): Promise<{
    readonly run: PullerRun;
    readonly store: string;
    readonly model: string;
    readonly again: () => Promise<PullerRun>;
  }> {
    if (registry === undefined) throw new Error("the registry did not start");
    count += 1;
    const published = await publishArtifact(registry, {
      repository: "ai/archives",
      tag: `t${count}`,
      config: { mediaType: options.configType ?? modelPackConfig, content: "{}" },
      layers,
    });
    const store = join(directory, `store-${count}`);
    const args = [
      "pull",
      `--reference=${published.reference}`,
      `--store=${store}`,
      `--plain-http=${registry.host}`,
    ];
    const again = async (): Promise<PullerRun> => await runPuller([...args, ...(options.args ?? [])]);
    const run = await again();
    const models = existsSync(join(store, "models")) ? readdirSync(join(store, "models")) : [];
    return { run, store, model: join(store, "models", models[0] ?? "none"), again };
  }

  test("a ModelPack of plain, gzip and zstd archives, with a link and a file whose directory was lost", async () => {
    const { run, model, again } = await pull([
      layer(`${pack}weight.v1.tar`, archive([["model.safetensors", "weights"]]), "unet/model.safetensors"),
      layer(
        `${pack}weight.v1.tar`,
        archive([["model.safetensors", "other weights"]]),
        "vae/model.safetensors",
      ),
      layer(
        `${pack}weight.config.v1.tar+gzip`,
        gzipSync(
          archive(
            [
              ["config.json", "{}"],
              ["a/b.json", "{}"],
            ],
            header({ name: "a/", type: "5" }),
          ),
        ),
        "config",
      ),
      layer(
        `${pack}doc.v1.tar+zstd`,
        zstdCompressSync(
          archive(
            [["docs/README.md", "hello"]],
            header({ name: "docs/latest", type: "2", link: "README.md" }),
          ),
        ),
      ),
    ]);
    expect(run).toMatchObject({ exitCode: 0, termination: { code: "Ready" } });
    expect(filesBelow(model)).toEqual([
      "a/b.json",
      "config.json",
      "docs/README.md",
      "docs/latest",
      "unet/model.safetensors",
      "vae/model.safetensors",
    ]);
    expect(readlinkSync(join(model, "docs/latest"))).toBe("README.md");
    expect(readFileSync(join(model, "docs/latest"), "utf8")).toBe("hello");
    expect(readFileSync(join(model, "unet/model.safetensors"), "utf8")).toBe("weights");
    expect(lstatSync(join(model, "unet/model.safetensors")).mode & 0o7777).toBe(0o444);
    expect((await again()).termination).toMatchObject({
      code: "Ready",
      message: expect.stringContaining("was complete already") as string,
    });
  });

  test("a Docker v0.1 model with its configuration archive and directories", async () => {
    const { run, model } = await pull(
      [
        layer(`${docker}safetensors`, "weights"),
        layer(
          `${docker}vllm.config.tar`,
          archive([
            ["config.json", "{}"],
            ["tokenizer.json", "{}"],
          ]),
        ),
        layer(`${docker}dir.tar`, archive([["extra/one", "1"]], header({ name: "extra/", type: "5" }))),
        layer(`${docker}dir.tar`, archive([["more/two", "2"]])),
        layer(`${docker}license`, "LICENSE"),
      ],
      { configType: dockerV01 },
    );
    expect(run).toMatchObject({ exitCode: 0 });
    expect(filesBelow(model)).toEqual([
      "config.json",
      "extra/one",
      "model.safetensors",
      "more/two",
      "tokenizer.json",
    ]);
  });

  test("globs choose inside archives; what they hide still counts for where a lone file belongs", async () => {
    const layers = [
      layer(
        `${pack}weight.v1.tar`,
        archive([
          ["m.gguf", "weights"],
          ["notes.txt", "x"],
        ]),
        "deep/m.gguf",
      ),
    ];
    const { run, model } = await pull(layers, { args: ["--include=m.gguf"] });
    expect(run).toMatchObject({ exitCode: 0 });
    expect(filesBelow(model)).toEqual(["m.gguf"]);
    const lone = await pull(
      [layer(`${pack}weight.v1.tar`, archive([["m.gguf", "weights"]]), "deep/m.gguf")],
      {
        args: ["--include=deep/**"],
      },
    );
    expect(filesBelow(lone.model)).toEqual(["deep/m.gguf"]);
  });

  test.each<[string, readonly Layer[], string]>([
    [
      "a link through another layer's link, and a file through both",
      [
        layer(`${pack}weight.v1.raw`, "weights", "m.gguf"),
        layer(
          `${pack}code.v1.tar`,
          archive([["d/x", "x"]], header({ name: "p/q/r/s", type: "2", link: "../../../d" })),
        ),
        layer(
          `${pack}code.v1.tar`,
          archive([], header({ name: "p/q/r/s/l", type: "2", link: "../../../../escape" })),
        ),
        layer(`${pack}code.v1.tar`, archive([["d/l/pwned", "pwned"]])),
      ],
      'path "p/q/r/s" is to be a file and a directory at once; the artifact must be packaged again',
    ],
    [
      "a file below another layer's link",
      [
        layer(`${pack}weight.v1.raw`, "weights", "m.gguf"),
        layer(`${pack}code.v1.tar`, archive([["d/x", "x"]], header({ name: "l", type: "2", link: "d" }))),
        layer(`${pack}code.v1.tar`, archive([["l/y", "y"]])),
      ],
      'path "l" is to be a file and a directory at once; the artifact must be packaged again',
    ],
    [
      "a file in place of another layer's",
      [
        layer(`${pack}weight.v1.raw`, "weights", "m.gguf"),
        layer(`${pack}code.v1.tar`, archive([["m.gguf", "other"]])),
      ],
      'two files of unknown or different content are to be placed at "m.gguf"; the artifact must be packaged again',
    ],
    [
      "a directory in place of another layer's file",
      [
        layer(`${pack}weight.v1.raw`, "weights", "m.gguf"),
        layer(`${pack}code.v1.tar`, archive([], header({ name: "m.gguf/", type: "5" }))),
      ],
      'path "m.gguf" is to be a file and a directory at once; the artifact must be packaged again',
    ],
    [
      "a name that differs from another layer's in case only",
      [
        layer(`${pack}weight.v1.raw`, "weights", "m.gguf"),
        layer(`${pack}code.v1.tar`, archive([["M.GGUF", "other"]])),
      ],
      'file paths "m.gguf" and "M.GGUF" differ only in case or Unicode form; the artifact must be packaged again',
    ],
    [
      "a lone file on the place of another layer's",
      [
        layer(`${pack}weight.v1.raw`, "weights", "deep/m.gguf"),
        layer(`${pack}weight.v1.tar`, archive([["m.gguf", "other"]]), "deep/m.gguf"),
      ],
      'two files of unknown or different content are to be placed at "deep/m.gguf"; the artifact must be packaged again',
    ],
    [
      "an archive that does not hold the file it is named after",
      [
        layer(
          `${pack}weight.v1.tar`,
          archive([
            ["m.gguf", "weights"],
            ["x", "x"],
          ]),
          "deep/m.gguf",
        ),
      ],
      'the archives of the artifact do not hold its entry file "deep/m.gguf"; package it with one file per layer',
    ],
    [
      "an archive that leaves",
      [
        layer(`${pack}weight.v1.raw`, "weights", "m.gguf"),
        layer(`${pack}code.v1.tar+gzip`, gzipSync(archive([["../../x", "x"]]))),
      ],
      'file path "../../x" leaves the model directory; the artifact must be packaged again',
    ],
  ])("refuses %s, and leaves nothing", async (_, layers, message) => {
    const { run, store } = await pull(layers);
    expect(run).toMatchObject({ exitCode: 65, termination: { code: "InvalidArtifact", message } });
    expect(filesBelow(join(store, "models"))).toEqual([]);
    expect(filesBelow(directory).filter((path) => /pwned|escape/u.test(path))).toEqual([]);
  });
});
