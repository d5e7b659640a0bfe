import { expect, test } from "vitest";
import { podRequests, type PodSpecRequests } from "../../../operator/hardware/pod-requests.ts";

const requests = (cpu: string, memory = "0") => ({ resources: { requests: { cpu, memory } } });

test.each<[string, PodSpecRequests, Record<string, number>]>([
  ["nothing", {}, {}],
  [
    "containers together",
    { containers: [requests("1", "1Gi"), requests("500m", "1Gi")] },
    { cpu: 1500, memory: 2 ** 31 },
  ],
  [
    "the largest init container where it is more",
    { initContainers: [requests("4"), requests("3")], containers: [requests("1"), requests("1")] },
    { cpu: 4000 },
  ],
  [
    "init containers after a sidecar run beside it",
    {
      initContainers: [requests("3"), { restartPolicy: "Always", ...requests("1") }, requests("3")],
      containers: [requests("1")],
    },
    { cpu: 4000 },
  ],
  [
    "sidecars run beside the containers",
    { initContainers: [{ restartPolicy: "Always", ...requests("1") }], containers: [requests("2")] },
    { cpu: 3000 },
  ],
  ["overhead comes on top", { containers: [requests("1")], overhead: { cpu: "250m" } }, { cpu: 1250 }],
  [
    "requests of the whole pod go before",
    { resources: { requests: { cpu: "2" } }, containers: [requests("500m")] },
    { cpu: 2000 },
  ],
  [
    "devices",
    { containers: [{ resources: { requests: { "nvidia.com/gpu": "2" } } }] },
    { "nvidia.com/gpu": 2 },
  ],
  ["parts of a thousandth", { containers: [requests("100u")] }, { cpu: 1 }],
])("%s", (_name, spec, expected) => {
  expect(podRequests(spec)).toEqual(expected);
});
