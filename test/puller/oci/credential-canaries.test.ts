// Credentials go to the origin they are filed under and to the token server it names, nowhere else: every way to another origin,
// for everything that is asked for, with every kind of credential. The second server must see none of it.

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { describeUnless } from "../../cluster/suites.ts";
import { findProgram } from "../../cluster/packages.ts";
import {
  startScriptedRegistry,
  type Script,
  type ScriptedRegistry,
} from "../../registry/scripted-registry.ts";
import { makeServerCertificate } from "../../registry/test-certificates.ts";
import { filepath, json } from "../artifact/manifest-builder.ts";
import { blobsOf, descriptor, manifestJson, serve, weight } from "../bad-input.ts";
import { runInProcess, type InProcessRun } from "../run-in-process.ts";

const username = "canary-user";
const password = "canary-password";
const identityToken = "canary-identity-token";
const basic = `Basic ${Buffer.from(`${username}:${password}`).toString("base64")}`;
/** All that must not be seen: also what the first registry's token server gave. */
const secrets = /canary|Y2FuYXJ5|authorization/i;

/** The smallest file of safetensors: the length of its header, and a header without tensors. */
const weights = Buffer.from("\u0002\0\0\0\0\0\0\0{}", "latin1");
const content: Script = serve({
  manifest: json(
    manifestJson({
      layers: [descriptor(`${weight}raw`, weights, { annotations: { [filepath]: "model.safetensors" } })],
    }),
  ),
  blobs: blobsOf("{}", weights),
});
const good: Script = (request) =>
  request.path.includes("/tags/list") ? { body: '{"tags":["x"]}' } : content(request);

type Endpoint = "manifest" | "blob" | "token" | "tags";
const paths: Readonly<Record<Endpoint, RegExp>> = {
  manifest: /\/manifests\//,
  blob: /\/blobs\//,
  token: /^\/token/,
  tags: /\/tags\/list/,
};
type Kind = "basic" | "bearer" | "identity";

/** What happens to a request for the endpoint: first, perhaps, a 401 to a credential that was good before; then a redirect. */
type Way = {
  readonly name: string;
  readonly to: "other port" | "other host" | "from https to http" | "other port by https";
  readonly isTrusted: boolean;
  /** The target wants credentials too, by all schemes, at its own realm. */
  readonly targetChallenges: boolean;
  readonly expiresFirst: boolean;
};

const ways: readonly Way[] = [
  { name: "another port", to: "other port", isTrusted: false, targetChallenges: false, expiresFirst: false },
  { name: "a trusted port", to: "other port", isTrusted: true, targetChallenges: false, expiresFirst: false },
  { name: "a trusted host", to: "other host", isTrusted: true, targetChallenges: false, expiresFirst: false },
  {
    name: "a trusted port that challenges",
    to: "other port",
    isTrusted: true,
    targetChallenges: true,
    expiresFirst: false,
  },
  {
    name: "a trusted port after a refresh",
    to: "other port",
    isTrusted: true,
    targetChallenges: false,
    expiresFirst: true,
  },
  {
    name: "a trusted port that challenges, after a refresh",
    to: "other port",
    isTrusted: true,
    targetChallenges: true,
    expiresFirst: true,
  },
  {
    name: "plain http, though trusted",
    to: "from https to http",
    isTrusted: true,
    targetChallenges: true,
    expiresFirst: false,
  },
  {
    name: "a trusted port by https that challenges",
    to: "other port by https",
    isTrusted: true,
    targetChallenges: true,
    expiresFirst: false,
  },
];

