// Joins what plugins' labels and DRA drivers say of one node's devices. Pure.

import { draAccelerators, type ResourceSlice } from "./dra.ts";
import type { NodeHardware } from "./types.ts";

/** Drivers and labels may round differently, but not by more. */
const tolerance = 0.05;

/**
 * The node with its DRA devices. Where a plugin offers a vendor's devices, pods ask the plugin, or the same devices would
 * be counted twice; the driver then only has the last word on their memory: labels that state more are not relied on.
 */
export function withSlices(node: NodeHardware, slices: readonly ResourceSlice[]): NodeHardware {
  if (slices.length === 0) return node;
  const { accelerators: claimed, notes } = draAccelerators(slices);
  const offered = new Set(node.accelerators.map(({ vendor }) => vendor));
  const doubts: string[] = [];
  const accelerators = node.accelerators.map((each) => {
    if (each.memoryBytes === undefined || each.migProfile !== undefined) return each;
    const published = claimed.flatMap(({ vendor, memoryBytes }) =>
      vendor === each.vendor && memoryBytes !== undefined ? [memoryBytes] : [],
    );
    const least = Math.min(...published);
    if (published.length === 0 || least >= each.memoryBytes * (1 - tolerance)) return each;
    const uncertainty = `its labels state ${Math.round(each.memoryBytes / 2 ** 20)} MiB, its DRA driver ${Math.round(least / 2 ** 20)} MiB`;
    doubts.push(uncertainty);
    const { memoryBytes: _stated, memorySource: _source, ...rest } = each;
    return { ...rest, uncertainty, labelsOverstate: true };
  });
  return {
    ...node,
    accelerators: [...accelerators, ...claimed.filter(({ vendor }) => !offered.has(vendor))],
    notes: [...node.notes, ...notes, ...doubts],
  };
}
