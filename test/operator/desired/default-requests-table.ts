import type { PodSpecRequests } from "../../../operator/hardware/pod-requests.ts";

type Amounts = Readonly<Record<string, string>>;
type Container = {
  readonly name: string;
  readonly image: string;
  readonly restartPolicy?: string;
  readonly resources: { readonly requests: Amounts; readonly limits: Amounts };
};

const container = (requests: Amounts, limits: Amounts = {}, name = "a"): Container => ({
  name,
  image: "i",
  resources: { requests, limits },
});
/** Of a pod as a whole. */
const limited = (limits: Amounts, requests: Amounts = {}): object => ({ limits, requests });

/** What it is about, the pod's spec and what the scheduler counts of it. */
export const pods: readonly (readonly [string, PodSpecRequests, Readonly<Record<string, number>>])[] = [
  ["a container's limit", { containers: [container({}, { cpu: "3" })] }, { cpu: 3000 }],
  ["a container's request", { containers: [container({ cpu: "1" }, { cpu: "3" })] }, { cpu: 1000 }],
  [
    "a pod's limit that no container speaks of",
    { resources: limited({ cpu: "64" }), containers: [container({ memory: "1Gi" })] },
    { cpu: 64_000, memory: 2 ** 30 },
  ],
  [
    "a pod's limit beside its request of something else",
    { resources: limited({ cpu: "64" }, { memory: "4Gi" }), containers: [container({ memory: "1Gi" })] },
    { cpu: 64_000, memory: 2 ** 32 },
  ],
  [
    "a pod's limit and its request",
    { resources: limited({ cpu: "64" }, { cpu: "2" }), containers: [container({ cpu: "1" })] },
    { cpu: 2000 },
  ],
  [
    "a pod's limit and a container's request",
    { resources: limited({ cpu: "64" }), containers: [container({ cpu: "1" })] },
    { cpu: 1000 },
  ],
  [
    "a pod's limit and a container's request of none",
    { resources: limited({ cpu: "64" }), containers: [container({ cpu: "0" })] },
    {},
  ],
  [
    "a pod's limit and a container's limit",
    { resources: limited({ cpu: "64" }), containers: [container({}, { cpu: "3" })] },
    { cpu: 3000 },
  ],
  [
    "a pod's limit and an init container's request",
    {
      resources: limited({ cpu: "64" }),
      initContainers: [container({ cpu: "100m" }, {}, "pull")],
      containers: [container({})],
    },
    { cpu: 100 },
  ],
  [
    "a pod's limit and a sidecar's request",
    {
      resources: limited({ cpu: "64" }),
      initContainers: [{ ...container({ cpu: "1" }, {}, "side"), restartPolicy: "Always" }],
      containers: [container({ cpu: "2" })],
    },
    { cpu: 3000 },
  ],
  [
    "a pod's limit of huge pages and a container's",
    {
      resources: limited({ "hugepages-2Mi": "64Mi" }),
      containers: [container({ cpu: "1" }, { "hugepages-2Mi": "32Mi" })],
    },
    { cpu: 1000, "hugepages-2Mi": 2 ** 26 },
  ],
  [
    "a container's huge pages beside a pod's limit of something else",
    {
      resources: limited({ cpu: "64" }),
      containers: [container({ cpu: "1" }, { "hugepages-2Mi": "32Mi" })],
    },
    { cpu: 1000, "hugepages-2Mi": 2 ** 25 },
  ],
];
