// How long a token is used: what its server says, within reason; by a clock that does not jump.

import { afterAll, beforeAll, expect, test } from "vitest";
import { parseReference } from "../../../puller/oci/reference.ts";
import { createRegistry } from "../../../puller/oci/registry.ts";
import { parseTokenAnswer, TokenCache } from "../../../puller/oci/token.ts";
import { Transport } from "../../../puller/oci/transport.ts";
import { startScriptedRegistry, type ScriptedRegistry } from "../../registry/scripted-registry.ts";

let server: ScriptedRegistry;
beforeAll(async () => {
  server = await startScriptedRegistry();
});
afterAll(async () => {
  await server?.stop();
});

test.each<[string, number]>([
  ["", 60],
  [',"expires_in":300', 300],
  [',"expires_in":1e9', 86_400],
  [',"expires_in":0', 60],
  [',"expires_in":-5', 60],
  [',"expires_in":"300"', 60],
  [',"expires_in":null', 60],
  [',"expires_in":1e400', 60],
])("an answer with %j is used for at most %i seconds", (more, seconds) => {
  for (const key of ["token", "access_token"])
    expect(parseTokenAnswer(Buffer.from(`{"${key}":"t"${more}}`), "h")).toEqual({
      token: "t",
      expiresInSeconds: seconds,
    });
});

test("an empty token is none, where the other is filled in", () => {
  expect(parseTokenAnswer(Buffer.from('{"token":"","access_token":"t"}'), "h").token).toBe("t");
});

test("a token is kept for four fifths of its time, and only under its key", async () => {
  let nowMs = 0;
  server.setScript(() => ({ body: '{"token":"t","expires_in":100}' }));
  const transport = new Transport({
    caFiles: [],
    connectTimeoutMs: 1000,
    stallTimeoutMs: 1000,
    userAgent: "test",
    environment: {},
  });
  const cache = new TokenCache(transport, () => nowMs);
  const url = new URL(server.url);
  const challenge = {
    scheme: "bearer",
    parameters: { realm: `${server.url}/token`, service: "a&scope=repository:b:push" },
  };
  await cache.fetch(
    "key",
    challenge,
    ["repository:ai/model:pull"],
    undefined,
    { registry: url, trustedHosts: new Set() },
    AbortSignal.timeout(5000),
  );
  // The service cannot smuggle a scope in.
  const asked = new URL(server.requests[0]?.path ?? "", url).searchParams;
  expect(asked.getAll("scope")).toEqual(["repository:ai/model:pull"]);
  nowMs = 79_999;
  expect(cache.get("key")).toBe("Bearer t");
  expect(cache.get("other")).toBeUndefined();
  nowMs = 80_001;
  expect(cache.get("key")).toBeUndefined();
  await transport.close();
});

test("a registry token is sent as it is, and no token server is asked when it is refused", async () => {
  const challenge = { "www-authenticate": `Bearer realm="${server.url}/token",service="s"` };
  server.setScript(({ path, headers }) =>
    path.startsWith("/token")
      ? { body: '{"token":"anonymous"}' }
      : headers.authorization === "Bearer canary-right"
        ? { body: '{"tags":["x"]}' }
        : { status: 401, headers: challenge },
  );
  const ask = async (token: string): Promise<readonly string[]> => {
    const registry = createRegistry({
      plainHTTPHosts: [server.host],
      credentials: [
        { host: server.host, path: "", credential: { kind: "registry-token", username: "", token } },
      ],
    });
    try {
      return await registry.listTags(parseReference(`${server.host}/ai/model`), AbortSignal.timeout(5000));
    } finally {
      await registry.close();
    }
  };
  expect(await ask("canary-right")).toEqual(["x"]);
  await expect(ask("canary-wrong")).rejects.toMatchObject({
    code: "RegistryUnauthorized",
    message: expect.not.stringContaining("canary"),
  });
  expect(server.requests.filter(({ path }) => path.startsWith("/token"))).toEqual([]);
});
