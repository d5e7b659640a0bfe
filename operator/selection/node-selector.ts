// Whether the scheduler would accept a node under node selector terms. Pure.

import type { NodeSelectorRequirement, NodeSelectorTerm } from "../api/model.ts";
import type { NodeHardware } from "../hardware/types.ts";

function labelMatches(value: string | undefined, requirement: NodeSelectorRequirement): boolean {
  const values = requirement.values ?? [];
  switch (requirement.operator) {
    case "In":
      return value !== undefined && values.includes(value);
    case "NotIn":
      return value === undefined || !values.includes(value);
    case "Exists":
      return value !== undefined;
    case "DoesNotExist":
      return value === undefined;
    case "Gt":
    case "Lt": {
      // As the scheduler does: both sides must be integers, else no match.
      if (value === undefined || !/^[+-]?\d+$/.test(value) || !/^[+-]?\d+$/.test(values[0] ?? ""))
        return false;
      return requirement.operator === "Gt"
        ? Number(value) > Number(values[0])
        : Number(value) < Number(values[0]);
    }
  }
}

/** Whether the scheduler would accept the node under required affinity with these ORed terms; no terms: yes. */
export function matchesNodeSelector(node: NodeHardware, terms: readonly NodeSelectorTerm[]): boolean {
  if (terms.length === 0) return true;
  return terms.some((term) => {
    const expressions = term.matchExpressions ?? [];
    const fields = term.matchFields ?? [];
    // An empty term matches nothing (core/v1 NodeSelectorTerm).
    if (expressions.length + fields.length === 0) return false;
    return (
      expressions.every((requirement) => labelMatches(node.labels[requirement.key], requirement)) &&
      fields.every((requirement) => labelMatches(node.name, requirement))
    );
  });
}

/** The nodes that satisfy all of the selectors, and how many do not. */
export function admittedNodes(
  nodes: readonly NodeHardware[],
  selectors: readonly (readonly NodeSelectorTerm[])[] = [],
): { readonly nodes: readonly NodeHardware[]; readonly excludedNodes: number } {
  if (selectors.length === 0) return { nodes, excludedNodes: 0 };
  const admitted = nodes.filter((node) => selectors.every((terms) => matchesNodeSelector(node, terms)));
  return { nodes: admitted, excludedNodes: nodes.length - admitted.length };
}
