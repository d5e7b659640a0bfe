import { describe, expect, test } from "vitest";
import { mapAt, type JsonObject } from "../../../operator/api/json.ts";
import { withOwnDevices } from "../../../operator/desired/own-devices.ts";
import { patchTemplate } from "../../../operator/desired/patch-template.ts";

const name = "nvidia.com/gpu";
const own = { [name]: "2" };

/** Devices of the runtime's requests and limits after the patch of its resources, where the placement asks for two. */
function patched(resources: JsonObject | null): readonly unknown[] {
  const template = { spec: { containers: [{ name: "runtime", resources: { requests: own, limits: own } }] } };
  const patch = { spec: { containers: [{ name: "runtime", resources }] } };
  const result = withOwnDevices(patchTemplate(template, patch), { deviceResource: { name, count: 2 } });
  const [container] = mapAt(result, "spec")["containers"] as JsonObject[];
  const { requests, limits } = mapAt(container, "resources") as { requests: JsonObject; limits: JsonObject };
  return [requests[name], limits[name]];
}

describe("requests and limits of devices are one number, which the API server insists on", () => {
  test.each<[string, JsonObject | null, string]>([
    ["nothing", {}, "2"],
    ["all taken away", null, "2"],
    ["requests taken away", { requests: null }, "2"],
    ["limits taken away", { limits: null }, "2"],
    ["0 of them", { requests: { [name]: 0 }, limits: { [name]: "0" } }, "2"],
    ["fewer as limit", { limits: { [name]: 1 } }, "2"],
    ["fewer as request", { requests: { [name]: "1" } }, "2"],
    ["more as limit", { limits: { [name]: 4 } }, "4"],
    ["more as request", { requests: { [name]: "4" } }, "4"],
    ["more as limit, requests taken away", { requests: null, limits: { [name]: 4 } }, "4"],
    ["more of both, differently", { requests: { [name]: 3 }, limits: { [name]: 4 } }, "4"],
    ["no quantity", { requests: { [name]: "many" }, limits: { [name]: [1] } }, "2"],
  ])("%s", (_what, resources, count) => {
    expect(patched(resources)).toEqual([count, count]);
  });
});
