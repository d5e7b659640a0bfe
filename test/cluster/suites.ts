// Wrappers for suites that need more than Node: skipped by name, with the reason printed, where that is missing.

import { describe } from "vitest";
import { clusterSuitesUnavailable, nodeSuitesUnavailable } from "./packages.ts";

/** A suite that is skipped by name, with the reason printed, where there is one. */
export function describeUnless(reason: string | undefined, name: string, suite: () => void): void {
  if (reason === undefined) {
    describe(name, suite);
    return;
  }
  console.warn(`skipped: ${name}: ${reason}`);
  describe.skip(`${name} (skipped: ${reason})`, suite);
}

/** A suite that needs a real control plane. */
export function describeCluster(name: string, suite: () => void): void {
  describeUnless(clusterSuitesUnavailable(), name, suite);
}

/** A suite that needs a real node: containerd, kubelet, network. */
export function describeNode(name: string, suite: () => void): void {
  describeUnless(nodeSuitesUnavailable(), name, suite);
}
