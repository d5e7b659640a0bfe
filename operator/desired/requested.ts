// What the scheduler counts of a pod before the pod is rendered: all that the puller, the runtime and what a template adds request. Pure.

import type { JsonObject, Model } from "../api/model.ts";
import type { OperatorConfiguration } from "../configuration.ts";
import { isOtherResource, podRequests, type PodSpecRequests } from "../hardware/pod-requests.ts";
import type { Candidate, Placement, PodAmounts } from "../selection/types.ts";
import { runtimeResources, runtimeSettings } from "./deployment.ts";
import { usesImageVolume } from "./image-volume.ts";
import { pullContainerName, runtimeContainerName } from "./names.ts";
import { patchTemplate } from "./patch-template.ts";
import { pullContainerResources } from "./pull-container.ts";
import { volumeAmounts } from "./storage.ts";
import { withOwnDevices } from "./own-devices.ts";

type Container = NonNullable<PodSpecRequests["containers"]>[number] & {
  readonly resources?: { readonly limits?: Readonly<Record<string, string | number>> };
};

/** A limit without a request is the request too. */
function defaulted<T extends Container>(container: T): T {
  const { limits = {}, requests = {} } = container.resources ?? {};
  return { ...container, resources: { ...container.resources, requests: { ...limits, ...requests } } };
}

/**
 * What a pod of the candidate requests in all where the placement estimates RAM and asks for devices. Init containers run before the others, so
 * the larger of both counts.
 */
export function podAmounts(
  model: Pick<Model, "spec">,
  configuration: Pick<OperatorConfiguration, "pullerResources">,
  { variant, artifact, runtime }: Candidate,
  placement: Pick<Placement, "memoryBytes" | "deviceResource">,
): PodAmounts {
  if (runtime === undefined) return { cpuMillis: 0, memoryBytes: placement.memoryBytes, others: {} };
  const { diskBytes: ephemeralStorageBytes, memoryBytes } = volumeAmounts(model, artifact);
  const storage = { ephemeralStorageBytes, memoryBytes };
  const settings = runtimeSettings({ model, variantName: variant.name });
  const input = { placement, runtime, storage };
  const template: JsonObject = {
    spec: {
      // A node that mounts the model itself runs no puller.
      initContainers: usesImageVolume(model)
        ? []
        : [
            {
              name: pullContainerName,
              resources: pullContainerResources(model, configuration, storage),
            },
          ],
      containers: [{ name: runtimeContainerName, resources: runtimeResources(input, settings) }],
    },
  };
  const patched = withOwnDevices(patchTemplate(template, model.spec.template), placement);
  const spec = patched["spec"] as unknown as PodSpecRequests;
  const {
    cpu: cpuMillis = 0,
    memory: patchedBytes = 0,
    ...others
  } = podRequests({
    ...spec,
    containers: listOf(spec.containers).map(defaulted),
    initContainers: listOf(spec.initContainers).map(defaulted),
  });
  return {
    cpuMillis,
    memoryBytes: patchedBytes,
    // Of what the scheduler passes over the API server takes no request.
    others: Object.fromEntries(Object.entries(others).filter(([name]) => isOtherResource(name))),
  };
}

/** What a template patch left of a list of containers: the API server refuses the pod of what is none. */
function listOf(items: readonly (Container | null)[] | undefined): readonly Container[] {
  return Array.isArray(items)
    ? items.filter((item): item is Container => typeof item === "object" && item !== null)
    : [];
}
