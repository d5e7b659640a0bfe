// Whether the scheduler would accept a node under node selector terms. Pure.

import type { NodeSelectorRequirement, NodeSelectorTerm } from "../api/model.ts";
import type { NodeHardware } from "../hardware/types.ts";
import type { Obstacle } from "./obstacle.ts";

/** A text as Go's `strconv.ParseInt` reads it with base 10 and 64 bits; undefined for what it refuses. */
export function integer64(text: string | undefined): bigint | undefined {
  // Leading zeros are read too: only what is far beyond any of them is not tried.
  if (text === undefined || text.length > 64 || !/^[+-]?\d+$/.test(text)) return undefined;
  const value = BigInt(text.replace(/^[+]/, ""));
  return BigInt.asIntN(64, value) === value ? value : undefined;
}

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
      // As the scheduler does: both sides must be integers of 64 bits, else no match.
      const [has, bound] = [integer64(value), integer64(values[0])];
      if (has === undefined || bound === undefined) return false;
      return requirement.operator === "Gt" ? has > bound : has < bound;
    }
  }
}

/** Only the node's own: `constructor` is a label's key too. */
function labelOf({ labels }: NodeHardware, key: string): string | undefined {
  return Object.hasOwn(labels, key) ? labels[key] : undefined;
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
      expressions.every((requirement) => labelMatches(labelOf(node, requirement.key), requirement)) &&
      fields.every((requirement) => labelMatches(node.name, requirement))
    );
  });
}

/** What keeps pods off nodes by their labels, beside what a variant asks for. */
export type NodeSelector = {
  /** ORed. */
  readonly terms: readonly NodeSelectorTerm[];
  /** What a node lacks that does not satisfy them. */
  readonly lack: Obstacle;
};

/** Nodes that selectors keep pods off, and by which. */
export type ExcludedNodes = { readonly lacks: readonly Obstacle[]; readonly nodes: readonly NodeHardware[] };

/** The nodes that satisfy all of the selectors, and the others. */
export function admittedNodes(
  nodes: readonly NodeHardware[],
  selectors: readonly NodeSelector[] = [],
): { readonly nodes: readonly NodeHardware[]; readonly excluded: readonly ExcludedNodes[] } {
  if (selectors.length === 0) return { nodes, excluded: [] };
  const admitted: NodeHardware[] = [];
  const excluded = new Map<string, { readonly lacks: readonly Obstacle[]; readonly nodes: NodeHardware[] }>();
  for (const node of nodes) {
    const failed = selectors.filter(({ terms }) => !matchesNodeSelector(node, terms));
    if (failed.length === 0) {
      admitted.push(node);
      continue;
    }
    const lacks = [...new Map(failed.map(({ lack }) => [lack.what, lack])).values()];
    const key = lacks.map(({ what }) => what).join("\n");
    const alike = excluded.get(key) ?? { lacks, nodes: [] };
    alike.nodes.push(node);
    excluded.set(key, alike);
  }
  return { nodes: admitted, excluded: [...excluded.values()] };
}
