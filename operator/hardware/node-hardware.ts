// Turns a Node into NodeHardware: architecture, allocatable CPU and RAM, CPU flags, accelerators. Pure.

import type { KubeObject } from "../kube/types.ts";
import { parseQuantity } from "../kube/quantity.ts";
import { readAccelerators } from "./accelerators.ts";
import { platformOf } from "./cloud.ts";
import { cpuFeatures } from "./cpu.ts";
import { isOtherResource, type Requests } from "./pod-requests.ts";
import type { NodeHardware } from "./types.ts";

/** The parts of a core/v1 Node that are read. */
export type Node = KubeObject & {
  readonly spec?: {
    readonly unschedulable?: boolean;
    readonly taints?: readonly { readonly key: string; readonly value?: string; readonly effect: string }[];
  };
  readonly status?: {
    readonly allocatable?: Readonly<Record<string, string>>;
    readonly nodeInfo?: { readonly kubeletVersion?: string; readonly containerRuntimeVersion?: string };
    readonly capacity?: Readonly<Record<string, string>>;
  };
};

/** Nodes change far less often than decisions are made; an object of the cache is never changed in place. */
const known = new WeakMap<Node, NodeHardware>();

/** Reads what a node says of itself; a label that is absent or malformed is unknown, never zero. */
export function nodeHardware(node: Node): NodeHardware {
  const found = known.get(node);
  if (found !== undefined) return found;
  const hardware = readNode(node);
  known.set(node, hardware);
  return hardware;
}

/** What the node has of resources that are compared by amount alone, by name, so that their order says nothing. */
function amountsOf(allocatable: Readonly<Record<string, string>>): Requests {
  return Object.fromEntries(
    Object.keys(allocatable)
      .filter(isOtherResource)
      .sort()
      .flatMap((name) => {
        const amount = parseQuantity(allocatable[name]);
        return amount === undefined || amount <= 0 ? [] : [[name, amount]];
      }),
  );
}

function readNode(node: Node): NodeHardware {
  const labels = node.metadata.labels ?? {};
  const { nodeInfo } = node.status ?? {};
  const allocatable = node.status?.allocatable ?? {};
  const cpuCores = parseQuantity(allocatable["cpu"]);
  const memoryBytes = parseQuantity(allocatable["memory"]);
  const pods = parseQuantity(allocatable["pods"]);
  const amounts = amountsOf(allocatable);
  const architecture = labels["kubernetes.io/arch"];
  const operatingSystem = labels["kubernetes.io/os"];
  const platform = platformOf(labels);
  const { accelerators, notes } = readAccelerators(labels, allocatable, platform);
  return {
    name: node.metadata.name,
    ...(architecture === undefined ? {} : { architecture }),
    ...(nodeInfo?.kubeletVersion === undefined ? {} : { kubeletVersion: nodeInfo.kubeletVersion }),
    ...(nodeInfo?.containerRuntimeVersion === undefined
      ? {}
      : { containerRuntime: nodeInfo.containerRuntimeVersion }),
    ...(platform === undefined ? {} : { platform }),
    ...(operatingSystem === undefined ? {} : { operatingSystem }),
    ...(cpuCores === undefined ? {} : { allocatableCpuMillis: Math.round(cpuCores * 1000) }),
    ...(memoryBytes === undefined ? {} : { allocatableMemoryBytes: memoryBytes }),
    ...(Object.keys(amounts).length === 0 ? {} : { allocatableAmounts: amounts }),
    ...(pods === undefined ? {} : { allocatablePods: pods }),
    cpuFeatures: cpuFeatures(labels),
    accelerators,
    notes,
    isUnschedulable: node.spec?.unschedulable === true || node.metadata.deletionTimestamp !== undefined,
    labels,
    taints: node.spec?.taints ?? [],
  };
}
