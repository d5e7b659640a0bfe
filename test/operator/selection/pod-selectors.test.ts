import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Json, JsonObject, ModelSpec, NodeSelectorTerm } from "../../../operator/api/model.ts";
import { nodeHardware } from "../../../operator/hardware/node-hardware.ts";
import { templateSelectors } from "../../../operator/reconcile/variants.ts";
import { admittedNodes, matchesNodeSelector } from "../../../operator/selection/node-selector.ts";
import { schedulable } from "./scheduler-model.ts";

const required = "requiredDuringSchedulingIgnoredDuringExecution";

const nodes = ["a", "b"].map((name) => ({
  apiVersion: "v1",
  kind: "Node",
  metadata: { name, labels: { pool: name, ...(name === "a" ? { fast: "3" } : {}) } },
}));
const hardware = nodes.map(nodeHardware);

const specOf = (spec: JsonObject): ModelSpec => ({ source: { reference: "r/m:t" }, template: { spec } });

const affinityOf = (nodeSelectorTerms: Json): JsonObject => ({
  affinity: { nodeAffinity: { [required]: { nodeSelectorTerms } } },
});

/** Names of the nodes that the template lets pods onto, and why not onto the others. */
function admitted(spec: JsonObject): {
  readonly names: readonly string[];
  readonly lacks: readonly string[];
} {
  const found = admittedNodes(hardware, templateSelectors(specOf(spec)));
  return {
    names: found.nodes.map(({ name }) => name),
    lacks: found.excluded.flatMap(({ lacks }) => lacks.map(({ what }) => what)),
  };
}

const absent = fc.constantFrom(undefined, null);
const requirement = fc.oneof(
  fc.record({
    key: fc.constantFrom("pool", "fast", "none"),
    operator: fc.constantFrom("In", "NotIn"),
    values: fc.constantFrom(["a"], ["b", "3"]),
  }),
  fc.record({
    key: fc.constantFrom("pool", "fast", "constructor"),
    operator: fc.constantFrom("Exists", "DoesNotExist"),
    values: fc.oneof(absent, fc.constant([])),
  }),
  fc.record({
    key: fc.constantFrom("pool", "fast"),
    operator: fc.constantFrom("Gt", "Lt"),
    values: fc.constant(["2"]),
  }),
);
const requirements = fc.oneof(absent, fc.array(requirement, { maxLength: 2 }));
const fields = fc.oneof(
  { weight: 3, arbitrary: absent },
  fc.constant([{ key: "metadata.name", operator: "In", values: ["a"] }]),
);
const terms = fc.array(fc.record({ matchExpressions: requirements, matchFields: fields }), {
  minLength: 1,
  maxLength: 3,
});

/** The same without what is null, as the API server keeps it. */
function kept(value: unknown): unknown {
  return JSON.parse(JSON.stringify(value, (_key, each: unknown) => (each === null ? undefined : each)));
}

describe("what a pod template says of nodes", () => {
  test("null is what is absent: the verdict is the scheduler's", () => {
    const seen = { admitted: 0, others: 0 };
    fc.assert(
      fc.property(terms, (given) => {
        const { names } = admitted(affinityOf(given as unknown as Json));
        const pod = {
          terms: kept(given) as readonly (NodeSelectorTerm & object)[],
          tolerations: [],
          requests: {},
        };
        for (const node of nodes) {
          const isAdmitted = names.includes(node.metadata.name);
          seen[isAdmitted ? "admitted" : "others"] += 1;
          expect(isAdmitted).toBe(schedulable(pod, node));
        }
      }),
      { numRuns: 1000 },
    );
    expect(Math.min(seen.admitted, seen.others)).toBeGreaterThan(200);
  });

  test.each<[JsonObject, string]>([
    [{ nodeSelector: { pool: 1 } }, "pool is 1, not a text"],
    [{ nodeSelector: ["pool"] }, 'nodeSelector is ["pool"], not a map'],
    [{ nodeName: 7 }, "nodeName is 7, not a text"],
    [{ affinity: { nodeAffinity: "none" } }, 'nodeAffinity is "none", not a map'],
    [affinityOf("a"), 'nodeSelectorTerms is "a", not a list'],
    [affinityOf([null]), "nodeSelectorTerms is null, not a map"],
    [
      affinityOf([{ matchExpressions: [{ key: "pool", operator: "in", values: ["a"] }] }]),
      'operator is "in", not one of In, NotIn, Exists, DoesNotExist, Gt, Lt',
    ],
    [affinityOf([{ matchExpressions: [{ operator: "Exists" }] }]), "key is absent, not a text"],
    [
      affinityOf([{ matchExpressions: [{ key: "pool", operator: "NotIn" }] }]),
      "values is absent, not a list with values",
    ],
    [
      affinityOf([{ matchExpressions: [{ key: "pool", operator: "Exists", values: ["a"] }] }]),
      'values is ["a"], not left out',
    ],
    [
      affinityOf([{ matchExpressions: [{ key: "fast", operator: "Gt", values: ["2.5"] }] }]),
      'values is ["2.5"], not a list of one integer as text',
    ],
    [
      affinityOf([{ matchExpressions: [{ key: "pool", operator: "In", values: [1] }] }]),
      "values is 1, not a text",
    ],
  ])("no node takes what the API server refuses: %j", (spec, why) => {
    // However well the rest reads.
    const given = { nodeSelector: { pool: "a" }, ...spec };
    expect(admitted(given)).toEqual({
      names: [],
      lacks: [`spec.template's node selector cannot be read: ${why}`],
    });
  });

  test.each<JsonObject>([
    {},
    { nodeSelector: null, nodeName: null, affinity: null },
    { nodeSelector: { pool: null }, nodeName: "", affinity: { nodeAffinity: null } },
    affinityOf(null),
  ])("%j narrows nothing", (spec) => {
    expect(admitted(spec)).toEqual({ names: ["a", "b"], lacks: [] });
  });
});

test("numbers of a label are compared as integers of 64 bits, as the scheduler does", () => {
  const largest = "9223372036854775807";
  const node = (value: string) =>
    nodeHardware({ apiVersion: "v1", kind: "Node", metadata: { name: "n", labels: { size: value } } });
  const matches = (value: string, operator: "Gt" | "Lt", bound: string): boolean =>
    matchesNodeSelector(node(value), [{ matchExpressions: [{ key: "size", operator, values: [bound] }] }]);
  expect(matches(largest, "Gt", "9223372036854775806")).toBe(true);
  expect(matches("9223372036854775806", "Lt", largest)).toBe(true);
  expect(matches(largest, "Gt", largest)).toBe(false);
  // Beyond 64 bits nothing matches.
  expect(matches("9223372036854775808", "Gt", "1")).toBe(false);
  expect(matches("1", "Lt", "9223372036854775808")).toBe(false);
  expect(matches("-2", "Lt", "-1")).toBe(true);
  expect(matches("007", "Gt", "+6")).toBe(true);
  expect(matches("1e3", "Gt", "1")).toBe(false);
});
