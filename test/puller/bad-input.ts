// What the suites of bad input share: a registry that serves a made-up model, one run per input, and what must hold after each.

import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { FailureCode } from "../../puller/contract.ts";
import { startScriptedRegistry, type Script, type ScriptedRegistry } from "../registry/scripted-registry.ts";
import { digestOf, filepath, json, modelPackConfig, modelPackManifest } from "./artifact/manifest-builder.ts";
import { runInProcess, type InProcessRun } from "./run-in-process.ts";
import { filesBelow } from "./store-assertions.ts";

/** Bad input, and exactly how its run ends. */
export type BadInput = {
  readonly name: string;
  readonly exitCode: number;
  readonly code: FailureCode | "Ready";
  /** Texts in the message: the value that is wrong, and what to do. */
  readonly says: readonly string[];
  /** After `pull --store=… --plain-http=…`; default the reference of the served model. */
  readonly args?: readonly string[];
  readonly environment?: Readonly<Record<string, string>>;
  /** Content of a docker config. */
  readonly dockerConfig?: string | Uint8Array;
  readonly script?: Script;
  /** Paths asked for, in order; default: not checked. */
  readonly asks?: readonly RegExp[];
};

export type Served = {
  readonly manifest: Uint8Array;
  readonly blobs?: ReadonlyMap<string, Uint8Array>;
  readonly contentType?: string;
};

export const weight = "application/vnd.cncf.model.weight.v1.";
const ociManifest = "application/vnd.oci.image.manifest.v1+json";

/** A descriptor as JSON. */
export function descriptor(
  mediaType: string,
  content: Uint8Array | string,
  more: Readonly<Record<string, unknown>> = {},
): Readonly<Record<string, unknown>> {
  const bytes = Buffer.from(content as string);
  return { mediaType, digest: digestOf(bytes), size: bytes.length, ...more };
}

/** A good ModelPack manifest as JSON, with other fields where given; undefined removes one. */
export function manifestJson(
  more: Readonly<Record<string, unknown>> = {},
): Readonly<Record<string, unknown>> {
  return {
    schemaVersion: 2,
    mediaType: ociManifest,
    artifactType: modelPackManifest,
    config: descriptor(modelPackConfig, "{}"),
    layers: [descriptor(`${weight}raw`, "weights", { annotations: { [filepath]: "model.safetensors" } })],
    ...more,
  };
}

/** Serves one model under every repository and tag. */
export function serve(served: Served): Script {
  const digest = digestOf(served.manifest);
  return ({ path }) => {
    if (/\/manifests\//.test(path)) {
      const wanted = decodeURIComponent(path.slice(path.lastIndexOf("/") + 1));
      if (wanted.startsWith("sha256:") && wanted !== digest) return { status: 404 };
      return {
        headers: { "content-type": served.contentType ?? ociManifest, "docker-content-digest": digest },
        body: served.manifest,
      };
    }
    const blob = served.blobs?.get(path.slice(path.lastIndexOf("/") + 1));
    return blob === undefined ? undefined : { body: blob };
  };
}

export function blobsOf(...contents: readonly (Uint8Array | string)[]): ReadonlyMap<string, Uint8Array> {
  return new Map(
    contents.map((content) => {
      const bytes = Buffer.from(content as string);
      return [digestOf(bytes), bytes];
    }),
  );
}

/** The good model, or one with another manifest. */
export function serveManifest(manifest: unknown = manifestJson(), contentType?: string): Script {
  const bytes = manifest instanceof Uint8Array ? manifest : json(manifest);
  return serve({
    manifest: bytes,
    blobs: blobsOf("{}", "weights"),
    ...(contentType === undefined ? {} : { contentType }),
  });
}

/**
 * A test for each input, by the command line. After each: exactly this exit code, word and message; nothing visible in the
 * volume and nothing outside it; no canary said. The messages together are a golden file, which shows them to a reviewer.
 */
export function testBadInputs(golden: string, inputs: readonly BadInput[]): void {
  let directory = "";
  let registry: ScriptedRegistry;
  const messages: string[] = [];
  beforeAll(async () => {
    directory = mkdtempSync(join(tmpdir(), "ocimodel-bad-"));
    registry = await startScriptedRegistry();
  });
  afterAll(async () => {
    await registry?.stop();
    rmSync(directory, { recursive: true, force: true });
  });

  test.each(inputs)("$name: $code", async (input) => {
    const room = mkdtempSync(join(directory, "room-"));
    const store = join(room, "volume");
    mkdirSync(store);
    const config = join(room, "config.json");
    if (input.dockerConfig !== undefined) {
      const text = input.dockerConfig;
      writeFileSync(config, typeof text === "string" ? text.replaceAll("REGISTRY", registry.host) : text);
    }
    const before = { room: filesBelow(room), here: readdirSync(".") };
    registry.setScript(input.script ?? serveManifest());
    const fill = (text: string): string =>
      text.replaceAll("REGISTRY", registry.host).replaceAll("ROOM", room);
    const run = await runInProcess(
      [
        "pull",
        `--store=${store}`,
        `--plain-http=${registry.host}`,
        "--retry-budget=0",
        "--stall-timeout=2",
        ...(input.dockerConfig === undefined ? [] : [`--docker-config=${config}`]),
        ...(input.args ?? ["--reference=REGISTRY/ai/model:x"]).map(fill),
      ],
      { environment: input.environment ?? {} },
    );
    const message = run.termination.message
      .replaceAll(registry.host, "REGISTRY")
      .replaceAll(room, "ROOM")
      .replace(/has \d+ free/, "has N free");
    messages.push(`${input.name}\n  ${run.exitCode} ${run.termination.code}: ${message}\n`);
    expect({ exitCode: run.exitCode, code: run.termination.code, message }).toEqual({
      exitCode: input.exitCode,
      code: input.code,
      message: expect.stringContaining(input.says[0] ?? ""),
    });
    for (const text of input.says) expect(message).toContain(text);
    // Nothing that could move a cursor or hide text reaches a terminal or a condition.
    expect(run.termination.message).toMatch(/^[\u0020-\u007e\u00a0-\uffff]*$/);
    expect(run.said).not.toMatch(/canary/);
    if (input.asks !== undefined) {
      expect(registry.requests.map(({ path }) => path)).toEqual(
        input.asks.map((each) => expect.stringMatching(each)),
      );
    }
    expectNothingPlaced(room, before, run, input.code === "Ready");
  });

  test("the messages of all, exactly", async () => {
    expect(messages).toHaveLength(inputs.length);
    await expect(messages.join("\n")).toMatchFileSnapshot(
      join(import.meta.dirname, `../golden/puller/${golden}.out.txt`),
    );
  });
}

function expectNothingPlaced(
  room: string,
  before: { readonly room: readonly string[]; readonly here: readonly string[] },
  run: InProcessRun,
  isGood: boolean,
): void {
  expect(filesBelow(room).filter((path) => !path.startsWith("volume/"))).toEqual(before.room);
  expect(readdirSync(".")).toEqual(before.here);
  const models = join(room, "volume/models");
  if (!isGood && existsSync(models)) expect(readdirSync(models)).toEqual([]);
  expect(isGood).toBe(run.exitCode === 0);
}
