// The puller's commands in the pages are run against a real registry, and print what the pages show.

import { afterAll, beforeAll, expect, test } from "vitest";
import { runCommand } from "../cluster/run-command.ts";
import { describeUnless } from "../cluster/suites.ts";
import { publishArtifact } from "../registry/publish.ts";
import { registryUnavailable } from "../registry/registry.ts";
import { tinyModel } from "../models/tiny-model.ts";
import { ggufBytes } from "../models/gguf-writer.ts";
import { blocksOf, root } from "./markdown.ts";
import { notRun, pullerPages } from "./not-run.ts";
import { startPullerSession, type PullerSession } from "./puller-session.ts";
import { runSession, showsAs } from "./session.ts";

describeUnless(registryUnavailable(), "commands of the puller in the pages", () => {
  let session: PullerSession | undefined;
  beforeAll(async () => {
    session = await startPullerSession();
  });
  afterAll(async () => {
    await session?.stop();
  });

  // A dozen processes one after the other, on a machine that may be busy.
  test("run, and print what is shown", { timeout: 180_000 }, async () => {
    const blocks = pullerPages
      .flatMap(blocksOf)
      .filter((block) => block.language === "sh" && notRun(block) === undefined);
    expect(blocks.length).toBeGreaterThan(10);
    const ran = await runSession(blocks, {
      cwd: session?.directory ?? "",
      env: session?.env ?? {},
      timeoutMs: 170_000,
    });
    expect(ran.map(({ block }) => block)).toEqual(blocks);
    const wrong = ran.flatMap(({ block: { file, line, output }, stdout }) =>
      output === undefined || showsAs(output, stdout) ? [] : [{ place: `${file}:${line}`, output, stdout }],
    );
    expect(wrong).toEqual([]);
  });

  test("npm run -s puller works in the checkout", async () => {
    const { stdout } = await runCommand("npm", ["run", "-s", "puller", "--", "--version"], {
      cwd: root,
      env: session?.env ?? {},
    });
    expect(stdout).toMatch(/^puller \d+\.\d+\.\d+\n$/);
  });

  test("what oras pushes with the types that the page names is a model", async () => {
    const [block] = blocksOf("docs/formats.md").filter(({ text }) => text.includes("oras push"));
    const command = block?.text ?? "";
    const [, config = ""] = /echo '(.*)' > config\.json/.exec(command) ?? [];
    const typed = [...command.matchAll(/^ {2}([\w.-]+):(application\/[\w.+]+)/gm)];
    expect(typed.map(([, name]) => name)).toEqual(["qwen3-8B-Q4_K_M.gguf", "LICENSE"]);
    const published = await publishArtifact(session?.open ?? neverStarted(), {
      repository: "ai/oras",
      tag: "q4",
      artifactType: /--artifact-type (\S+)/.exec(command)?.[1] ?? "",
      config: { mediaType: /--config config\.json:(\S+)/.exec(command)?.[1] ?? "", content: config },
      layers: typed.map(([, name = "", mediaType = ""]) => ({
        mediaType,
        content: name.endsWith(".gguf") ? ggufBytes(tinyModel()) : Buffer.from("a license"),
        annotations: { "org.opencontainers.image.title": name },
      })),
    });
    const host = session?.open.host ?? "";
    const [inspect] = await runSession(
      [
        {
          file: "docs/formats.md",
          line: block?.line ?? 0,
          language: "sh",
          text: `puller inspect --reference ${published.reference} --plain-http ${host} --output json\n`,
        },
      ],
      { cwd: session?.directory ?? "", env: { ...session?.env, HTTPS_PROXY: "", HTTP_PROXY: "" } },
    );
    expect(JSON.parse(inspect?.stdout ?? "")).toMatchObject([
      {
        packaging: "modelpack",
        format: "gguf",
        quantization: "Q4_K_M",
        parameters: "8B",
        entry: "qwen3-8B-Q4_K_M.gguf",
        files: [{ role: "weights" }, { role: "license", path: "LICENSE" }],
      },
    ]);
  });
});

function neverStarted(): never {
  throw new Error("the registries did not start");
}
