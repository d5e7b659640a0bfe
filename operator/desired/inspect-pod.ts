// The pod that reads what references hold: a puller with the Model's own credentials, no volume, no token. Pure.

import type { KubeObject } from "../kube/types.ts";
import { inspectContainerName, inspectPodName, metadata } from "./names.ts";
import {
  containerSecurityContext,
  literal,
  podSecurityContext,
  pullerEnvironment,
  pullerResources,
  registryArguments,
  registryVolumeMounts,
  registryVolumes,
} from "./puller-container.ts";
import type { InspectInput, InspectQuestion } from "./types.ts";

/** How long an inspection may take before the kubelet ends it, seconds. */
const activeDeadlineSeconds = 600;

function questionArguments(
  references: readonly string[],
  question: InspectQuestion | undefined,
): readonly string[] {
  const read = references.map((reference) => `--reference=${reference}`);
  switch (question?.kind) {
    case undefined:
      return read;
    case "index":
      return references.map((reference) => `--index=${reference}`);
    case "tags":
      return [...read, `--tags=${question.pattern}`];
    case "described":
      return [...read, question.index === undefined ? "--requirements" : `--index=${question.index}`];
  }
}

/** The complete inspect pod. */
export function inspectPod(input: InspectInput): KubeObject {
  const { model, configuration, references, attempt, question } = input;
  const round = question === undefined ? input.round : `${input.round} ${JSON.stringify(question)}`;
  const pod = {
    apiVersion: "v1",
    kind: "Pod",
    metadata: metadata(model, inspectPodName(model, references, round, attempt), "inspect"),
    spec: {
      activeDeadlineSeconds,
      automountServiceAccountToken: false,
      containers: [
        {
          name: inspectContainerName,
          image: configuration.pullerImage,
          imagePullPolicy: configuration.pullerImagePullPolicy,
          args: [
            "inspect",
            ...questionArguments(references, question),
            "--output=json",
            "--termination-log=/dev/termination-log",
            ...registryArguments(model, references),
          ].map(literal),
          ...pullerEnvironment(configuration),
          resources: pullerResources(model, configuration),
          securityContext: containerSecurityContext,
          terminationMessagePolicy: "File",
          ...(registryVolumeMounts(model).length === 0 ? {} : { volumeMounts: registryVolumeMounts(model) }),
        },
      ],
      enableServiceLinks: false,
      restartPolicy: "Never",
      securityContext: podSecurityContext,
      terminationGracePeriodSeconds: 5,
      ...(registryVolumes(model).length === 0 ? {} : { volumes: registryVolumes(model) }),
    },
  };
  return pod as KubeObject;
}
