// Asks a cluster for what a plan depends on: nodes, and as far as the user may list them what pods take and volumes. The only I/O of plan.

import { readFileSync } from "node:fs";
import type { Claim, StorageClass } from "../desired/claim.ts";
import type { ResourceClaim } from "../hardware/allocated-devices.ts";
import type { ResourceSlice } from "../hardware/dra.ts";
import type { Node } from "../hardware/node-hardware.ts";
import type { Resource } from "../kube/types.ts";
import {
  claimResource,
  nodeResource,
  persistentVolumeResource,
  podResource,
  resourceClaimResource,
  resourceSliceResource,
  storageClassResource,
} from "../reconcile/resources.ts";
import type { ScheduledPod } from "../reconcile/taken-capacity.ts";
import type { PersistentVolume } from "../reconcile/volume-nodes.ts";
import type { PlannedCluster } from "./plan.ts";
import { PlanInputError } from "./read-input.ts";

/** The first line of an error's message. */
export const firstLine = (error: unknown): string =>
  (error instanceof Error ? error.message : "unknown failure").split("\n", 1)[0] ?? "";

/** The text of a file, or of standard input for "-". */
export function readText(file: string): string {
  try {
    return readFileSync(file === "-" ? 0 : file, "utf8");
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    throw new PlanInputError(`${file} cannot be read (${code ?? "unknown"})`);
  }
}

/**
 * The cluster of a kubeconfig, of KUBECONFIG where none is given. What the API server does not have, or does not show to this user, is left
 * out and said.
 */
export async function askCluster(
  kubeconfig: string | undefined,
  say: (line: string) => void,
): Promise<PlannedCluster> {
  // Takes a second to load, which most plans need not wait for.
  const [{ KubeConfig }, { KubeClient, resourcePath }, { KubeError }] = await Promise.all([
    import("@kubernetes/client-node"),
    import("../kube/client.ts"),
    import("../kube/errors.ts"),
  ]);
  const kubeConfig = new KubeConfig();
  if (kubeconfig !== undefined) readText(kubeconfig);
  try {
    if (kubeconfig === undefined) kubeConfig.loadFromDefault();
    else kubeConfig.loadFromFile(kubeconfig);
  } catch (error) {
    throw new PlanInputError(`${kubeconfig ?? "KUBECONFIG"} is no kubeconfig: ${firstLine(error)}`);
  }
  const client = new KubeClient({ kubeConfig, fieldManager: "ocimodel", userAgent: "ocimodel-plan" });
  const deadline = AbortSignal.timeout(30_000);
  const list = async <T>(resource: Resource): Promise<readonly T[]> =>
    (await client.read<{ readonly items: readonly T[] }>(resourcePath(resource), {}, deadline)).items;
  const listIfAllowed = async <T>(resource: Resource, without: string): Promise<readonly T[] | undefined> => {
    try {
      return await list<T>(resource);
    } catch (error) {
      if (!(error instanceof KubeError) || !["forbidden", "notFound"].includes(error.kind)) throw error;
      say(`${resource.plural} cannot be listed (${error.kind}): ${without}`);
      return undefined;
    }
  };
  const listNodes = async (): Promise<readonly Node[]> => {
    try {
      return await list<Node>(nodeResource);
    } catch (error) {
      const server = kubeConfig.getCurrentCluster()?.server ?? "an unknown server";
      throw new Error(
        `${firstLine(error)} of ${server}; see --kubeconfig, or give nodes of a file by --nodes`,
        { cause: error },
      );
    }
  };
  const unseen = "what volumes say of nodes is left out";
  const [nodes, slices, pods, claims, volumeClaims, volumes, classes] = await Promise.all([
    listNodes(),
    listIfAllowed<ResourceSlice>(resourceSliceResource, "devices of DRA drivers are left out"),
    listIfAllowed<ScheduledPod>(podResource, "what other pods take is not counted"),
    listIfAllowed<ResourceClaim>(resourceClaimResource, "devices of DRA drivers count as free"),
    listIfAllowed<Claim>(claimResource, unseen),
    listIfAllowed<PersistentVolume>(persistentVolumeResource, unseen),
    listIfAllowed<StorageClass>(storageClassResource, unseen),
  ]);
  return {
    nodes,
    ...(slices === undefined ? {} : { slices }),
    ...(pods === undefined ? {} : { pods }),
    ...(claims === undefined ? {} : { claims }),
    ...(volumeClaims === undefined || volumes === undefined || classes === undefined
      ? {}
      : { storage: { claims: volumeClaims, volumes, classes } }),
  };
}
