// The pod that brings a model to the cache of one node before any server wants it: the puller alone. Pure.

import { createHash } from "node:crypto";
import { modelDirectoryName } from "../../puller/contract.ts";
import type { JsonObject } from "../api/model.ts";
import type { KubeObject } from "../kube/types.ts";
import { pullContainer } from "./pull-container.ts";
import { digestAnnotation, labels, metadata, prefetchNodeAnnotation } from "./names.ts";
import { podSecurityContext, registryVolumes } from "./puller-container.ts";
import { storagePlan } from "./storage.ts";
import type { WorkloadInput } from "./types.ts";

export type PrefetchInput = Pick<WorkloadInput, "model" | "configuration" | "artifact" | "claim"> & {
  /** Name of the node. */
  readonly node: string;
  readonly tolerations: readonly JsonObject[];
};

/** The complete pod; one of a model and a node has always the same name. */
export function prefetchPod({ node, tolerations, ...input }: PrefetchInput): KubeObject {
  const { model, artifact } = input;
  const storage = storagePlan(input);
  const { include = [], exclude = [] } = model.spec.puller ?? {};
  const hash = createHash("sha256")
    .update(
      JSON.stringify([model.metadata.name, node, modelDirectoryName(artifact.digest, include, exclude)]),
    )
    .digest("hex")
    .slice(0, 8);
  const own = metadata(model, `${model.metadata.name.slice(0, 42)}-prefetch-${hash}`, "prefetch");
  const pod = {
    apiVersion: "v1",
    kind: "Pod",
    metadata: {
      ...own,
      annotations: {
        [digestAnnotation]: artifact.digest,
        [prefetchNodeAnnotation]: node,
        ...storage.annotations,
      },
      labels: { ...labels(model, "prefetch"), ...storage.labels },
    },
    spec: {
      affinity: {
        nodeAffinity: {
          requiredDuringSchedulingIgnoredDuringExecution: {
            nodeSelectorTerms: [{ matchFields: [{ key: "metadata.name", operator: "In", values: [node] }] }],
          },
        },
      },
      automountServiceAccountToken: false,
      containers: [pullContainer({ ...input, storage })],
      enableServiceLinks: false,
      // The kubelet tries again, later and later; what went wrong is in the status meanwhile.
      restartPolicy: "OnFailure",
      securityContext: podSecurityContext,
      terminationGracePeriodSeconds: 5,
      ...(tolerations.length === 0 ? {} : { tolerations }),
      volumes: [storage.volume, ...registryVolumes(model)],
    },
  };
  return pod as unknown as KubeObject;
}
