// B3: answers that are no good HTTP, or strange HTTP. Bytes as they come over the socket, in place of the manifest and of the blob.

import { describe } from "vitest";
import type { Script } from "../registry/scripted-registry.ts";
import { manifestJson, serveManifest, testBadInputs, type BadInput } from "./bad-input.ts";

const manifest = JSON.stringify(manifestJson());
const type = "content-type: application/vnd.oci.image.manifest.v1+json\r\n";
const length = `content-length: ${manifest.length}\r\n`;
const ok = `HTTP/1.1 200 OK\r\n${type}`;
const raw =
  (bytes: string): Script =>
  (request) =>
    request.path.includes("/manifests/") ? { raw: bytes } : serveManifest()(request);

type Row = readonly [name: string, bytes: string, exitCode: number, code: BadInput["code"], says: string];
const unreachable = [69, "RegistryUnreachable", "REGISTRY cannot be reached"] as const;
const invalid = [65, "InvalidArtifact"] as const;
const refused = [77, "PolicyRefused"] as const;
const ready = [0, "Ready", "is complete"] as const;
const location = (value: string): string =>
  `HTTP/1.1 307 R\r\nlocation: ${value}\r\ncontent-length: 0\r\n\r\n`;

const rows: readonly Row[] = [
  ["nothing", "", ...unreachable],
  ["no HTTP", "SSH-2.0-OpenSSH_9\r\n", ...unreachable],
  ["HTTP/0.9", manifest, ...unreachable],
  ["two lengths that differ", `${ok}content-length: 5\r\n${length}\r\n${manifest}`, ...unreachable],
  ["a negative length", `${ok}content-length: -1\r\n\r\n${manifest}`, ...unreachable],
  ["a length of words", `${ok}content-length: many\r\n\r\n${manifest}`, ...unreachable],
  ["a length of 2^70", `${ok}content-length: 1180591620717411303424\r\n\r\n${manifest}`, ...unreachable],
  ["a longer length", `${ok}content-length: ${manifest.length + 1}\r\n\r\n${manifest}`, ...unreachable],
  ["a shorter length", `${ok}content-length: 9\r\n\r\n${manifest}`, ...invalid, "not valid JSON"],
  ["length and chunks", `${ok}${length}transfer-encoding: chunked\r\n\r\n${manifest}`, ...unreachable],
  [
    "a chunk of bad size",
    `${ok}transfer-encoding: chunked\r\n\r\nZZ\r\n${manifest}\r\n0\r\n\r\n`,
    ...unreachable,
  ],
  [
    "chunks without end",
    `${ok}transfer-encoding: chunked\r\n\r\n${manifest.length.toString(16)}\r\n${manifest}\r\n`,
    ...unreachable,
  ],
  [
    "a chunk with trailers",
    `${ok}transfer-encoding: chunked\r\n\r\n${manifest.length.toString(16)}\r\n${manifest}\r\n0\r\nx: y\r\n\r\n`,
    ...ready,
  ],
  ["no length: until the end", `${ok}connection: close\r\n\r\n${manifest}`, ...ready],
  [
    "40,000 bytes of header",
    `${ok}x: ${"a".repeat(40_000)}\r\n${length}\r\n${manifest}`,
    ...invalid,
    "more than 32768 bytes of headers",
  ],
  [
    "10,000 headers",
    `${ok}${"x: yyyy\r\n".repeat(10_000)}${length}\r\n${manifest}`,
    ...invalid,
    "more than 32768 bytes of headers",
  ],
  ["a header without colon", `${ok}broken\r\n${length}\r\n${manifest}`, ...unreachable],
  ["a NUL in a header", `${ok}x: a\u0000b\r\n${length}\r\n${manifest}`, ...unreachable],
  [
    "100 times 103",
    `${"HTTP/1.1 103 Early Hints\r\n\r\n".repeat(100)}${ok}${length}\r\n${manifest}`,
    ...ready,
  ],
  ["101", "HTTP/1.1 101 Switching\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n", ...unreachable],
  [
    "204",
    "HTTP/1.1 204 No Content\r\n\r\n",
    ...invalid,
    "answered 204 for the manifest, which makes no sense there",
  ],
  [
    "206 to a plain GET",
    `HTTP/1.1 206 P\r\ncontent-range: bytes 0-1/2\r\n${length}\r\n${manifest}`,
    ...invalid,
    "answered 206",
  ],
  ["304", "HTTP/1.1 304 Not Modified\r\n\r\n", ...invalid, "answered 304"],
  ["300", "HTTP/1.1 300 Choices\r\ncontent-length: 0\r\n\r\n", ...invalid, "answered 300"],
  ["418", "HTTP/1.1 418 Teapot\r\ncontent-length: 0\r\n\r\n", ...invalid, "answered 418"],
  [
    "451",
    "HTTP/1.1 451 Legal\r\ncontent-length: 0\r\n\r\n",
    ...refused,
    "withholds the manifest for legal reasons (451)",
  ],
  [
    "a login page",
    "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 6\r\n\r\n<html>",
    ...invalid,
    "not valid JSON",
  ],
  [
    "an encoding",
    `${ok}content-encoding: gzip\r\n${length}\r\n${manifest}`,
    ...invalid,
    "Content-Encoding although none was asked for",
  ],
  [
    "an encoding a thousand times",
    `${ok}content-encoding: ${"gzip, ".repeat(1000)}br\r\n${length}\r\n${manifest}`,
    ...invalid,
    "Content-Encoding",
  ],
  ["the encoding identity", `${ok}content-encoding: identity\r\n${length}\r\n${manifest}`, ...ready],
  ["no type", `HTTP/1.1 200 OK\r\n${length}\r\n${manifest}`, ...ready],
  [
    "the type text/plain",
    `HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n${length}\r\n${manifest}`,
    ...ready,
  ],
  [
    "a redirect to nowhere",
    "HTTP/1.1 307 R\r\ncontent-length: 0\r\n\r\n",
    ...refused,
    "answered 307 without one Location header",
  ],
  ["an empty redirect", location(""), ...refused, "without one Location header"],
  [
    "two redirects at once",
    "HTTP/1.1 302 R\r\nlocation: /a\r\nlocation: /b\r\ncontent-length: 0\r\n\r\n",
    ...refused,
    "without one Location header",
  ],
  ["a redirect to a file", location("file:///etc/passwd"), ...refused, "scheme file:"],
  ["a redirect to data", location("data:application/json,{}"), ...refused, "scheme data:"],
  [
    "a redirect with a user name",
    location("http://a:b@example.com/"),
    ...refused,
    "the URL holds a user name",
  ],
  ["a redirect to metadata", location("http://169.254.169.254/latest"), ...refused, "169.254.169.254"],
  ["a redirect without end", location("/v2/ai/model/manifests/x"), ...refused, "redirects more than 5 times"],
  ["a redirect that is no URL", location("https://[::"), ...refused, "named a URL that is none"],
];

describe("in place of the manifest", () => {
  testBadInputs(
    "bad-http",
    rows.map(([name, bytes, exitCode, code, says]): BadInput => ({
      name,
      script: raw(bytes),
      exitCode,
      code,
      says: [says],
    })),
  );
});
