// Leaves out facts that cannot be: numbers beyond what counts exactly, which the API server would refuse in a status. Pure.

import type { ArchitectureFacts } from "../contract.ts";

/** The facts that are there, and of the numbers those that are safe integers: one header can state a product of any size. */
export function countableFacts(facts: Readonly<Record<string, unknown>>): ArchitectureFacts {
  return Object.fromEntries(
    Object.entries(facts).filter(([, fact]) => typeof fact === "string" || Number.isSafeInteger(fact)),
  );
}
