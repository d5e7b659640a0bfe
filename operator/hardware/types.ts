// What a node is, whatever dialect its labels speak. Unknown is `undefined`, never 0. Types only.

import type { Requests } from "./pod-requests.ts";

export type DeviceVendor = "nvidia" | "amd" | "intel" | "habana";

/** Clouds whose own labels tell of devices. */
export type Platform = "aws" | "azure" | "gke";

/**
 * Where a figure comes from, most trusted first: a DRA ResourceSlice, a label of the vendor's own discovery, a label
 * of the cloud or its autoscaler, a table of products known by name, the node's RAM where devices have none of their own.
 */
export type FactSource = "dra" | "vendor-label" | "cloud-label" | "product-table" | "unified-memory";

/** How a pod asks for devices: an extended resource of a device plugin, or a DRA claim on a device class. */
export type DeviceAccess =
  | { readonly kind: "resource"; readonly name: string }
  | { readonly kind: "claim"; readonly deviceClassName: string; readonly driver: string };

/**
 * One way in which a pod template can ask for devices. Pods of one template land only on nodes that offer this very
 * way: a MIG slice has a resource of its own, and memory shared with the host is requested as RAM.
 */
export type DeviceWay = {
  readonly vendor: DeviceVendor;
  readonly access: DeviceAccess;
  /** The devices use the node's RAM, so what they need is requested as RAM. */
  readonly isUnifiedMemory: boolean;
};

/** Accelerators of one class on one node: one way to ask for them, one product, one memory. */
export type NodeAccelerators = DeviceWay & {
  /** Allocatable devices (shares, where a device is shared). */
  readonly count: number;
  /** Of these, not requested by pods on the node; undefined: nobody counted. */
  readonly freeCount?: number;
  /** Of a DRA driver: which devices they are; see `deviceKey`. */
  readonly deviceKeys?: readonly string[];
  /** Name as its most trusted dialect has it: `NVIDIA-L4`, `AMD_Instinct_MI300X_OAM`, `Flex_170`, `nvidia-tesla-t4`. */
  readonly product?: string;
  /** Memory that one device (one MIG slice) gives to one pod, bytes; undefined: unknown, and `uncertainty` says why. */
  readonly memoryBytes?: number;
  readonly memorySource?: FactSource;
  /** CUDA compute capability, [major, minor]. */
  readonly computeCapability?: readonly [number, number];
  /** Pods per device; undefined: not shared. A shared device promises no memory to any one pod. */
  readonly sharedBy?: number;
  /** MIG profile of the slices, `1g.10gb`. */
  readonly migProfile?: string;
  /** What is contradictory or missing, for the message. */
  readonly uncertainty?: string;
  /**
   * Labels state more memory than a pod can rely on (two products under one resource, shares that no label tells), so
   * that no selector could keep pods off: the affinity excludes the node by name.
   */
  readonly labelsOverstate?: boolean;
};

/** A part of a node that pods have not requested. */
export type FreeCapacity = {
  readonly cpuMillis?: number;
  readonly memoryBytes?: number;
  /** Pods that the kubelet would still take. */
  readonly pods?: number;
  /** What pods request of each resource: what is left of those of `allocatableAmounts` is computed where it is asked for. */
  readonly requested: Requests;
};

export type NodeHardware = {
  readonly name: string;
  /** Equal for nodes that differ in nothing but name, labels that tell no hardware, amounts of RAM and CPU, and what is free; absent: not computed yet. */
  readonly hardwareKey?: string;
  /** kubernetes.io/arch; undefined when unlabelled. */
  readonly architecture?: string;
  /** As the kubelet states it: `v1.36.3`. */
  readonly kubeletVersion?: string;
  /** Name and version as the kubelet states them: `containerd://2.2.0`. */
  readonly containerRuntime?: string;
  readonly platform?: Platform;
  readonly operatingSystem?: string;
  readonly allocatableCpuMillis?: number;
  readonly allocatableMemoryBytes?: number;
  /**
   * Of resources beside CPU, RAM and pods, by name: disk (`ephemeral-storage`) and huge pages in bytes, extended resources as numbers.
   * A name that is not there is one of which the node has nothing, as for the scheduler.
   */
  readonly allocatableAmounts?: Requests;
  /** Pods that the kubelet takes at once. */
  readonly allocatablePods?: number;
  /** Allocatable minus what scheduled pods request; undefined: nobody counted. */
  readonly free?: FreeCapacity;
  /** Node Feature Discovery CPU flags, sorted: `AVX2`, `AMXINT8`, `ASIMDHP`. */
  readonly cpuFeatures: readonly string[];
  /** By class; empty: no device that a pod can ask for. */
  readonly accelerators: readonly NodeAccelerators[];
  /** Contradictions between labels and doubts, in words, for messages; empty: none. */
  readonly notes: readonly string[];
  /** Cordoned, or being deleted: takes no new pod. */
  readonly isUnschedulable: boolean;
  /** All labels: users' own selector terms may read any. */
  readonly labels: Readonly<Record<string, string>>;
  readonly taints: readonly { readonly key: string; readonly value?: string; readonly effect: string }[];
};
