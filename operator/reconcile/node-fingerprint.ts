// Tells node changes that a choice may depend on from the heartbeats that come every few seconds. Pure.

import type { NodeHardware } from "../hardware/types.ts";

/** Equal for two states of a node that no decision can tell apart. */
export function hardwareFingerprint(hardware: NodeHardware): string {
  const { labels, ...facts } = hardware;
  // Node Feature Discovery and others may write the same labels in another order.
  const sorted = Object.entries(labels).sort(([one], [other]) => (one < other ? -1 : 1));
  return JSON.stringify([facts, sorted]);
}
