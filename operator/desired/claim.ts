// The claim that holds the models of a Model on a volume of their own: made, sized and grown here, or found and judged. Pure.

import { createHash } from "node:crypto";
import type { InspectFacts } from "../../puller/contract.ts";
import type { JsonObject, Model } from "../api/model.ts";
import { withAppliedHash } from "../kube/needs-apply.ts";
import { parseQuantity } from "../kube/quantity.ts";
import type { KubeObject } from "../kube/types.ts";
import { claimName, labels, metadata, modelNameLabel } from "./names.ts";
import { statedBytes, volumeNeed } from "./volume-need.ts";

/** The parts of a PersistentVolumeClaim that are read. */
export type Claim = KubeObject & {
  readonly spec?: {
    readonly accessModes?: readonly string[];
    readonly storageClassName?: string;
    readonly volumeMode?: string;
    readonly volumeName?: string;
    readonly resources?: { readonly requests?: { readonly storage?: string } };
  };
  readonly status?: {
    readonly phase?: string;
    readonly capacity?: { readonly storage?: string };
    readonly conditions?: readonly {
      readonly type: string;
      readonly status: string;
      readonly message?: string;
    }[];
  };
};

/**
 * How pods may share a claim. "PerNode": on each node a copy of its own; "OneNode": all on one node; "OnePod": never two at once;
 * "ReadOnly": filled elsewhere.
 */
export type Sharing = "ManyNodes" | "PerNode" | "OneNode" | "OnePod" | "ReadOnly";

/** The parts of a StorageClass that are read. */
export type StorageClass = KubeObject & {
  readonly allowVolumeExpansion?: boolean;
  /** ORed. */
  readonly allowedTopologies?: readonly {
    readonly matchLabelExpressions?: readonly { readonly key: string; readonly values: readonly string[] }[];
  }[];
};

const gibibyte = 2 ** 30;
/** What file systems keep for themselves: ext4 reserves 5 % for root, and has its tables. */
const fileSystemShare = 1.1;

/** How a claim of these access modes may be shared: the widest of them counts. */
export function sharingOf(accessModes: readonly string[]): Sharing {
  if (accessModes.includes("ReadWriteMany")) return "ManyNodes";
  if (accessModes.includes("ReadWriteOnce")) return "OneNode";
  return accessModes.includes("ReadWriteOncePod") ? "OnePod" : "ReadOnly";
}

/** Access modes of a claim that the operator makes. */
function wantedModes({ spec }: Model): readonly string[] {
  return spec.storage?.accessModes ?? ["ReadWriteOnce"];
}

/** Whether the operator makes the claim, and not somebody else. */
export function makesClaim({ spec }: Model): boolean {
  return spec.storage?.type === "PersistentVolumeClaim" && spec.storage.claimName === undefined;
}

/** Name of the claim of a Model; undefined when it uses none. */
export function wantedClaimName(model: Model): string | undefined {
  const { storage } = model.spec;
  if (storage?.type === "NodeCache") return storage.claimName;
  if (storage?.type !== "PersistentVolumeClaim") return undefined;
  return storage.claimName ?? claimName(model);
}

/** Whether the pods keep the model on a claim, which NodeCache does also when the claim is still to be found. */
export function usesClaim({ spec }: Pick<Model, "spec">): boolean {
  return spec.storage?.type === "PersistentVolumeClaim" || spec.storage?.type === "NodeCache";
}

/** How the pods share their claim: as the claim says once it is there. */
export function claimSharing(model: Model, claim: Claim | undefined): Sharing {
  if (model.spec.storage?.type === "NodeCache") return "PerNode";
  return sharingOf(claim?.spec?.accessModes ?? wantedModes(model));
}

/** A value that labels pods of one claim, whichever Model they are of. Label values have at most 63 characters. */
export function claimLabelValue(name: string): string {
  if (name.length <= 63) return name;
  return `${name.slice(0, 46)}-${createHash("sha256").update(name).digest("hex").slice(0, 16)}`;
}

/**
 * Bytes that a claim has to offer, whole GiB: the model, and beside it those that older pods still use (`othersBytes`),
 * since what runs is never taken away.
 */
