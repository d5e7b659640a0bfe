import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { planModel, selectionInput, type Plan } from "../../../operator/plan/plan.ts";
import { chooseVariant, type SelectionInput } from "../../../operator/selection/choose-variant.ts";
import { cases, directory, inputOf, planOf, shown } from "./golden-cases.ts";

const all = [...cases()];

test("there are at least 150 cases", () => {
  expect(all.length).toBeGreaterThanOrEqual(150);
});

test.each(all)("%s", async (name, given) => {
  await expect(shown(planOf(given))).toMatchFileSnapshot(join(directory, `${name}.out.yaml`));
});

/** What a choice is, without the words. */
const essence = ({ isPlaced, reason, placements, variants }: Plan) => ({
  isPlaced,
  reason,
  placements,
  variants: variants.map(({ name, verdict, matchingNodes, requiredBytes }) => ({
    name,
    verdict,
    matchingNodes,
    requiredBytes,
  })),
});

describe("in every case", () => {
  test("the order of the nodes changes nothing", () => {
    for (const [name, given] of all) {
      const input = inputOf(given);
      const reversed = planModel({ ...input, nodes: [...input.nodes].reverse() });
      expect(essence(reversed), name).toEqual(essence(planModel(input)));
    }
  });

  test("other names of the nodes change nothing but these names", () => {
    for (const [name, given] of all) {
      const input = inputOf(given);
      // Names that sort the other way round.
      const names = new Map(
        input.nodes.map(({ metadata }, index) => [metadata.name, `n${String(999 - index)}`]),
      );
      const renamed = planModel({
        ...input,
        nodes: input.nodes.map((node) => ({
          ...node,
          metadata: {
            ...node.metadata,
            name: names.get(node.metadata.name) ?? "",
            labels: {
              ...node.metadata.labels,
              "kubernetes.io/hostname": names.get(node.metadata.name) ?? "",
            },
          },
        })),
      });
      const before = essence(planModel(input));
      const translate = (nodes: readonly string[]): readonly string[] =>
        nodes.map((each) => names.get(each) ?? each).sort();
      expect(essence(renamed), name).toEqual({
        ...before,
        placements: before.placements.map((each) => ({ ...each, nodes: translate(each.nodes) })),
        variants: before.variants.map((each) => ({ ...each, matchingNodes: translate(each.matchingNodes) })),
      });
    }
  });

  test("the result fed back changes nothing", () => {
    for (const [name, given] of all) {
      const input = inputOf(given);
      const first = planModel(input);
      const [chosen] = first.placements;
      if (chosen === undefined || given.selection?.placement === "PerHardware") continue;
      const current: NonNullable<SelectionInput["current"]> = {
        variant: chosen.variant,
        accelerator: chosen.accelerator as "none",
        contextLength: chosen.contextLength,
      };
      expect(essence(planModel({ ...input, current })), name).toEqual(essence(first));
    }
  });

  test("more memory in every node never makes a variant unfit", () => {
    for (const [name, given] of all) {
      const input = selectionInput(inputOf(given));
      const before = chooseVariant(input);
      const doubled = chooseVariant({
        ...input,
        nodes: input.nodes.map((node) => ({
          ...node,
          ...(node.allocatableMemoryBytes === undefined
            ? {}
            : { allocatableMemoryBytes: 2 * node.allocatableMemoryBytes }),
          accelerators: node.accelerators.map((each) => ({
            ...each,
            ...(each.memoryBytes === undefined ? {} : { memoryBytes: 2 * each.memoryBytes }),
          })),
        })),
      });
      if (before.kind === "selected") expect(doubled.kind, name).toBe("selected");
      for (const [index, { matchingNodes }] of before.verdicts.entries()) {
        // A larger context may be taken, which fewer nodes can hold; some node still can.
        if (matchingNodes.length > 0)
          expect(doubled.verdicts[index]?.matchingNodes.length, name).toBeGreaterThan(0);
      }
    }
  });
});
