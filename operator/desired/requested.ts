// What the scheduler counts of a pod before the pod is rendered: all that the puller, the runtime and what a template adds request. Pure.

import type { JsonObject, Model } from "../api/model.ts";
import type { OperatorConfiguration } from "../configuration.ts";
import { isOtherResource, podRequests, type PodSpecRequests } from "../hardware/pod-requests.ts";
import type { Candidate, Placement, PodAmounts } from "../selection/types.ts";
import { withDefaultRequests } from "./default-requests.ts";
import { runtimeResources, runtimeSettings } from "./deployment.ts";
import { usesImageVolume } from "./image-volume.ts";
import { pullContainerName, runtimeContainerName } from "./names.ts";
import { patchTemplate } from "./patch-template.ts";
import { pullContainerResources } from "./pull-container.ts";
import { volumeAmounts } from "./storage.ts";
import { withOwnDevices } from "./own-devices.ts";

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
  const { cpu: cpuMillis = 0, memory: patchedBytes = 0, ...others } = podRequests(withDefaultRequests(spec));
  return {
    cpuMillis,
    memoryBytes: patchedBytes,
    // Of what the scheduler passes over the API server takes no request.
    others: Object.fromEntries(Object.entries(others).filter(([name]) => isOtherResource(name))),
  };
}
