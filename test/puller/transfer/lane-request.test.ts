import { expect, test } from "vitest";
import { FastPathRefused } from "../../../puller/oci/errors.ts";
import { laneRequest } from "../../../puller/transfer/data-plane.ts";

const hop = (authorization: string) => ({
  method: "GET" as const,
  url: new URL("http://registry.example:5000/v2/a/blobs/sha256:x?ns=b"),
  anyAddress: false,
  isProxied: false,
  headers: { range: "bytes=0-9", authorization },
  stallCode: "TransferStalled" as const,
});

test("a request is a line and header lines, to a target whose address is judged", () => {
  expect(laneRequest(hop("Bearer t"))).toEqual({
    target: { isSecure: false, hostname: "registry.example", port: 5000, isGuarded: true },
    head: "GET /v2/a/blobs/sha256:x?ns=b HTTP/1.1\r\nhost: registry.example:5000\r\nrange: bytes=0-9\r\nauthorization: Bearer t",
    stallCode: "TransferStalled",
  });
});

// It would be more lines, by itself or by the lower half of each of its characters, which is what is sent.
test.each(["a\r\nx: y", "a\nx: y", "a\rb", "a\u0000b", "a\u007fb", "a\u010ab", "a\u{1f600}", "a\u{1340a}"])(
  "a header value of %j is not sent",
  (value) => {
    expect(() => laneRequest(hop(`Bearer ${value}`))).toThrow(FastPathRefused);
  },
);
