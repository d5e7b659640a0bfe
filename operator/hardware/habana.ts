// Gaudi devices: the plugin's resource alone; their generations differ in memory, and only instance types tell them apart. Pure.

import type { DeviceFacts } from "./dialect.ts";

export const habanaResourceName = "habana.ai/gaudi";

/** What is said where no cloud's label names the generation. */
export const unknownGaudi: DeviceFacts = {
  uncertainty:
    "no label states the generation of its Gaudi devices, so their memory is unknown; set memoryPerDevice to 0 and choose nodes by nodeSelectorTerms",
};
