// Input and output of the choice of a variant. Pure data.

import type { InspectFacts } from "../../puller/contract.ts";
import type {
  AcceleratorVendor,
  NodeSelectorRequirement,
  NodeSelectorTerm,
  VariantSpec,
  Verdict,
} from "../api/model.ts";
import type { RuntimeDefinition } from "../configuration.ts";
import type { Requests } from "../hardware/pod-requests.ts";

/** A variant whose artifact was read, with the runtime that would serve it. */
export type Candidate = {
  readonly variant: VariantSpec;
  readonly artifact: InspectFacts;
  /** undefined: the named runtime is unknown, or none takes the format. */
  readonly runtime: { readonly name: string; readonly definition: RuntimeDefinition } | undefined;
  /** Where the runtime is undefined: why, and what to do. */
  readonly runtimeProblem?: string;
};

/** Memory a variant needs, by term, bytes. */
export type Footprint = {
  /** As the engine holds them; without the projector. */
  readonly weightBytes: number;
  readonly projectorBytes: number;
  readonly adapterBytes: number;
  /** Keys and values of all sequences. */
  readonly cacheBytes: number;
  /** States of recurrent layers of all sequences. */
  readonly stateBytes: number;
  /** Buffers for activations. */
  readonly computeBytes: number;
  /** Of the engine itself, on each device. */
  readonly overheadBytes: number;
  /** Devices of one pod; 0: on CPUs. */
  readonly devices: number;
  /** Share of a device that the engine uses; the memory of a device must be the terms divided by it. */
  readonly utilization: number;
  /** Memory that each device (or the host) must have. */
  readonly perDeviceBytes: number;
  /** Of all devices of one pod, or of the host. */
  readonly totalBytes: number;
  /** Tokens of one sequence, and sequences, for which the cache was computed. */
  readonly contextLength: number;
  readonly parallel: number;
  /** Terms for which the artifact does not state enough. */
  readonly assumed: readonly ("cache" | "compute")[];
};

/** Devices that each pod claims from a DRA driver. */
export type DeviceClaim = {
  readonly deviceClassName: string;
  readonly count: number;
  /** CEL over `device`; all must hold. */
  readonly expressions: readonly string[];
};

/** What the scheduler counts of a pod. */
export type PodAmounts = {
  readonly cpuMillis: number;
  readonly memoryBytes: number;
  /** Of other resources, by name: devices, disk, huge pages, extended resources. */
  readonly others: Requests;
};

/** Where and how the chosen variant runs. */
export type Placement = {
  readonly accelerator: AcceleratorVendor;
  /** Extended resource and how many, when a device plugin's accelerators are used. */
  readonly deviceResource?: { readonly name: string; readonly count: number };
  /** DRA claim, when accelerators are used that no device plugin offers. */
  readonly deviceClaim?: DeviceClaim;
  /** RAM request, bytes. */
  readonly memoryBytes: number;
  readonly footprint: Footprint;
  /** ORed terms for required node affinity; empty: anywhere. */
  readonly nodeSelectorTerms: readonly NodeSelectorTerm[];
  readonly matchingNodes: readonly string[];
  /** Of these, nodes with room for one more pod now; equal to them where nobody counts. */
  readonly freeNodes: readonly string[];
  /** True when this is a CPU fallback of a variant that asks for an accelerator. */
  readonly isCpuFallback: boolean;
};

/** A node that is near to taking a pod of a variant that no node takes, and what it lacks for it. */
export type NearMiss = {
  readonly node: string;
  /** In words, with numbers: "3.1 GiB of GPU memory short". */
  readonly lacks: string;
  /** Where it is memory of a device, RAM or disk: how much, bytes. */
  readonly missingBytes?: number;
};

export type VariantVerdict = {
  readonly name: string;
  readonly verdict: Verdict;
  /** Numbers and near misses: "needs 18.2 GiB on one GPU; best node gpu-b has 15.0 GiB; fits 0 of 5 nodes: 3 with too little GPU memory, 2 without such a GPU". */
  readonly message: string;
  readonly requiredBytes: number;
  /** Term by term; undefined where the runtime cannot serve it. */
  readonly footprint?: Footprint;
  readonly matchingNodes: readonly string[];
  /** Where no node takes a pod now: the nearest ones, the nearest first. */
  readonly nearMisses: readonly NearMiss[];
};

/** A class of nodes with the variant it is given, and its part of the replicas. */
export type Share = {
  /** Names the class as long as its variant and its kind of devices stay; empty for the only one of a Uniform placement. */
  readonly key: string;
  readonly candidate: Candidate;
  readonly placement: Placement;
  readonly replicas: number;
  /** Pods that its nodes can hold beside those of others; absent: not divided by it. */
  readonly capacity?: number;
  /** Nodes for which nothing better fits. */
  readonly nodes: readonly string[];
  /** What labels of nodes other than those of better classes say; pods prefer such nodes. Does not depend on the nodes there are. */
  readonly avoid: readonly NodeSelectorRequirement[];
};

export type Choice =
  | {
      readonly kind: "selected";
      /** The best of those that have replicas. */
      readonly candidate: Candidate;
      readonly placement: Placement;
      /** Best first. */
      readonly shares: readonly Share[];
      /** With `reselect: OnNodeChange`: what is strictly better than the kept one and has room. */
      readonly better?: {
        readonly variant: string;
        readonly accelerator: AcceleratorVendor;
        readonly freeNodes: readonly string[];
      };
      readonly reason: string;
      readonly verdicts: readonly VariantVerdict[];
    }
  | {
      readonly kind: "none";
      readonly reason: "NoVariantFits" | "NoNodesYet" | "RuntimeUnknown";
      readonly message: string;
      readonly verdicts: readonly VariantVerdict[];
    };
