// NVIDIA devices from GPU Feature Discovery labels and the device plugin's extended resources, MIG slices among them. Pure.
// Labels: https://github.com/NVIDIA/k8s-device-plugin/blob/main/docs/gpu-feature-discovery/README.md

import {
  absent,
  atLeastMebibytes,
  combine,
  hasLabel,
  mebibytesLabel,
  oneOf,
  wholeNumber,
  type DeviceAsk,
  type DeviceFacts,
  type Expressions,
  type Labels,
} from "./dialect.ts";
import { migProfileBytes, unifiedMemoryProducts } from "./known-devices.ts";

const prefix = "nvidia.com/";
const gpu = `${prefix}gpu`;
const productKey = `${gpu}.product`;
const memoryKey = `${gpu}.memory`;
/** Their presence says that GPU Feature Discovery describes the node: then no cloud's label is asked. */
export const nvidiaDiscoveryKeys: readonly string[] = [productKey, memoryKey];

const majorKey = `${gpu}.compute.major`;
const minorKey = `${gpu}.compute.minor`;

/** `nvidia.com/mig-1g.10gb` -> `1g.10gb`; undefined for whole devices. */
export function migProfile(resourceName: string): string | undefined {
  return /^nvidia\.com\/mig-(\d+g\.\d+gb(?:\.[a-z.]+)?)$/.exec(resourceName)?.[1];
}

/** True for the resources of NVIDIA's device plugin: whole devices, shared ones under a name of their own, MIG slices. */
export function isNvidiaResource(name: string): boolean {
  return name === gpu || name === `${gpu}.shared` || migProfile(name) !== undefined;
}

function computeCapability(labels: Labels): readonly [number, number] | undefined {
  const major = wholeNumber(labels[majorKey]);
  const minor = wholeNumber(labels[minorKey]);
  return major === undefined || minor === undefined || minor >= 1000 ? undefined : [major, minor];
}

/**
 * Nominal size in a product's name, GB: `NVIDIA-A100-SXM4-80GB` -> 80; the profile's of a MIG slice. The 480 GB of a
 * GH200 are its CPU's.
 */
function nominalGigabytes(product: string): number | undefined {
  if (product.includes("GH200")) return undefined;
  const slice = /-MIG-\d+g\.(\d{1,3})gb/.exec(product);
  const match = slice ?? /(?:^|[-_ ])(\d{1,3})GB/.exec(product);
  return match?.[1] === undefined ? undefined : Number(match[1]);
}

/**
 * What the labels of one resource say. `count`: allocatable devices or shares, which discovery's own count must
 * account for: on a node with two products the labels of one of them win.
 */
export function readNvidia(resourceName: string, labels: Labels, count: number): DeviceFacts | undefined {
  const base = migProfile(resourceName) === undefined ? gpu : resourceName;
  const product = labels[`${base}.product`];
  const memoryText = labels[`${base}.memory`];
  const profile = migProfile(resourceName);
  if (product === undefined && memoryText === undefined && profile === undefined) return undefined;
  const capability = computeCapability(labels);
  const named = {
    ...(product === undefined ? {} : { product }),
    ...(capability === undefined ? {} : { computeCapability: capability }),
  };
  const replicasText = labels[`${base}.replicas`];
  const replicas = replicasText === undefined ? 0 : wholeNumber(replicasText);
  if (replicas === undefined) {
    return { ...named, uncertainty: `its label ${base}.replicas is no number, so sharing is unknown` };
  }
  if (replicas > 1) {
    return {
      ...named,
      sharedBy: replicas,
      uncertainty: `each GPU is shared by ${replicas} pods, so no memory is guaranteed`,
    };
  }
  if (resourceName === `${gpu}.shared`) {
    return { ...named, uncertainty: "its GPUs are shared, so no memory is guaranteed" };
  }
  const doubt = overstatement(base, product, memoryText, labels, count);
  if (doubt !== undefined) return { ...named, uncertainty: doubt, labelsOverstate: true };
  if (memoryText !== undefined) {
    const memoryBytes = mebibytesLabel(memoryText);
    return memoryBytes === undefined
      ? {
          ...named,
          uncertainty: `its label ${base}.memory is no number of MiB, so its GPU memory is not stated`,
        }
      : { ...named, memoryBytes, memorySource: "vendor-label" };
  }
  if (profile !== undefined) {
    const memoryBytes = migProfileBytes(profile);
    if (memoryBytes !== undefined) return { ...named, memoryBytes, memorySource: "product-table" };
  }
  if (product !== undefined && unifiedMemoryProducts.includes(product)) {
    return { ...named, isUnifiedMemory: true };
  }
  return { ...named, uncertainty: `its GPU memory is not stated (no ${base}.memory label)` };
}

