// The parts of Pods and Deployments that the reconciler reads, as JSON. Types only.

import type { NodeSelectorRequirement } from "../api/model.ts";
import type { KubeObject } from "../kube/types.ts";

export type TerminatedState = {
  readonly exitCode: number;
  readonly reason?: string;
  readonly message?: string;
  readonly finishedAt?: string;
};

export type ContainerState = {
  readonly waiting?: { readonly reason?: string; readonly message?: string };
  readonly running?: { readonly startedAt?: string };
  readonly terminated?: TerminatedState;
};

export type ContainerStatus = {
  readonly name: string;
  readonly ready?: boolean;
  readonly restartCount?: number;
  readonly state?: ContainerState;
  readonly lastState?: ContainerState;
};

export type Pod = KubeObject & {
  readonly spec?: { readonly nodeName?: string };
  readonly status?: {
    readonly phase?: string;
    readonly reason?: string;
    readonly message?: string;
    readonly podIP?: string;
    readonly conditions?: readonly {
      readonly type: string;
      readonly status: string;
      readonly reason?: string;
      readonly message?: string;
      readonly lastTransitionTime?: string;
    }[];
    readonly initContainerStatuses?: readonly ContainerStatus[];
    readonly containerStatuses?: readonly ContainerStatus[];
  };
};

export type DaemonSet = KubeObject & {
  readonly status?: { readonly desiredNumberScheduled?: number; readonly numberReady?: number };
};

export type Deployment = KubeObject & {
  readonly spec?: {
    readonly replicas?: number;
    readonly template?: {
      readonly metadata?: { readonly annotations?: Readonly<Record<string, string>> };
      readonly spec?: {
        readonly affinity?: {
          readonly nodeAffinity?: {
            readonly preferredDuringSchedulingIgnoredDuringExecution?: readonly {
              readonly preference: {
                readonly matchFields?: readonly NodeSelectorRequirement[];
              };
            }[];
          };
        };
        readonly volumes?: readonly {
          readonly name: string;
          readonly image?: object;
          readonly persistentVolumeClaim?: { readonly claimName: string };
        }[];
        readonly resourceClaims?: readonly { readonly resourceClaimTemplateName?: string }[];
      };
    };
  };
  readonly status?: {
    readonly observedGeneration?: number;
    readonly replicas?: number;
    readonly updatedReplicas?: number;
    readonly readyReplicas?: number;
    readonly availableReplicas?: number;
    readonly conditions?: readonly {
      readonly type: string;
      readonly status: string;
      readonly reason?: string;
      readonly message?: string;
    }[];
  };
};