/** The registry that the credential is for, which sends requests for one endpoint elsewhere. */
function firstRegistry(
  self: () => ScriptedRegistry,
  endpoint: Endpoint,
  kind: Kind,
  way: Way,
  target: string,
): Script {
  let tokens = 0;
  let expired = 0;
  return (request) => {
    const { path, headers } = request;
    const isMeant = paths[endpoint].test(path);
    const redirect = { status: 307, headers: { location: `${target}${path}` } };
    if (path.startsWith("/token")) {
      if (isMeant) return redirect;
      const isKnown =
        kind === "identity"
          ? request.body().toString().includes(identityToken)
          : headers.authorization === basic;
      tokens += 1;
      return isKnown ? { body: `{"token":"canary-token-${tokens}","expires_in":300}` } : { status: 401 };
    }
    const wanted = kind === "basic" ? basic : `Bearer canary-token-${tokens}`;
    const isExpired = isMeant && way.expiresFirst && expired === 0 && headers.authorization === wanted;
    if (isExpired) expired += 1;
    if (headers.authorization !== wanted || isExpired) {
      const challenge =
        kind === "basic" ? 'Basic realm="r"' : `Bearer realm="${self().url}/token",service="s"`;
      return { status: 401, headers: { "www-authenticate": challenge } };
    }
    return isMeant ? redirect : good(request);
  };
}

/** The second server: serves everything to everybody, or wants credentials by every scheme. */
function secondServer(self: () => ScriptedRegistry, way: Way): Script {
  return (request) => {
    if (!way.targetChallenges)
      return request.path.startsWith("/token") ? { body: '{"token":"other"}' } : good(request);
    return {
      status: 401,
      headers: {
        "www-authenticate": ['Basic realm="mine"', `Bearer realm="${self().url}/token",service="mine"`],
      },
    };
  };
}

/** A credential that was got for this very request, or that cannot be renewed, is not tried twice. */
function isEndOfTheWay(endpoint: Endpoint, kind: Kind, way: Way): boolean {
  return way.expiresFirst && (kind === "basic" || endpoint === "manifest" || endpoint === "tags");
}

/** How a run ends. */
function ending(
  endpoint: Endpoint,
  kind: Kind,
  way: Way,
): { readonly exitCode: number; readonly code: string } {
  const refused = { exitCode: 77, code: "PolicyRefused" };
  const unauthorized = { exitCode: 77, code: "RegistryUnauthorized" };
  if (endpoint === "token" && kind === "identity") return refused;
  if (!way.isTrusted || way.to === "from https to http") return refused;
  if (isEndOfTheWay(endpoint, kind, way)) return unauthorized;
  if (way.targetChallenges) return unauthorized;
  // A token of the second server is no token for the first.
  if (endpoint === "token") return unauthorized;
  return { exitCode: 0, code: "Ready" };
}

