// Input of the functions that render objects. Everything they see is here.

import type { InspectFacts } from "../../puller/contract.ts";
import type { Model, NodeSelectorRequirement } from "../api/model.ts";
import type { OperatorConfiguration, RuntimeDefinition } from "../configuration.ts";
import type { Placement } from "../selection/types.ts";
import type { Claim } from "./claim.ts";

/** What the workload is rendered from. */
export type WorkloadInput = {
  readonly model: Model;
  readonly configuration: OperatorConfiguration;
  /** Name of the selected variant. */
  readonly variantName: string;
  readonly artifact: InspectFacts;
  readonly runtime: { readonly name: string; readonly definition: RuntimeDefinition };
  readonly placement: Placement;
  /** Roll out with new pods before old ones go, although they hold devices: there is room for both. */
  readonly isSurging?: boolean;
  /** Of placement PerHardware: the class of nodes whose pods these are. */
  readonly share?: {
    readonly key: string;
    /** What nodes are preferred for; see `Share.avoid`. */
    readonly avoid: readonly NodeSelectorRequirement[];
  };
  /** Pods for now; absent: as the spec says. */
  readonly replicas?: number;
  /** Nodes whose cache has the model; pods go there where they can. */
  readonly preferredNodes?: readonly string[];
  /** The claim of the volume, when it is there already. */
  readonly claim?: Claim;
};

/** What an inspect pod is asked besides what its references hold. */
export type InspectQuestion =
  /** What the entries of this index say of them. */
  | { readonly kind: "described"; readonly index?: string }
  /** Which variants there are: the children of the index that is the one reference, or the tags of its repository. */
  | { readonly kind: "index" }
  | { readonly kind: "tags"; readonly pattern: string };

/** What an inspect pod is rendered from. */
export type InspectInput = {
  readonly model: Model;
  readonly configuration: OperatorConfiguration;
  /** Full references, at most `maxInspectReferences`. */
  readonly references: readonly string[];
  readonly question?: InspectQuestion;
  /** 0 for the first try; part of the name, so that a retry is another pod. */
  readonly attempt: number;
  /** Differs between refreshes of the same references. */
  readonly round: string;
};