export function claimBytes(model: Model, artifact: InspectFacts, othersBytes: number): number {
  const stated = statedBytes(model);
  if (stated !== undefined) return stated;
  const need = (volumeNeed(artifact).limit + othersBytes) * fileSystemShare;
  return Math.ceil(need / gibibyte) * gibibyte;
}

/**
 * The complete claim. It only grows: what is there already is kept if it is larger, since a claim cannot shrink, or where its class
 * lets none grow. With retention
 * Retain it has no owner and outlives its Model.
 */
export function modelClaim(
  model: Model,
  artifact: InspectFacts,
  live: Claim | undefined,
  othersBytes: number,
  canGrow = true,
): KubeObject {
  const { storageClassName, retention } = model.spec.storage ?? {};
  const wanted = claimBytes(model, artifact, othersBytes);
  const there = live?.spec?.resources?.requests?.storage;
  const isEnough = there !== undefined && (!canGrow || (parseQuantity(there) ?? 0) >= wanted);
  const { ownerReferences, ...withoutOwner } = metadata(model, claimName(model), "store");
  const claim = {
    apiVersion: "v1",
    kind: "PersistentVolumeClaim",
    metadata: {
      ...withoutOwner,
      labels: labels(model, "store"),
      ...(retention === "Retain" ? {} : { ownerReferences }),
    },
    spec: {
      accessModes: wantedModes(model),
      resources: { requests: { storage: isEnough ? there : quantity(wanted) } },
      ...(storageClassName === undefined ? {} : { storageClassName }),
    } satisfies JsonObject,
  };
  return withAppliedHash(claim as unknown as KubeObject);
}

/** Whole GiB where it is that, as people write it; else bytes. */
function quantity(bytes: number): string {
  return bytes % gibibyte === 0 ? `${bytes / gibibyte}Gi` : String(bytes);
}

/** Whether a claim may be taken for the Model's own: it owns it, or one of its name left it behind with retention Retain. */
export function isClaimOf(claim: KubeObject, model: Model): boolean {
  const owners = claim.metadata.ownerReferences ?? [];
  if (owners.some(({ uid }) => uid === model.metadata.uid)) return true;
  return owners.length === 0 && claim.metadata.labels?.[modelNameLabel] === model.metadata.name;
}

/** Why a claim that is there cannot be used; undefined when it can. */
export function claimMismatch(model: Model, claim: Claim): string | undefined {
  const name = JSON.stringify(claim.metadata.name);
  const modes = claim.spec?.accessModes ?? [];
  if (claim.spec?.volumeMode === "Block") {
    return `claim ${name} is a raw block device; models need volumeMode Filesystem`;
  }
  if (makesClaim(model)) {
    if (!isClaimOf(claim, model)) {
      return `claim ${name} exists and belongs to something else; name it in spec.storage.claimName to use it, or rename the Model`;
    }
    const { storageClassName } = model.spec.storage ?? {};
    if (storageClassName !== undefined && claim.spec?.storageClassName !== storageClassName) {
      return `claim ${name} is of class ${JSON.stringify(claim.spec?.storageClassName ?? "")} and spec.storage.storageClassName is ${JSON.stringify(storageClassName)}; a claim never changes its class: delete it, or write the old class`;
    }
    if (modes.join() !== wantedModes(model).join()) {
      return `claim ${name} has access modes ${modes.join(", ")} and spec.storage asks for ${wantedModes(model).join(", ")}; a claim never changes them: delete it, or write the old ones`;
    }
  }
  if (model.spec.storage?.type === "NodeCache" && !modes.includes("ReadWriteMany")) {
    return `claim ${name} has access modes ${modes.join(", ")}; a node cache needs ReadWriteMany, since pods on every node write to it`;
  }
  const sharing = sharingOf(modes);
  if (model.spec.selection?.placement === "PerHardware" && (sharing === "OneNode" || sharing === "OnePod")) {
    return `claim ${name} is ${modes.join(", ")}, which keeps all pods on one node, and placement PerHardware runs them on several classes of nodes; use a ReadWriteMany claim, storage type Ephemeral, or placement Uniform`;
  }
  if (sharing === "OnePod" && (model.spec.replicas ?? 1) > 1) {
    return `claim ${name} is ReadWriteOncePod, which one pod alone can mount; set replicas to 1 or use another claim`;
  }
  return undefined;
}
