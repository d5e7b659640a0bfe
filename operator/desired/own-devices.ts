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

/** At least as many devices as the placement asks for; more are the user's to ask. */
function withCount(list: JsonObject, { name, count }: NonNullable<Devices["deviceResource"]>): JsonObject {
  const stated = list[name];
  const has = typeof stated === "string" || typeof stated === "number" ? parseQuantity(stated) : undefined;
  return (has ?? 0) >= count ? list : { ...list, [name]: String(count) };
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
        ...(deviceResource === undefined
          ? {}
          : {
              requests: withCount(mapAt(resources, "requests"), deviceResource),
              limits: withCount(mapAt(resources, "limits"), deviceResource),
            }),
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
