// A node's hardware with what scheduled pods leave of it. Pure.

import type { Requests } from "./pod-requests.ts";
import type { NodeHardware } from "./types.ts";

/** What pods on one node request, and how many they are. */
export type Taken = { readonly requests: Requests; readonly pods: number };

/** Nothing is taken. */
export const nothingTaken: Taken = { requests: {}, pods: 0 };

/**
 * The node with its free CPU, RAM, pods and devices; what is taken of a resource leaves at least 0.
 * @param isAllocated whether a claim has the device of a DRA driver (`deviceKey`); undefined: nobody counted these
 */
export function withFreeCapacity(
  node: NodeHardware,
  { requests, pods }: Taken,
  isAllocated?: (deviceKey: string) => boolean,
): NodeHardware {
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
      requested: requests,
    },
    accelerators: node.accelerators.map((each) => {
      if (each.access.kind === "resource") return { ...each, freeCount: left(each.count, each.access.name) };
      const { deviceKeys } = each;
      return isAllocated === undefined || deviceKeys === undefined
        ? each
        : { ...each, freeCount: deviceKeys.filter((key) => !isAllocated(key)).length };
    }),
  };
}
