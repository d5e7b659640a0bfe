// What annotations, image compatibility artifacts and names say, without a registry.

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { stringify } from "yaml";

import { maxRequirementsBytes, maxVariantNameLength } from "../../../puller/contract.ts";
import { annotationKeys, mergeRequirements, readAnnotations } from "../../../puller/discovery/annotations.ts";
import { readCompatibility } from "../../../puller/discovery/image-compatibility.ts";
import { leftOutMessage } from "../../../puller/discovery/left-out.ts";
import { bestTag, variantNames } from "../../../puller/discovery/variant-names.ts";
import { digestOf } from "../artifact/manifest-builder.ts";

describe("readAnnotations", () => {
  test("reads every key", () => {
    expect(
      readAnnotations({
        "dev.ocimodel.variant.name": "q4-gpu",
        "dev.ocimodel.model.quantization": "MOSTLY_Q4_K_M",
        "dev.ocimodel.model.parameters": "8.03B",
        "dev.ocimodel.accelerator.vendor": "nvidia",
        "dev.ocimodel.accelerator.count": "2",
        "dev.ocimodel.accelerator.memory": "20.5Gi",
        "dev.ocimodel.accelerator.products": "*L4*, *H100*",
        "dev.ocimodel.accelerator.compute-capability": "8.9",
        "dev.ocimodel.cpu.architectures": "amd64,arm64",
        "dev.ocimodel.cpu.features": "AVX512F",
        "dev.ocimodel.memory": "8Gi",
        "org.opencontainers.image.title": "anything",
      }),
    ).toEqual({
      name: "q4-gpu",
      quantization: "Q4_K_M",
      parameters: "8.03B",
      requirements: {
        accelerator: {
          vendor: "nvidia",
          count: 2,
          memoryPerDevice: "20.5Gi",
          products: ["*L4*", "*H100*"],
          minComputeCapability: "8.9",
        },
        architectures: ["amd64", "arm64"],
        cpuFeatures: ["AVX512F"],
        memory: "8Gi",
      },
    });
    expect(readAnnotations({})).toEqual({});
    expect(readAnnotations({ [annotationKeys.vendor]: "none" })).toEqual({
      requirements: { accelerator: { vendor: "none" } },
    });
  });

  test.each([
    ["dev.ocimodel.variant.name", "Q4_K_M", "a name of at most 52 lower-case letters, digits and hyphens"],
    ["dev.ocimodel.variant.name", "a".repeat(53), "a name of at most 52"],
    ["dev.ocimodel.model.quantization", "a\nb", "a word of at most 64 characters"],
    ["dev.ocimodel.accelerator.vendor", "NVIDIA", "nvidia, amd, intel, habana or none"],
    ["dev.ocimodel.accelerator.count", "0", "a whole number from 1 to 64"],
    ["dev.ocimodel.accelerator.count", "65", "a whole number from 1 to 64"],
    ["dev.ocimodel.accelerator.memory", "20 GB", "a quantity such as 20Gi"],
    ["dev.ocimodel.accelerator.compute-capability", "8", "a version such as 8.9"],
    ["dev.ocimodel.cpu.architectures", "amd64,,arm64", "at most 8 architectures"],
    ["dev.ocimodel.cpu.features", "avx2", "at most 32 flags such as AVX512F"],
    ["dev.ocimodel.memory", "-1", "a quantity such as 20Gi"],
  ])("refuses %s %j", (key, value, expected) => {
    expect(() => readAnnotations({ [key]: value })).toThrow(
      `annotation ${key} is ${JSON.stringify(value)}, not ${expected}`,
    );
  });

  test("refuses keys it does not know, and needs of devices without a vendor", () => {
    expect(() => readAnnotations({ "dev.ocimodel.memmory": "8Gi" })).toThrow(
      'annotation "dev.ocimodel.memmory" is not known',
    );
    for (const vendor of [{}, { "dev.ocimodel.accelerator.vendor": "none" }])
      expect(() => readAnnotations({ ...vendor, "dev.ocimodel.accelerator.memory": "8Gi" })).toThrow(
        "annotation dev.ocimodel.accelerator.memory needs dev.ocimodel.accelerator.vendor beside it",
      );
  });

  test("never fails but with a reason, whatever the values are", () => {
    const key = fc.constantFrom(...Object.values(annotationKeys));
    fc.assert(
      fc.property(fc.dictionary(key, fc.oneof(fc.string(), fc.constantFrom("nvidia", "8Gi", "2"))), (all) => {
        try {
          readAnnotations(all);
        } catch (error) {
          expect(error).toMatchObject({ code: "InvalidArtifact" });
        }
      }),
    );
  });
});

