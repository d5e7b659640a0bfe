// What a label dialect is: it reads devices from labels, and says the same backwards as node selector terms. Types and small parsers; pure.

import type { NodeSelectorRequirement } from "../api/model.ts";
import type { FactSource, NodeAccelerators } from "./types.ts";

export type Labels = Readonly<Record<string, string>>;

/** Expressions that must all hold: one term of a node affinity. */
export type Expressions = readonly NodeSelectorRequirement[];

/** What a dialect tells of the devices behind one resource; absent: it does not say. */
export type DeviceFacts = Pick<
  NodeAccelerators,
  "product" | "memoryBytes" | "memorySource" | "computeCapability" | "sharedBy" | "uncertainty"
> & {
  readonly isUnifiedMemory?: boolean;
  /** Contradictions that leave the figures standing. */
  readonly notes?: readonly string[];
  readonly labelsOverstate?: boolean;
};

/** What is asked of one device. */
export type DeviceAsk = {
  /** Bytes; 0: memory is not compared. */
  readonly leastMemoryBytes: number;
  /** Whether a product is acceptable by name; undefined: any, also an unknown one. */
  readonly isWanted: ((product: string) => boolean) | undefined;
  readonly minComputeCapability: readonly [number, number] | undefined;
  /** Product names seen on nodes: labels cannot be compared with patterns, so names are listed. */
  readonly observedProducts: readonly string[];
  /** Device memory sizes seen on nodes, bytes: for labels that are no plain numbers. */
  readonly observedMemoryBytes: readonly number[];
};

const mebibyte = 2 ** 20;

/** A label's value as a whole number >= 0; undefined when it is absent or anything else. As the scheduler: 64 bits. */
export function wholeNumber(text: string | undefined): number | undefined {
  if (text === undefined || !/^\d{1,19}$/.test(text)) return undefined;
  return text.length === 19 && BigInt(text) > 2n ** 63n - 1n ? undefined : Number(text);
}

/** MiB in a label as bytes; 0 and garbage are unknown. */
export function mebibytesLabel(text: string | undefined): number | undefined {
  const number = wholeNumber(text);
  return number === undefined || number === 0 ? undefined : number * mebibyte;
}

export function hasLabel(labels: Labels, key: string): boolean {
  return labels[key] !== undefined;
}

/** The label is a number of MiB of at least so many bytes. */
export function atLeastMebibytes(key: string, bytes: number): NodeSelectorRequirement {
  return { key, operator: "Gt", values: [String(Math.ceil(bytes / mebibyte) - 1)] };
}

export function absent(key: string): NodeSelectorRequirement {
  return { key, operator: "DoesNotExist" };
}

export function oneOf(key: string, values: readonly string[]): NodeSelectorRequirement {
  return { key, operator: "In", values: [...new Set(values)].sort() };
}

/** True where a capability is at least another. */
export function isCapable(has: readonly [number, number], least: readonly [number, number]): boolean {
  return has[0] > least[0] || (has[0] === least[0] && has[1] >= least[1]);
}

/** Whether a device known by name satisfies all that is asked. */
export function satisfies(
  device: {
    readonly product: string;
    readonly memoryBytes: number;
    readonly computeCapability?: readonly [number, number];
  },
  ask: DeviceAsk,
): boolean {
  return (
    device.memoryBytes >= ask.leastMemoryBytes &&
    (ask.isWanted === undefined || ask.isWanted(device.product)) &&
    (ask.minComputeCapability === undefined ||
      (device.computeCapability !== undefined &&
        isCapable(device.computeCapability, ask.minComputeCapability)))
  );
}

/** All combinations of alternatives: each of the one with each of the other. */
export function combine(one: readonly Expressions[], other: readonly Expressions[]): readonly Expressions[] {
  return one.flatMap((left) => other.map((right) => [...left, ...right]));
}

/** Facts of a device known by name. */
export function knownFacts(
  device: {
    readonly product: string;
    readonly memoryMebibytes: number;
    readonly computeCapability?: readonly [number, number];
  },
  source: FactSource,
): DeviceFacts {
  return {
    product: device.product,
    memoryBytes: device.memoryMebibytes * mebibyte,
    memorySource: source,
    ...(device.computeCapability === undefined ? {} : { computeCapability: device.computeCapability }),
  };
}
