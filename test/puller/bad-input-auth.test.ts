// B4: challenges that want credentials brought elsewhere, or cannot be read; docker configs that are none.

import { describe } from "vitest";
import type { Script } from "../registry/scripted-registry.ts";
import { json } from "./artifact/manifest-builder.ts";
import { serveManifest, testBadInputs, type BadInput } from "./bad-input.ts";

const base64 = (text: string): string => Buffer.from(text).toString("base64");
/** A config with a secret for the registry. */
const dockerConfig = JSON.stringify({ auths: { REGISTRY: { auth: base64("canary-user:canary-password") } } });

/** Wants a token from a realm. */
function challenge(...lines: readonly string[]): Script {
  return ({ headers }) =>
    headers.authorization === undefined ? { status: 401, headers: { "www-authenticate": lines } } : undefined;
}

const notPublic = "the address is not public; if it is meant, name it with --trusted-host";
const plain = "plain http to another host; if it is meant, name it with --trusted-host";

const realms: readonly (readonly [realm: string, ...says: readonly string[]])[] = [
  ["/token", "names a token server that is no http URL"],
  ["token", "names a token server that is no http URL"],
  ["file:///etc/passwd", "names a token server that is no http URL"],
  ["gopher://127.0.0.1:70/x", "names a token server that is no http URL"],
  ["data:application/json,{}", "names a token server that is no http URL"],
  ["//169.254.169.254/token", "names a token server that is no http URL"],
  ["https://", "named a URL that is none"],
  ["https://a:b@auth.example.com/token", "the URL holds a user name"],
  ["http://169.254.169.254/latest/api/token", '"169.254.169.254"', plain],
  ["https://169.254.169.254/latest", '"169.254.169.254"', notPublic],
  ["https://[fd00:ec2::254]/latest", '"[fd00:ec2::254]"', notPublic],
  ["http://metadata.google.internal/computeMetadata/v1/", '"metadata.google.internal"', plain],
  ["http://10.0.0.1.nip.io/token", '"10.0.0.1.nip.io"', plain],
  ["https://[::ffff:169.254.169.254]/", '"[::ffff:a9fe:a9fe]"', notPublic],
  ["https://[64:ff9b::169.254.169.254]/", '"[64:ff9b::a9fe:a9fe]"', notPublic],
  ["https://[64:ff9b:1::a00:1]/", notPublic],
  ["https://[2002:7f00:1::]/", notPublic],
  ["https://[::127.0.0.1]/", notPublic],
  ["https://0.0.0.0/", '"0.0.0.0"', notPublic],
  ["https://[::]/", '"[::]"', notPublic],
  ["https://[::1]/", '"[::1]"', notPublic],
  ["https://[fe80::1]/", notPublic],
  ["https://[ff02::1]/", notPublic],
  ["https://2130706433/", '"127.0.0.1"', notPublic],
  ["https://0x7f.1/", '"127.0.0.1"', notPublic],
  ["https://0177.0.0.1/", '"127.0.0.1"', notPublic],
  ["https://127.1/", '"127.0.0.1"', notPublic],
  ["https://１２７.0.0.1/", "named a URL that is none"],
  ["https://10.1.2.3/", notPublic],
  ["https://172.16.0.1/", notPublic],
  ["https://192.168.1.1/", notPublic],
  ["https://100.64.0.1/", notPublic],
  ["https://224.0.0.1/", notPublic],
  ["https://255.255.255.255/", notPublic],
  ["https://localhost/token", '"localhost"', notPublic],
  ["https://LOCALHOST./token", '"localhost."', notPublic],
  ["https://auth.localhost/token", notPublic],
  ["http://127.0.0.1:1/token", '"127.0.0.1:1"', plain],
];

