// What V8 compiled of the bundle, kept beside it: by pulls of a small model, so that also the code is in it that runs only then.

import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { pathToFileURL } from "node:url";
import { zstdCompressSync } from "node:zlib";
import { makeArtifact } from "../bench/artifact.ts";
import { ContentStore } from "../bench/content.ts";
import { startOrigin } from "../bench/servers/origin.ts";
import { runCommand } from "../cluster/run-command.ts";
import { archive } from "../puller/artifact/tar-builder.ts";
import { imageStart, type ImageStart } from "./image-start.ts";

const projectRoot = path.resolve(import.meta.dirname, "../..");
const nodeBinary = path.join(projectRoot, "node_modules/node/bin/node");

/** Options of the image's start, without program and file. */
export function startOptions(): { readonly options: readonly string[]; readonly env: ImageStart["env"] } {
  const { entrypoint, env } = imageStart(
    readFileSync(path.join(projectRoot, "Dockerfile"), "utf8"),
    "puller",
  );
  return { options: entrypoint.slice(1, -1), env };
}

/**
 * A blob over several lanes with a thread that hashes, one over one lane, and an archive, so that every thread runs. The first run of a file is
 * what is kept of it.
 */
const tuning = "largeBlobBytes=1048576 journaledBlobBytes=1048576 pieceBytes=262144 processors=2";

/**
 * Runs the bundle in `directory` once, from a registry on loopback, with the options of the Dockerfile: V8 takes nothing that was
 * compiled under other ones. Then loads what other commands consist of; `programs` are files that run when they are loaded.
 */
export async function fillCompileCache(directory: string, programs: readonly string[]): Promise<void> {
  const { options, env } = startOptions();
  const scratch = mkdtempSync(path.join(tmpdir(), "ocimodel-compile-cache-"));
  const contents = new ContentStore(path.join(scratch, "contents"));
  const artifact = makeArtifact(contents, "bundle/model", [
    await contents.random("model.safetensors", 2 * 1024 * 1024),
    await contents.random("tokenizer.json", 64 * 1024),
    {
      ...contents.bytes("config.tar.zst", zstdCompressSync(archive([["config.json", "{}"]]))),
      mediaType: "application/vnd.cncf.model.weight.config.v1.tar+zstd",
    },
  ]);
  const origin = await startOrigin({ artifacts: [artifact] });
  const run = async (...args: readonly string[]): Promise<unknown> =>
    runCommand(nodeBinary, [...options, ...args], {
      cwd: directory,
      env: {
        ...env,
        PATH: process.env["PATH"] ?? "",
        OCIMODEL_TEST_TUNING: tuning,
        NODE_COMPILE_CACHE: path.join(directory, "compile-cache"),
      },
    });
  try {
    await run(
      path.join(directory, "main.js"),
      "pull",
      `--reference=${origin.host}/${artifact.repository}:${artifact.tag}`,
      `--store=${path.join(scratch, "store")}`,
      `--plain-http=${origin.host}`,
    );
    const parts = readdirSync(directory).filter((name) => name.endsWith(".js") && !programs.includes(name));
    const urls = parts.map((name) => pathToFileURL(path.join(directory, name)).href);
    await run("--input-type=module", "-e", urls.map((url) => `import ${JSON.stringify(url)};`).join(""));
  } finally {
    await origin.stop();
    rmSync(scratch, { recursive: true, force: true });
  }
}
