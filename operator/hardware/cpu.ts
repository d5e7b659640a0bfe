// CPU flags from the labels of Node Feature Discovery. Pure.
// Labels: https://kubernetes-sigs.github.io/node-feature-discovery/stable/usage/features.html

import type { Labels } from "./dialect.ts";

/** Prefix of `<prefix><FLAG>=true`: AVX2, AVX512F, AMXINT8 on amd64; ASIMDHP, SVE on arm64. */
export const cpuFeaturePrefix = "feature.node.kubernetes.io/cpu-cpuid.";

/** The flags, sorted; attributes with another value than true (AVX10_VERSION) are none. */
export function cpuFeatures(labels: Labels): readonly string[] {
  return Object.keys(labels)
    .filter((key) => key.startsWith(cpuFeaturePrefix) && labels[key] === "true")
    .map((key) => key.slice(cpuFeaturePrefix.length))
    .sort();
}
