// Decides for 16 variants on so many nodes, again and again, and prints the median of one decision. Arguments: nodes.

import { performance } from "node:perf_hooks";
import { nothingTaken, withFreeCapacity } from "../../../operator/hardware/free-capacity.ts";
import { selectionInput } from "../../../operator/plan/plan.ts";
import { chooseVariant } from "../../../operator/selection/choose-variant.ts";
import { hardwareKeyOf } from "../../../operator/selection/node-groups.ts";
import { inputOf } from "../../operator/selection/golden-cases.ts";

const kinds = [
  "l4-gfd",
  "t4-gfd",
  "h100-gfd",
  "a100-40-gfd",
  "l4-karpenter",
  "cpu-32",
  "cpu-256",
  "gb10",
  "t4-time-sliced",
  "a100-mig-mixed",
];
const tags = ["8b-f16", "8b-q8", "8b-q4", "70b-q4", "27b-q4", "16b-q8", "8b-bf16-st", "8b-fp8-st"];
const count = Math.ceil(Number(process.argv[2]) / kinds.length);
const input = selectionInput(
  inputOf({
    nodes: kinds.map((is) => ({ is, count })),
    variants: Array.from({ length: 16 }, (_, index) => ({
      name: `v${index}`,
      reference: `:${tags[index % tags.length]}`,
      ...(index % 4 === 3
        ? {}
        : {
            requirements: {
              accelerator: {
                vendor: "nvidia" as const,
                ...(index % 5 === 0 ? { products: ["*L4*", "*H100*"] } : {}),
                ...(index > 7 ? { minComputeCapability: "8.0" } : {}),
              },
            },
          }),
    })),
    replicas: 20,
  }),
);

const byName = (one: { readonly name: string }, other: { readonly name: string }): number =>
  one.name < other.name ? -1 : 1;
// As the operator keeps them between decisions: in the order of the API server, each with RAM and disk of its own, a third of them in use.
const hardware = input.nodes.toSorted(byName).map((node, index) =>
  withFreeCapacity(
    {
      ...node,
      hardwareKey: hardwareKeyOf(node),
      ...(node.allocatableMemoryBytes === undefined
        ? {}
        : { allocatableMemoryBytes: node.allocatableMemoryBytes - index * 4096 }),
      allocatableAmounts: {
        ...node.allocatableAmounts,
        "ephemeral-storage": (node.allocatableAmounts?.["ephemeral-storage"] ?? 0) - index * 4096,
      },
    },
    index % 3 === 0
      ? {
          requests: { cpu: 4000, memory: 8 * 2 ** 30, "ephemeral-storage": 8 * 2 ** 30, "nvidia.com/gpu": 1 },
          pods: 1 + (index % 40),
        }
      : nothingTaken,
  ),
);

function median(placement: "Uniform" | "PerHardware"): number {
  const times: number[] = [];
  for (let round = 0; round < 40; round += 1) {
    // A list of its own each time, as the operator makes one for each decision.
    const nodes = [...hardware];
    const started = performance.now();
    const choice = chooseVariant({ ...input, nodes, selection: { policy: "BestFit", placement } });
    times.push((performance.now() - started) / 1000);
    if (choice.kind !== "selected" || choice.verdicts.length !== 16) throw new Error("nothing was chosen");
  }
  // The first rounds compile.
  const counted = times.slice(10).sort((one, other) => one - other);
  return counted[Math.floor(counted.length / 2)] ?? 0;
}

process.stdout.write(
  JSON.stringify({ uniformSeconds: median("Uniform"), perHardwareSeconds: median("PerHardware") }),
);
