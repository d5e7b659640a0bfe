import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { duplicateKey } from "../../../puller/oci/duplicate-keys.ts";
import { parseJsonObject } from "../../../puller/oci/strict-json.ts";

describe("a key that stands twice", () => {
  test.each([
    ['{"a":1,"a":2}', "a"],
    ['{"a":{"b":1,"c":[{"d":1,"d":2}]}}', "d"],
    ['{"a":1,"\\u0061":2}', "a"],
    ['{"":1,"":2}', ""],
    ['[{"x":1},{"y":1,"y":1}]', "y"],
    ['{"__proto__":1,"__proto__":2}', "__proto__"],
  ])("%s: %s", (text, key) => {
    expect(duplicateKey(text)).toBe(key);
  });

  test.each([
    '{"a":{"a":1},"b":{"a":2}}',
    '["a","a",{"b":"b"}]',
    '{"a":"\\"a\\":1,\\"a\\"","b":"{\\"b\\":"}',
    '{"a":[{"k":1},{"k":2}]}',
    "{}",
  ])("%s has none", (text) => {
    expect(duplicateKey(text)).toBeUndefined();
  });

  test("no document that was written from a value has one, whatever its strings hold", () => {
    fc.assert(
      fc.property(fc.jsonValue({ noUnicodeString: false }), (value) => {
        expect(duplicateKey(JSON.stringify(value))).toBeUndefined();
      }),
    );
  });

  test("the time is linear, and depth does not matter", () => {
    const deep = `${"[".repeat(200_000)}${"]".repeat(200_000)}`;
    expect(duplicateKey(deep)).toBeUndefined();
  });

  test("nor does the length of a string, plain or escaped", () => {
    const long = JSON.stringify({ a: "x".repeat(20_000_000), b: "\n".repeat(10_000_000) });
    expect(duplicateKey(long)).toBeUndefined();
    expect(duplicateKey(`${long.slice(0, -1)},"a":1}`)).toBe("a");
  });

  test("a manifest with one is refused, and says which key it is", () => {
    expect(() => parseJsonObject(Buffer.from('{"layers":[],"layers":[1]}'), "manifest")).toThrow(
      "the manifest has a key layers twice in one object, and so two meanings",
    );
  });
});
