// The ways in which pods can ask for devices of a vendor in a cluster, in the order in which they are tried. Pure.

import type { DeviceAccess, DeviceVendor, DeviceWay, NodeHardware } from "./types.ts";

/** Extended resource of each vendor's device plugin: what is asked for when no node says otherwise. */
export const defaultDeviceResource: Readonly<Record<DeviceVendor, string>> = {
  nvidia: "nvidia.com/gpu",
  amd: "amd.com/gpu",
  intel: "gpu.intel.com/i915",
  habana: "habana.ai/gaudi",
};

export function isSameAccess(one: DeviceAccess, other: DeviceAccess): boolean {
  return one.kind === "resource"
    ? other.kind === "resource" && one.name === other.name
    : other.kind === "claim" && one.deviceClassName === other.deviceClassName && one.driver === other.driver;
}

/** Equal for two ways that are the same. */
export function deviceWayKey({ vendor, access, isUnifiedMemory }: DeviceWay): string {
  const how = access.kind === "resource" ? access.name : `claim ${access.deviceClassName} ${access.driver}`;
  return `${vendor} ${how}${isUnifiedMemory ? " unified" : ""}`;
}

/** Whole devices before slices of them, devices with memory of their own before unified memory, plugins before claims. */
function rank(way: DeviceWay): number {
  const isDefault = way.access.kind === "resource" && way.access.name === defaultDeviceResource[way.vendor];
  return (way.access.kind === "claim" ? 4 : 0) + (isDefault ? 0 : 2) + (way.isUnifiedMemory ? 1 : 0);
}

/**
 * The ways to ask for the vendor's devices that some node offers, the vendor's own resource always first, whether a
 * node has it or not: then a total order that does not depend on the nodes' order.
 */
export function deviceWays(vendor: DeviceVendor, nodes: readonly NodeHardware[]): readonly DeviceWay[] {
  const first: DeviceWay = {
    vendor,
    access: { kind: "resource", name: defaultDeviceResource[vendor] },
    isUnifiedMemory: false,
  };
  const ways = new Map<string, DeviceWay>([[deviceWayKey(first), first]]);
  for (const { accelerators } of nodes) {
    for (const { vendor: of, access, isUnifiedMemory } of accelerators) {
      if (of !== vendor) continue;
      const way: DeviceWay = { vendor, access, isUnifiedMemory };
      ways.set(deviceWayKey(way), way);
    }
  }
  return [...ways]
    .sort(([a, one], [b, other]) => rank(one) - rank(other) || (a < b ? -1 : 1))
    .map(([, way]) => way);
}
