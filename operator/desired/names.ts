// All names, labels, annotations and paths of what the operator makes. Nowhere else.

import { createHash } from "node:crypto";
import { modelResource, type Model } from "../api/model.ts";
import type { KubeObject, ObjectMeta, OwnerReference } from "../kube/types.ts";

export const managedByLabel = "app.kubernetes.io/managed-by";
export const managedByValue = "ocimodel";
export const modelNameLabel = "ocimodel.dev/model";
export const componentLabel = "app.kubernetes.io/component";
export const variantAnnotation = "ocimodel.dev/variant";
export const digestAnnotation = "ocimodel.dev/digest";
/** On pods of a claim: the room that their model takes on it, bytes. */
export const volumeBytesAnnotation = "ocimodel.dev/volume-bytes";
/** On pods of a claim: the directory under `models/` that they mount. */
export const modelDirectoryAnnotation = "ocimodel.dev/model-directory";
/** On a claim of one copy per node: Models of its namespace with storage type NodeCache use it. */
export const nodeCacheLabel = "ocimodel.dev/node-cache";
/** On the Deployment and the pods of one class of nodes (placement PerHardware): which one. */
export const placementLabel = "ocimodel.dev/placement";
/** On pods of a claim: which one, so that pods of several Models find each other. */
export const claimLabel = "ocimodel.dev/claim";

export const pullContainerName = "pull";
export const inspectContainerName = "inspect";
export const collectContainerName = "collect";
export const runtimeContainerName = "runtime";
export const portName = "http";
/** Port of the Service. */
export const servicePort = 80;

export const modelVolumeName = "model";
/** Where the puller sees the volume. */
export const storeMountPath = "/volume";
export const defaultModelMountPath = "/models";
export const dockerConfigDirectory = "/var/run/ocimodel/docker-config";
export const caDirectory = "/var/run/ocimodel/ca";
/** User and group of every container, as the images have it. */
export const userId = 65532;

/** Name of the Deployment of a class of nodes; of the only one of a Uniform placement, whose key is empty, the Model's own. */
export function workloadName({ metadata: { name } }: Model, key: string): string {
  return key === "" ? name : `${name}-${key}`;
}

export function serviceName(model: Model): string {
  return model.metadata.name;
}

/** Name of the claim that the operator makes for a Model. */
export function claimName(model: Model): string {
  return `${model.metadata.name}-store`;
}

/** Leaves room for "-inspect-", the hash and an attempt of three digits in the 63 characters of a host name. */
const maxInspectNameLength = 42;

/** A retry of the same question is another pod: what differs is at the end. Models whose names begin alike differ in the hash. */
export function inspectPodName(
  { metadata: { name } }: Model,
  references: readonly string[],
  round: string,
  attempt: number,
): string {
  const hash = createHash("sha256")
    .update(JSON.stringify([name, references, round]))
    .digest("hex")
    .slice(0, 8);
  return `${name.slice(0, maxInspectNameLength)}-inspect-${hash}-${attempt}`;
}

export type Component = "server" | "inspect" | "store" | "collect" | "prefetch";

export function labels(model: Model, component: Component): Readonly<Record<string, string>> {
  return {
    "app.kubernetes.io/name": "ocimodel-model",
    "app.kubernetes.io/instance": model.metadata.name,
    [componentLabel]: component,
    [managedByLabel]: managedByValue,
    [modelNameLabel]: model.metadata.name,
  };
}

/** The labels by which Deployment and Service find their pods; immutable, so no more than these. */
export function selectorLabels(model: Model): Readonly<Record<string, string>> {
  return { [modelNameLabel]: model.metadata.name, [componentLabel]: "server" };
}

/** The same as text, for the scale subresource. */
export function podSelector(model: Model): string {
  return Object.entries(selectorLabels(model))
    .map(([key, value]) => `${key}=${value}`)
    .join(",");
}

/** Deletes the object with its Model. It does not block the Model's deletion: that would need a right on finalizers. */
export function ownerReference(model: Model): OwnerReference {
  return {
    apiVersion: `${modelResource.group}/${modelResource.version}`,
    kind: modelResource.kind,
    name: model.metadata.name,
    uid: model.metadata.uid,
    controller: true,
    blockOwnerDeletion: false,
  };
}

export function metadata(model: Model, name: string, component: Component): ObjectMeta {
  return {
    name,
    namespace: model.metadata.namespace,
    labels: labels(model, component),
    ownerReferences: [ownerReference(model)],
  };
}

/** On a pod that prefetches: the node that it is for. */
export const prefetchNodeAnnotation = "ocimodel.dev/node";

/** The node that a pod prefetches for; empty when it is none of those. */
export function prefetchNodeOf({ metadata: { annotations } }: KubeObject): string {
  return annotations?.[prefetchNodeAnnotation] ?? "";
}