describe("a challenge", () => {
  const refused = (name: string, script: Script, ...says: readonly string[]): BadInput => ({
    name,
    dockerConfig,
    script,
    exitCode: 77,
    code: "RegistryUnauthorized",
    says,
    asks: [/\/manifests\/x$/],
  });
  testBadInputs("bad-challenges", [
    ...realms.map(([realm, ...says]): BadInput => ({
      ...refused(
        `realm ${realm}`,
        challenge(`Bearer realm="${Buffer.from(realm).toString("latin1")}",service="s"`),
        ...says,
      ),
      code: "PolicyRefused",
    })),
    refused("no realm", challenge('Bearer service="s"'), "asks for a token but names no token server"),
    refused("an empty realm", challenge('Bearer realm=""'), "names no token server"),
    refused(
      "an unclosed quote",
      challenge('Bearer realm="https://auth.example.com'),
      "names no token server",
    ),
    refused(
      "a realm behind 5,000 parameters",
      challenge(`Bearer ${"a=b,".repeat(5000)}realm="https://auth.example.com/"`),
      "names no token server",
    ),
    refused("quotes without end", challenge(`Bearer ${'"'.repeat(20_000)}`), "names no token server"),
    refused(
      "backslashes without end",
      challenge(`Bearer realm="${"\\".repeat(20_000)}`),
      "names no token server",
    ),
    refused("none", () => ({ status: 401 }), "does not take the credentials of the pull secret for ai/model"),
    refused("only what we do not speak", challenge("Negotiate YII==, NTLM"), "does not take the credentials"),
    refused("no words at all", challenge('=,"=,'), "does not take the credentials"),
    {
      ...refused(
        "a megabyte",
        challenge(`Bearer realm="${"a".repeat(1_000_000)}"`),
        "more than 32768 bytes of headers",
      ),
      exitCode: 65,
      code: "InvalidArtifact",
    },
    {
      ...refused(
        "Basic again and again",
        () => ({ status: 401, headers: { "www-authenticate": 'Basic realm="r"' } }),
        "wants other credentials (401)",
        "check the pull secret filed under",
      ),
      asks: [/manifests/, /manifests/],
    },
    {
      ...refused(
        "Bearer again and again",
        ({ path }) =>
          path.startsWith("/token")
            ? { body: '{"token":"t"}' }
            : { status: 401, headers: { "www-authenticate": 'Bearer realm="http://HOST/token"' } },
        "plain http",
      ),
      name: "a host name in the realm that does not exist",
      code: "PolicyRefused",
    },
    {
      name: "no credentials where some are wanted",
      script: challenge('Basic realm="r"'),
      exitCode: 77,
      code: "RegistryUnauthorized",
      says: ["wants credentials for ai/model and there are none; add a pull secret for REGISTRY"],
      asks: [/manifests/],
    },
    {
      name: "a credential for another host only",
      dockerConfig: JSON.stringify({
        auths: { "other.example.com": { auth: base64("canary-user:canary") } },
      }),
      script: challenge('Basic realm="r"'),
      exitCode: 77,
      code: "RegistryUnauthorized",
      says: ["there are none"],
    },
    {
      name: "a credential for the host without its port",
      dockerConfig: JSON.stringify({ auths: { "127.0.0.1": { auth: base64("canary-user:canary") } } }),
      script: challenge('Basic realm="r"'),
      exitCode: 77,
      code: "RegistryUnauthorized",
      says: ["there are none"],
    },
  ]);
});

