// D1: what one choice of a variant costs on a large cluster.

import { join } from "node:path";
import type { Figures, Scenario } from "../scenario.ts";

const program = join(import.meta.dirname, "../programs/decide.ts");

export const scenarios: readonly Scenario[] = [
  {
    id: "D1",
    area: "decisions",
    title: "Deciding for 16 variants on 5,000 nodes",
    method:
      "A process of its own decides 40 times with BestFit, for ten kinds of nodes in five dialects, each node with RAM and disk of its own and a third of them in use, for one variant (Uniform) and for one of each kind of nodes (PerHardware), and prints the medians of the last 30. The list of nodes is new each time, the facts of each node are not.",
    prepare: async (bench) => [
      {
        name: "5,000 nodes",
        directory: bench.scratch,
        variants: [
          {
            name: "decide",
            command: () => ({ argv: [bench.puller.node, program, bench.isTiny ? "50" : "5000"] }),
            after: async (_place, run) => JSON.parse(run.stdout) as Figures,
          },
        ],
        goals: (["uniformSeconds", "perHardwareSeconds"] as const).map((figure) => ({
          text: figure === "uniformSeconds" ? "Uniform" : "PerHardware",
          of: { variant: "decide", figure },
          unit: "ms" as const,
          unitSize: 0.001,
          atMost: 20,
        })),
      },
    ],
  },
];
