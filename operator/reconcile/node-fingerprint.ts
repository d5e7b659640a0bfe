// Tells node changes that a choice may depend on from the heartbeats that come every few seconds. Pure.

import { nodeHardware, type Node } from "../hardware/node-hardware.ts";

/** Equal for two states of a node that no decision can tell apart. */
export function nodeFingerprint(node: Node | undefined): string {
  return node === undefined ? "" : JSON.stringify(nodeHardware(node));
}
