// The devices of a pod after a user's patch: what the placement asks for stays, or the pod would start without a GPU where the verdict has
// one. Pure.

import { isMap, listAt, mapAt, type Json, type JsonObject } from "../api/json.ts";
import { parseQuantity } from "../kube/quantity.ts";
import type { Placement } from "../selection/types.ts";
import { deviceClaimName } from "./claim-template.ts";
import { runtimeContainerName } from "./names.ts";

type Devices = Pick<Placement, "deviceResource" | "deviceClaim">;

/** The list with an item of the name; `item` only where it has none. */
function withItem(list: readonly Json[], name: string, item: JsonObject): readonly Json[] {
  return list.some((each) => isMap(each) && each["name"] === name) ? list : [...list, item];
}

/** As many devices as the placement asks for, or as many more as a patch states in either list. */
function deviceCount(
  lists: readonly JsonObject[],
  { name, count }: NonNullable<Devices["deviceResource"]>,
): number {
  const stated = lists.map(({ [name]: value }) =>
    typeof value === "string" || typeof value === "number" ? (parseQuantity(value) ?? 0) : 0,
  );
  return Math.max(count, ...stated);
}

/** One number in requests and limits: the API server refuses pods whose extended resources have two. */
function withCount(resources: JsonObject, resource: NonNullable<Devices["deviceResource"]>): JsonObject {
  const requests = mapAt(resources, "requests");
  const limits = mapAt(resources, "limits");
  const count = { [resource.name]: String(deviceCount([requests, limits], resource)) };
  return { requests: { ...requests, ...count }, limits: { ...limits, ...count } };
}

/**
 * The pod template with the devices of the placement, whatever a patch made of them: `null` for the runtime's resources, 0 devices, no
 * claim.
 * @param claimTemplate name of the claim template that the devices are claimed by, if they are
 */
export function withOwnDevices(
  template: JsonObject,
  { deviceResource, deviceClaim }: Devices,
  claimTemplate = "",
): JsonObject {
  if (deviceResource === undefined && deviceClaim === undefined) return template;
  const spec = mapAt(template, "spec");
  const containers = listAt(spec, "containers").map((container): Json => {
    if (!isMap(container) || container["name"] !== runtimeContainerName) return container;
    const resources = mapAt(container, "resources");
    return {
      ...container,
      resources: {
        ...resources,
        ...(deviceResource === undefined ? {} : withCount(resources, deviceResource)),
        ...(deviceClaim === undefined
          ? {}
          : { claims: withItem(listAt(resources, "claims"), deviceClaimName, { name: deviceClaimName }) }),
      },
    };
  });
  return {
    ...template,
    spec: {
      ...spec,
      containers,
      ...(deviceClaim === undefined
        ? {}
        : {
            resourceClaims: withItem(listAt(spec, "resourceClaims"), deviceClaimName, {
              name: deviceClaimName,
              resourceClaimTemplateName: claimTemplate,
            }),
          }),
    },
  };
}
