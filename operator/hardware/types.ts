// What a node is, whatever dialect its labels speak. Unknown is `undefined`, never 0.

/** Accelerators of one kind on one node. */
export type NodeAccelerators = {
  readonly vendor: "nvidia" | "amd" | "intel";
  /** Extended resource that a pod asks for, e.g. `nvidia.com/gpu`. */
  readonly resourceName: string;
  /** Allocatable devices (shares, where a device is shared). */
  readonly count: number;
  readonly product?: string;
  /** Memory of one device, bytes; divided by the shares where devices are shared. */
  readonly memoryBytes?: number;
  /** [major, minor]. */
  readonly computeCapability?: readonly [number, number];
  /** What is contradictory or missing, for the message. */
  readonly uncertainty?: string;
};

export type NodeHardware = {
  readonly name: string;
  /** kubernetes.io/arch; undefined when unlabelled. */
  readonly architecture?: string;
  readonly operatingSystem?: string;
  readonly allocatableCpuMillis?: number;
  readonly allocatableMemoryBytes?: number;
  readonly allocatableEphemeralBytes?: number;
  readonly cpuFeatures: readonly string[];
  readonly accelerators: readonly NodeAccelerators[];
  /** Cordoned, or being deleted: takes no new pod. */
  readonly isUnschedulable: boolean;
  readonly labels: Readonly<Record<string, string>>;
  readonly taints: readonly { readonly key: string; readonly value?: string; readonly effect: string }[];
};
