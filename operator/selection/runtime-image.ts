// The image of a runtime for a vendor's devices. Pure.

import type { AcceleratorVendor } from "../api/model.ts";
import type { RuntimeDefinition } from "../configuration.ts";

/**
 * Image that serves on devices of the vendor, `none` for CPUs; undefined: the runtime has none for them. An image built
 * for NVIDIA never stands in for another vendor's: it would start, and find no device.
 */
export function runtimeImage(definition: RuntimeDefinition, vendor: AcceleratorVendor): string | undefined {
  if (vendor === "none") return definition.image;
  if (vendor === "nvidia") return definition.acceleratorImage ?? definition.image;
  return definition.vendorImages?.[vendor];
}

/** The same image for whatever devices: the user names it, and knows what it is for. */
export function withImageForAll(definition: RuntimeDefinition, image: string): RuntimeDefinition {
  return { ...definition, vendorImages: { amd: image, intel: image, habana: image } };
}
