// The ResourceClaimTemplate by which pods claim devices that a DRA driver offers and no plugin. Pure.
// API: https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/resource-claim-template-v1/

import { createHash } from "node:crypto";
import type { Model } from "../api/model.ts";
import { withAppliedHash } from "../kube/needs-apply.ts";
import type { KubeObject } from "../kube/types.ts";
import type { DeviceClaim } from "../selection/types.ts";
import { metadata, modelNameLabel } from "./names.ts";

/** Name of the claim in the pod, and of its one request. */
export const deviceClaimName = "devices";

/** What the claims ask. Conditions on a device are CEL, all of which must hold. */
function claimSpec({ deviceClassName, count, expressions }: DeviceClaim): object {
  return {
    devices: {
      requests: [
        {
          name: deviceClaimName,
          exactly: {
            deviceClassName,
            allocationMode: "ExactCount",
            count,
            selectors: expressions.map((expression) => ({ cel: { expression } })),
          },
        },
      ],
    },
  };
}

/** What is copied into the claims. By the label the operator knows that a device is taken by the Model itself. */
function templateSpec(model: Model, claim: DeviceClaim): object {
  return { metadata: { labels: { [modelNameLabel]: model.metadata.name } }, spec: claimSpec(claim) };
}

/** A template never changes, so what it asks is part of its name. */
export function claimTemplateName(model: Model, claim: DeviceClaim): string {
  const hash = createHash("sha256")
    .update(JSON.stringify(templateSpec(model, claim)))
    .digest("hex")
    .slice(0, 8);
  return `${model.metadata.name}-devices-${hash}`;
}

/** The complete template. */
export function claimTemplate(model: Model, claim: DeviceClaim): KubeObject {
  const template = {
    apiVersion: "resource.k8s.io/v1",
    kind: "ResourceClaimTemplate",
    metadata: metadata(model, claimTemplateName(model, claim), "server"),
    spec: templateSpec(model, claim),
  };
  return withAppliedHash(template as KubeObject);
}
