// Whether a pod's tolerations let it onto a tainted node. Pure; the rules of core/v1 Toleration.

import type { JsonObject } from "../api/model.ts";
import type { DeviceVendor, NodeHardware } from "../hardware/types.ts";

type Taint = NodeHardware["taints"][number];

/**
 * Tolerations of every pod that uses the vendor's devices, since device plugins' own documentation and the node pools
 * of clouds put such taints on nodes with them.
 */
export function deviceTolerations(vendor: DeviceVendor): readonly JsonObject[] {
  return deviceTaintKeys[vendor].map((key) => ({ effect: "NoSchedule", key, operator: "Exists" }));
}

const deviceTaintKeys: Readonly<Record<DeviceVendor, readonly string[]>> = {
  nvidia: ["nvidia.com/gpu"],
  amd: ["amd.com/gpu"],
  intel: ["gpu.intel.com/i915", "gpu.intel.com/xe"],
  habana: ["habana.ai/gaudi"],
};

/** Taints that come and go with the node's health; a choice that followed them would flap. */
const transientTaintPrefix = "node.kubernetes.io/";

function tolerates(toleration: JsonObject, taint: Taint): boolean {
  const { key, operator, value, effect } = toleration;
  const isExists = operator === "Exists";
  // Another operator, or a value beside Exists: the API server refuses the pod.
  if (!isExists && (operator ?? "") !== "" && operator !== "Equal") return false;
  if (isExists && (value ?? "") !== "") return false;
  if ((effect ?? "") !== "" && effect !== taint.effect) return false;
  if ((key ?? "") === "") return isExists;
  if (key !== taint.key) return false;
  return isExists || (value ?? "") === (taint.value ?? "");
}

/** The lasting taints that keep a pod with these tolerations off the node. */
export function untoleratedTaints(node: NodeHardware, tolerations: readonly JsonObject[]): readonly Taint[] {
  return node.taints.filter(
    (taint) =>
      taint.effect !== "PreferNoSchedule" &&
      !taint.key.startsWith(transientTaintPrefix) &&
      !tolerations.some((toleration) => tolerates(toleration, taint)),
  );
}

/** Whether such pods go onto cordoned nodes too, as those that tolerate everything do. */
export function toleratesCordon(tolerations: readonly JsonObject[]): boolean {
  const taint = { key: "node.kubernetes.io/unschedulable", effect: "NoSchedule" };
  return tolerations.some((toleration) => tolerates(toleration, taint));
}
