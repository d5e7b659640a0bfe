// Condition types and reasons: closed sets with one sentence each. docs/conditions.md lists the same ones, by test.

import type { FailureCode } from "../../puller/contract.ts";

/** All condition types a Model may have. Reconciling and Stalled follow kstatus: present and True only while they hold. */
export const conditionTypes = {
  Ready: "All wanted replicas serve the selected variant of the observed generation.",
  Reconciling: "The operator or the cluster is still working towards the spec.",
  Stalled: "Nothing will change until somebody acts; the reason says what to do.",
  SourceResolved: "The references of the variants were read from the registry.",
  VariantSelected: "A variant that fits the nodes was chosen.",
  StorageReady: "The volume for the model can be provided.",
  ArtifactPulled: "At least one pod holds the whole verified model.",
  WorkloadAvailable: "The wanted number of replicas is available.",
} as const;
export type ConditionType = keyof typeof conditionTypes;

/** Reasons of the operator's own, with what each means. Those of the puller are the keys of `failureExitCodes`. */
export const operatorReasons = {
  Progressing: "Work towards the spec goes on.",
  Resolving: "The registry is being asked what the references hold.",
  Resolved: "All references were read.",
  PartlyResolved: "Some variants could not be read; the others are used.",
  Selected: "A variant was chosen.",
  NoVariantFits: "No variant fits any node; status.variants says what each one lacks.",
  NoNodesYet: "The cluster has no node at all that could run a pod.",
  EphemeralVolume: "The pod brings its own volume.",
  Pulling: "Pods are fetching the model.",
  Pulled: "A pod holds the whole verified model.",
  Starting: "The model is there; the runtime is loading it.",
  Available: "All wanted replicas are available.",
  ScaledToZero: "No replica is wanted.",
  Suspended: "spec.suspend is true: the operator changes nothing.",
  Unschedulable: "The scheduler finds no node for a pod; the message is the scheduler's.",
  ClaimBound: "The claim of the volume is bound.",
  PVCPending: "The claim of the volume is not there, or not bound.",
  ClaimTooSmall: "The claim is smaller than what is wanted, and its storage class lets no claim grow.",
  NodeCacheNotReady: "The cache of the nodes is prepared on no node yet.",
  ClaimMismatch: "The claim that is there cannot be used as spec.storage states; the message says why.",
  ImageVolume: "The model is an image that the nodes mount themselves.",
  ImageVolumeUnsupported: "A node that the model fits cannot mount images; the message says which, and why.",
  NotAnImage: "The artifact cannot be mounted as an image; puller repack makes one of it.",
  PullOOMKilled: "The puller was killed for lack of memory; raise spec.puller.resources.",
  PullEvicted: "A pod was evicted while pulling, most often for lack of ephemeral storage.",
  PullDeadlineExceeded:
    "The pull took longer than the Deployment's progress deadline, two hours; it goes on.",
  ImagePullFailed: "An image of the pod (puller or runtime) cannot be pulled.",
  RuntimeCrashLooping: "The runtime container starts and ends again and again; see its logs.",
  AdmissionDenied:
    "The API server refuses an object of this Model: quota, Pod Security or a policy; the message is the server's.",
  RuntimeUnknown:
    "The named runtime is not in the operator's configuration, or none takes the variant's format.",
} as const;
export type OperatorReason = keyof typeof operatorReasons;

export type Reason = OperatorReason | FailureCode;

/** A condition as metav1.Condition has it. */
export type Condition = {
  readonly type: ConditionType;
  readonly status: "True" | "False" | "Unknown";
  readonly reason: Reason;
  /** At most 1024 characters. */
  readonly message: string;
  /** RFC 3339, seconds. */
  readonly lastTransitionTime: string;
  readonly observedGeneration: number;
};
