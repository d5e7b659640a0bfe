import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { headEnd, parseResponseHead } from "../../../puller/transfer/response-head.ts";

const parse = async (...lines: readonly string[]) =>
  parseResponseHead(Buffer.from(`${lines.join("\r\n")}\r\n\r\n`, "latin1"), 32_768);

describe("the head of a response", () => {
  test("is read, names in small letters, what came twice as a list", async () => {
    const head = await parse(
      "HTTP/1.1 206 Partial Content",
      "Content-Length: 5",
      "X-One: a",
      "x-one: b",
      'ETag: "x"',
    );
    expect(head).toMatchObject({ status: 206, isKeptAlive: true });
    expect(head.headers).toMatchObject({ "content-length": "5", "x-one": ["a", "b"], etag: '"x"' });
    expect(Object.getPrototypeOf(head.headers)).toBeNull();
  });
  test.each([
    [["HTTP/1.1 200 OK", "Content-Length: 5", "Connection: close"], false],
    [["HTTP/1.1 200 OK", "Content-Length: 5", "Connection: Keep-Alive, Close"], false],
    [["HTTP/1.0 200 OK", "Content-Length: 5"], false],
    [["HTTP/1.0 200 OK", "Content-Length: 5", "Connection: keep-alive"], false],
    [["HTTP/1.1 200", "Content-Length: 5"], true],
  ])("%j: kept alive %j", async (lines, isKeptAlive) => {
    expect((await parse(...lines)).isKeptAlive).toBe(isKeptAlive);
  });
  test.each([
    ["two lengths", ["HTTP/1.1 200 OK", "Content-Length: 5", "Content-Length: 6"]],
    ["the same length twice", ["HTTP/1.1 200 OK", "Content-Length: 5", "Content-Length: 5"]],
    ["a negative length", ["HTTP/1.1 200 OK", "Content-Length: -5"]],
    ["a length with a sign", ["HTTP/1.1 200 OK", "Content-Length: +5"]],
    ["a length in hex", ["HTTP/1.1 200 OK", "Content-Length: 0x5"]],
    ["a length beyond 64 bits", ["HTTP/1.1 200 OK", "Content-Length: 99999999999999999999999"]],
    ["a length beside a coding", ["HTTP/1.1 200 OK", "Content-Length: 5", "Transfer-Encoding: chunked"]],
    ["a folded line", ["HTTP/1.1 200 OK", "X-One: a", " b", "Content-Length: 5"]],
    ["a control character in a value", ["HTTP/1.1 200 OK", "X-One: a\u0001b", "Content-Length: 5"]],
    ["NUL in a value", ["HTTP/1.1 200 OK", "X-One: a\u0000b", "Content-Length: 5"]],
    ["a space before the colon", ["HTTP/1.1 200 OK", "Content-Length : 5"]],
    ["no status", ["HTTP/1.1 OK"]],
    ["another protocol", ["ICY 200 OK"]],
    ["HTTP/0.9", ["<html>"]],
    ["HTTP/2 in plain", ["HTTP/2 200 OK"]],
    ["too many bytes", ["HTTP/1.1 200 OK", `X-One: ${"a".repeat(40_000)}`, "Content-Length: 5"]],
  ])("with %s is refused", async (_name, lines) => {
    await expect(parse(...lines)).rejects.toMatchObject({
      code: expect.stringMatching(/^(HPE_|ERR_|ECONN)/),
    });
  });
  test.each([100, 103])("%d is told as what it is", async (status) => {
    expect(await parse(`HTTP/1.1 ${status} Wait`)).toEqual({ status, headers: {}, isKeptAlive: false });
  });
  test("101 is told as what it is, which nobody asked for", async () => {
    const head = parse("HTTP/1.1 101 Switching", "Connection: Upgrade", "Upgrade: h2c");
    expect(await head).toEqual({ status: 101, headers: {}, isKeptAlive: false });
  });
  test("may have as many bytes as it is given, whatever Node would take by itself", async () => {
    const head = (bytes: number): Buffer => Buffer.from(`HTTP/1.1 200 OK\r\nX: ${"a".repeat(bytes)}\r\n\r\n`);
    expect((await parseResponseHead(head(20_000), 32_768)).status).toBe(200);
    await expect(parseResponseHead(head(2_000), 1_000)).rejects.toMatchObject({
      code: "HPE_HEADER_OVERFLOW",
    });
  });
  test("ends at the first empty line, however it is split", () => {
    fc.assert(
      fc.property(
        fc.string({ maxLength: 40 }),
        fc.string({ maxLength: 40 }),
        fc.nat(80),
        (before, after, split) => {
          const head = Buffer.from(`HTTP/1.1 200 OK\r\nX: ${before.replaceAll(/[\r\n]/g, "")}\r\n\r\n`);
          const bytes = Buffer.concat([head, Buffer.from(after)]);
          const at = Math.min(split, bytes.length);
          const first = headEnd(bytes.subarray(0, at), 0);
          expect(first === -1 ? headEnd(bytes, at) : first).toBe(head.length);
        },
      ),
    );
  });
  test("of any bytes is a head or a refusal, never anything else", async () => {
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 200 }), async (bytes) => {
        const all = Buffer.concat([Buffer.from("HTTP/1.1 200 OK\r\n"), bytes, Buffer.from("\r\n\r\n")]);
        const head = all.subarray(0, headEnd(all, 0));
        await parseResponseHead(head, 32_768).then(
          ({ status }) => {
            expect(status).toBe(200);
          },
          (error: unknown) => {
            expect(error).toBeInstanceOf(Error);
          },
        );
      }),
      { numRuns: 200 },
    );
  });
});
