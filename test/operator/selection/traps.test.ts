// What labels of nodes do not say as it seems, and which case shows that nobody is taken in: each trap of each dialect by name.

import { describe, expect, test } from "vitest";
import { cases, planOf, shown } from "./golden-cases.ts";

/** Trap, the case of test/golden/selection, and what its result has to say. */
type Trap = readonly [trap: string, name: string, says: RegExp];

const traps: Readonly<Record<string, readonly Trap[]>> = {
  "NVIDIA GPU Feature Discovery": [
    ["plain labels", "l4-gfd--gpu-only", /q8: "Selected/],
    [
      "a product name with -SHARED and no word of by how many",
      "shared-suffix",
      /no label says by how many pods/,
    ],
    ["a MIG profile in the name (single strategy)", "mig-single--gpu-only", /q8: "Selected/],
    ["MIG slices as resources of their own (mixed strategy)", "mig-mixed--gpu-only", /q8: "Selected/],
    ["no memory label where memory is unified", "gb10--gpu-only", /nodes: gb10/],
    ["no memory label, and RAM that is too small", "near-unified", /of RAM short/],
    ["memory that time-slicing does not divide", "time-slicing--gpu-only", /shared by 4 pods/],
    ["memory that MPS does not divide", "mps--gpu-only", /shared by 2 pods/],
    [
      "no compute capability in the labels of the CUDA driver",
      "driver-labels-are-no-capability",
      /its compute capability is not stated/,
    ],
    ["compute capabilities compared as numbers", "compute-capability", /nodes: h100-gfd$/m],
    ["a present GPU that no plugin offers", "gpu-present-only", /1 without such a GPU/],
    ["a bare device plugin without discovery", "bare-plugin--gpu-only", /its GPU memory is not stated/],
    ["labels of a plugin that offers nothing", "broken-plugin--gpu-only", /without such a GPU/],
    ["a memory label that is no number", "malformed--gpu-only", /is no number of MiB/],
    ["two products on one node, of which one has the labels", "mixed-gpus--gpu-only", /1 of its 2 GPUs/],
  ],
  AMD: [
    ["GiB with the letter G", "mi300x--gpu-only", /nodes: mi300x/],
    ["values in the keys where devices differ", "amd-mixed--gpu-only", /its GPUs differ in memory/],
    ["the labels of old labellers", "amd-legacy--gpu-only", /nodes: amd-legacy/],
    ["a product name that is missing", "mi300x-unnamed", /nodes: mi300x-unnamed/],
    ["partitions that share the memory", "mi300x-partitioned", /its GPUs are partitioned/],
  ],
  "Intel and Habana": [
    ["no memory label: a table of products", "intel-flex--gpu-only", /nodes: intel-flex/],
    ["another kernel driver, another resource", "intel-max--gpu-only", /nodes: intel-max/],
    ["one product label for two kinds", "intel-two-kinds", /2 shares of 1 GPUs, or other GPUs besides/],
    ["a device that no table knows", "intel-unknown", /is not known by name/],
    ["Gaudi by the type of the instance", "gaudi--gpu-only", /nodes: gaudi/],
  ],
  "Node Feature Discovery and core labels": [
    ["CPU flags", "cpu-features", /Selected/],
    ["CPU flags that nobody states", "cpu-features-none", /its CPU does not state/],
    ["no label for RAM: what is allocatable counts", "cpu-small--bestfit", /best node|Selected/],
    ["arm64", "arm64--bestfit", /nodes: arm/],
    ["an architecture that is not labelled", "unlabelled--bestfit", /Selected/],
    ["Windows", "windows--bestfit", /q4: "Selected: .*fits 1 of 4 nodes/],
    [
      "taints of the control plane",
      "control-plane--bestfit",
      /its taint node-role\.kubernetes\.io\/control-plane is not tolerated/,
    ],
    ["what other pods request", "near-taken", /NoFreeCapacity: .*none has room now/],
  ],
  Clouds: [
    [
      "Karpenter on AWS: the same L4 with another number",
      "l4-both-values--gpu-only",
      /nodes: l4-gfd l4-karpenter/,
    ],
    [
      "Karpenter on AWS: a fraction of a GPU, of which there are 0",
      "l4-fraction--gpu-only",
      /best node l4-fraction-karpenter has 5\.6 GiB/,
    ],
    ["EKS Auto Mode: the same keys under another prefix", "a10g-eks-auto--gpu-only", /nodes: a10g-eks-auto/],
    ["node groups of the Cluster Autoscaler on AWS", "l4-autoscaler-aws", /nodes: l4-autoscaler-aws/],
    ["Karpenter on Azure: no key for memory", "t4-karpenter-azure", /nodes: t4-karpenter-azure/],
    ["AKS: its taint is not one of the device's", "t4-aks--gpu-only", /its taint sku is not tolerated/],
    ["GKE", "l4-gke--gpu-only", /nodes: l4-gke/],
    ["GKE: GPUs that are shared", "gke-shared", /its GPUs are shared \(time-sharing\)/],
    ["GKE: parts of GPUs", "gke-partition", /nodes: a100-gke-partition|best node a100-gke-partition has/],
  ],
  "Dynamic resource allocation": [
    ["NVIDIA's driver", "dra-nvidia", /nodes: h100-dra/],
    ["AMD's driver", "dra-amd", /nodes: mi300x-dra/],
    ["Intel's driver", "dra-intel", /nodes: max-dra/],
    ["too little published", "dra-too-small", /best node h100-dra has 79\.6 GiB/],
    [
      "labels that state more than the driver publishes",
      "dra-contradicts-labels",
      /its labels state 23034 MiB, its DRA driver 11264 MiB/,
    ],
    ["a plugin beside it", "dra-beside-a-plugin", /fits 1 of 2 nodes/],
  ],
  "No node yet": [
    ["nothing to look at", "empty--gpu-only", /NoNodesYet/],
    ["what an autoscaler is asked for", "provision-empty", /an autoscaler is to bring one/],
    [
      "a pool that the pod template asks for and nobody has",
      "template-excludes-all-provision",
      /outside the selectors of spec\.template/,
    ],
  ],
};

const known = cases();

describe.each(Object.entries(traps))("%s", (_dialect, rows) => {
  test.each(rows)("%s: %s", (_trap, name, says) => {
    const given = known.get(name);
    expect(given, `there is a case ${name}`).toBeDefined();
    if (given !== undefined) expect(shown(planOf(given))).toMatch(says);
  });
});
