// GKE: node pools name their accelerator, and how it is cut or shared. Pure.
// Labels: https://cloud.google.com/kubernetes-engine/docs/concepts/gpus

import {
  absent,
  hasLabel,
  oneOf,
  wholeNumber,
  type DeviceAsk,
  type DeviceFacts,
  type Expressions,
  type Labels,
} from "./dialect.ts";
import { gkeAccelerators, gkePartitions, migProfileBytes } from "./known-devices.ts";
import { readTable, tableTerms, type TableDialect } from "./table-dialect.ts";
import type { DeviceVendor } from "./types.ts";

const prefix = "cloud.google.com/";
const accelerators: TableDialect = {
  key: `${prefix}gke-accelerator`,
  table: gkeAccelerators,
  source: "product-table",
};
const sharingKey = `${prefix}gke-gpu-sharing-strategy`;
const clientsKey = `${prefix}gke-max-shared-clients-per-gpu`;
const partitionKey = `${prefix}gke-gpu-partition-size`;

export function isGke(labels: Labels): boolean {
  return Object.keys(labels).some((key) => key.startsWith(`${prefix}gke-`));
}

export function readGke(vendor: DeviceVendor, labels: Labels): DeviceFacts | undefined {
  const facts = readTable(accelerators, vendor, labels);
  if (facts === undefined) return undefined;
  const { memoryBytes: _memory, memorySource: _source, ...withoutMemory } = facts;
  if (hasLabel(labels, sharingKey)) {
    const clients = wholeNumber(labels[clientsKey]);
    return {
      ...withoutMemory,
      ...(clients === undefined ? {} : { sharedBy: clients }),
      uncertainty: `its GPUs are shared (${labels[sharingKey]}), so no memory is guaranteed`,
    };
  }
  const partition = labels[partitionKey];
  if (partition === undefined) return facts;
  const partitionBytes = gkePartitions.includes(partition) ? migProfileBytes(partition) : undefined;
  return partitionBytes === undefined
    ? { ...withoutMemory, uncertainty: `its GPU partition ${partition} is unknown` }
    : { ...withoutMemory, memoryBytes: partitionBytes, memorySource: "product-table" };
}

/** Whole devices, then partitions that are large enough. */
export function gkeTerms(vendor: DeviceVendor, ask: DeviceAsk): readonly Expressions[] {
  if (ask.leastMemoryBytes === 0) return tableTerms(accelerators, vendor, ask);
  const whole = tableTerms(accelerators, vendor, ask).map((expressions) => [
    ...expressions,
    absent(sharingKey),
    absent(partitionKey),
  ]);
  const sizes = gkePartitions.filter((size) => (migProfileBytes(size) ?? 0) >= ask.leastMemoryBytes);
  if (sizes.length === 0) return whole;
  // What a partition has does not depend on the memory of the whole device.
  const partitioned = tableTerms(accelerators, vendor, { ...ask, leastMemoryBytes: 0 }).map((expressions) => [
    ...expressions,
    absent(sharingKey),
    oneOf(partitionKey, sizes),
  ]);
  return [...whole, ...partitioned];
}
