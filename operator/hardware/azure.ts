// Azure: AKS and its Karpenter name no GPU memory, but the size of the machine, which a table knows. Pure.
// Sizes: https://learn.microsoft.com/azure/virtual-machines/sizes/overview

import type { DeviceAsk, DeviceFacts, Expressions, Labels } from "./dialect.ts";
import { azureInstanceTypes } from "./known-devices.ts";
import { readTable, tableTerms, type TableDialect } from "./table-dialect.ts";
import type { DeviceVendor } from "./types.ts";

const prefixes = ["kubernetes.azure.com/", "karpenter.azure.com/"] as const;

/** The size; `karpenter.azure.com/sku-gpu-name` ("A100") does not tell 40 GB from 80 GB. */
const sizes: TableDialect = {
  key: "node.kubernetes.io/instance-type",
  table: azureInstanceTypes,
  source: "product-table",
};

export function isAzure(labels: Labels): boolean {
  return (
    labels[sizes.key]?.startsWith("Standard_") === true ||
    Object.keys(labels).some((key) => prefixes.some((prefix) => key.startsWith(prefix)))
  );
}

export function readAzure(vendor: DeviceVendor, labels: Labels): DeviceFacts | undefined {
  return readTable(sizes, vendor, labels);
}

export function azureTerms(vendor: DeviceVendor, ask: DeviceAsk): readonly Expressions[] {
  return tableTerms(sizes, vendor, ask);
}
