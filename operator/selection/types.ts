// Input and output of the choice of a variant. Pure data.

import type { InspectFacts } from "../../puller/contract.ts";
import type { AcceleratorVendor, NodeSelectorTerm, VariantSpec, Verdict } from "../api/model.ts";
import type { RuntimeDefinition } from "../configuration.ts";

/** A variant whose artifact was read, with the runtime that would serve it. */
export type Candidate = {
  readonly variant: VariantSpec;
  readonly artifact: InspectFacts;
  /** undefined: the named runtime is unknown, or none takes the format. */
  readonly runtime: { readonly name: string; readonly definition: RuntimeDefinition } | undefined;
};

/** Memory a variant needs, by term, bytes. */
export type Footprint = {
  readonly weightBytes: number;
  readonly keyValueCacheBytes: number;
  readonly overheadBytes: number;
  readonly totalBytes: number;
  /** Tokens for which the cache was computed. */
  readonly contextLength: number;
};

/** Devices that each pod claims from a DRA driver. */
export type DeviceClaim = {
  readonly deviceClassName: string;
  readonly count: number;
  /** CEL over `device`; all must hold. */
  readonly expressions: readonly string[];
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

export type VariantVerdict = {
  readonly name: string;
  readonly verdict: Verdict;
  /** Numbers and near misses: "needs 18.2 GiB on one GPU; best node gpu-b has 15.0 GiB; 2 nodes lack a GPU". */
  readonly message: string;
  readonly requiredBytes: number;
  readonly matchingNodes: readonly string[];
};

export type Choice =
  | {
      readonly kind: "selected";
      readonly candidate: Candidate;
      readonly placement: Placement;
      readonly reason: string;
      readonly verdicts: readonly VariantVerdict[];
    }
  | {
      readonly kind: "none";
      readonly reason: "NoVariantFits" | "NoNodesYet" | "RuntimeUnknown";
      readonly message: string;
      readonly verdicts: readonly VariantVerdict[];
    };
