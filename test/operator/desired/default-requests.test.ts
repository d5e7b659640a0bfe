import { expect, test } from "vitest";
import { withDefaultRequests } from "../../../operator/desired/default-requests.ts";
import { podRequests, type PodSpecRequests } from "../../../operator/hardware/pod-requests.ts";
import { pods } from "./default-requests-table.ts";

test.each(pods)("%s", (_what, spec, expected) => {
  expect(podRequests(withDefaultRequests(spec))).toEqual(expected);
});

test.each<[string, unknown]>([
  ["null everywhere", { containers: null, initContainers: [null], resources: null }],
  ["null inside", { containers: [{ resources: null }], resources: { limits: null, requests: null } }],
  ["text", { containers: "x", initContainers: ["y"], resources: "z" }],
  ["no quantities", { containers: [{ resources: { limits: { cpu: "x" } } }], resources: { limits: "z" } }],
])("what is no resource at all requests nothing: %s", (_what, spec) => {
  expect(podRequests(withDefaultRequests(spec as PodSpecRequests))).toEqual({});
});
