// The token server: who gets which token, how long the real registry takes it, and what is on record.

import { request } from "undici";
import { afterEach, expect, test } from "vitest";
import { waitFor } from "../cluster/run-command.ts";
import { describeUnless } from "../cluster/suites.ts";
import { publishDockerModel } from "./publish.ts";
import { registryUnavailable, startRegistry, type RegistryOptions, type TestRegistry } from "./registry.ts";

const accept = "application/vnd.oci.image.manifest.v1+json";

describeUnless(registryUnavailable(), "the token server", () => {
  let registry: TestRegistry | undefined;
  afterEach(async () => {
    await registry?.stop();
  });
  const start = async (options: RegistryOptions = {}): Promise<TestRegistry> => {
    registry = await startRegistry({ authentication: "token", ...options });
    return registry;
  };
  const publish = async (target: TestRegistry, repository: string): Promise<void> => {
    await publishDockerModel(target, {
      repository,
      tag: "x",
      files: [{ name: "m.gguf", content: Buffer.from("weights") }],
    });
  };
  const basic = ({ username = "", password = "" }: TestRegistry): Record<string, string> => ({
    authorization: `Basic ${Buffer.from(`${username}:${password}`).toString("base64")}`,
  });
  const askToken = async (
    { tokenServer }: TestRegistry,
    scope: string,
    headers: Record<string, string> = {},
    service = "test-registry",
  ): Promise<{ readonly status: number; readonly answer: { token?: string; expires_in?: number } }> => {
    const url = `${tokenServer?.url}/token?service=${service}&scope=${encodeURIComponent(scope)}`;
    const { statusCode, body } = await request(url, { headers });
    const text = await body.text();
    return { status: statusCode, answer: text === "" ? {} : (JSON.parse(text) as { token: string }) };
  };
  const getManifest = async (target: TestRegistry, repository: string, token = ""): Promise<number> => {
    const { statusCode, body } = await request(`${target.url}/v2/${repository}/manifests/x`, {
      headers: { accept, ...(token === "" ? {} : { authorization: `Bearer ${token}` }) },
    });
    await body.dump();
    return statusCode;
  };

  test("a token lives as long as it says: then the registry refuses it, and a new one serves", async () => {
    const target = await start({ tokenLifetimeSeconds: 3 });
    await publish(target, "model");
    const issuedMs = performance.now();
    const { answer } = await askToken(target, "repository:model:pull", basic(target));
    expect(answer.expires_in).toBe(3);
    expect(await getManifest(target, "model", answer.token)).toBe(200);
    await waitFor(
      "the end of the token",
      async () => (await getManifest(target, "model", answer.token)) === 401,
      {
        timeoutMs: 10_000,
      },
    );
    expect(performance.now() - issuedMs).toBeGreaterThan(1_900);
    const { answer: next } = await askToken(target, "repository:model:pull", basic(target));
    expect(await getManifest(target, "model", next.token)).toBe(200);
    // Publishing gets itself a new token where the old one is over.
    await publish(target, "model");
  });

  test("what it says of the lifetime can be wrong, or nothing", async () => {
    const target = await start({ token: { statedLifetimeSeconds: 9_999 } });
    expect((await askToken(target, "repository:a:pull", basic(target))).answer.expires_in).toBe(9_999);
    await target.stop();
    const silent = await start({ token: { statedLifetimeSeconds: null } });
    expect((await askToken(silent, "repository:a:pull", basic(silent))).answer).not.toHaveProperty(
      "expires_in",
    );
  });

  test("only the user gets tokens, for the right service; wrong credentials get none even where strangers may pull", async () => {
    const target = await start({ token: { anonymousPull: ["open"] } });
    const wrong = { authorization: `Basic ${Buffer.from("x:y").toString("base64")}` };
    expect((await askToken(target, "repository:open:pull", wrong)).status).toBe(401);
    expect((await askToken(target, "repository:open:pull", basic(target), "another")).status).toBe(400);
    expect((await askToken(target, "repository:open:pull", basic(target))).status).toBe(200);
    expect((await askToken(target, "repository:open:pull")).status).toBe(200);
    await target.stop();
    const closed = await start();
    expect((await askToken(closed, "repository:open:pull")).status).toBe(401);
  });

  test("anonymous pull: of the named repositories, and no push", async () => {
    const target = await start({ token: { anonymousPull: ["open"] } });
    await publish(target, "open");
    await publish(target, "closed");
    const scopes = "repository:open:pull,push repository:closed:pull";
    const { answer } = await askToken(target, scopes);
    expect(await getManifest(target, "open", answer.token)).toBe(200);
    expect(await getManifest(target, "closed", answer.token)).toBe(401);
    const push = await request(`${target.url}/v2/open/blobs/uploads/`, {
      method: "POST",
      headers: { authorization: `Bearer ${answer.token}` },
    });
    await push.body.dump();
    expect(push.statusCode).toBe(401);
  });

  test("a user without rights to a repository gets a token that the registry does not take there", async () => {
    const target = await start({ token: { repositories: ["mine"] } });
    await publish(target, "mine");
    const { status, answer } = await askToken(
      target,
      "repository:mine:pull repository:theirs:pull",
      basic(target),
    );
    expect(status).toBe(200);
    expect(await getManifest(target, "mine", answer.token)).toBe(200);
    expect(await getManifest(target, "theirs", answer.token)).toBe(401);
    await expect(publish(target, "theirs")).rejects.toThrow("401");
  });

  test("an identity token serves in place of the password, and what was asked is on record", async () => {
    const target = await start();
    await publish(target, "model");
    const config = JSON.parse(target.dockerConfig({ identityToken: true, host: "proxy:1" })) as {
      auths: Record<string, { identitytoken: string }>;
    };
    const identityToken = config.auths["proxy:1"]?.identitytoken ?? "";
    expect(identityToken).toBe(target.identityToken);
    const post = async (refreshToken: string): Promise<{ status: number; text: string }> => {
      const form = new URLSearchParams({
        grant_type: "refresh_token",
        service: "test-registry",
        scope: "repository:model:pull",
        refresh_token: refreshToken,
      });
      const answer = await request(`${target.tokenServer?.url}/token`, {
        method: "POST",
        headers: { "content-type": "application/x-www-form-urlencoded" },
        body: form.toString(),
      });
      return { status: answer.statusCode, text: await answer.body.text() };
    };
    expect((await post("wrong")).status).toBe(401);
    const { access_token: token } = JSON.parse((await post(identityToken)).text) as { access_token: string };
    expect(await getManifest(target, "model", token)).toBe(200);
    const [refused, granted] = target.tokenServer?.log.slice(-2) ?? [];
    expect(refused).toMatchObject({ method: "POST", status: 401, authorization: undefined });
    expect(granted).toMatchObject({ method: "POST", path: "/token", status: 200 });
    expect(granted?.body).toContain(identityToken);
  });
});
