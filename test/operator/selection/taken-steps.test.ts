// What other pods hold is told in steps: a small pod that comes or goes on a near node leaves the status of all who wait as it is.

import { expect, test } from "vitest";
import { withFreeCapacity } from "../../../operator/hardware/free-capacity.ts";
import { nodeHardware } from "../../../operator/hardware/node-hardware.ts";
import { lacksOf, type PodDemand } from "../../../operator/selection/fit.ts";
import { groupNodes } from "../../../operator/selection/node-groups.ts";
import { describeTaken, nearMisses, sift } from "../../../operator/selection/sift.ts";

const mebibyte = 2 ** 20;
const gibibyte = 2 ** 30;
const node = nodeHardware({
  apiVersion: "v1",
  kind: "Node",
  metadata: { name: "n" },
  status: {
    allocatable: {
      cpu: "8",
      memory: "16Gi",
      "ephemeral-storage": "20Gi",
      "hugepages-2Mi": "2Gi",
      pods: "110",
    },
  },
});
const demand: PodDemand = {
  requirements: {},
  tolerations: [],
  device: undefined,
  memoryBytes: 12 * gibibyte,
  cpuMillis: 6000,
  others: { "ephemeral-storage": 15 * gibibyte, "hugepages-2Mi": 2 * gibibyte },
};

/** All that a status would say of it where others hold so much more. */
function told(more: Readonly<Record<string, number>>): unknown {
  const requests = {
    cpu: 5020,
    memory: 10.01 * gibibyte,
    "ephemeral-storage": 15.01 * gibibyte,
    "hugepages-2Mi": gibibyte + mebibyte,
  };
  for (const [name, amount] of Object.entries(more)) requests[name as "cpu"] += amount;
  const busy = withFreeCapacity(node, { requests, pods: 9 });
  const sifted = sift(groupNodes([busy]), demand);
  return { lacks: lacksOf(busy, demand), near: nearMisses(sifted, [], demand), taken: describeTaken(sifted) };
}

test("a small pod more or less changes nothing; a large one does", () => {
  const before = told({});
  expect(before).toMatchObject({
    near: [
      {
        lacks:
          "only 5.9 GiB of its RAM are free, 6.1 GiB short, and only 2.9 of its CPUs are free, and a pod requests 6, " +
          "and only 4.9 GiB of its disk are free, 10.1 GiB short, and only 960.0 MiB of its hugepages-2Mi are free, 1.1 GiB short",
      },
    ],
  });
  const small = {
    cpu: 30,
    memory: 11 * mebibyte,
    "ephemeral-storage": 7 * mebibyte,
    "hugepages-2Mi": mebibyte,
  };
  for (const [name, amount] of Object.entries(small)) expect(told({ [name]: amount }), name).toEqual(before);
  expect(told(small)).toEqual(before);
  const large = {
    cpu: 500,
    memory: 512 * mebibyte,
    "ephemeral-storage": 512 * mebibyte,
    "hugepages-2Mi": 512 * mebibyte,
  };
  for (const [name, amount] of Object.entries(large))
    expect(told({ [name]: amount }), name).not.toEqual(before);
});
