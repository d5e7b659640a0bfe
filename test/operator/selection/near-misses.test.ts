// What near misses and the counts in a message say is all there is to say: whoever does what they say has a node that fits.

import fc from "fast-check";
import { expect, test } from "vitest";
import type { Requirements } from "../../../operator/api/model.ts";
import { nodeHardware } from "../../../operator/hardware/node-hardware.ts";
import type { DeviceWay, NodeHardware } from "../../../operator/hardware/types.ts";
import { lacksOf, offersWay, parseCapability, type PodDemand } from "../../../operator/selection/fit.ts";
import { groupNodes } from "../../../operator/selection/node-groups.ts";
import { compareLacks, type Obstacle } from "../../../operator/selection/obstacle.ts";
import { describeUnfit, nearMisses, sift } from "../../../operator/selection/sift.ts";
import { arbitraryNode, gibibyte, named } from "./arbitrary-node.ts";

const ways: readonly DeviceWay[] = [
  { vendor: "nvidia", access: { kind: "resource", name: "nvidia.com/gpu" }, isUnifiedMemory: false },
  { vendor: "nvidia", access: { kind: "resource", name: "nvidia.com/mig-1g.10gb" }, isUnifiedMemory: false },
  { vendor: "nvidia", access: { kind: "resource", name: "nvidia.com/gpu" }, isUnifiedMemory: true },
  { vendor: "amd", access: { kind: "resource", name: "amd.com/gpu" }, isUnifiedMemory: false },
];

const seldom = <T>(value: T): fc.Arbitrary<T | undefined> =>
  fc.option(fc.constant(value), { nil: undefined, freq: 2 });

const arbitraryDemand: fc.Arbitrary<PodDemand> = fc
  .record({
    way: fc.option(fc.constantFrom(...ways), { freq: 5, nil: undefined }),
    count: fc.constantFrom(1, 1, 2, 3),
    deviceGibibytes: fc.constantFrom(0, 9, 18, 60),
    memoryGibibytes: fc.constantFrom(0, 8, 40, 200),
    cpuMillis: fc.constantFrom(undefined, 3000, 16_000),
    diskGibibytes: fc.constantFrom(0, 0, 0, 30, 300),
    hugeGibibytes: fc.constantFrom(0, 0, 0, 0, 0, 2),
    fpgas: fc.constantFrom(0, 0, 0, 0, 0, 2),
    products: seldom(["*L4*"]),
    minComputeCapability: seldom("8.9"),
    architectures: seldom(["arm64"] as const),
    cpuFeatures: seldom(["AVX2", "AVX512F"]),
    pool: seldom("a"),
  })
  .map(
    ({
      way,
      count,
      deviceGibibytes,
      memoryGibibytes,
      cpuMillis,
      diskGibibytes,
      hugeGibibytes,
      fpgas,
      products,
      minComputeCapability,
      architectures,
      cpuFeatures,
      pool,
    }) => ({
      requirements: {
        ...(way === undefined
          ? {}
          : {
              accelerator: {
                vendor: way.vendor,
                ...(products === undefined ? {} : { products }),
                ...(minComputeCapability === undefined ? {} : { minComputeCapability }),
              },
            }),
        ...(architectures === undefined ? {} : { architectures }),
        ...(cpuFeatures === undefined ? {} : { cpuFeatures }),
        ...(pool === undefined
          ? {}
          : { nodeSelectorTerms: [{ matchExpressions: [{ key: "pool", operator: "In", values: [pool] }] }] }),
      } as Requirements,
      tolerations: [],
      device: way === undefined ? undefined : { way, count, memoryBytes: deviceGibibytes * gibibyte },
      memoryBytes: memoryGibibytes * gibibyte,
      ...(cpuMillis === undefined ? {} : { cpuMillis }),
      others: {
        "ephemeral-storage": diskGibibytes * gibibyte,
        "hugepages-2Mi": hugeGibibytes * gibibyte,
        "example.com/fpga": fpgas,
      },
    }),
  );

type Accelerators = NodeHardware["accelerators"][number];