describeUnless(findProgram("openssl") === undefined ? "openssl is missing" : undefined, "credentials", () => {
  let directory = "";
  let count = 0;
  let plain: readonly [ScriptedRegistry, ScriptedRegistry];
  let secure: readonly [ScriptedRegistry, ScriptedRegistry];
  beforeAll(async () => {
    directory = mkdtempSync(join(tmpdir(), "ocimodel-canaries-"));
    const certificate = await makeServerCertificate(directory, "127.0.0.1");
    plain = [await startScriptedRegistry(), await startScriptedRegistry()];
    secure = [await startScriptedRegistry(certificate), await startScriptedRegistry(certificate)];
  });
  afterAll(async () => {
    for (const each of [...(plain ?? []), ...(secure ?? [])]) await each.stop();
    rmSync(directory, { recursive: true, force: true });
  });

  const start = async (
    registry: ScriptedRegistry,
    endpoint: Endpoint,
    kind: Kind,
    trusted: readonly string[],
  ): Promise<InProcessRun> => {
    const config = join(directory, "config.json");
    const entry = kind === "identity" ? { identitytoken: identityToken } : { username, password };
    writeFileSync(config, JSON.stringify({ auths: { [registry.host]: entry } }));
    const reference = `--reference=${registry.host}/ai/model:x`;
    return runInProcess([
      ...(endpoint === "tags"
        ? ["inspect", reference, "--tags=*", "--output=json"]
        : ["pull", reference, `--store=${join(directory, `store-${(count += 1)}`)}`]),
      ...(registry.url.startsWith("https")
        ? [`--ca-file=${join(directory, "ca.crt")}`]
        : [`--plain-http=${registry.host}`]),
      ...trusted.map((host) => `--trusted-host=${host}`),
      `--docker-config=${config}`,
      "--retry-budget=0",
    ]);
  };

  describe.each<Endpoint>(["manifest", "blob", "token", "tags"])("a %s redirected", (endpoint) => {
    describe.each<Kind>(
      ["basic", "bearer", "identity"].filter((kind) => endpoint !== "token" || kind !== "basic") as Kind[],
    )("with %s credentials", (kind) => {
      test.each(ways)("to $name", async (way) => {
        const isSecure = way.to === "from https to http" || way.to === "other port by https";
        const one = isSecure ? secure[0] : plain[0];
        const other = way.to === "other port by https" ? secure[1] : plain[1];
        const target = way.to === "other host" ? other.url.replace("127.0.0.1", "localhost") : other.url;
        one.setScript(firstRegistry(() => one, endpoint, kind, way, target));
        other.setScript(secondServer(() => other, way));
        const run = await start(one, endpoint, kind, way.isTrusted ? [new URL(target).host] : []);
        expect({ exitCode: run.exitCode, code: run.termination.code }).toEqual(ending(endpoint, kind, way));
        const seen = other.requests.map(
          (each) => `${each.method} ${each.path} ${each.rawHeaders.join(" ")} ${each.body().toString()}`,
        );
        expect(seen.filter((each) => secrets.test(each))).toEqual([]);
        expect(other.received().toString("latin1")).not.toMatch(secrets);
        expect(run.said).not.toMatch(/canary-(?:pass|ident|tok)|Y2FuYXJ5/);
        // The way was really gone, as far as it may be gone.
        const isReached =
          ending(endpoint, kind, way).code !== "PolicyRefused" && !isEndOfTheWay(endpoint, kind, way);
        expect(other.requests.length > 0).toBe(isReached);
      });
    });
  });

  test("a tag list that goes on at another origin is refused; at the same it is followed, 100 pages at most", async () => {
    const [one, other] = plain;
    const tags = (link: (page: number) => string): Script => {
      let page = 0;
      return (request) =>
        request.headers.authorization !== basic
          ? { status: 401, headers: { "www-authenticate": "Basic realm=r" } }
          : request.path.includes("/tags/")
            ? { headers: { link: `<${link((page += 1))}>; rel="next"` }, body: '{"tags":["x"]}' }
            : good(request);
    };
    other.setScript(good);
    one.setScript(tags(() => `${other.url}/v2/ai/model/tags/list`));
    const led = await start(one, "tags", "basic", [other.host]);
    expect(led.termination).toMatchObject({ code: "PolicyRefused" });
    expect(other.requests).toEqual([]);
    one.setScript(tags((page) => `/v2/ai/model/tags/list?last=${page}`));
    const endless = await start(one, "tags", "basic", []);
    expect(endless.termination).toMatchObject({
      code: "InvalidArtifact",
      message: expect.stringContaining("more than 100 pages"),
    });
    expect(one.requests.filter(({ path }) => path.includes("/tags/"))).toHaveLength(101);
  });

  test("a mirror gets no credential of the registry it stands for", async () => {
    const [one, other] = plain;
    one.setScript(firstRegistry(() => one, "tags", "basic", ways[0] as Way, ""));
    other.setScript(() => ({ status: 401, headers: { "www-authenticate": 'Basic realm="mine"' } }));
    const store = join(directory, `store-${(count += 1)}`);
    writeFileSync(
      join(directory, "config.json"),
      JSON.stringify({ auths: { [one.host]: { username, password } } }),
    );
    const run = await runInProcess([
      "pull",
      `--reference=${one.host}/ai/model:x`,
      `--store=${store}`,
      `--plain-http=${one.host}`,
      `--mirror=${one.host}=${other.url}`,
      `--docker-config=${join(directory, "config.json")}`,
    ]);
    expect(run.exitCode).toBe(0);
    expect(other.requests.length).toBeGreaterThan(0);
    expect(other.requests.every(({ path }) => path.includes(`ns=${encodeURIComponent(one.host)}`))).toBe(
      true,
    );
    expect(other.received().toString("latin1")).not.toMatch(secrets);
  });
});
