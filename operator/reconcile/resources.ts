// The resources that the reconciler reads and writes. Data only.

import type { Resource } from "../kube/types.ts";

export const podResource: Resource = {
  group: "",
  version: "v1",
  kind: "Pod",
  plural: "pods",
  namespaced: true,
};
export const nodeResource: Resource = {
  group: "",
  version: "v1",
  kind: "Node",
  plural: "nodes",
  namespaced: false,
};
export const resourceSliceResource: Resource = {
  group: "resource.k8s.io",
  version: "v1",
  kind: "ResourceSlice",
  plural: "resourceslices",
  namespaced: false,
};
export const persistentVolumeResource: Resource = {
  group: "",
  version: "v1",
  kind: "PersistentVolume",
  plural: "persistentvolumes",
  namespaced: false,
};
export const resourceClaimResource: Resource = {
  group: "resource.k8s.io",
  version: "v1",
  kind: "ResourceClaim",
  plural: "resourceclaims",
  namespaced: true,
};
export const serviceResource: Resource = {
  group: "",
  version: "v1",
  kind: "Service",
  plural: "services",
  namespaced: true,
};
export const deploymentResource: Resource = {
  group: "apps",
  version: "v1",
  kind: "Deployment",
  plural: "deployments",
  namespaced: true,
};

export const claimResource: Resource = {
  group: "",
  version: "v1",
  kind: "PersistentVolumeClaim",
  plural: "persistentvolumeclaims",
  namespaced: true,
};

export const daemonSetResource: Resource = {
  group: "apps",
  version: "v1",
  kind: "DaemonSet",
  plural: "daemonsets",
  namespaced: true,
};
export const storageClassResource: Resource = {
  group: "storage.k8s.io",
  version: "v1",
  kind: "StorageClass",
  plural: "storageclasses",
  namespaced: false,
};
export const configMapResource: Resource = {
  group: "",
  version: "v1",
  kind: "ConfigMap",
  plural: "configmaps",
  namespaced: true,
};

/** Of DRA; only where the API server serves resource.k8s.io/v1. */
export const claimTemplateResource: Resource = {
  group: "resource.k8s.io",
  version: "v1",
  kind: "ResourceClaimTemplate",
  plural: "resourceclaimtemplates",
  namespaced: true,
};

const byKind: Readonly<Record<string, Resource>> = {
  Pod: podResource,
  Service: serviceResource,
  Deployment: deploymentResource,
  PersistentVolumeClaim: claimResource,
  ResourceClaimTemplate: claimTemplateResource,
};

/** The resource of an object that the operator owns. */
export function resourceOf(object: { readonly kind?: string }): Resource {
  // Items of a list come without a kind: of these only pods are ever deleted.
  const resource = byKind[object.kind ?? "Pod"];
  if (resource === undefined) throw new Error(`no resource is known for kind ${object.kind}`);
  return resource;
}
