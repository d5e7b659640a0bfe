// Input of the functions that render objects. Everything they see is here.

import type { InspectFacts } from "../../puller/contract.ts";
import type { Model } from "../api/model.ts";
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
  /** The claim of the volume, when it is there already. */
  readonly claim?: Claim;
};

/** What an inspect pod is rendered from. */
export type InspectInput = {
  readonly model: Model;
  readonly configuration: OperatorConfiguration;
  /** Full references, at most `maxInspectReferences`. */
  readonly references: readonly string[];
  /** 0 for the first try; part of the name, so that a retry is another pod. */
  readonly attempt: number;
  /** Differs between refreshes of the same references. */
  readonly round: string;
};
