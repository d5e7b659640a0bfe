// docs/index-annotations.md is a specification: its index, its tables and its commands, held to a real registry and the code.

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { afterAll, beforeAll, expect, test } from "vitest";

import { annotationKeys, readAnnotations } from "../../../puller/discovery/annotations.ts";
import { findPeer } from "../../bench/peers.ts";
import { runCommand } from "../../cluster/run-command.ts";
import { describeUnless } from "../../cluster/suites.ts";
import { ggufBytes } from "../../models/gguf-writer.ts";
import { tinyModel } from "../../models/tiny-model.ts";
import { publishModelPack, publishRaw, type Published } from "../../registry/publish.ts";
import { registryUnavailable, startRegistry, type TestRegistry } from "../../registry/registry.ts";
import { runPuller } from "../run-puller.ts";

const text = readFileSync(join(import.meta.dirname, "../../../docs/index-annotations.md"), "utf8");
const oras = await findPeer("oras");
const crane = await findPeer("crane");

type Entry = { digest: string; size: number; annotations: Record<string, string> };
type Index = { manifests: Entry[] };

/** Text of the first fenced block of a language. */
function block(language: string): string {
  const fences = text.split(/^```/m).filter((_, position) => position % 2 === 1);
  return fences.find((each) => each.startsWith(`${language}\n`))?.slice(language.length + 1) ?? "";
}

test("the table of annotations is the code's, and each value it shows is read", () => {
  const rows = [...text.matchAll(/^\| `(dev\.ocimodel\.[^`]+)` +\| (.*?) +\| (.*?) +\|$/gm)];
  expect(rows.map(([, key]) => key)).toEqual(Object.values(annotationKeys));
  for (const [, key = "", values = ""] of rows.slice(1))
    for (const [, value = ""] of values.matchAll(/`([^`]+)`/g)) {
      const vendor = key.startsWith("dev.ocimodel.accelerator.") && !key.endsWith("vendor");
      const all = { ...(vendor ? { [annotationKeys.vendor]: "nvidia" } : {}), [key]: value };
      expect(Object.keys(readAnnotations(all))).toHaveLength(1);
    }
});

describeUnless(registryUnavailable(), "the documented index", () => {
  let registry: TestRegistry | undefined;
  let directory = "";
  const tags = ["8B-BF16", "8B-Q4_K_M", "8B-Q4_0"] as const;
  const published: Published[] = [];
  const repository = "ai/qwen3";

  beforeAll(async () => {
    registry = await startRegistry();
    directory = mkdtempSync(join(tmpdir(), "ocimodel-documented-"));
    const content = ggufBytes(tinyModel());
    for (const tag of tags)
      published.push(
        await publishModelPack(registry, {
          repository,
          tag,
          quantization: tag.slice(3),
          paramSize: "8B",
          files: [{ name: "model.gguf", content }],
        }),
      );
  });
  afterAll(async () => {
    await registry?.stop();
    rmSync(directory, { recursive: true, force: true });
  });
  const started = (): TestRegistry => {
    if (registry === undefined) throw new Error("the registry did not start");
    return registry;
  };
  /** Name, quantization and needs of each, as the page shows them. */
  const shown = async (tag: string): Promise<readonly (readonly string[])[]> => {
    const { host } = started();
    const run = await runPuller([
      "inspect",
      `--index=${host}/${repository}:${tag}`,
      `--plain-http=${host}`,
      "--output=json",
    ]);
    expect(run).toMatchObject({ exitCode: 0, termination: { code: "Ready" } });
    const variants = JSON.parse(run.stdout) as {
      name: string;
      quantization: string;
      requirements?: unknown;
    }[];
    return variants.map(({ name, quantization, requirements }) => [
      name,
      quantization,
      ...(requirements === undefined ? [] : [JSON.stringify(requirements)]),
    ]);
  };
  const documented = (): readonly (readonly string[])[] =>
    block("")
      .trimEnd()
      .split("\n")
      .map((line) => line.split(/ {2,}/));
  const withRealChildren = (): string => {
    const index = JSON.parse(block("json")) as Index;
    index.manifests.forEach((entry, position) => {
      entry.digest = published[position]?.digest ?? "";
      entry.size = published[position]?.manifest.length ?? 0;
    });
    return JSON.stringify(index, undefined, 2);
  };

  test("is read as the page says", async () => {
    const type = "application/vnd.oci.image.index.v1+json";
    await publishRaw(started(), repository, "all", type, Buffer.from(withRealChildren()));
    expect(documented()).toHaveLength(3);
    expect(await shown("all")).toEqual(documented());
  });

  test.skipIf(oras === undefined)("is written by oras as the page says", async () => {
    const { host } = started();
    const file = join(directory, "index.json");
    const commands = [...block("sh").matchAll(/^oras (manifest .*)$/gm)].map(([, command = ""]) =>
      command
        .replaceAll("registry.example.com", host)
        .replace(":all", ":by-oras")
        .replace("index.json", file)
        .split(" "),
    );
    expect(commands).toHaveLength(2);
    const [create = [], push = []] = commands;
    await runCommand(oras?.path ?? "", [...create, "--plain-http"]);
    const made = JSON.parse(readFileSync(file, "utf8")) as Index;
    const ours = JSON.parse(withRealChildren()) as Index;
    expect(made.manifests.map(({ digest }) => digest)).toEqual(published.map(({ digest }) => digest));
    made.manifests.forEach((entry, position) => {
      entry.annotations = ours.manifests[position]?.annotations ?? {};
    });
    writeFileSync(file, JSON.stringify(made));
    await runCommand(oras?.path ?? "", [...push, "--plain-http"]);
    expect(await shown("by-oras")).toEqual(documented());
  });

  test.skipIf(crane === undefined)("is written by crane without annotations", async () => {
    const { host } = started();
    const line = /^crane (.*)$/m.exec(text)?.[1] ?? "";
    const command = line.replaceAll("registry.example.com", host).replace(":all", ":by-crane").split(" ");
    await runCommand(crane?.path ?? "", [...command, "--insecure"]);
    expect(await shown("by-crane")).toEqual([
      ["8b-bf16", "BF16"],
      ["8b-q4-0", "Q4_0"],
    ]);
  });
});
