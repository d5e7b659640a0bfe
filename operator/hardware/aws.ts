// AWS: labels of Karpenter and of EKS Auto Mode, of node groups for the Cluster Autoscaler, and instance types. Pure.
// Labels: https://karpenter.sh/docs/concepts/scheduling/, https://docs.aws.amazon.com/eks/latest/userguide/create-node-pool.html

import type { NodeSelectorRequirement } from "../api/model.ts";
import {
  absent,
  atLeastMebibytes,
  hasLabel,
  isCapable,
  mebibytesLabel,
  oneOf,
  type DeviceAsk,
  type DeviceFacts,
  type Expressions,
  type Labels,
} from "./dialect.ts";
import { awsAccelerators, awsGpuNames, awsInstanceTypes } from "./known-devices.ts";
import { readTable, tableTerms, type TableDialect } from "./table-dialect.ts";
import type { DeviceVendor } from "./types.ts";

const prefixes = ["karpenter.k8s.aws/", "eks.amazonaws.com/"] as const;

const nodeGroups: TableDialect = {
  key: "k8s.amazonaws.com/accelerator",
  table: awsAccelerators,
  source: "cloud-label",
};
const instanceTypes: TableDialect = {
  key: "node.kubernetes.io/instance-type",
  table: awsInstanceTypes,
  source: "product-table",
};

export function isAws(labels: Labels): boolean {
  const type = labels[instanceTypes.key];
  return (
    (type !== undefined && Object.hasOwn(awsInstanceTypes, type)) ||
    hasLabel(labels, nodeGroups.key) ||
    Object.keys(labels).some((key) => prefixes.some((prefix) => key.startsWith(prefix)))
  );
}

/** GPU facts under one prefix; Gaudi and other accelerators have keys of their own, without memory. */
function readInstanceLabels(prefix: string, vendor: DeviceVendor, labels: Labels): DeviceFacts | undefined {
  const text = labels[`${prefix}instance-gpu-memory`];
  if (text === undefined || labels[`${prefix}instance-gpu-manufacturer`] !== vendor) return undefined;
  const name = labels[`${prefix}instance-gpu-name`];
  const known = name === undefined || !Object.hasOwn(awsGpuNames, name) ? undefined : awsGpuNames[name];
  const product = known?.product ?? name;
  const memoryBytes = mebibytesLabel(text);
  return {
    ...(product === undefined ? {} : { product }),
    ...(memoryBytes === undefined
      ? { uncertainty: `its label ${prefix}instance-gpu-memory is no number of MiB` }
      : { memoryBytes, memorySource: "cloud-label" as const }),
    ...(known?.computeCapability === undefined ? {} : { computeCapability: known.computeCapability }),
  };
}

function instanceLabelTerms(prefix: string, vendor: DeviceVendor, ask: DeviceAsk): readonly Expressions[] {
  const { leastMemoryBytes, isWanted, minComputeCapability } = ask;
  const expressions: NodeSelectorRequirement[] = [
    oneOf(`${prefix}instance-gpu-manufacturer`, [vendor]),
    leastMemoryBytes > 0
      ? atLeastMebibytes(`${prefix}instance-gpu-memory`, leastMemoryBytes)
      : { key: `${prefix}instance-gpu-memory`, operator: "Exists" },
  ];
  if (isWanted !== undefined || minComputeCapability !== undefined) {
    const unlisted = minComputeCapability === undefined ? ask.observedProducts : [];
    const names = [
      ...Object.entries(awsGpuNames)
        .filter(
          ([, { product, computeCapability }]) =>
            (isWanted === undefined || isWanted(product)) &&
            (minComputeCapability === undefined ||
              (computeCapability !== undefined && isCapable(computeCapability, minComputeCapability))),
        )
        .map(([name]) => name),
      ...unlisted.filter((name) => !Object.hasOwn(awsGpuNames, name) && isWanted?.(name) === true),
    ];
    if (names.length === 0) return [];
    expressions.push(oneOf(`${prefix}instance-gpu-name`, names));
  }
  return [expressions];
}

/** The vendor's devices as AWS labels tell them: what an autoscaler's labels say goes before tables of names. */
export function readAws(vendor: DeviceVendor, labels: Labels): DeviceFacts | undefined {
  for (const prefix of prefixes) {
    const facts = readInstanceLabels(prefix, vendor, labels);
    if (facts !== undefined) return facts;
    if (hasLabel(labels, `${prefix}instance-gpu-memory`)) return undefined;
  }
  if (hasLabel(labels, nodeGroups.key)) return readTable(nodeGroups, vendor, labels);
  return readTable(instanceTypes, vendor, labels);
}

/** The same as terms, those first that Karpenter and EKS Auto Mode can launch a node for. */
export function awsTerms(vendor: DeviceVendor, ask: DeviceAsk): readonly Expressions[] {
  const memoryKeys = prefixes.map((prefix) => `${prefix}instance-gpu-memory`);
  const without = (keys: readonly string[]) => (expressions: Expressions) => [
    ...expressions,
    ...keys.map((key) => absent(key)),
  ];
  return [
    ...instanceLabelTerms(prefixes[0], vendor, ask),
    ...instanceLabelTerms(prefixes[1], vendor, ask).map(without(memoryKeys.slice(0, 1))),
    ...tableTerms(nodeGroups, vendor, ask).map(without(memoryKeys)),
    ...tableTerms(instanceTypes, vendor, ask).map(without([...memoryKeys, nodeGroups.key])),
  ];
}
