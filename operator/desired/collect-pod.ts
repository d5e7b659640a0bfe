// The pod that removes from a claim what no pod and no Model uses any more: a puller that is told what stays. Pure.

import { createHash } from "node:crypto";
import type { JsonObject, Model } from "../api/model.ts";
import type { OperatorConfiguration } from "../configuration.ts";
import type { KubeObject } from "../kube/types.ts";
import { claimLabelValue, claimSharing, type Claim } from "./claim.ts";
import {
  claimLabel,
  collectContainerName,
  labels,
  metadata,
  modelVolumeName,
  storeMountPath,
} from "./names.ts";
import {
  containerSecurityContext,
  podSecurityContext,
  pullerEnvironment,
  pullerResources,
} from "./puller-container.ts";
import { onNodeOfClaim } from "./storage.ts";

/** How long deleting may take before the kubelet ends it, seconds. */
const activeDeadlineSeconds = 600;

export type CollectInput = {
  readonly model: Model;
  readonly configuration: OperatorConfiguration;
  readonly claim: Claim;
  /** Names of the model directories that stay. */
  readonly keep: readonly string[];
  /** When it became due; part of the name, so that a later one is another pod. */
  readonly since: string;
};

/** The complete pod. */
export function collectPod({ model, configuration, claim, keep, since }: CollectInput): KubeObject {
  const hash = createHash("sha256")
    .update(JSON.stringify([model.metadata.name, since]))
    .digest("hex")
    .slice(0, 8);
  const { name } = claim.metadata;
  const value = claimLabelValue(name);
  const pod = {
    apiVersion: "v1",
    kind: "Pod",
    metadata: {
      ...metadata(model, `${model.metadata.name.slice(0, 42)}-collect-${hash}`, "collect"),
      labels: { ...labels(model, "collect"), [claimLabel]: value },
    },
    spec: {
      activeDeadlineSeconds,
      ...(claimSharing(model, claim) === "OneNode"
        ? { affinity: { podAffinity: onNodeOfClaim(value) } }
        : {}),
      automountServiceAccountToken: false,
      containers: [
        {
          name: collectContainerName,
          image: configuration.pullerImage,
          imagePullPolicy: configuration.pullerImagePullPolicy,
          args: [
            "gc",
            `--store=${storeMountPath}`,
            "--unused-models=remove",
            // What began to be used since this list was made is younger than that.
            `--minimum-age=${configuration.collectAfterSeconds}`,
            "--termination-log=/dev/termination-log",
            ...keep.map((each) => `--keep=${each}`),
          ],
          ...pullerEnvironment(configuration),
          resources: pullerResources(model, configuration),
          securityContext: containerSecurityContext,
          terminationMessagePolicy: "File",
          volumeMounts: [{ mountPath: storeMountPath, name: modelVolumeName }],
        },
      ],
      enableServiceLinks: false,
      restartPolicy: "Never",
      securityContext: podSecurityContext,
      terminationGracePeriodSeconds: 5,
      // Where the disk is, whatever else the node is kept for.
      tolerations: [{ effect: "NoSchedule", operator: "Exists" }],
      volumes: [{ name: modelVolumeName, persistentVolumeClaim: { claimName: name } } as JsonObject],
    },
  };
  return pod as KubeObject;
}
