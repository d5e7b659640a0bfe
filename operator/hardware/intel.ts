// Intel GPUs: rules of Node Feature Discovery name the product and count devices; no label states memory. Pure.
// Labels: https://github.com/intel/intel-device-plugins-for-kubernetes/blob/main/cmd/gpu_plugin/labels.md

import {
  knownFacts,
  wholeNumber,
  type DeviceAsk,
  type DeviceFacts,
  type Expressions,
  type Labels,
} from "./dialect.ts";
import { intelProducts } from "./known-devices.ts";
import { tableTerms } from "./table-dialect.ts";

/** One by kernel driver. */
export const intelResourceNames: readonly string[] = ["gpu.intel.com/i915", "gpu.intel.com/xe"];
const productKey = "gpu.intel.com/product";
const countKey = "gpu.intel.com/device.count";
const deviceIdPrefix = "gpu.intel.com/device-id.";

export function readIntel(labels: Labels, count: number): DeviceFacts | undefined {
  const product = labels[productKey];
  const known =
    product === undefined || !Object.hasOwn(intelProducts, product) ? undefined : intelProducts[product];
  if (known === undefined) {
    const ids = [
      ...new Set(
        Object.keys(labels)
          .filter((key) => key.startsWith(deviceIdPrefix))
          .map((key) => key.slice(deviceIdPrefix.length).replace(/\.(present|count)$/, "")),
      ),
    ].sort();
    const what = product ?? (ids.length === 0 ? undefined : `device ${ids.join(", ")}`);
    return {
      ...(product === undefined ? {} : { product }),
      uncertainty: `the memory of its GPU${what === undefined ? "" : ` (${what})`} is not known by name`,
    };
  }
  const { product: name } = known;
  const devices = wholeNumber(labels[countKey]);
  if (devices !== undefined && devices > 0 && count > devices) {
    return {
      product: name,
      uncertainty: `it offers ${count} shares of ${devices} GPUs, or other GPUs besides, so no memory is guaranteed`,
      labelsOverstate: true,
    };
  }
  return knownFacts(known, "product-table");
}

export function intelTerms(ask: DeviceAsk): readonly Expressions[] {
  const { leastMemoryBytes, isWanted, minComputeCapability } = ask;
  if (minComputeCapability !== undefined) return [];
  const terms = tableTerms({ key: productKey, table: intelProducts, source: "product-table" }, "intel", ask);
  if (leastMemoryBytes > 0 || isWanted === undefined) return terms;
  const others = ask.observedProducts.filter(
    (product) => !Object.hasOwn(intelProducts, product) && isWanted(product),
  );
  return others.length === 0 ? terms : [...terms, [{ key: productKey, operator: "In", values: others }]];
}
