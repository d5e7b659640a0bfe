import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { parseChallenges } from "../../../puller/oci/challenge.ts";

const read = (text: string): readonly (readonly [string, Readonly<Record<string, string>>])[] =>
  parseChallenges(text).map(({ scheme, parameters }) => [scheme, { ...parameters }]);

describe("WWW-Authenticate", () => {
  it.each([
    ["", []],
    ["Basic", [["basic", {}]]],
    ['Basic realm="r"', [["basic", { realm: "r" }]]],
    ['BEARER Realm="https://a/token",SERVICE="s"', [["bearer", { realm: "https://a/token", service: "s" }]]],
    ['Bearer realm = "r" , service=s', [["bearer", { realm: "r", service: "s" }]]],
    ['Bearer realm="a\\"b\\\\c,d=e"', [["bearer", { realm: 'a"b\\c,d=e' }]]],
    [
      'Basic realm="b", Bearer realm="t",service="s"',
      [
        ["basic", { realm: "b" }],
        ["bearer", { realm: "t", service: "s" }],
      ],
    ],
    [
      'Bearer realm="t", Basic',
      [
        ["bearer", { realm: "t" }],
        ["basic", {}],
      ],
    ],
    [', ,Bearer realm="t",,service="s",', [["bearer", { realm: "t", service: "s" }]]],
    [
      'Negotiate, NTLM, Basic realm="b"',
      [
        ["negotiate", {}],
        ["ntlm", {}],
        ["basic", { realm: "b" }],
      ],
    ],
    [
      'Negotiate YIIabc/+==, Bearer realm="t"',
      [
        ["negotiate", {}],
        ["bearer", { realm: "t" }],
      ],
    ],
    ['Bearer realm="first",realm="second"', [["bearer", { realm: "first" }]]],
    [
      'Bearer __proto__="x",constructor="y"',
      [["bearer", JSON.parse('{"__proto__":"x","constructor":"y"}') as object]],
    ],
    ['Bearer realm="unclosed', [["bearer", {}]]],
    [
      'Bearer realm="t" junk" service="s"',
      [
        ["bearer", { realm: "t" }],
        ["junk", {}],
      ],
    ],
    ['=x, Bearer realm="t"', []],
    ["Bearer scope=repository:a:pull", [["bearer", { scope: "repository" }]]],
  ] as const)("%s", (text, challenges) => {
    expect(read(text)).toEqual(challenges);
  });

  it("is read as it was written, several challenges too", () => {
    const token = fc.stringMatching(/^[A-Za-z][A-Za-z0-9-]{0,8}$/);
    const parameters = fc.uniqueArray(fc.tuple(token, fc.string()), {
      minLength: 1,
      maxLength: 5,
      selector: ([name]) => name.toLowerCase(),
    });
    const quote = (text: string): string => `"${text.replaceAll(/["\\]/g, "\\$&")}"`;
    fc.assert(
      fc.property(fc.array(fc.tuple(token, parameters), { maxLength: 4 }), (challenges) => {
        const text = challenges
          .map(
            ([scheme, each]) =>
              `${scheme} ${each.map(([name, value]) => `${name}=${quote(value)}`).join(", ")}`,
          )
          .join(", ");
        expect(read(text).map(([scheme, each]) => [scheme, Object.entries(each)])).toEqual(
          challenges.map(([scheme, each]) => [
            scheme.toLowerCase(),
            each.map(([name, value]) => [name.toLowerCase(), value]),
          ]),
        );
      }),
    );
  });

  it("of any text ends soon: no more than 8 KiB are read, 32 parameters kept", () => {
    const many = Array.from({ length: 10_000 }, (_, index) => `p${index}="v"`).join(",");
    expect(Object.keys(parseChallenges(`Bearer ${many}`)[0]?.parameters ?? {})).toHaveLength(32);
    for (const piece of ['"', "\\", "a=", 'a="', "a ", ",", " ", "Bearer ", "a".repeat(100), "==", 'x="\\']) {
      const startedMs = performance.now();
      parseChallenges(`Bearer ${piece.repeat(1_000_000 / piece.length)}`);
      expect(performance.now() - startedMs).toBeLessThan(300);
    }
    fc.assert(fc.property(fc.string({ unit: "binary" }), (text) => void parseChallenges(text)));
  });
});
