// AMD devices from the labels of its node labeller: one value for the node, or counts in the keys where devices differ. Pure.
// Labels: https://github.com/ROCm/k8s-device-plugin/blob/master/docs/user-guide/resource-allocation.md

import {
  absent,
  combine,
  hasLabel,
  knownFacts,
  oneOf,
  satisfies,
  type DeviceAsk,
  type DeviceFacts,
  type Expressions,
  type Labels,
} from "./dialect.ts";
import { amdMemorySizes, amdProducts } from "./known-devices.ts";

export const amdResourceName = "amd.com/gpu";
const memoryKey = "amd.com/gpu.vram";
/** Labellers before 2021 wrote these; later ones may mirror them. */
const legacyMemoryKey = "beta.amd.com/gpu.vram";
const productKey = "amd.com/gpu.product-name";
const partitionKey = "amd.com/gpu.compute-memory-partition";
const discoveryKeys = [memoryKey, legacyMemoryKey, productKey] as const;

/** Partitions of one device share its memory, and its label does not divide it. */
const partitions: readonly string[] = ["DPX", "TPX", "QPX", "CPX"].flatMap((compute) =>
  ["NPS1", "NPS2", "NPS4"].flatMap((memory) => {
    const name = `${compute}_${memory}`;
    return [name, name.toLowerCase()];
  }),
);

export const withoutAmdDiscovery: Expressions = discoveryKeys.map((key) => absent(key));

export function hasAmdDiscovery(labels: Labels): boolean {
  return discoveryKeys.some((key) => hasLabel(labels, key));
}

/** `192G`, which means GiB, rounded. */
function memoryLabel(text: string | undefined): number | undefined {
  const match = text === undefined ? null : /^([1-9]\d{0,4})G$/.exec(text);
  return match?.[1] === undefined ? undefined : Number(match[1]) * 2 ** 30;
}

/** Kinds of a node whose devices differ: `amd.com/gpu.vram.64G: "2"`. */
function kinds(labels: Labels): readonly string[] {
  return [memoryKey, legacyMemoryKey]
    .flatMap((key) =>
      Object.keys(labels)
        .filter((each) => each.startsWith(`${key}.`))
        .map((each) => `${labels[each]} of ${each.slice(key.length + 1)}`),
    )
    .sort();
}

export function readAmd(labels: Labels): DeviceFacts | undefined {
  const product = labels[productKey];
  const partition = labels[partitionKey];
  const named = product === undefined ? {} : { product };
  if (partition !== undefined && partitions.includes(partition)) {
    return { ...named, uncertainty: `its GPUs are partitioned (${partition}), so no memory is guaranteed` };
  }
  const key = hasLabel(labels, memoryKey) ? memoryKey : legacyMemoryKey;
  if (hasLabel(labels, key)) {
    const memoryBytes = memoryLabel(labels[key]);
    return memoryBytes === undefined
      ? { ...named, uncertainty: `its label ${key} is no number of GiB, so its GPU memory is not stated` }
      : { ...named, memoryBytes, memorySource: "vendor-label" };
  }
  const known =
    product === undefined || !Object.hasOwn(amdProducts, product) ? undefined : amdProducts[product];
  if (known !== undefined) return knownFacts(known, "product-table");
  if (product !== undefined)
    return { product, uncertainty: `its GPU memory is not stated (no ${memoryKey} label)` };
  const mixed = kinds(labels);
  return mixed.length === 0
    ? undefined
    : { uncertainty: `its GPUs differ in memory (${mixed.join(", ")}), and a pod gets any of them` };
}

export function amdTerms(ask: DeviceAsk): readonly Expressions[] {
  const { leastMemoryBytes, isWanted, minComputeCapability } = ask;
  // Compute capability is a notion of CUDA: no AMD device states one.
  if (minComputeCapability !== undefined) return [];
  const named: readonly Expressions[] =
    isWanted === undefined
      ? [[]]
      : productNames(ask.observedProducts, isWanted).map((names) => [oneOf(productKey, names)]);
  if (leastMemoryBytes === 0) return named;
  const sizes = [...amdMemorySizes, ...ask.observedMemoryBytes.map((bytes) => bytes / 2 ** 30)]
    .filter((size) => Number.isInteger(size) && size * 2 ** 30 >= leastMemoryBytes)
    .map((size) => `${size}G`);
  const products = Object.values(amdProducts)
    .filter((device) => satisfies({ ...device, memoryBytes: device.memoryMebibytes * 2 ** 20 }, ask))
    .map(({ product }) => product);
  const whole: Expressions = [{ key: partitionKey, operator: "NotIn", values: partitions }];
  return [
    ...(sizes.length === 0
      ? []
      : combine(named, [
          [...whole, oneOf(memoryKey, sizes)],
          [...whole, absent(memoryKey), oneOf(legacyMemoryKey, sizes)],
        ])),
    ...(products.length === 0
      ? []
      : [[...whole, absent(memoryKey), absent(legacyMemoryKey), oneOf(productKey, products)]]),
  ];
}

function productNames(
  observed: readonly string[],
  isWanted: (product: string) => boolean,
): readonly (readonly string[])[] {
  const names = [...Object.keys(amdProducts), ...observed].filter(isWanted);
  return names.length === 0 ? [] : [names];
}
