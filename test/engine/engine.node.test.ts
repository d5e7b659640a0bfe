// The engine's image, run as in a restricted pod: user 65532, read-only root file system, no network but loopback.

import { once } from "node:events";
import { chmod, mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { text } from "node:stream/consumers";
import { expect, test } from "vitest";
import { imageArchive, imageBuildObstacle } from "../images/image-archives.ts";
import { startInImage, unpackImage } from "../images/image-root.ts";
import { writeGguf } from "../models/gguf-writer.ts";
import { tinyModel, tinyModelSentence } from "../models/tiny-model.ts";
import { engineObstacle } from "./prepare-engine.ts";

const obstacle = imageBuildObstacle() ?? engineObstacle();

// Runs inside the image: starts the server, asks until it is healthy, asks for a completion, ends it.
const client = `
const { spawn } = require("node:child_process");
const { setTimeout: pause } = require("node:timers/promises");
const server = spawn(process.execPath, ["/engine/server.ts", "--ctx-size", "128"], { stdio: ["ignore", "ignore", "inherit"] });
const exited = new Promise((resolve) => server.once("exit", resolve));
const healthy = () => fetch("http://127.0.0.1:8080/health").then((response) => response.ok, () => false);
(async () => {
  while (server.exitCode === null && !(await healthy())) await pause(20);
  const body = JSON.stringify({ prompt: "Hello", temperature: 0 });
  const response = await fetch("http://127.0.0.1:8080/v1/completions", { method: "POST", body });
  const answer = (await response.json()).choices[0].text;
  server.kill("SIGTERM");
  console.log(JSON.stringify({ uid: process.getuid(), answer, code: await exited }));
})();
`;

test.skipIf(obstacle !== undefined)(
  `the engine's image answers from a mounted model${obstacle === undefined ? "" : ` (${obstacle})`}`,
  async () => {
    const directory = await mkdtemp(path.join(tmpdir(), "ocimodel-engine-image-"));
    try {
      const archive = await imageArchive("engine");
      const image = await unpackImage(archive.archivePath, path.join(directory, "image"));
      console.log(`engine: ${(image.compressedBytes / 1e6).toFixed(1)} MB as a registry sends it`);
      expect(image.config).toMatchObject({
        User: "65532:65532",
        Entrypoint: ["/usr/local/bin/node", "/engine/server.ts"],
      });
      const models = path.join(directory, "models");
      await mkdir(models);
      await chmod(models, 0o755);
      await writeGguf(path.join(models, "model.gguf"), tinyModel());
      const command = ["/usr/local/bin/node", "--eval", client];
      const environment = { MODEL_PATH: "/mnt/model.gguf" };
      const child = startInImage(image, { command, mount: models, environment });
      const closed = once(child, "close");
      const [stdout, stderr] = await Promise.all([text(child.stdout), text(child.stderr)]);
      await closed;
      expect(stderr).toContain("model loaded");
      expect(JSON.parse(stdout)).toEqual({
        uid: 65532,
        answer: expect.stringContaining(tinyModelSentence),
        code: 0,
      });
    } finally {
      await rm(directory, { recursive: true, force: true });
    }
  },
  180_000,
);