test("needs of several places are merged field by field, and are not endless", () => {
  expect(
    mergeRequirements({ memory: "8Gi" }, { memory: "1Gi", architectures: ["amd64"] }, undefined, {
      accelerator: { vendor: "amd" },
    }),
  ).toEqual({ memory: "8Gi", architectures: ["amd64"], accelerator: { vendor: "amd" } });
  expect(mergeRequirements(undefined, undefined)).toBeUndefined();
  const products = Array.from({ length: 16 }, (_, number) => `*${"x".repeat(40)}${number}*`);
  expect(() => mergeRequirements({ accelerator: { vendor: "nvidia", products } })).toThrow(
    `longer than ${maxRequirementsBytes} bytes`,
  );
});

describe("readCompatibility", () => {
  const read = (...compatibilities: readonly object[]) =>
    readCompatibility(new TextEncoder().encode(stringify({ version: "v1alpha1", compatibilities })));
  const rules = (...matchFeatures: readonly object[]): object => ({ rules: [{ name: "r", matchFeatures }] });
  const label = "feature.node.kubernetes.io/";

  test("all rules of a set together, any set of several, more weight first", () => {
    expect(
      read(
        {
          weight: 1,
          rules: [
            {
              name: "kernel and cpu",
              matchFeatures: [
                { feature: "kernel.version", matchExpressions: { major: { op: "Gt", value: ["5"] } } },
                {
                  feature: "cpu.model",
                  matchExpressions: { vendor_id: { op: "In", value: ["Intel", "AMD"] } },
                },
              ],
            },
            {
              name: "one of two devices",
              matchAny: [
                {
                  matchFeatures: [
                    {
                      feature: "pci.device",
                      matchExpressions: {
                        vendor: { op: "In", value: ["10de"] },
                        class: { op: "In", value: ["0302"] },
                      },
                    },
                  ],
                },
                {
                  matchFeatures: [{ feature: "cpu.cpuid", matchExpressions: { AMXTILE: { op: "Exists" } } }],
                },
              ],
            },
          ],
        },
        {
          weight: 90,
          ...rules({ feature: "system.osrelease", matchExpressions: { ID: { op: "In", value: "debian" } } }),
        },
      ),
    ).toEqual({
      nodeSelectorTerms: [
        { matchExpressions: [{ key: `${label}system-os_release.ID`, operator: "In", values: ["debian"] }] },
        ...[
          { key: `${label}pci-0302_10de.present`, operator: "In", values: ["true"] },
          { key: `${label}pci-10de.present`, operator: "In", values: ["true"] },
          { key: `${label}cpu-cpuid.AMXTILE`, operator: "Exists" },
        ].map((last) => ({
          matchExpressions: [
            { key: `${label}kernel-version.major`, operator: "Gt", values: ["5"] },
            { key: `${label}cpu-model.vendor_id`, operator: "In", values: ["Intel", "AMD"] },
            last,
          ],
        })),
      ],
    });
  });

  test.each([
    [
      rules({ feature: "kernel.loadedmodule", matchExpressions: { vfio: { op: "Exists" } } }),
      'feature "kernel.loadedmodule"',
    ],
    [
      rules({ feature: "cpu.model", matchExpressions: { stepping: { op: "Exists" } } }),
      'feature "cpu.model stepping"',
    ],
    [
      rules({ feature: "cpu.cpuid", matchExpressions: { "AVX.*": { op: "InRegexp", value: ["x"] } } }),
      "no node label can have",
    ],
    [
      rules({ feature: "cpu.cpuid", matchExpressions: { AVX2: { op: "InRegexp", value: ["x"] } } }),
      'by "InRegexp"',
    ],
    [rules({ feature: "cpu.cpuid", matchName: { op: "InRegexp", value: ["AVX"] } }), "matches names"],
    [rules({ feature: "cpu.cpuid" }), 'asks for nothing of feature "cpu.cpuid"'],
    [rules(), "has a rule that asks for nothing"],
    [
      rules({ feature: "pci.device", matchExpressions: { device: { op: "In", value: ["1"] } } }),
      'PCI devices by "device"',
    ],
    [
      rules({ feature: "kernel.version", matchExpressions: { major: { op: "Gt", value: ["5", "6"] } } }),
      "no node label can have",
    ],
    [
      rules(
        ...Array.from({ length: 2 }, () => ({
          feature: "pci.device",
          matchExpressions: { vendor: { op: "In", value: ["1", "2", "3"] } },
        })),
      ),
      "has more than 8 alternatives",
    ],
    [{ rules: [] }, 'is malformed at "compatibilities.0.rules"'],
  ])("refuses %j", (set, message) => {
    expect(() => read(set)).toThrow(message);
  });

  test("refuses what is no YAML, another version, and aliases that multiply", () => {
    const text = (yaml: string) => () => readCompatibility(new TextEncoder().encode(yaml));
    expect(text("a: [")).toThrow("is no YAML in UTF-8");
    expect(() => readCompatibility(new Uint8Array([0xff]))).toThrow("is no YAML in UTF-8");
    expect(text("version: v2\ncompatibilities: []")).toThrow('is malformed at "version"');
    const bomb = Array.from({ length: 12 }, (_, level) =>
      level === 0
        ? "a0: &a0 [x]"
        : `a${level}: &a${level} [${Array.from({ length: 9 }, () => `*a${level - 1}`).join(",")}]`,
    ).join("\n");
    expect(text(bomb)).toThrow("is no YAML in UTF-8");
  });

  test("never fails but with a reason", () => {
    fc.assert(
      fc.property(fc.json(), (json) => {
        expect(() => readCompatibility(new TextEncoder().encode(json))).toThrow(
          expect.objectContaining({ code: "InvalidArtifact" }) as Error,
        );
      }),
    );
  });
});

