import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { AcceleratorRequirement, Requirements } from "../../../operator/api/model.ts";
import { deviceWays } from "../../../operator/hardware/device-way.ts";
import { nodeHardware } from "../../../operator/hardware/node-hardware.ts";
import type { DeviceVendor, DeviceWay } from "../../../operator/hardware/types.ts";
import { lacksOf, type PodDemand } from "../../../operator/selection/fit.ts";
import { nodeAffinityTerms } from "../../../operator/selection/node-affinity.ts";
import { deviceTolerations } from "../../../operator/selection/tolerations.ts";
import { arbitraryNode, gibibyte, named } from "./arbitrary-node.ts";
import { schedulable } from "./scheduler-model.ts";

const vendors: readonly DeviceVendor[] = ["nvidia", "amd", "intel", "habana"];

/** Present in one of five: what narrows too much makes every case a refusal. */
function seldom<T>(...values: readonly T[]): fc.Arbitrary<T | undefined> {
  return fc.oneof({ weight: 4, arbitrary: fc.constant(undefined) }, fc.constantFrom(...values));
}

function defined<T extends object>(object: T): { [K in keyof T]: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(object).filter(([, value]) => value !== undefined)) as {
    [K in keyof T]: Exclude<T[K], undefined>;
  };
}

const arbitraryRequirements: fc.Arbitrary<Requirements> = fc
  .record({
    vendor: fc.constantFrom("nvidia", "nvidia", "nvidia", "none", ...vendors),
    count: fc.constantFrom(1, 1, 1, 2, 4),
    products: seldom(["*L4*"], ["*a100*", "*H100*"], ["*MI300X*"], ["Flex*", "*GB10"], ["nothing"]),
    minComputeCapability: seldom("7.5", "8.0", "8.9", "10.0"),
    architectures: seldom(["amd64"], ["amd64", "arm64"]),
    cpuFeatures: seldom(["AVX2"], ["AVX2", "AVX512F"]),
    nodeSelectorTerms: seldom<Requirements["nodeSelectorTerms"]>(
      [{ matchExpressions: [{ key: "pool", operator: "In", values: ["a"] }] }],
      [{ matchFields: [{ key: "metadata.name", operator: "In", values: ["n0"] }] }, {}],
      [{}],
    ),
  })
  .map(({ vendor, count, products, minComputeCapability, ...rest }) => ({
    ...defined(rest),
    ...(vendor === "none"
      ? {}
      : {
          accelerator: {
            vendor: vendor as DeviceVendor,
            count,
            ...defined({ products, minComputeCapability }),
          } as AcceleratorRequirement,
        }),
  }));

/** Sizes at the edges of what the nodes' labels say, where one too many or too few would show. */
const arbitraryMemory = fc
  .oneof(
    fc.constantFrom(0, 1, 2861, 4769, 9536, 9728, 15109, 15360, 22888, 23034, 40192, 40960, 81050, 81920),
    fc.integer({ min: 1, max: 30_000 }),
  )
  .chain((mebibytes) => fc.constantFrom(-1, 0, 1).map((more) => Math.max(0, mebibytes * 2 ** 20 + more)));

describe("the affinity of a placement", () => {
  test("a verdict says that a node fits if and only if the scheduler would bind the pod there", () => {
    let fitting = 0;
    fc.assert(
      fc.property(
        fc.array(arbitraryNode, { minLength: 1, maxLength: 5 }),
        arbitraryRequirements,
        arbitraryMemory,
        fc.constantFrom(0, 0, 2, 8, 60),
        fc.constantFrom([], [{ key: "dedicated", operator: "Exists" }]),
        (unnamed, requirements, deviceMemoryBytes, ramGibibytes, tolerations) => {
          const nodes = named(unnamed);
          const hardware = nodes.map(nodeHardware);
          const { accelerator } = requirements;
          const ways: readonly (DeviceWay | undefined)[] =
            accelerator === undefined || accelerator.vendor === "none"
              ? [undefined]
              : deviceWays(accelerator.vendor, hardware);
          for (const way of ways) {
            const count = accelerator?.count ?? 1;
            const demand: PodDemand = {
              requirements,
              tolerations: [...(way === undefined ? [] : deviceTolerations(way.vendor)), ...tolerations],
              device: way === undefined ? undefined : { way, count, memoryBytes: deviceMemoryBytes },
              memoryBytes:
                ramGibibytes * gibibyte + (way?.isUnifiedMemory === true ? deviceMemoryBytes * count : 0),
            };
            const pod = {
              terms: nodeAffinityTerms(demand, hardware),
              tolerations: demand.tolerations,
              requests: {
                memory: demand.memoryBytes,
                ...(way?.access.kind === "resource" ? { [way.access.name]: count } : {}),
              },
            };
            for (const [index, node] of nodes.entries()) {
              const facts = hardware[index];
              if (facts === undefined) continue;
              const found = lacksOf(facts, demand);
              if (found.length === 0) fitting += 1;
              expect({ node: node.metadata.name, fits: found.length === 0, found, pod }).toMatchObject({
                fits: schedulable(pod, node),
              });
            }
          }
        },
      ),
      { numRuns: 3000 },
    );
    // The property would hold of an operator that refuses everything.
    expect(fitting).toBeGreaterThan(500);
  });
});
