// Node selector terms: whether a node matches them, and the terms that a placement needs. Pure.

import type { NodeSelectorRequirement, NodeSelectorTerm, Requirements } from "../api/model.ts";
import { cpuFeaturePrefix } from "../hardware/node-hardware.ts";
import { nvidiaLabels } from "../hardware/nvidia.ts";
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

/** What a placement asks of nodes, besides what the scheduler counts itself (devices, RAM). */
export type NodeDemand = {
  readonly requirements: Requirements;
  /** Memory of one NVIDIA device, bytes; undefined: no device is used. */
  readonly deviceMemoryBytes: number | undefined;
  /** Product names of the nodes that matched the user's globs; undefined: no globs. */
  readonly products: readonly string[] | undefined;
};

/**
 * Required node affinity for a placement. It does not depend on which nodes exist (but for product globs, which
 * labels cannot express), so that a joining node never restarts running pods.
 */
export function nodeSelectorTerms(demand: NodeDemand): readonly NodeSelectorTerm[] {
  const { requirements, deviceMemoryBytes, products } = demand;
  const common: NodeSelectorRequirement[] = [];
  if (requirements.architectures !== undefined && requirements.architectures.length > 0) {
    common.push({ key: "kubernetes.io/arch", operator: "In", values: requirements.architectures });
  }
  for (const feature of requirements.cpuFeatures ?? []) {
    common.push({ key: `${cpuFeaturePrefix}${feature}`, operator: "In", values: ["true"] });
  }
  let alternatives: NodeSelectorRequirement[][] = [[]];
  if (deviceMemoryBytes !== undefined) {
    if (deviceMemoryBytes > 0) {
      common.push({
        key: nvidiaLabels.memory,
        operator: "Gt",
        values: [String(Math.ceil(deviceMemoryBytes / 2 ** 20) - 1)],
      });
      alternatives = [
        [{ key: nvidiaLabels.replicas, operator: "DoesNotExist" }],
        [{ key: nvidiaLabels.replicas, operator: "Lt", values: ["2"] }],
      ];
    }
    if (products !== undefined) common.push({ key: nvidiaLabels.product, operator: "In", values: products });
    const capability = requirements.accelerator?.minComputeCapability;
    if (capability !== undefined) {
      const [major = 0, minor = 0] = capability.split(".").map(Number);
      alternatives = alternatives.flatMap((alternative) => [
        [...alternative, { key: nvidiaLabels.computeMajor, operator: "Gt", values: [String(major)] }],
        [
          ...alternative,
          { key: nvidiaLabels.computeMajor, operator: "In", values: [String(major)] },
          { key: nvidiaLabels.computeMinor, operator: "Gt", values: [String(minor - 1)] },
        ],
      ]);
    }
  }
  const own = alternatives.map((alternative) => [...common, ...alternative]);
  const users = requirements.nodeSelectorTerms ?? [];
  const terms = (users.length === 0 ? [{}] : users).flatMap((user) =>
    own.map((expressions) => ({
      matchExpressions: [...expressions, ...(user.matchExpressions ?? [])],
      ...(user.matchFields === undefined ? {} : { matchFields: user.matchFields }),
    })),
  );
  return terms.filter((term) => term.matchExpressions.length > 0 || term.matchFields !== undefined);
}
