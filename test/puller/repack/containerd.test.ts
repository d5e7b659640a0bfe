// A repacked image in a real containerd: pulled from a real registry, unpacked and mounted, its files are the artifact's, byte for
// byte, also where it states another platform. The daemon is one of the test's own.

import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { RepackReport } from "../../../puller/repack/repack.ts";
import { basicConfiguration, ensureContainerd } from "../../cluster/containerd.ts";
import { unmountBelow } from "../../cluster/node-cleanup.ts";
import { runCommand, startServer, waitFor, type Server } from "../../cluster/run-command.ts";
import { describeUnless } from "../../cluster/suites.ts";
import { publishModelPack } from "../../registry/publish-models.ts";
import { registryUnavailable, startRegistry, type TestRegistry } from "../../registry/registry.ts";
import { runInProcess } from "../run-in-process.ts";
import { filesBelow, noise, sha256 } from "../store-assertions.ts";

const files = [
  { name: "model.safetensors", content: noise("weights", 3_000_000) },
  { name: "deep/er/tokenizer.json", content: Buffer.from("{}") },
  { name: "empty.txt", content: Buffer.alloc(0) },
];
const notRoot = process.getuid?.() === 0 ? undefined : "containerd mounts as root";

describeUnless(notRoot ?? registryUnavailable(), "a repacked image in containerd", () => {
  let directory = "";
  let registry: TestRegistry;
  let containerd: Server;
  let programs = "";
  const ctr = async (...args: readonly string[]): Promise<string> =>
    (await runCommand(join(programs, "ctr"), ["--address", join(directory, "containerd.sock"), ...args]))
      .stdout;

  beforeAll(async () => {
    directory = mkdtempSync(join(tmpdir(), "ocimodel-containerd-"));
    programs = await ensureContainerd();
    registry = await startRegistry({ directory });
    const config = join(directory, "config.toml");
    // Without what it does for kubelets.
    writeFileSync(config, basicConfiguration(directory, ["io.containerd.grpc.v1.cri"]));
    containerd = startServer(join(programs, "containerd"), ["--config", config], {
      logFile: join(directory, "containerd.log"),
    });
    await waitFor("containerd", async () => ctr("version").then(Boolean, () => undefined), {
      describe: () => containerd.log(),
    });
  });
  afterAll(async () => {
    await containerd?.stop();
    await registry?.stop();
    // The image's, and those that containerd keeps for it.
    await unmountBelow(directory);
    rmSync(directory, { recursive: true, force: true });
  });

  test("is pulled, unpacked and mounted, and its files are the artifact's", async () => {
    const published = await publishModelPack(registry, { repository: "ai/pack", tag: "v1", files });
    const run = await runInProcess([
      "repack",
      `--reference=${published.reference}`,
      `--to=${registry.host}/images/pack:v1`,
      `--plain-http=${registry.host}`,
      // Of no machine that this runs on.
      "--platform=linux/s390x",
    ]);
    expect(run.exitCode).toBe(0);
    const { reference } = JSON.parse(run.stdout) as RepackReport;
    // Without overlay mounts, which are not to be had inside every container.
    await ctr("images", "pull", "--local", "--plain-http", "--snapshotter", "native", reference);
    const target = join(directory, "mounted");
    mkdirSync(target);
    await ctr("images", "mount", "--snapshotter", "native", reference, target);
    const seen = Object.fromEntries(
      filesBelow(target).map((path) => [path, sha256(readFileSync(join(target, path)))]),
    );
    expect(seen).toEqual(
      Object.fromEntries(files.map(({ name, content }) => [`models/${name}`, sha256(content)])),
    );
  });
});
