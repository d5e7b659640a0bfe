import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  credentialFor,
  loadCredentials,
  parseDockerConfig,
  parseKey,
} from "../../../puller/oci/credentials.ts";
import { parseReference } from "../../../puller/oci/reference.ts";

const base64 = (text: string): string => Buffer.from(text).toString("base64");
const config = (auths: Readonly<Record<string, unknown>>): string => JSON.stringify({ auths });
const user = (name: string): unknown => ({ auth: base64(`${name}:p`) });

describe("keys of a docker config", () => {
  it.each([
    ["registry.example.com", "registry.example.com", ""],
    ["https://registry.example.com", "registry.example.com", ""],
    ["HTTP://Registry.Example.com/", "registry.example.com", ""],
    ["https://registry.example.com/v1/", "registry.example.com", ""],
    ["https://registry.example.com/v2", "registry.example.com", ""],
    ["registry.example.com:5000/team/a/", "registry.example.com:5000", "team/a"],
    ["https://index.docker.io/v1/", "docker.io", ""],
    ["registry-1.docker.io", "docker.io", ""],
    ["docker.io/ai", "docker.io", "ai"],
    ["[::1]:5000", "[::1]:5000", ""],
    ["*.azurecr.io", "*.azurecr.io", ""],
    ["r.io/v2extra", "r.io", "v2extra"],
  ])("%s", (key, host, path) => {
    expect(parseKey(key)).toEqual({ host, path });
  });
});

describe("the credential for a reference", () => {
  const choose = (texts: readonly string[], reference: string): string | undefined => {
    const credential = credentialFor(
      texts.flatMap((text) => parseDockerConfig(text, "c")),
      parseReference(reference),
    );
    return credential?.username;
  };
  it.each<[string, readonly Readonly<Record<string, unknown>>[], string, string | undefined]>([
    ["the host's", [{ "r.io": user("a"), "s.io": user("b") }], "s.io/x", "b"],
    ["none for a subdomain", [{ "r.io": user("a") }], "x.r.io/x", undefined],
    ["none for a longer name", [{ "r.io": user("a") }], "r.io.evil.com/x", undefined],
    ["none for another port", [{ "r.io": user("a") }], "r.io:5000/x", undefined],
    [
      "the longest path",
      [{ "r.io": user("a"), "r.io/ai": user("b"), "r.io/ai/x": user("c") }],
      "r.io/ai/x/y",
      "c",
    ],
    ["whole components only", [{ "r.io": user("a"), "r.io/ai": user("b") }], "r.io/aix/y", "a"],
    ["no other path", [{ "r.io/ai": user("b") }], "r.io/other/y", undefined],
    ["the first file's", [{ "r.io": user("a") }, { "r.io": user("b") }], "r.io/x", "a"],
    ["the longest path of any file", [{ "r.io": user("a") }, { "r.io/x": user("b") }], "r.io/x/y", "b"],
    ["Docker Hub's by its old name", [{ "https://index.docker.io/v1/": user("a") }], "model", "a"],
    ["a wildcard's", [{ "*.azurecr.io": user("a") }], "mine.azurecr.io/x", "a"],
    ["no wildcard over dots", [{ "*.azurecr.io": user("a") }], "a.b.azurecr.io/x", undefined],
    ["no wildcard for the domain itself", [{ "*.azurecr.io": user("a") }], "azurecr.io/x", undefined],
    ["no wildcard for another port", [{ "*.azurecr.io": user("a") }], "mine.azurecr.io:5000/x", undefined],
    [
      "the exact name before a wildcard",
      [{ "*.azurecr.io/x": user("a"), "m.azurecr.io": user("b") }],
      "m.azurecr.io/x",
      "b",
    ],
    ["several wildcards", [{ "a*b*c.*.io": user("a") }], "aXbYc.r.io/x".toLowerCase(), "a"],
  ])("is %s", (_name, auths, reference, username) => {
    expect(choose(auths.map(config), reference)).toBe(username);
  });

  it("with wildcards is found in linear time", () => {
    const entries = parseDockerConfig(config({ [`${"*a".repeat(30)}b.io`]: user("a") }), "c");
    const startedMs = performance.now();
    expect(credentialFor(entries, { registry: `${"a".repeat(60)}.io`, repository: "x" })).toBeUndefined();
    expect(performance.now() - startedMs).toBeLessThan(1_000);
  });
});

describe("an entry", () => {
  const one = (entry: unknown): unknown => parseDockerConfig(config({ "r.io": entry }), "c")[0]?.credential;
  it("is a user and a password, whatever is in the password", () => {
    fc.assert(
      fc.property(
        fc
          .string({ minLength: 1, unit: "grapheme" })
          .filter((text) => !/[:\r\n\0]/.test(text) && text.isWellFormed()),
        fc.string({ unit: "grapheme" }).filter((text) => !/[\r\n\0]/.test(text) && text.isWellFormed()),
        (username, password) => {
          const expected = { kind: "basic", username, password };
          expect(one({ auth: base64(`${username}:${password}`) })).toEqual(expected);
          expect(one({ username, password })).toEqual(expected);
          expect(one({ auth: base64("other:secret"), username, password })).toEqual(expected);
        },
      ),
    );
  });
  it("may be base64 for URLs, padded with NUL, or an identity token", () => {
    expect(one({ auth: Buffer.from("u:??>>").toString("base64url") })).toMatchObject({ password: "??>>" });
    expect(one({ auth: base64("u:p\0\0") })).toMatchObject({ password: "p" });
    expect(one({ auth: base64("u:p"), identitytoken: "t" })).toEqual({
      kind: "identity-token",
      username: "u",
      token: "t",
    });
    expect(one({ auth: base64("u:p"), identitytoken: "t", registrytoken: "r" })).toEqual({
      kind: "registry-token",
      username: "u",
      token: "r",
    });
    expect(() => one({ registrytoken: "canary \n" })).toThrow(
      'docker config c: auths["r.io"].registrytoken has characters that a bearer token cannot have',
    );
    expect(one({ username: "u" })).toBeUndefined();
    expect(one({ email: "e" })).toBeUndefined();
  });
});

it("files are merged in order; the one that is wrong is named, its content is not", async () => {
  const directory = mkdtempSync(join(tmpdir(), "ocimodel-config-"));
  const [one, two] = [join(directory, "one"), join(directory, "two")];
  writeFileSync(one, config({ "r.io": user("a") }));
  writeFileSync(two, `\uFEFF${config({ "s.io": user("b") })}`);
  expect((await loadCredentials([two, one])).map(({ host }) => host)).toEqual(["s.io", "r.io"]);
  writeFileSync(two, '{"auths":{"r.io":{"auth":"canary"');
  await expect(loadCredentials([one, two])).rejects.toMatchObject({
    code: "InvalidConfiguration",
    message: expect.stringMatching(/^docker config .*two: it is not valid JSON$/),
  });
  rmSync(directory, { recursive: true });
});
