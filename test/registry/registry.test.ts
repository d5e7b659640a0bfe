// Each flavour of the real registry serves those it should and refuses the others. Not the puller: plain HTTP requests.

import { existsSync, readFileSync } from "node:fs";
import { Agent, request, type Dispatcher } from "undici";
import { afterEach, expect, test } from "vitest";
import { describeUnless } from "../cluster/suites.ts";
import { publishDockerModel } from "./publish.ts";
import { registryUnavailable, startRegistry, type TestRegistry } from "./registry.ts";

const manifestType = "application/vnd.oci.image.manifest.v1+json";

describeUnless(registryUnavailable(), "the test registry", () => {
  const started: { stop(): Promise<void> }[] = [];
  afterEach(async () => {
    for (const each of started.splice(0).toReversed()) await each.stop();
  });
  const start = async (options: Parameters<typeof startRegistry>[0] = {}): Promise<TestRegistry> => {
    const registry = await startRegistry(options);
    started.push(registry);
    return registry;
  };
  const publish = async (registry: TestRegistry, repository = "model"): Promise<void> => {
    await publishDockerModel(registry, {
      repository,
      tag: "v1",
      files: [{ name: "model.gguf", content: Buffer.from("weights") }],
    });
  };
  const get = async (
    url: string,
    authorization?: string,
    dispatcher?: Dispatcher,
  ): Promise<{ readonly status: number; readonly challenge: string; readonly text: string }> => {
    const answer = await request(url, {
      headers: { accept: manifestType, ...(authorization === undefined ? {} : { authorization }) },
      ...(dispatcher === undefined ? {} : { dispatcher }),
    });
    const challenge = answer.headers["www-authenticate"];
    return {
      status: answer.statusCode,
      challenge: typeof challenge === "string" ? challenge : "",
      text: await answer.body.text(),
    };
  };
  const basic = (username = "", password = ""): string =>
    `Basic ${Buffer.from(`${username}:${password}`).toString("base64")}`;
  const manifestUrl = (registry: TestRegistry, repository = "model"): string =>
    `${registry.url}/v2/${repository}/manifests/v1`;

  test("open: serves anybody, knows no credentials, logs what it was asked", async () => {
    const registry = await start();
    await publish(registry);
    expect((await get(manifestUrl(registry))).status).toBe(200);
    expect((await get(manifestUrl(registry, "absent"))).status).toBe(404);
    expect(registry.username).toBeUndefined();
    expect(JSON.parse(registry.dockerConfig())).toEqual({ auths: {} });
    expect(registry.requests()).toEqual(
      expect.arrayContaining([
        expect.objectContaining({ method: "GET", path: "/v2/model/manifests/v1", status: 200 }),
        expect.objectContaining({ method: "GET", path: "/v2/absent/manifests/v1", status: 404 }),
      ]),
    );
  });

  test("htpasswd: the user only, with new canaries for each start", async () => {
    const registry = await start({ authentication: "htpasswd" });
    await publish(registry);
    const refused = await get(manifestUrl(registry));
    expect(refused.status).toBe(401);
    expect(refused.challenge).toMatch(/^Basic /);
    expect((await get(manifestUrl(registry), basic(registry.username, "wrong"))).status).toBe(401);
    expect((await get(manifestUrl(registry), basic(registry.username, registry.password))).status).toBe(200);
    const { auths } = JSON.parse(registry.dockerConfig()) as { auths: Record<string, { auth: string }> };
    expect(`Basic ${auths[registry.host]?.auth}`).toBe(basic(registry.username, registry.password));
    const other = await start({ authentication: "htpasswd" });
    expect(other.password).not.toBe(registry.password);
    expect((await get(manifestUrl(other), basic(registry.username, registry.password))).status).toBe(401);
  });

  test("token: the challenge leads to a token which the registry takes for its scope only", async () => {
    const registry = await start({ authentication: "token" });
    await publish(registry);
    await publish(registry, "other");
    const refused = await get(manifestUrl(registry));
    expect(refused.status).toBe(401);
    const realm = /realm="([^"]+)"/.exec(refused.challenge)?.[1] ?? "";
    const service = /service="([^"]+)"/.exec(refused.challenge)?.[1] ?? "";
    const scope = /scope="([^"]+)"/.exec(refused.challenge)?.[1] ?? "";
    expect(scope).toBe("repository:model:pull");
    const tokenUrl = `${realm}?service=${service}&scope=${scope}`;
    expect((await get(tokenUrl, basic(registry.username, "wrong"))).status).toBe(401);
    const answer = await get(tokenUrl, basic(registry.username, registry.password));
    const { token } = JSON.parse(answer.text) as { token: string };
    expect((await get(manifestUrl(registry), `Bearer ${token}`)).status).toBe(200);
    expect((await get(manifestUrl(registry, "other"), `Bearer ${token}`)).status).toBe(401);
    const forged = `${token.slice(0, -8)}${token.endsWith("AAAAAAAA") ? "BBBBBBBB" : "AAAAAAAA"}`;
    expect((await get(manifestUrl(registry), `Bearer ${forged}`)).status).toBe(401);
    expect(registry.tokenServer?.log.map(({ status }) => status).slice(-2)).toEqual([401, 200]);
  });

  test("TLS: only its own authority vouches for it", async () => {
    const registry = await start({ tls: true, authentication: "htpasswd" });
    await publish(registry);
    expect(registry.url).toMatch(/^https:/);
    await expect(get(manifestUrl(registry))).rejects.toThrow();
    const dispatcher = new Agent({ connect: { ca: readFileSync(registry.caFile ?? "") } });
    try {
      expect((await get(manifestUrl(registry), undefined, dispatcher)).status).toBe(401);
      const authorization = basic(registry.username, registry.password);
      expect((await get(manifestUrl(registry), authorization, dispatcher)).status).toBe(200);
    } finally {
      await dispatcher.close();
    }
  });

  test("stopping closes the port and removes the folder", async () => {
    const registry = await start({ tls: true });
    const { caFile = "" } = registry;
    expect(existsSync(caFile)).toBe(true);
    await registry.stop();
    expect(existsSync(caFile)).toBe(false);
    await expect(get(`${registry.url}/v2/`)).rejects.toThrow(/ECONNREFUSED/);
  });
});
