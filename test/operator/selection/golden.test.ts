import { join } from "node:path";
import { describe, expect, test } from "vitest";
import type { JsonObject } from "../../../operator/api/model.ts";
import { patchTemplate } from "../../../operator/desired/patch-template.ts";
import { planModel, selectionInput, type Plan } from "../../../operator/plan/plan.ts";
import { chooseVariant, type SelectionInput } from "../../../operator/selection/choose-variant.ts";
import { deviceTolerations } from "../../../operator/selection/tolerations.ts";
import { cases, directory, inputOf, planOf, shown } from "./golden-cases.ts";
import { schedulable, type PodShape } from "./scheduler-model.ts";

const all = [...cases()];

test("there are at least 150 cases", () => {
  expect(all.length).toBeGreaterThanOrEqual(150);
});

test.each(all)("%s", async (name, given) => {
  await expect(shown(planOf(given))).toMatchFileSnapshot(join(directory, `${name}.out.yaml`));
});

/** What of a pod's spec says where it may run. */
type RenderedSpec = {
  readonly nodeName?: unknown;
  readonly nodeSelector?: Readonly<Record<string, string>>;
  readonly tolerations: PodShape["tolerations"];
  readonly affinity: {
    readonly nodeAffinity: {
      readonly requiredDuringSchedulingIgnoredDuringExecution?: {
        readonly nodeSelectorTerms: PodShape["terms"];
      };
    };
  };
};

/** What a choice is, without the words. */
const essence = ({ isPlaced, reason, placements, variants }: Plan) => ({
  isPlaced,
  reason,
  placements,
  variants: variants.map(({ name, verdict, nodes, requiredBytes }) => ({
    name,
    verdict,
    nodes,
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
      const other = (name: string | undefined): string => names.get(name ?? "") ?? "";
      const inText = (text: string): string =>
        text.replaceAll(/"([^"]+)"/g, (whole, each: string) =>
          names.has(each) ? `"${other(each)}"` : whole,
        );
      const { template } = input.spec;
      const renamed = planModel({
        ...input,
        spec: {
          ...input.spec,
          ...(template === undefined
            ? {}
            : { template: JSON.parse(inText(JSON.stringify(template))) as JsonObject }),
        },
        slices: (input.slices ?? []).map((slice) => ({
          ...slice,
          spec: { ...slice.spec, nodeName: other(slice.spec.nodeName) },
        })),
        ...(input.pods === undefined
          ? {}
          : {
              pods: input.pods.map((pod) => ({
                ...pod,
                spec: { ...pod.spec, nodeName: other(pod.spec?.nodeName) },
              })),
            }),
        nodes: input.nodes.map((node) => ({
          ...node,
          metadata: {
            ...node.metadata,
            name: other(node.metadata.name),
            labels: { ...node.metadata.labels, "kubernetes.io/hostname": other(node.metadata.name) },
          },
        })),
      });
      const before = essence(planModel(input));
      const translate = (nodes: readonly string[]): readonly string[] =>
        nodes.map((each) => names.get(each) ?? each).sort();
      expect(essence(renamed), name).toEqual({
        ...before,
        placements: before.placements.map((each) => ({
          ...each,
          nodes: translate(each.nodes),
          freeNodes: translate(each.freeNodes),
        })),
        variants: before.variants.map((each) => ({ ...each, nodes: translate(each.nodes) })),
      });
    }
  });

  test("the result fed back changes nothing", () => {
    for (const [name, given] of all) {
      const input = inputOf(given);
      const first = planModel(input);
      const [chosen] = first.placements;
      // Classes of nodes: below.
      if (chosen === undefined || given.selection?.placement === "PerHardware") continue;
      const current: NonNullable<SelectionInput["current"]> = {
        variant: chosen.variant,
        accelerator: chosen.accelerator as "none",
        contextLength: chosen.contextLength,
      };
      expect(essence(planModel({ ...input, current })), name).toEqual(essence(first));
    }
  });

  test("the classes fed back change nothing", () => {
    let classes = 0;
    for (const [name, given] of all) {
      if (given.selection?.placement !== "PerHardware") continue;
      const input = selectionInput(inputOf(given));
      const first = chooseVariant(input);
      if (first.kind !== "selected") continue;
      classes += first.shares.length;
      const currentShares = new Map(
        first.shares
          .filter(({ replicas }) => replicas > 0)
          .map(({ key, replicas, placement }) => [
            key,
            { replicas, contextLength: placement.footprint.contextLength },
          ]),
      );
      expect(chooseVariant({ ...input, currentShares }), name).toEqual(first);
    }
    expect(classes).toBeGreaterThan(20);
  });

  test("a verdict names a node if and only if the scheduler would take the pod there", () => {
    const seen = { named: 0, others: 0 };
    for (const [name, given] of all) {
      // What runs is kept on nodes that take no new pod.
      if (given.current !== undefined) continue;
      const input = inputOf(given);
      const selection = selectionInput(input);
      const choice = chooseVariant(selection);
      if (choice.kind !== "selected") continue;
      for (const { candidate, placement, replicas } of choice.shares) {
        const { accelerator, memoryBytes, deviceClaim } = placement;
        // Claims are the driver's to compare; terms are made for what gets pods.
        if (deviceClaim !== undefined || replicas === 0) continue;
        const required = { nodeSelectorTerms: placement.nodeSelectorTerms as unknown as JsonObject[] };
        const { spec } = patchTemplate(
          {
            spec: {
              affinity: { nodeAffinity: { requiredDuringSchedulingIgnoredDuringExecution: required } },
              tolerations: [
                ...(accelerator === "none" ? [] : deviceTolerations(accelerator)),
                ...(input.spec.runtime?.tolerations ?? []),
              ],
            },
          },
          input.spec.template,
        ) as unknown as { spec: RenderedSpec };
        const isName = typeof spec.nodeName === "string";
        const labels = Object.entries(spec.nodeSelector ?? {}).filter(
          ([, value]) => typeof value === "string",
        );
        const asked = selection.requested?.(candidate, placement) ?? {
          cpuMillis: 0,
          memoryBytes,
          others: {},
        };
        const pod = {
          terms:
            spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution?.nodeSelectorTerms ??
            [],
          nodeSelector: Array.isArray(spec.nodeSelector) ? {} : Object.fromEntries(labels),
          ...(isName ? { nodeName: spec.nodeName as string } : {}),
          tolerations: spec.tolerations,
          requests: {
            cpu: asked.cpuMillis,
            memory: Math.max(memoryBytes, asked.memoryBytes),
            ...asked.others,
          },
        };
        for (const node of input.nodes) {
          const isNamed = placement.matchingNodes.includes(node.metadata.name);
          seen[isNamed ? "named" : "others"] += 1;
          expect({ name, node: node.metadata.name, isNamed }).toEqual({
            name,
            node: node.metadata.name,
            isNamed: schedulable(pod, node),
          });
        }
      }
    }
    expect(seen.named).toBeGreaterThan(100);
    expect(seen.others).toBeGreaterThan(50);
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
