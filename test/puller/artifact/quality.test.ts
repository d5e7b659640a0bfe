import fc from "fast-check";
import { describe, expect, test } from "vitest";

import { quantizationName } from "../../../puller/artifact/gguf-types.ts";
import {
  compareQuality,
  knownQuantizations,
  parameterCount,
  quantizationBits,
  type Graded,
} from "../../../puller/artifact/quality.ts";

describe("quantizationBits", () => {
  test("falls from name to name of the table, so that no two are equal", () => {
    const bits = knownQuantizations.map((name) => quantizationBits(name) ?? Number.NaN);
    expect(bits).toEqual([...bits].sort((one, other) => other - one));
    expect(new Set(bits).size).toBe(bits.length);
  });

  test("knows every quantization that a GGUF header can name", () => {
    const names = Array.from({ length: 64 }, (_, type) => quantizationName(type)).filter(
      (name) => name !== undefined,
    );
    expect(names.length).toBeGreaterThan(30);
    expect(names.filter((name) => quantizationBits(name) === undefined)).toEqual([]);
  });

  test.each([
    ["MOSTLY_Q4_K_M", "Q4_K_M"],
    ["q4_k_m", "Q4_K_M"],
    ["UD-Q4_K_XL", "Q4_K_XL"],
    ["IQ2_XXS/Q4_K_M", "IQ2_XXS"],
    ["float16", "F16"],
    ["F8_E4M3", "FP8"],
  ])("%s is as good as %s", (name, same) => {
    expect(quantizationBits(name)).toBe(quantizationBits(same));
  });

  test.each(["", "mixed", "Q99", "Q4_K_M/strange"])("%j is not known", (name) => {
    expect(quantizationBits(name)).toBeUndefined();
  });
});

test.each([
  ["8.03B", 8.03e9],
  ["361.82 M", 361.82e6],
  ["183", 183],
  ["1.1t", 1.1e12],
  ["30B-A3B", 30e9],
  ["n/a", undefined],
  ["8.03 billion", undefined],
  ["", undefined],
])("%j are %s parameters", (text, count) => {
  expect(parameterCount(text)).toBe(count);
});

describe("compareQuality", () => {
  const sorted = (...variants: readonly Graded[]): readonly Graded[] => [...variants].sort(compareQuality);

  test("more parameters, then more bits, then more bytes", () => {
    const best: Graded = { parameters: "8.19B", quantization: "F16" };
    const good: Graded = { parameters: "8.03B", quantization: "Q8_0" };
    const larger: Graded = { parameters: "8.03B", quantization: "Q4_K_M", weightBytes: 5e9 };
    const fair: Graded = { parameters: "8.03B", quantization: "MOSTLY_Q4_K_M", weightBytes: 4.9e9 };
    const small: Graded = { parameters: "596.05M", quantization: "F32" };
    const unknown: Graded = { parameters: "596.05M", quantization: "mixed" };
    expect(sorted(unknown, small, fair, larger, good, best)).toEqual([
      best,
      good,
      larger,
      fair,
      small,
      unknown,
    ]);
  });

  test("judges by the size of the weights what has an unknown name", () => {
    const named: Graded = { parameters: "8B", quantization: "Q4_K_M" };
    const eightBits: Graded = { parameters: "8B", quantization: "w8a8", weightBytes: 8e9 };
    const threeBits: Graded = { parameters: "8B", quantization: "exotic", weightBytes: 3e9 };
    expect(sorted(threeBits, named, eightBits)).toEqual([eightBits, named, threeBits]);
  });

  test("is a total order", () => {
    const graded = fc.record(
      {
        quantization: fc.constantFrom("F16", "Q8_0", "Q4_K_M", "mixed", "q4_0"),
        parameters: fc.constantFrom("8B", "8.03B", "0", "600M", "nonsense"),
        weightBytes: fc.integer({ min: 0, max: 1e12 }),
      },
      { requiredKeys: [] },
    );
    fc.assert(
      fc.property(graded, graded, graded, (a, b, c) => {
        expect(Math.sign(compareQuality(a, b))).toBe(-Math.sign(compareQuality(b, a)) + 0);
        if (compareQuality(a, b) <= 0 && compareQuality(b, c) <= 0)
          expect(compareQuality(a, c)).toBeLessThanOrEqual(0);
      }),
    );
  });
});
