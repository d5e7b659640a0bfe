// What the scheduler counts of a pod before the pod is rendered: CPU and RAM of the puller, the runtime and what a template adds. Pure.

import type { JsonObject, Model } from "../api/model.ts";
import type { OperatorConfiguration } from "../configuration.ts";
import { podRequests, type PodSpecRequests } from "../hardware/pod-requests.ts";
import type { Candidate } from "../selection/types.ts";
import { runtimeResources, runtimeSettings } from "./deployment.ts";
import { usesImageVolume } from "./image-volume.ts";
import { pullContainerName, runtimeContainerName } from "./names.ts";
import { patchTemplate } from "./patch-template.ts";
import { pullerResources } from "./puller-container.ts";
import { withVolumeMemory } from "./storage.ts";
import { statedBytes, volumeNeed } from "./volume-need.ts";

export type PodAmounts = { readonly cpuMillis: number; readonly memoryBytes: number };
type Container = NonNullable<PodSpecRequests["containers"]>[number] & {
  readonly resources?: { readonly limits?: Readonly<Record<string, string | number>> };
};

/** A limit without a request is the request too. */
function defaulted<T extends Container>(container: T): T {
  const { limits = {}, requests = {} } = container.resources ?? {};
  return { ...container, resources: { ...container.resources, requests: { ...limits, ...requests } } };
}

/**
 * What a pod of the candidate requests in all when RAM of `memoryBytes` is estimated for it. Init containers run before the others, so
 * the larger of both counts.
 */
export function podAmounts(
  model: Pick<Model, "spec">,
  configuration: Pick<OperatorConfiguration, "pullerResources">,
  { variant, artifact, runtime }: Candidate,
  memoryBytes: number,
): PodAmounts {
  if (runtime === undefined) return { cpuMillis: 0, memoryBytes };
  const isInMemory = model.spec.storage?.medium === "Memory";
  const volumeBytes = isInMemory ? (statedBytes(model) ?? volumeNeed(artifact).limit) : 0;
  const settings = runtimeSettings({ model, variantName: variant.name });
  const input = { placement: { memoryBytes }, runtime, storage: { memoryBytes: volumeBytes } };
  const template: JsonObject = {
    spec: {
      // A node that mounts the model itself runs no puller.
      initContainers: usesImageVolume(model)
        ? []
        : [
            {
              name: pullContainerName,
              resources: withVolumeMemory(pullerResources(model, configuration), volumeBytes),
            },
          ],
      containers: [{ name: runtimeContainerName, resources: runtimeResources(input, settings) }],
    },
  };
  const spec = patchTemplate(template, model.spec.template)["spec"] as unknown as PodSpecRequests;
  const { cpu = 0, memory = 0 } = podRequests({
    ...spec,
    containers: listOf(spec.containers).map(defaulted),
    initContainers: listOf(spec.initContainers).map(defaulted),
  });
  return { cpuMillis: cpu, memoryBytes: memory };
}

/** What a template patch left of a list of containers: the API server refuses the pod of what is none. */
function listOf(items: readonly (Container | null)[] | undefined): readonly Container[] {
  return Array.isArray(items)
    ? items.filter((item): item is Container => typeof item === "object" && item !== null)
    : [];
}
