// The scheduler's filters as the API documents them, over plain objects: node affinity, taints, resources, cordons.
// Written apart from the operator on purpose: it shares no code with what it judges.

import type { Node } from "../../../operator/hardware/node-hardware.ts";

type Requirement = { readonly key: string; readonly operator: string; readonly values?: readonly string[] };
type Term = {
  readonly matchExpressions?: readonly Requirement[];
  readonly matchFields?: readonly Requirement[];
};
type Toleration = {
  readonly key?: unknown;
  readonly operator?: unknown;
  readonly value?: unknown;
  readonly effect?: unknown;
};

/** What the scheduler looks at in a pod. */
export type PodShape = {
  readonly terms: readonly Term[];
  /** Labels that the node must have. */
  readonly nodeSelector?: Readonly<Record<string, string>>;
  /** The one node that the pod names. */
  readonly nodeName?: string;
  readonly tolerations: readonly Toleration[];
  /** By resource: devices, bytes of memory, thousandths of CPUs. */
  readonly requests: Readonly<Record<string, number>>;
};

const units: Readonly<Record<string, bigint>> = { Ki: 1024n, Mi: 1024n ** 2n, Gi: 1024n ** 3n, "": 1n };

function amount(text: string | undefined): number {
  const match = /^(\d+)(Ki|Mi|Gi|)$/.exec(text ?? "0");
  if (match === null) throw new Error(`the model of the scheduler reads no quantity ${text}`);
  return Number(BigInt(match[1] ?? "0") * (units[match[2] ?? ""] ?? 1n));
}

/** As Go's strconv.ParseInt with 64 bits. */
function integer(text: string | undefined): bigint | undefined {
  if (text === undefined || !/^-?[0-9]+$/.test(text)) return undefined;
  const value = BigInt(text);
  return BigInt.asIntN(64, value) === value ? value : undefined;
}

function holds({ key, operator, values = [] }: Requirement, value: string | undefined): boolean {
  if (operator === "Exists") return value !== undefined;
  if (operator === "DoesNotExist") return value === undefined;
  if (operator === "NotIn") return value === undefined || !values.includes(value);
  if (value === undefined) return false;
  if (operator === "In") return values.includes(value);
  const [has, bound] = [integer(value), integer(values[0])];
  if (bound === undefined)
    throw new Error(`${operator} of ${key} with ${values[0]}, which the API server refuses`);
  if (has === undefined) return false;
  return operator === "Gt" ? has > bound : has < bound;
}

function affinityAdmits(terms: readonly Term[], node: Node): boolean {
  if (terms.length === 0) return true;
  return terms.some(({ matchExpressions = [], matchFields = [] }) => {
    if (matchExpressions.length === 0 && matchFields.length === 0) return false;
    return (
      matchExpressions.every((each) =>
        holds(each, new Map(Object.entries(node.metadata.labels ?? {})).get(each.key)),
      ) && matchFields.every((each) => holds(each, node.metadata.name))
    );
  });
}

function taintsAdmit(tolerations: readonly Toleration[], node: Node): boolean {
  return (node.spec?.taints ?? [])
    .filter(({ effect }) => effect === "NoSchedule" || effect === "NoExecute")
    .every((taint) =>
      tolerations.some(({ key, operator = "Equal", value = "", effect }) => {
        if (effect !== undefined && effect !== taint.effect) return false;
        if (key === undefined) return operator === "Exists";
        return key === taint.key && (operator === "Exists" || value === (taint.value ?? ""));
      }),
    );
}

function resourcesAdmit(
  requests: PodShape["requests"],
  node: Node,
  taken: Readonly<Record<string, number>>,
): boolean {
  return Object.entries(requests).every(([name, wanted]) => {
    if (wanted === 0) return true;
    const text = node.status?.allocatable?.[name];
    const has =
      name === "cpu" && text?.endsWith("m") !== true ? amount(text) * 1000 : amount(text?.replace(/m$/, ""));
    return has - (taken[name] ?? 0) >= wanted;
  });
}

/** The scheduler takes a cordon for this taint. */
const cordoned: Node = {
  apiVersion: "v1",
  kind: "Node",
  metadata: { name: "" },
  spec: { taints: [{ key: "node.kubernetes.io/unschedulable", effect: "NoSchedule" }] },
};

/** Whether the scheduler would bind the pod to the node, on which other pods request `taken`. */
export function schedulable(
  pod: PodShape,
  node: Node,
  taken: Readonly<Record<string, number>> = {},
): boolean {
  return (
    (node.spec?.unschedulable !== true || taintsAdmit(pod.tolerations, cordoned)) &&
    (pod.nodeName === undefined || pod.nodeName === node.metadata.name) &&
    Object.entries(pod.nodeSelector ?? {}).every(([key, value]) => node.metadata.labels?.[key] === value) &&
    affinityAdmits(pod.terms, node) &&
    taintsAdmit(pod.tolerations, node) &&
    resourcesAdmit(pod.requests, node, taken)
  );
}
