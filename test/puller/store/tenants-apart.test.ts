// Two tenants of a node's cache: what the one has pulled with its credentials is not there for the other.

import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { prepareTenants } from "../../../puller/store/tenants.ts";
import { describeUnless } from "../../cluster/suites.ts";
import { publishDockerModel, type Published } from "../../registry/publish.ts";
import { registryUnavailable, startRegistry, type TestRegistry } from "../../registry/registry.ts";
import { runInProcess, type InProcessRun } from "../run-in-process.ts";
import { expectNoWrongByte, filesBelow, noise } from "../store-assertions.ts";

const files = [{ name: "model.safetensors", content: noise("private", 50_000) }];

describeUnless(registryUnavailable(), "a private model that another tenant has on the same disk", () => {
  let directory = "";
  let registry: TestRegistry;
  let published: Published;
  beforeAll(async () => {
    directory = mkdtempSync(join(tmpdir(), "ocimodel-tenants-"));
    registry = await startRegistry({ authentication: "htpasswd" });
    published = await publishDockerModel(registry, {
      repository: "private/model",
      tag: "x",
      version: "v0.2",
      files,
    });
    mkdirSync(join(directory, "cache"));
    const names = ["authorized", "other"].map((name) => ({ name, sizeLimitBytes: undefined }));
    const owner = { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 };
    await prepareTenants(join(directory, "cache"), names, owner);
  });
  afterAll(async () => {
    await registry?.stop();
    rmSync(directory, { recursive: true, force: true });
  });

  const pull = async (store: string, password: string | undefined): Promise<InProcessRun> => {
    const config = join(directory, "config.json");
    const auth = Buffer.from(`${registry.username}:${password ?? ""}`).toString("base64");
    writeFileSync(
      config,
      JSON.stringify({ auths: password === undefined ? {} : { [registry.host]: { auth } } }),
    );
    return runInProcess([
      "pull",
      `--reference=${registry.host}/private/model@${published.digest}`,
      `--store=${store}`,
      `--plain-http=${registry.host}`,
      `--docker-config=${config}`,
      "--retry-budget=1",
    ]);
  };

  test.each([undefined, "wrong"])(
    "without credentials is refused as if nobody had it, and so with a wrong password (%s)",
    async (password) => {
      const [mine, others] = [join(directory, "cache/authorized"), join(directory, "cache/other")];
      expect((await pull(mine, registry.password)).exitCode).toBe(0);
      const run = await pull(others, password);
      expect(run).toMatchObject({
        exitCode: 77,
        termination: { code: "RegistryUnauthorized", retryable: false, bytesDone: 0 },
      });
      expect(filesBelow(join(others, "models"))).toEqual([]);
      // On a disk on which nobody has it, the very same is said.
      const alone = join(directory, `alone-${password ?? "none"}`);
      expect((await pull(alone, password)).termination).toEqual(run.termination);
      // Who has it needs no registry for it.
      expect((await pull(mine, undefined)).termination.message).toMatch(/was complete already/);
      expectNoWrongByte(mine);
    },
  );
});
