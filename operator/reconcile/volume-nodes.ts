// Nodes to which the Model's volume ties its pods: where the volume can be mounted, or another Model's pod has it mounted. Pure.

import type { Model, NodeSelectorTerm } from "../api/model.ts";
import { claimSharing, wantedClaimName } from "../desired/claim.ts";
import { componentLabel, modelNameLabel } from "../desired/names.ts";
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

/** The volume reduced to what it says of nodes. */
export function stripPersistentVolume({
  apiVersion,
  kind,
  metadata,
  spec,
}: PersistentVolume): PersistentVolume {
  const { name, uid, resourceVersion } = metadata;
  return {
    apiVersion,
    kind,
    metadata: {
      name,
      ...(uid === undefined ? {} : { uid }),
      ...(resourceVersion === undefined ? {} : { resourceVersion }),
    },
    ...(spec?.nodeAffinity === undefined ? {} : { spec: { nodeAffinity: spec.nodeAffinity } }),
  };
}

/**
 * What the volume says of nodes, which the scheduler asks too. A bound volume by its node affinity; one that is still to be made by the
 * topologies of its class. A disk for one node is where pods of other Models that share it are; the Model's own pods move.
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
    ? selector(
        claimVolume?.spec?.nodeAffinity?.required?.nodeSelectorTerms ?? [],
        beyond,
        `the volume of claim ${name} cannot be mounted there`,
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
