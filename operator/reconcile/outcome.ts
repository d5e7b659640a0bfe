// What a reconcile ends with, and when the same Model is looked at again. Data only.

import type { Reason } from "../api/conditions.ts";

/** How one reconcile ended. `wait` and `done` differ for people and metrics; both come back after `recheckAfterMs`. */
export type Outcome =
  | { readonly kind: "done"; readonly recheckAfterMs?: number }
  | { readonly kind: "wait"; readonly reason: Reason; readonly recheckAfterMs?: number }
  | { readonly kind: "stalled"; readonly reason: Reason; readonly recheckAfterMs?: number }
  | { readonly kind: "retry"; readonly reason: Reason };