/** Why a stated memory is not to be relied on; undefined: it is. */
function overstatement(
  base: string,
  product: string | undefined,
  memoryText: string | undefined,
  labels: Labels,
  count: number,
): string | undefined {
  if (product?.endsWith("-SHARED") === true) {
    return `its product ${product} is shared, and no label says by how many pods`;
  }
  const stated = wholeNumber(labels[`${base}.count`]);
  if (stated !== undefined && stated > 0 && count > stated) {
    return `its labels describe ${stated} of its ${count} GPUs: the others may be of another product`;
  }
  const memoryBytes = mebibytesLabel(memoryText);
  const nominal = product === undefined ? undefined : nominalGigabytes(product);
  if (memoryBytes !== undefined && nominal !== undefined) {
    // Drivers report from 92 % of the nominal GiB up to all of them.
    const isContradiction = memoryBytes < nominal * 0.85e9 || memoryBytes > nominal * 2 ** 30 * 1.05;
    if (isContradiction) {
      return `its labels contradict each other: ${product} with ${labels[`${base}.memory`]} MiB`;
    }
  }
  return undefined;
}

/** Not shared, for as far as labels tell. */
function exclusive(base: string): readonly Expressions[] {
  return [[absent(`${base}.replicas`)], [{ key: `${base}.replicas`, operator: "Lt", values: ["2"] }]];
}

/** The label is a number from 0 on, whatever it is; values below 0 are no label values. */
function isNumber(key: string): Expressions[number] {
  return { key, operator: "Lt", values: ["1000"] };
}

function capabilityTerms([major, minor]: readonly [number, number]): readonly Expressions[] {
  const higher: Expressions = [
    { key: majorKey, operator: "Gt", values: [String(major)] },
    isNumber(minorKey),
  ];
  const same: Expressions = [
    oneOf(majorKey, [String(major)]),
    ...(minor === 0
      ? [isNumber(minorKey)]
      : ([{ key: minorKey, operator: "Gt", values: [String(minor - 1)] }, isNumber(minorKey)] as const)),
  ];
  return [higher, same];
}

/** Devices that satisfy what is asked, as GPU Feature Discovery labels them; no alternative: none can. */
export function nvidiaTerms(
  resourceName: string,
  isUnifiedMemory: boolean,
  ask: DeviceAsk,
): readonly Expressions[] {
  const profile = migProfile(resourceName);
  const base = profile === undefined ? gpu : resourceName;
  const { leastMemoryBytes, isWanted, minComputeCapability } = ask;
  const comparesMemory = leastMemoryBytes > 0;
  if (comparesMemory && resourceName === `${gpu}.shared`) return [];
  let terms: readonly Expressions[] = [[]];
  if (comparesMemory && isUnifiedMemory) {
    terms = combine([[absent(memoryKey), oneOf(productKey, unifiedMemoryProducts)]], exclusive(base));
  } else if (comparesMemory) {
    const labelled: Expressions = [atLeastMebibytes(`${base}.memory`, leastMemoryBytes)];
    const fromName: readonly Expressions[] =
      profile !== undefined && (migProfileBytes(profile) ?? 0) >= leastMemoryBytes
        ? [[absent(`${base}.memory`)]]
        : [];
    terms = combine([labelled, ...fromName], exclusive(base));
  }
  if (isWanted !== undefined) {
    const names = ask.observedProducts.filter(isWanted);
    if (names.length === 0) return [];
    terms = combine(terms, [[oneOf(`${base}.product`, names)]]);
  }
  if (minComputeCapability !== undefined) terms = combine(terms, capabilityTerms(minComputeCapability));
  return terms;
}

/** What a dialect of a cloud must add, since discovery's own labels go before it. */
export const withoutNvidiaDiscovery: Expressions = nvidiaDiscoveryKeys.map((key) => absent(key));

export function hasNvidiaDiscovery(labels: Labels): boolean {
  return nvidiaDiscoveryKeys.some((key) => hasLabel(labels, key));
}
