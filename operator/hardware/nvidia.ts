// Reads NVIDIA devices from GPU Feature Discovery labels and the device plugin's extended resource. Pure.
// Labels: https://github.com/NVIDIA/k8s-device-plugin/blob/main/docs/gpu-feature-discovery/README.md

import { parseQuantity } from "../kube/quantity.ts";
import type { NodeAccelerators } from "./types.ts";

export const nvidiaResourceName = "nvidia.com/gpu";
export const nvidiaLabels = {
  product: "nvidia.com/gpu.product",
  /** MiB of one physical device; not divided when it is shared. */
  memory: "nvidia.com/gpu.memory",
  /** Pods that share one device; absent or 0 where sharing is not configured. */
  replicas: "nvidia.com/gpu.replicas",
  computeMajor: "nvidia.com/gpu.compute.major",
  computeMinor: "nvidia.com/gpu.compute.minor",
} as const;

/** A label's value as a whole number >= 0; undefined when it is absent or anything else. */
function wholeNumber(text: string | undefined): number | undefined {
  return text !== undefined && /^\d{1,15}$/.test(text) ? Number(text) : undefined;
}

/** The node's NVIDIA devices as pods can ask for them; empty without an allocatable device. */
export function nvidiaAccelerators(
  labels: Readonly<Record<string, string>>,
  allocatable: Readonly<Record<string, string>>,
): readonly NodeAccelerators[] {
  const count = parseQuantity(allocatable[nvidiaResourceName]);
  if (count === undefined || count < 1) return [];
  const product = labels[nvidiaLabels.product];
  const memoryMebibytes = wholeNumber(labels[nvidiaLabels.memory]);
  const replicas = wholeNumber(labels[nvidiaLabels.replicas]) ?? 1;
  const major = wholeNumber(labels[nvidiaLabels.computeMajor]);
  const minor = wholeNumber(labels[nvidiaLabels.computeMinor]);
  // A shared device promises no memory to any one pod, so its memory counts as unknown.
  const isShared = replicas > 1;
  const uncertainty = isShared
    ? `each GPU is shared by ${replicas} pods, so no memory is guaranteed`
    : memoryMebibytes === undefined || memoryMebibytes === 0
      ? "its GPU memory is not stated (no nvidia.com/gpu.memory label)"
      : undefined;
  return [
    {
      vendor: "nvidia",
      access: { kind: "resource", name: nvidiaResourceName },
      isUnifiedMemory: false,
      count,
      ...(product === undefined ? {} : { product }),
      ...(uncertainty === undefined && memoryMebibytes !== undefined
        ? { memoryBytes: memoryMebibytes * 2 ** 20, memorySource: "vendor-label" as const }
        : {}),
      ...(isShared ? { sharedBy: replicas } : {}),
      ...(major === undefined ? {} : { computeCapability: [major, minor ?? 0] as const }),
      ...(uncertainty === undefined ? {} : { uncertainty }),
    },
  ];
}