describe("names", () => {
  const digest = (number: number): string => digestOf(String(number));

  test.each([
    [{ stated: "mine", tag: "8B-Q4_K_M" }, "mine"],
    [{ tag: "8B-Q4_K_M", quantization: "Q8_0" }, "8b-q4-k-m"],
    [{ tag: "0.6B__Q4" }, "0-6b-q4"],
    [{ tag: "latest", parameters: "8.03B", quantization: "Q4_K_M" }, "8-03b-q4-k-m"],
    [{ quantization: "F16" }, "f16"],
    [{ parameters: "8B" }, `gguf-${digest(1).slice(7, 19)}`],
    [{ tag: "___" }, `gguf-${digest(1).slice(7, 19)}`],
  ])("%j is %s", (named, expected) => {
    expect(variantNames([{ digest: digest(1), format: "gguf", ...named }])).toEqual([expected]);
  });

  test("are valid, unique, at most 52 characters, and do not depend on the order", () => {
    const text = fc.oneof(
      fc.string({ maxLength: 128 }),
      fc.constantFrom("8B-Q4_K_M", "8b-q4-k-m", "x".repeat(128)),
    );
    const named = fc.record({ tag: text, quantization: text, parameters: text }, { requiredKeys: [] });
    fc.assert(
      fc.property(fc.array(named, { maxLength: 16 }), (all) => {
        const inputs = all.map((each, number) => ({ digest: digest(number), format: "gguf", ...each }));
        const names = variantNames(inputs);
        expect(new Set(names).size).toBe(names.length);
        for (const name of names) {
          expect(name).toMatch(/^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/);
          expect(name.length).toBeLessThanOrEqual(maxVariantNameLength);
        }
        expect([...variantNames([...inputs].reverse())].reverse()).toEqual(names);
      }),
    );
  });

  test("the tag that tells most gives the name", () => {
    expect(bestTag(["latest", "8B", "8B-Q4_K_M", "a-very-long-name"], "Q4_K_M")).toBe("8B-Q4_K_M");
    expect(bestTag(["latest", "8B"], undefined)).toBe("latest");
    expect(bestTag(["b", "a"], "Q4_0")).toBe("a");
    expect(bestTag([], "Q4_0")).toBeUndefined();
  });
});

test("what was left out is told in bounded text", () => {
  const out = Array.from({ length: 50 }, (_, number) => ({ what: `tag-${number}`, why: "it is no model" }));
  expect(leftOutMessage([])).toBeUndefined();
  expect(leftOutMessage(out.slice(0, 2))).toBe("left out: tag-0: it is no model; tag-1: it is no model");
  const text = leftOutMessage(out, 120) ?? "";
  expect(text).toMatch(/; and 4\d more$/);
  expect(text.length).toBeLessThanOrEqual(120);
  expect(leftOutMessage([{ what: "x", why: "y".repeat(900) }], 100)).toHaveLength(100);
});