/** The node as it would be if what the lack says were done, and nothing else. */
function mended(node: NodeHardware, lack: Obstacle, demand: PodDemand): NodeHardware {
  const { kind, reason, what, hasBytes, missingBytes = 0, missingDevices } = lack;
  const { accelerator, architectures = [] } = demand.requirements;
  const devices = (change: (each: Accelerators) => Accelerators): NodeHardware => ({
    ...node,
    accelerators: node.accelerators.map((each) =>
      demand.device !== undefined && offersWay(each, demand.device) ? change(each) : each,
    ),
  });
  if (missingDevices !== undefined)
    return devices((each) => ({ ...each, count: each.count + missingDevices }));
  if (reason.startsWith("with the GPU ") || reason === "of unknown GPU product")
    return devices((each) => ({ ...each, product: "NVIDIA-L4" }));
  if (reason.endsWith("compute capability") || reason.startsWith("of compute capability"))
    return devices((each) => ({
      ...each,
      computeCapability: parseCapability(accelerator?.minComputeCapability ?? ""),
    }));
  if (reason === "with too little GPU memory")
    return devices((each) =>
      each.memoryBytes === hasBytes ? { ...each, memoryBytes: (each.memoryBytes ?? 0) + missingBytes } : each,
    );
  if (reason === "of unknown GPU memory")
    return devices(({ uncertainty: _doubt, ...each }) => ({
      ...each,
      memoryBytes: demand.device?.memoryBytes ?? 0,
    }));
  if (reason === "with too little RAM")
    return { ...node, allocatableMemoryBytes: (node.allocatableMemoryBytes ?? 0) + missingBytes };
  const resource = Object.keys(demand.others ?? {}).find((name) =>
    reason.endsWith(name === "ephemeral-storage" ? "disk" : name),
  );
  if (resource !== undefined) {
    const has = node.allocatableAmounts?.[resource] ?? 0;
    const more = missingBytes > 0 ? missingBytes : (demand.others?.[resource] ?? 0) - has;
    return { ...node, allocatableAmounts: { ...node.allocatableAmounts, [resource]: has + more } };
  }
  if (reason === "with too few CPUs") return { ...node, allocatableCpuMillis: demand.cpuMillis ?? 0 };
  if (reason.startsWith("running ")) return { ...node, operatingSystem: "linux" };
  if (reason.startsWith("of architecture")) return { ...node, architecture: architectures[0] ?? "" };
  if (reason.startsWith("whose CPU "))
    return {
      ...node,
      cpuFeatures: [...node.cpuFeatures, ...what.replace("its CPU does not state ", "").split(", ")],
    };
  if (reason === "cordoned") return { ...node, isUnschedulable: false };
  if (reason.startsWith("with the taint "))
    return { ...node, taints: node.taints.filter(({ key }) => reason !== `with the taint ${key}`) };
  if (reason === "outside nodeSelectorTerms") return { ...node, labels: { ...node.labels, pool: "a" } };
  throw new Error(`the test knows no remedy for ${kind} ${reason}`);
}

const isBeyondRepair = (lacks: readonly Obstacle[]): boolean =>
  lacks.some(({ kind }) => kind === "no-accelerator");

test("a node that gets all that it is said to lack fits; one that gets less does not", () => {
  const seen = new Map<number, number>();
  fc.assert(
    fc.property(arbitraryNode, arbitraryDemand, (drawn, demand) => {
      const [named0] = named([drawn]);
      if (named0 === undefined) return;
      const node = nodeHardware(named0);
      const lacks = lacksOf(node, demand);
      if (isBeyondRepair(lacks)) return;
      seen.set(lacks.length, (seen.get(lacks.length) ?? 0) + 1);
      const mend = (those: readonly Obstacle[]): NodeHardware =>
        those.reduce((each, lack) => mended(each, lack, demand), node);
      expect(lacksOf(mend(lacks), demand)).toEqual([]);
      for (const left of lacks) {
        // Devices that use the RAM grow with it; everything else stands for itself.
        expect(
          lacksOf(mend(lacks.filter((each) => each !== left)), demand).length,
          left.what,
        ).toBeGreaterThan(0);
      }
    }),
    { numRuns: 5000 },
  );
  // Of nodes that lack several things the test is about.
  expect(seen.get(0) ?? 0).toBeGreaterThan(10);
  expect((seen.get(2) ?? 0) + (seen.get(3) ?? 0)).toBeGreaterThan(300);
});

test("near misses are those of all nodes that lack least, and the message counts every node once", () => {
  let several = 0;
  fc.assert(
    fc.property(fc.array(arbitraryNode, { maxLength: 12 }), arbitraryDemand, (drawn, demand) => {
      const nodes = named(drawn).map(nodeHardware);
      const sifted = sift(groupNodes(nodes), demand);
      const misses = nearMisses(sifted, [], demand);
      const all = nodes
        .map(({ name, ...node }) => ({ name, lacks: lacksOf({ name, ...node }, demand) }))
        .sort((one, other) => compareLacks(one.lacks, other.lacks) || (one.name < other.name ? -1 : 1));
      if (all.some(({ lacks }) => lacks.length === 0)) {
        expect(misses).toEqual([]);
        return;
      }
      const nearest = all.filter(({ lacks }) => !isBeyondRepair(lacks)).slice(0, 3);
      expect(misses.map(({ node, lacks }) => [node, lacks])).toEqual(
        nearest.map(({ name, lacks }) => [name, lacks.map(({ what }) => what).join(", and ")]),
      );
      if (nearest.length > 1) several += 1;
      const message = describeUnfit(sifted, []).join("; ");
      const counted = [...(message.split(" nodes: ")[1] ?? "").matchAll(/(?:^|, )(\d+) /g)];
      expect(
        counted.reduce((sum, [, count]) => sum + Number(count), 0),
        message,
      ).toBe(nodes.length);
      expect(message.length).toBeLessThan(1000);
    }),
    { numRuns: 2000 },
  );
  expect(several).toBeGreaterThan(200);
});
