// Which cloud a node is of, and what that cloud's labels say of its devices. Pure.

import { awsTerms, isAws, readAws } from "./aws.ts";
import { azureTerms, isAzure, readAzure } from "./azure.ts";
import { gkeTerms, isGke, readGke } from "./gke.ts";
import type { DeviceAsk, DeviceFacts, Expressions, Labels } from "./dialect.ts";
import type { DeviceVendor, Platform } from "./types.ts";

type CloudDialect = {
  readonly is: (labels: Labels) => boolean;
  readonly read: (vendor: DeviceVendor, labels: Labels) => DeviceFacts | undefined;
  readonly terms: (vendor: DeviceVendor, ask: DeviceAsk) => readonly Expressions[];
};

const clouds: Readonly<Record<Platform, CloudDialect>> = {
  aws: { is: isAws, read: readAws, terms: awsTerms },
  azure: { is: isAzure, read: readAzure, terms: azureTerms },
  gke: { is: isGke, read: readGke, terms: gkeTerms },
};

export const platforms: readonly Platform[] = ["aws", "azure", "gke"];

/** The cloud whose labels the node has; undefined: none that we know. */
export function platformOf(labels: Labels): Platform | undefined {
  return platforms.find((platform) => clouds[platform].is(labels));
}

export function readCloud(
  platform: Platform | undefined,
  vendor: DeviceVendor,
  labels: Labels,
): DeviceFacts | undefined {
  return platform === undefined ? undefined : clouds[platform].read(vendor, labels);
}

export function cloudTerms(platform: Platform, vendor: DeviceVendor, ask: DeviceAsk): readonly Expressions[] {
  return clouds[platform].terms(vendor, ask);
}
