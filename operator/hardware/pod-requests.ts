// What a pod makes the scheduler count: its containers' requests as one. Pure.
// Rules: https://kubernetes.io/docs/concepts/workloads/pods/init-containers/#resource-sharing-within-containers

import { parseQuantity } from "../kube/quantity.ts";

type Container = {
  readonly restartPolicy?: string;
  readonly resources?: { readonly requests?: Readonly<Record<string, string | number>> };
};

/** The parts of a pod's spec that count. */
export type PodSpecRequests = {
  readonly containers?: readonly Container[];
  readonly initContainers?: readonly Container[];
  readonly overhead?: Readonly<Record<string, string | number>>;
  /** Requests of the pod as a whole go before those of its containers. */
  readonly resources?: Container["resources"];
};

/** By resource, in its base unit but for CPUs: bytes, devices, thousandths of CPUs. Only what is requested. */
export type Requests = Readonly<Record<string, number>>;

/** The node's disk, of which volumes and logs of pods are. */
export const diskResource = "ephemeral-storage";

/** Whether the scheduler compares the resource beside CPU and RAM: disk, huge pages, extended resources; others it passes over. */
export function isOtherResource(name: string): boolean {
  return name === diskResource || name.startsWith("hugepages-") || name.includes("/");
}

/** Whether an amount of the resource is one of bytes. */
export function isInBytes(name: string): boolean {
  return name === "memory" || name === diskResource || name.startsWith("hugepages-");
}

function amountOf(resource: string, quantity: string | number): number {
  const value = parseQuantity(quantity) ?? 0;
  // As the scheduler: parts of a thousandth of a CPU, and of a byte, count as whole.
  return resource === "cpu" ? Math.ceil(value * 1000) : Math.ceil(value);
}

function add(
  sum: Record<string, number>,
  requests: Readonly<Record<string, string | number>> | undefined,
): void {
  for (const [resource, quantity] of Object.entries(requests ?? {})) {
    sum[resource] = (sum[resource] ?? 0) + amountOf(resource, quantity);
  }
}

/**
 * Containers run together, ordinary init containers one after another beside the sidecars started before them: the
 * larger of both counts, plus the overhead of the runtime class.
 */
export function podRequests(spec: PodSpecRequests): Requests {
  const running: Record<string, number> = {};
  const starting: Record<string, number> = {};
  for (const { restartPolicy, resources } of spec.initContainers ?? []) {
    if (restartPolicy === "Always") {
      add(running, resources?.requests);
    }
    const beside: Record<string, number> = { ...running };
    if (restartPolicy !== "Always") add(beside, resources?.requests);
    for (const [resource, amount] of Object.entries(beside)) {
      starting[resource] = Math.max(starting[resource] ?? 0, amount);
    }
  }
  for (const { resources } of spec.containers ?? []) add(running, resources?.requests);
  const total: Record<string, number> = { ...running };
  for (const [resource, amount] of Object.entries(starting)) {
    total[resource] = Math.max(total[resource] ?? 0, amount);
  }
  for (const [resource, quantity] of Object.entries(spec.resources?.requests ?? {})) {
    total[resource] = amountOf(resource, quantity);
  }
  add(total, spec.overhead);
  return Object.fromEntries(Object.entries(total).filter(([, amount]) => amount > 0));
}
