// All devices of a node by class, from whichever dialect describes them; and the same question backwards as terms. Pure.

import { parseQuantity } from "../kube/quantity.ts";
import { amdResourceName, amdTerms, hasAmdDiscovery, readAmd, withoutAmdDiscovery } from "./amd.ts";
import { cloudTerms, readCloud } from "./cloud.ts";
import type { DeviceAsk, DeviceFacts, Expressions, Labels } from "./dialect.ts";
import { habanaResourceName, unknownGaudi } from "./habana.ts";
import { intelResourceNames, intelTerms, readIntel } from "./intel.ts";
import {
  hasNvidiaDiscovery,
  isNvidiaResource,
  migProfile,
  nvidiaTerms,
  readNvidia,
  withoutNvidiaDiscovery,
} from "./nvidia.ts";
import type { DeviceVendor, DeviceWay, NodeAccelerators, Platform } from "./types.ts";

/** Vendor of an extended resource that offers devices to pods; undefined: none that we know. */
export function vendorOf(resourceName: string): DeviceVendor | undefined {
  if (isNvidiaResource(resourceName)) return "nvidia";
  if (resourceName === amdResourceName) return "amd";
  if (intelResourceNames.includes(resourceName)) return "intel";
  return resourceName === habanaResourceName ? "habana" : undefined;
}

/** The vendor's own discovery where it speaks, else the cloud's labels. */
function readFacts(
  vendor: DeviceVendor,
  resourceName: string,
  labels: Labels,
  platform: Platform | undefined,
  count: number,
): DeviceFacts {
  const cloud = (): DeviceFacts | undefined => readCloud(platform, vendor, labels);
  switch (vendor) {
    case "nvidia": {
      const facts =
        migProfile(resourceName) !== undefined || hasNvidiaDiscovery(labels)
          ? readNvidia(resourceName, labels, count)
          : cloud();
      return facts ?? { uncertainty: "its GPU memory is not stated (no nvidia.com/gpu.memory label)" };
    }
    case "amd":
      return (
        (hasAmdDiscovery(labels) ? readAmd(labels) : (cloud() ?? readAmd(labels))) ?? {
          uncertainty: "its GPU memory is not stated (no amd.com/gpu.vram label)",
        }
      );
    case "intel":
      return readIntel(labels, count) ?? {};
    case "habana":
      return cloud() ?? unknownGaudi;
  }
}

export type AcceleratorsRead = {
  readonly accelerators: readonly NodeAccelerators[];
  readonly notes: readonly string[];
};

/** The devices that the node's plugins offer, by resource name. */
export function readAccelerators(
  labels: Labels,
  allocatable: Readonly<Record<string, string>>,
  platform: Platform | undefined,
): AcceleratorsRead {
  const accelerators: NodeAccelerators[] = [];
  const notes: string[] = [];
  for (const [name, quantity] of Object.entries(allocatable)) {
    const vendor = vendorOf(name);
    if (vendor === undefined) continue;
    const count = parseQuantity(quantity);
    if (count === undefined || count < 1) continue;
    const {
      notes: doubts = [],
      isUnifiedMemory = false,
      ...facts
    } = readFacts(vendor, name, labels, platform, count);
    const profile = migProfile(name);
    notes.push(...doubts);
    if (facts.uncertainty !== undefined) notes.push(`${name}: ${facts.uncertainty}`);
    accelerators.push({
      vendor,
      access: { kind: "resource", name },
      isUnifiedMemory,
      count,
      ...facts,
      ...(isUnifiedMemory ? { memorySource: "unified-memory" as const } : {}),
      ...(profile === undefined ? {} : { migProfile: profile }),
    });
  }
  accelerators.sort((one, other) => (resourceOf(one) < resourceOf(other) ? -1 : 1));
  return { accelerators, notes };
}

function resourceOf({ access }: DeviceWay): string {
  return access.kind === "resource" ? access.name : access.deviceClassName;
}

/**
 * Terms that hold for exactly the nodes whose devices, asked for in this way, satisfy what is asked as far as labels
 * tell it. Those first that autoscalers can launch a node for: Karpenter tries terms in their order. `[[]]`: any
 * node; `[]`: none.
 */
export function deviceTerms(
  way: DeviceWay,
  ask: DeviceAsk,
  platforms: readonly Platform[],
): readonly Expressions[] {
  const isAny =
    ask.leastMemoryBytes === 0 && ask.isWanted === undefined && ask.minComputeCapability === undefined;
  // A claim's own selectors compare what the driver publishes.
  if (isAny || way.access.kind === "claim") return [[]];
  const { vendor } = way;
  const { name } = way.access;
  const ofClouds = (without: Expressions): readonly Expressions[] =>
    platforms.flatMap((platform) => cloudTerms(platform, vendor, ask)).map((terms) => [...terms, ...without]);
  const isUnified = way.isUnifiedMemory && ask.leastMemoryBytes > 0;
  switch (vendor) {
    case "nvidia":
      return [
        ...(isUnified || migProfile(name) !== undefined ? [] : ofClouds(withoutNvidiaDiscovery)),
        ...nvidiaTerms(name, way.isUnifiedMemory, ask),
      ];
    case "amd":
      return [...ofClouds(withoutAmdDiscovery), ...amdTerms(ask)];
    case "intel":
      return intelTerms(ask);
    case "habana":
      return ofClouds([]);
  }
}
