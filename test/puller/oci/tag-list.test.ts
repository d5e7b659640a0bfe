import { afterAll, beforeAll, expect, test } from "vitest";
import { createRegistry } from "../../../puller/oci/index.ts";
import { limits } from "../../../puller/oci/limits.ts";
import { parseReference } from "../../../puller/oci/reference.ts";
import { startScriptedRegistry, type ScriptedRegistry } from "../../registry/scripted-registry.ts";

let server: ScriptedRegistry;
beforeAll(async () => {
  server = await startScriptedRegistry();
});
afterAll(async () => {
  await server?.stop();
});

/** Tags of the greatest length, about a MiB of them. */
const page = JSON.stringify({
  tags: Array.from({ length: 8_000 }, (_, index) => String(index).padStart(128, "x")),
});

test("a registry that lists tags without end is refused with the bound and the remedy, before memory is used up", async () => {
  server.setScript(({ path }) => {
    const number = Number(/last=(\d+)/.exec(path)?.[1] ?? "0") + 1;
    return { body: page, headers: { link: `</v2/ai/model/tags/list?last=${number}>; rel="next"` } };
  });
  const registry = createRegistry({ plainHTTPHosts: [server.host] });
  try {
    await expect(
      registry.listTags(parseReference(`${server.host}/ai/model`), AbortSignal.timeout(30_000)),
    ).rejects.toMatchObject({
      code: "InvalidArtifact",
      message: `${server.host} lists more than 16777216 bytes of tags for ai/model; name the variants one by one, or in an index`,
    });
    expect(server.requests.length).toBe(Math.floor(limits.tagListBytes / page.length) + 1);
  } finally {
    await registry.close();
  }
});
