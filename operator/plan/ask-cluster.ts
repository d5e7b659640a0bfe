// Asks a cluster for what a plan depends on: nodes, and as far as the user may list them what pods take and volumes. The only I/O of plan.

import { readFileSync } from "node:fs";
import type { Claim, StorageClass } from "../desired/claim.ts";
import type { ResourceClaim } from "../hardware/allocated-devices.ts";
import type { ResourceSlice } from "../hardware/dra.ts";
import type { Node } from "../hardware/node-hardware.ts";
import type { KubeObject, Resource } from "../kube/types.ts";
import type { Model } from "../api/model.ts";
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
import { mayUseVolume, type PersistentVolume } from "../reconcile/volume-nodes.ts";
import type { PlannedCluster } from "./plan.ts";
import type { PriorityClass } from "./defaults.ts";
import { firstLine, PlanInputError } from "./documents.ts";

const limitRangeResource: Resource = {
  group: "",
  version: "v1",
  kind: "LimitRange",
  plural: "limitranges",
  namespaced: true,
};
const priorityClassResource: Resource = {
  group: "scheduling.k8s.io",
  version: "v1",
  kind: "PriorityClass",
  plural: "priorityclasses",
  namespaced: false,
};

/** What the commonest failures to read a file mean. */
const readFailures: Readonly<Record<string, string>> = {
  ENOENT: "there is no such file",
  EISDIR: "it is a directory; name each file in it by a flag of its own",
  EACCES: "this user may not read it",
};

/** The text of a file, or of standard input for "-". */
export function readText(file: string): string {
  try {
    return readFileSync(file === "-" ? 0 : file, "utf8");
  } catch (error) {
    const { code = "unknown" } = error as NodeJS.ErrnoException;
    throw new PlanInputError(`${file} cannot be read: ${readFailures[code] ?? code}`);
  }
}

/** A cluster that can be asked. */
export type PlanningCluster = {
  /** Of the context: where Models go that state none, as for kubectl. */
  readonly namespace: string;
  /** What the API server does not have, or does not show to this user, is left out and said. */
  readonly ask: (models: readonly Model[], say: (line: string) => void) => Promise<PlannedCluster>;
};

/** The cluster of a kubeconfig, of KUBECONFIG where none is given. */
export async function openCluster(kubeconfig: string | undefined): Promise<PlanningCluster> {
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
    const { code = "" } = error as NodeJS.ErrnoException;
    const why = readFailures[code] ?? `it is no kubeconfig: ${firstLine(error)}`;
    throw new PlanInputError(
      kubeconfig === undefined
        ? `${process.env["KUBECONFIG"] ?? "~/.kube/config"}: ${why}; see --kubeconfig, or give nodes of a file by --nodes`
        : `${kubeconfig}: ${why}`,
    );
  }
  const client = new KubeClient({ kubeConfig, fieldManager: "ocimodel", userAgent: "ocimodel-plan" });
  const deadline = AbortSignal.timeout(30_000);
  const list = async <T>(resource: Resource, namespace = ""): Promise<readonly T[]> =>
    (await client.read<{ readonly items: readonly T[] }>(resourcePath(resource, namespace), {}, deadline))
      .items;
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
  const ask = async (models: readonly Model[], say: (line: string) => void): Promise<PlannedCluster> => {
    // What may not be listed, with the kind of refusal, by what is left out then.
    const unseen = new Map<string, { plurals: string[]; kinds: Set<string> }>();
    const listIfAllowed = async <T>(
      resource: Resource,
      without: string,
      namespaces: readonly string[] = [""],
    ): Promise<readonly T[] | undefined> => {
      try {
        return (await Promise.all(namespaces.map(async (each) => await list<T>(resource, each)))).flat();
      } catch (error) {
        if (!(error instanceof KubeError) || !["forbidden", "notFound"].includes(error.kind)) throw error;
        const told = unseen.get(without) ?? { plurals: [], kinds: new Set() };
        told.plurals.push(resource.plural);
        told.kinds.add(error.kind);
        unseen.set(without, told);
        return undefined;
      }
    };
    const namespaces = [...new Set(models.map(({ metadata: { namespace } }) => namespace))];
    const listForVolumes = async <T>(
      resource: Resource,
      within?: readonly string[],
    ): Promise<readonly T[] | undefined> =>
      models.some(mayUseVolume)
        ? await listIfAllowed<T>(resource, "what volumes say is left out", within)
        : undefined;
    const added = "what they add to pods is not told";
    const [nodes, slices, pods, claims, volumeClaims, volumes, classes, limitRanges, priorityClasses] =
      await Promise.all([
        listNodes(),
        listIfAllowed<ResourceSlice>(resourceSliceResource, "devices of DRA drivers are left out"),
        listIfAllowed<ScheduledPod>(podResource, "what other pods take is not counted"),
        listIfAllowed<ResourceClaim>(resourceClaimResource, "devices of DRA drivers count as free"),
        listForVolumes<Claim>(claimResource, namespaces),
        listForVolumes<PersistentVolume>(persistentVolumeResource),
        listForVolumes<StorageClass>(storageClassResource),
        listIfAllowed<KubeObject>(limitRangeResource, added, namespaces),
        listIfAllowed<PriorityClass>(priorityClassResource, added),
      ]);
    for (const [without, { plurals, kinds }] of unseen)
      say(`${plurals.toSorted().join(", ")} cannot be listed (${[...kinds].join(", ")}): ${without}`);
    return {
      nodes,
      ...(slices === undefined ? {} : { slices }),
      ...(pods === undefined ? {} : { pods }),
      ...(claims === undefined ? {} : { claims }),
      ...(volumeClaims === undefined
        ? {}
        : {
            storage: {
              claims: volumeClaims,
              ...(volumes === undefined ? {} : { volumes }),
              ...(classes === undefined ? {} : { classes }),
            },
          }),
      defaults: { limitRanges: limitRanges ?? [], priorityClasses: priorityClasses ?? [] },
    };
  };
  const { namespace = "" } = kubeConfig.getContextObject(kubeConfig.getCurrentContext()) ?? {};
  // One that is written by hand may have an empty one, which for kubectl is none.
  return { namespace: namespace === "" ? "default" : namespace, ask };
}
