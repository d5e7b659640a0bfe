// A node's hardware with what scheduled pods leave of it. Pure.

import type { Requests } from "./pod-requests.ts";
import type { NodeHardware } from "./types.ts";

/** What pods on one node request, and how many they are. */
export type Taken = { readonly requests: Requests; readonly pods: number };

/** Nothing is taken. */
export const nothingTaken: Taken = { requests: {}, pods: 0 };

/** The node with its free CPU, RAM, pods and devices; what is taken of a resource leaves at least 0. */
export function withFreeCapacity(node: NodeHardware, { requests, pods }: Taken): NodeHardware {
  const left = (has: number, resource: string): number => Math.max(0, has - (requests[resource] ?? 0));
  return {
    ...node,
    free: {
      ...(node.allocatableCpuMillis === undefined
        ? {}
        : { cpuMillis: left(node.allocatableCpuMillis, "cpu") }),
      ...(node.allocatableMemoryBytes === undefined
        ? {}
        : { memoryBytes: left(node.allocatableMemoryBytes, "memory") }),
      ...(node.allocatablePods === undefined ? {} : { pods: Math.max(0, node.allocatablePods - pods) }),
    },
    accelerators: node.accelerators.map((each) =>
      // Devices in claims are counted by nobody here: what their drivers allocated stands in the claims.
      each.access.kind === "resource" ? { ...each, freeCount: left(each.count, each.access.name) } : each,
    ),
  };
}