describe("a docker config", () => {
  const auths = (entry: unknown, key = "REGISTRY"): string => JSON.stringify({ auths: { [key]: entry } });
  const bad = (name: string, config: string | Uint8Array, ...says: readonly string[]): BadInput => ({
    name,
    dockerConfig: config,
    exitCode: 78,
    code: "InvalidConfiguration",
    says: ["docker config ROOM/config.json", ...says],
    asks: [],
  });
  const good = (name: string, config: string | Uint8Array): BadInput => ({
    name,
    dockerConfig: config,
    script: serveManifest(),
    exitCode: 0,
    code: "Ready",
    says: ["is complete"],
  });
  testBadInputs("bad-docker-configs", [
    bad("empty", "", "is not valid JSON"),
    bad("YAML", "auths:\n  a: b\n", "is not valid JSON"),
    bad("cut", '{"auths":{"REGISTRY":{"auth":"canary', "is not valid JSON"),
    bad("a list", "[]", "the document does not have the type"),
    bad("auths as a list", '{"auths":[]}', "auths does not have the type"),
    bad("an entry as text", auths("canary"), "does not have the type"),
    bad("auth as a number", auths({ auth: 7 }), "auth does not have the type"),
    bad(
      "identitytoken as a list",
      auths({ identitytoken: ["canary"] }),
      "identitytoken does not have the type",
    ),
    bad(
      "no base64",
      auths({ auth: "canary user:password" }),
      ".auth is not base64 of user:password; make the Secret with kubectl",
    ),
    bad(
      "base64 of base64",
      auths({ auth: base64(base64("canary-user:canary")) }),
      "is not base64 of user:password",
    ),
    bad("no colon", auths({ auth: base64("canary-user") }), "is not base64 of user:password"),
    bad("no user", auths({ auth: base64(":canary-password") }), "is not base64 of user:password"),
    bad(
      "a line break in the password",
      auths({ username: "u", password: "canary\r\nx: y" }),
      "has a line break in it",
    ),
    bad(
      "a colon in the user name",
      auths({ username: "canary:u", password: "p" }),
      "username has a colon, which Basic cannot carry",
    ),
    bad(
      "an empty key",
      auths({ auth: base64("u:canary") }, ""),
      'auths key "" is no registry host; expected host[:port][/path]',
    ),
    bad(
      "a key with a user name",
      auths({}, "https://canary@registry.example.com/").replace("canary@", "u@"),
      "is no registry host",
    ),
    bad("a key with port 99999", auths({}, "registry.example.com:99999"), "is no registry host"),
    bad("10 MB", `${" ".repeat(10 << 20)}{}`, "is larger than 1048576 bytes"),
    good("a byte order mark", `\uFEFF${auths({ auth: base64("u:p") })}`),
    good("no auths", "{}"),
    good("auths null", '{"auths":null}'),
    good("an entry null", auths(null)),
    good("an empty entry", auths({})),
    good("credential helpers only", '{"credHelpers":{"gcr.io":"gcloud"},"credsStore":"desktop"}'),
    good(
      "fields of others",
      JSON.stringify({ auths: { REGISTRY: { auth: "", email: 7 } }, HttpHeaders: {}, __proto__: 1 }),
    ),
    good("a wildcard beside", auths({ auth: base64("u:p") }, "*.azurecr.io")),
    good("a million brackets beside", `{"x":${"[".repeat(400_000)}${"]".repeat(400_000)}}`),
  ]);
});

describe("what a token server answers", () => {
  const answers =
    (body: Uint8Array | string): Script =>
    ({ path, headers }) => {
      if (path.startsWith("/token")) return { body };
      const host = String(headers.host);
      return {
        status: 401,
        headers: { "www-authenticate": `Bearer realm="http://${host}/token",service="s"` },
      };
    };
  const bad = (name: string, body: Uint8Array | string): BadInput => ({
    name,
    dockerConfig,
    script: answers(body),
    exitCode: 77,
    code: "RegistryUnauthorized",
    says: ["token server REGISTRY answered without a usable token"],
    asks: [/manifests/, /^\/token\?service=s&scope=repository%3Aai%2Fmodel%3Apull$/],
  });
  testBadInputs("bad-tokens", [
    bad("nothing", ""),
    bad("a login page", "<html>sign in</html>"),
    bad("null", "null"),
    bad("a list", '["canary"]'),
    bad("the key in another case", '{"Token":"canary"}'),
    bad("the key of AWS", '{"AccessKeyId":"canary","Token":"canary"}'),
    bad("a list of tokens", '{"token":["canary"]}'),
    bad("a number", '{"token":7}'),
    bad("an empty token", '{"token":"","access_token":""}'),
    bad("a line break", json({ token: "canary\r\nx: y" })),
    bad("a space", '{"token":"canary a"}'),
    bad("a letter beyond ASCII", '{"token":"canary\u00e9"}'),
    bad("20,000 characters", JSON.stringify({ token: "c".repeat(20_000) })),
    bad("30,000 levels", "[".repeat(30_000)),
    {
      ...bad("more than 64 KiB", JSON.stringify({ token: "t", x: "x".repeat(70_000) })),
      exitCode: 65,
      code: "InvalidArtifact",
      says: ["the token server's answer is larger than 65536 bytes"],
    },
    {
      ...bad("a token that is not taken", '{"token":"t"}'),
      says: ["wants other credentials (401)"],
      asks: [/manifests/, /token/, /manifests/],
    },
  ]);
});
