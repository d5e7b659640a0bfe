// Nodes to which the Model's volume ties its pods: where the volume can be mounted, or another Model's pod has it mounted. Pure.

import type { Model, NodeSelectorRequirement, NodeSelectorTerm } from "../api/model.ts";
import { claimSharing, wantedClaimName } from "../desired/claim.ts";
import { componentLabel, modelNameLabel } from "../desired/names.ts";
import { reducedMetadata } from "../kube/reduced-metadata.ts";
import type { KubeObject } from "../kube/types.ts";
import type { NodeSelector } from "../selection/node-selector.ts";
import type { Observed } from "./observed.ts";

/** The parts of a core/v1 PersistentVolume that are read. */
export type PersistentVolume = KubeObject & {
  readonly spec?: {
    readonly nodeAffinity?: {
      readonly required?: { readonly nodeSelectorTerms?: readonly NodeSelectorTerm[] };
    };
  };
};

/** Whether a volume may come to say something of the Model's nodes: by its claim, one that it finds, or one that Auto comes to. */
export function mayUseVolume({ spec }: Model): boolean {
  const type = spec.storage?.type;
  return type === "PersistentVolumeClaim" || type === "NodeCache" || type === "Auto";
}

/** Zone labels, and the names that took the place of the first ones; the scheduler (VolumeZone) reads these of volumes. */
const zoneLabels: Readonly<Record<string, string>> = {
  "failure-domain.beta.kubernetes.io/zone": "topology.kubernetes.io/zone",
  "failure-domain.beta.kubernetes.io/region": "topology.kubernetes.io/region",
  "topology.kubernetes.io/zone": "topology.kubernetes.io/zone",
  "topology.kubernetes.io/region": "topology.kubernetes.io/region",
};

/** What a volume's labels ask of nodes, as VolumeZone does; ORed. A node without any zone label is in a cluster of one zone. */
function zoneTerms(volume: PersistentVolume | undefined): readonly NodeSelectorTerm[] {
  const asked = Object.entries(zoneLabels).flatMap(([label, name]) => {
    // A volume that is copied to several zones has all of them in one label.
    const values = volume?.metadata.labels?.[label]?.split("__").map((each) => each.trim()) ?? [];
    if (values.length === 0 || values.includes("")) return [];
    const isIn = (key: string): NodeSelectorRequirement => ({ key, operator: "In", values });
    const byNewName = [{ key: label, operator: "DoesNotExist" as const }, isIn(name)];
    return [label === name ? [[isIn(label)]] : [[isIn(label)], byNewName]];
  });
  if (asked.length === 0) return [];
  const all = asked.reduce<readonly (readonly NodeSelectorRequirement[])[]>(
    (terms, ways) => terms.flatMap((term) => ways.map((way) => [...term, ...way])),
    [[]],
  );
  const none = Object.keys(zoneLabels).map((key) => ({ key, operator: "DoesNotExist" as const }));
  return [...all, none].map((matchExpressions) => ({ matchExpressions }));
}

/** The volume reduced to what it says of nodes. */
export function stripPersistentVolume({
  apiVersion,
  kind,
  metadata,
  spec,
}: PersistentVolume): PersistentVolume {
  return {
    apiVersion,
    kind,
    metadata: reducedMetadata(metadata, (label) => Object.hasOwn(zoneLabels, label)),
    ...(spec?.nodeAffinity === undefined ? {} : { spec: { nodeAffinity: spec.nodeAffinity } }),
  };
}

/**
 * What the volume says of nodes, which the scheduler asks too. A bound volume by its node affinity and its zone labels; one that is
 * still to be made by the topologies of its class. A disk for one node is where pods of other Models that share it are; the Model's own pods move.
 */
export function volumeSelectors(
  observed: Pick<Observed, "model" | "claim" | "claimClass" | "claimVolume" | "claimPods">,
): readonly NodeSelector[] {
  const { model, claim, claimClass, claimVolume, claimPods } = observed;
  const name = wantedClaimName(model);
  if (name === undefined) return [];
  const selector = (
    terms: readonly NodeSelectorTerm[],
    reason: string,
    what: string,
  ): readonly NodeSelector[] =>
    terms.length === 0 ? [] : [{ terms, lack: { kind: "excluded", reason, what } }];
  const isBound = claim?.spec?.volumeName !== undefined && claim.spec.volumeName !== "";
  const beyond = `out of reach of claim ${name}`;
  const reach = isBound
    ? [claimVolume?.spec?.nodeAffinity?.required?.nodeSelectorTerms ?? [], zoneTerms(claimVolume)].flatMap(
        (terms) => selector(terms, beyond, `the volume of claim ${name} cannot be mounted there`),
      )
    : selector(
        (claimClass?.allowedTopologies ?? []).map(({ matchLabelExpressions = [] }) => ({
          matchExpressions: matchLabelExpressions.map(({ key, values }) => ({ key, operator: "In", values })),
        })),
        beyond,
        `the class of claim ${name} makes no volume there`,
      );
  const users =
    claimSharing(model, claim) === "OneNode"
      ? claimPods.filter(
          ({ metadata: { labels }, status }) =>
            labels?.[modelNameLabel] !== model.metadata.name &&
            labels?.[componentLabel] === "server" &&
            status?.phase !== "Succeeded" &&
            status?.phase !== "Failed",
        )
      : [];
  const nodes = [...new Set(users.flatMap(({ spec }) => spec?.nodeName ?? []))];
  return [
    ...reach,
    ...selector(
      nodes.map((node) => ({
        matchFields: [{ key: "metadata.name", operator: "In", values: [node] }],
      })),
      `without claim ${name}`,
      `claim ${name} is for one node, and ${nodes.join(", ")} has it`,
    ),
  ];
}
