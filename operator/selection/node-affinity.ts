// The required node affinity of a placement: ORed terms, one for each label dialect that may describe the device. Pure.

import type { NodeSelectorRequirement, NodeSelectorTerm } from "../api/model.ts";
import { cpuFeaturePrefix } from "../hardware/node-hardware.ts";
import { nvidiaLabels } from "../hardware/nvidia.ts";
import type { NodeHardware } from "../hardware/types.ts";
import { matchesGlob, type PodDemand } from "./fit.ts";

/**
 * Required node affinity for a placement. It does not depend on which nodes exist (but for product globs, which
 * labels cannot express), so that a joining node never restarts running pods.
 */
export function nodeAffinityTerms(
  demand: PodDemand,
  nodes: readonly NodeHardware[],
): readonly NodeSelectorTerm[] {
  const { requirements, device } = demand;
  const deviceMemoryBytes = device?.memoryBytes;
  const globs = device === undefined ? [] : (requirements.accelerator?.products ?? []);
  const products = globs.length === 0 ? undefined : observedProducts(globs, nodes);
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

/** Names of devices in the cluster that match one of the globs, sorted. */
function observedProducts(globs: readonly string[], nodes: readonly NodeHardware[]): readonly string[] {
  const names = nodes.flatMap(({ accelerators }) =>
    accelerators.flatMap(({ product }) => (product === undefined ? [] : [product])),
  );
  return [...new Set(names)].filter((name) => globs.some((glob) => matchesGlob(glob, name))).sort();
}
