// The required node affinity of a placement: ORed terms, one for each label dialect that may describe the device. Pure.

import type { NodeSelectorRequirement, NodeSelectorTerm } from "../api/model.ts";
import { deviceTerms } from "../hardware/accelerators.ts";
import { platforms } from "../hardware/cloud.ts";
import { cpuFeaturePrefix } from "../hardware/cpu.ts";
import type { DeviceAsk, Expressions } from "../hardware/dialect.ts";
import type { NodeHardware, Platform } from "../hardware/types.ts";
import { offersWay, parseCapability, type PodDemand } from "./fit.ts";
import { productFilter } from "./glob.ts";
import { groupNodes, type NodeGroup } from "./node-groups.ts";

/** Matches no node, in a form that the API server accepts. */
const nothing: Expressions = [
  { key: "kubernetes.io/hostname", operator: "Exists" },
  { key: "kubernetes.io/hostname", operator: "DoesNotExist" },
];

const hostnameKey = "kubernetes.io/hostname";

/**
 * Required node affinity for a placement: it holds for a node if and only if the node's labels say that it can hold the
 * pod, and leaves to the scheduler what the scheduler counts itself (devices, RAM, taints).
 *
 * It depends on the nodes as little as labels allow, so that a joining node never restarts running pods: on the clouds
 * they are of (all of them while there is no node), on product names that the user's globs match, and on nodes whose
 * labels promise what they do not have, which are excluded by name. Empty: any node.
 */
export function nodeAffinityTerms(
  demand: PodDemand,
  nodes: readonly NodeHardware[],
): readonly NodeSelectorTerm[] {
  // All that is asked of nodes here is the same for a whole group.
  const { groups } = groupNodes(nodes);
  const samples = groups.map(({ sample }) => sample);
  const excluded = excludedByName(demand, groups);
  const common = [...commonExpressions(demand, samples), ...excluded.expressions];
  const alternatives = deviceAlternatives(demand, samples);
  const own = alternatives.length === 0 ? [nothing] : alternatives.map((each) => [...each, ...common]);
  const users = demand.requirements.nodeSelectorTerms ?? [];
  const terms = (users.length === 0 ? [{}] : users)
    // An empty term of the user's matches nothing (core/v1 NodeSelectorTerm), so it adds nothing either.
    .filter(
      (user) =>
        users.length === 0 || (user.matchExpressions?.length ?? 0) + (user.matchFields?.length ?? 0) > 0,
    )
    .flatMap((user: NodeSelectorTerm) =>
      own.map((expressions) => ({
        matchExpressions: [...expressions, ...(user.matchExpressions ?? [])],
        ...(user.matchFields === undefined && excluded.fields.length === 0
          ? {}
          : { matchFields: [...excluded.fields, ...(user.matchFields ?? [])] }),
      })),
    );
  if (terms.length === 0) return [{ matchExpressions: nothing }];
  return terms.filter((term) => term.matchExpressions.length > 0 || term.matchFields !== undefined);
}

/** What holds whatever the device. */
function commonExpressions(
  { requirements }: PodDemand,
  nodes: readonly NodeHardware[],
): readonly NodeSelectorRequirement[] {
  const common: NodeSelectorRequirement[] = [];
  if (requirements.architectures !== undefined && requirements.architectures.length > 0) {
    common.push({ key: "kubernetes.io/arch", operator: "In", values: requirements.architectures });
  }
  for (const feature of requirements.cpuFeatures ?? []) {
    common.push({ key: `${cpuFeaturePrefix}${feature}`, operator: "In", values: ["true"] });
  }
  const foreign = nodes.flatMap(({ operatingSystem }) =>
    operatingSystem === undefined || operatingSystem === "linux" ? [] : [operatingSystem],
  );
  if (foreign.length > 0) {
    common.push({ key: "kubernetes.io/os", operator: "NotIn", values: [...new Set(foreign)].sort() });
  }
  return common;
}

function deviceAlternatives(
  { requirements, device }: PodDemand,
  nodes: readonly NodeHardware[],
): readonly Expressions[] {
  if (device === undefined) return [[]];
  const globs = requirements.accelerator?.products ?? [];
  const capability = requirements.accelerator?.minComputeCapability;
  const devices = nodes.flatMap(({ accelerators }) =>
    accelerators.filter(({ vendor }) => vendor === device.way.vendor),
  );
  const ask: DeviceAsk = {
    leastMemoryBytes: device.memoryBytes,
    isWanted: productFilter(globs),
    minComputeCapability: capability === undefined ? undefined : parseCapability(capability),
    observedProducts: [
      ...new Set(devices.flatMap(({ product }) => (product === undefined ? [] : [product]))),
    ].sort(),
    observedMemoryBytes: [
      ...new Set(devices.flatMap(({ memoryBytes }) => (memoryBytes === undefined ? [] : [memoryBytes]))),
    ].sort((one, other) => one - other),
  };
  return deviceTerms(device.way, ask, platformsOf(nodes));
}

/** Clouds that nodes are of; without any node, all of them: one may be what an autoscaler will bring. */
function platformsOf(nodes: readonly NodeHardware[]): readonly Platform[] {
  if (nodes.length === 0) return platforms;
  const found = new Set(nodes.map(({ platform }) => platform));
  return platforms.filter((platform) => found.has(platform));
}

/**
 * Nodes whose labels overstate their devices: by host name, which Karpenter accepts, unlike fields; by field those that
 * have no such label. A field takes one name in each requirement.
 */
function excludedByName(
  { device }: PodDemand,
  groups: readonly NodeGroup[],
): { readonly expressions: Expressions; readonly fields: Expressions } {
  const excluded =
    device === undefined || device.memoryBytes === 0
      ? []
      : groups
          .filter(({ sample: { accelerators } }) =>
            accelerators.some((each) => each.labelsOverstate === true && offersWay(each, device)),
          )
          .flatMap(({ nodes }) => nodes);
  const hosts = excluded.flatMap(({ labels }) => labels[hostnameKey] ?? []);
  const unlabelled = excluded
    .filter(({ labels }) => labels[hostnameKey] === undefined)
    .map(({ name }) => name);
  return {
    expressions:
      hosts.length === 0 ? [] : [{ key: hostnameKey, operator: "NotIn", values: [...new Set(hosts)].sort() }],
    fields: unlabelled
      .sort()
      .map((name): NodeSelectorRequirement => ({ key: "metadata.name", operator: "NotIn", values: [name] })),
  };
}
