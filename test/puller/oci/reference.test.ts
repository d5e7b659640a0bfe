import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { AppError } from "../../../puller/oci/errors.ts";
import { formatReference, parseReference, shownReference } from "../../../puller/oci/reference.ts";

const sha256 = `sha256:${"a".repeat(64)}`;
const sha512 = `sha512:${"b".repeat(128)}`;

describe("references", () => {
  it.each([
    ["model", "docker.io/library/model:latest"],
    ["ai/model", "docker.io/ai/model:latest"],
    ["docker.io/model", "docker.io/library/model:latest"],
    ["index.docker.io/ai/model:x", "docker.io/ai/model:x"],
    ["registry-1.docker.io/ai/model:x", "docker.io/ai/model:x"],
    ["Docker.IO/ai/model:X", "docker.io/ai/model:X"],
    ["hf.co/org/model:Q4_K_M", "hf.co/org/model:Q4_K_M"],
    ["localhost/model", "localhost/model:latest"],
    ["localhost:5000/model", "localhost:5000/model:latest"],
    ["localhost:5000", "docker.io/library/localhost:5000"],
    ["host/model", "docker.io/host/model:latest"],
    ["host:80/model:x", "host:80/model:x"],
    ["registry.example.com/a/b/c/d:x", "registry.example.com/a/b/c/d:x"],
    ["REGISTRY.example.COM:0443/a:x", "registry.example.com:443/a:x"],
    ["10.0.0.1:5000/a:x", "10.0.0.1:5000/a:x"],
    ["[::1]:5000/a:x", "[::1]:5000/a:x"],
    ["[0:0:0:0:0:0:0:1]/a:x", "[::1]/a:x"],
    ["[::FFFF:127.0.0.1]/a:x", "[::ffff:7f00:1]/a:x"],
    ["xn--bcher-kva.example/a:x", "xn--bcher-kva.example/a:x"],
    ["r.io/a-b--c.d_e__f:x", "r.io/a-b--c.d_e__f:x"],
    [`r.io/a:${"T".repeat(128)}`, `r.io/a:${"T".repeat(128)}`],
    ["r.io/a:_", "r.io/a:_"],
    [`r.io/a@${sha256}`, `r.io/a@${sha256}`],
    [`r.io/a:x@${sha512}`, `r.io/a:x@${sha512}`],
    [`model@${sha256}`, `docker.io/library/model@${sha256}`],
  ])("%s is %s", (text, full) => {
    expect(formatReference(parseReference(text))).toBe(full);
    expect(parseReference(full)).toEqual(parseReference(text));
  });

  it("with a tag and a digest are those of the digest", () => {
    expect(parseReference(`r.io/a:x@${sha256}`)).toEqual({
      registry: "r.io",
      repository: "a",
      tag: "x",
      digest: sha256,
    });
  });

  const label = fc.stringMatching(/^[a-z][a-z0-9]{0,8}(-[a-z0-9]{1,4})?$/);
  const host = fc
    .tuple(label, label, fc.option(fc.integer({ min: 1, max: 65_535 })))
    .map(([one, two, port]) => `${one}.${two}${port === null ? "" : `:${port}`}`);
  const path = fc.stringMatching(/^[a-z0-9]{1,6}((\.|_|__|-{1,3})[a-z0-9]{1,4}){0,2}$/);
  const tag = fc.stringMatching(/^[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}$/);
  const digest = fc.stringMatching(/^sha256:[a-f0-9]{64}$/);

  it("are the same after writing and reading", () => {
    fc.assert(
      fc.property(
        fc.oneof(host, fc.constant("docker.io"), fc.constant("localhost:5000")),
        fc.array(path, { minLength: 2, maxLength: 4 }),
        fc.option(tag),
        fc.option(digest),
        (registry, paths, someTag, someDigest) => {
          const text = `${registry}/${paths.join("/")}${someTag === null ? "" : `:${someTag}`}${someDigest === null ? "" : `@${someDigest}`}`;
          const reference = parseReference(text);
          expect(parseReference(formatReference(reference))).toEqual(reference);
          expect(reference).toMatchObject({ registry, repository: paths.join("/") });
          // What is asked for is a URL of exactly this host and path.
          const url = new URL(
            `https://${reference.registry}/v2/${reference.repository}/manifests/${someDigest ?? someTag ?? "latest"}`,
          );
          expect(url.pathname.split("/").length).toBe(4 + paths.length);
        },
      ),
    );
  });

  it("or InvalidReference, for any text, in little time", () => {
    const part = fc.oneof(
      fc.string(),
      fc.constantFrom("/", ":", "@", ".", "..", "[", "]", "%2e", "\n", sha256, "docker.io", "::1"),
    );
    fc.assert(
      fc.property(fc.array(part, { maxLength: 8 }), (parts) => {
        const text = parts.join("");
        try {
          const reference = parseReference(text);
          expect(formatReference(reference)).toMatch(/^[a-zA-Z0-9._:@/[\]-]+$/);
          expect(new URL(`https://${reference.registry}`).hostname).not.toBe("");
        } catch (error) {
          expect(error).toBeInstanceOf(AppError);
          expect((error as AppError).code).toBe("InvalidReference");
        }
      }),
      { numRuns: 1000 },
    );
    for (const character of ["a", "a-", ":", "@", "/", "[", "a.", "_"]) {
      const startedMs = performance.now();
      expect(() => parseReference(character.repeat(500_000))).toThrow(AppError);
      expect(performance.now() - startedMs).toBeLessThan(1000);
    }
  });

  it("are shown without a password, and never without end", () => {
    expect(shownReference("u:canary@r.io/a:x")).toBe("***@r.io/a:x");
    expect(shownReference("https://u:canary@r.io/a:x")).toBe("https://***@r.io/a:x");
    for (const secret of ["u:can/ary", "u:can@ary", "u:c/a@n/ary", "canary", "u:@canary@", "u:canary:x"]) {
      for (const rest of ["r.io/a:x", "r.io:5000/a/b", `r.io/a:x@${sha256}`]) {
        expect(shownReference(`${secret}@${rest}`)).toBe(`***@${rest}`);
        expect(shownReference(`https://${secret}@${rest}`)).toBe(`https://***@${rest}`);
      }
    }
    const long = `u:${"canary".repeat(100)}@r.io/A`;
    expect(() => parseReference(long)).toThrow("it holds a user name");
    expect(() => parseReference(long)).not.toThrow("canary");
    expect(shownReference("r.io:5000/a@sha1:ab")).toBe("r.io:5000/a@sha1:ab");
    expect(shownReference("https://r.io/a@sha1:ab")).toBe("https://r.io/a@sha1:ab");
    expect(shownReference(`r.io/a:x@${sha256}`)).toBe(`r.io/a:x@${sha256}`);
    expect(shownReference(`a:x@${sha512}`)).toBe(`a:x@${sha512}`);
    expect(shownReference("\ud83d\ude00".repeat(10_000)).length).toBeLessThan(600);
  });
});
