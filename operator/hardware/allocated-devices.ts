// Devices that the scheduler has allocated to ResourceClaims, of whichever pods. No I/O.
// API: https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/resource-claim-v1/

import type { KubeObject } from "../kube/types.ts";

type Result = {
  readonly driver: string;
  readonly pool: string;
  readonly device: string;
  /** For looking at a device that others use. */
  readonly adminAccess?: boolean;
  /** Of a device that several claims may have parts of. */
  readonly shareID?: string;
};

/** The parts of a resource.k8s.io/v1 ResourceClaim that are read. */
export type ResourceClaim = KubeObject & {
  readonly status?: { readonly allocation?: { readonly devices?: { readonly results?: readonly Result[] } } };
};

/** Names one device of a cluster. */
export function deviceKey({ driver, pool, device }: Pick<Result, "driver" | "pool" | "device">): string {
  return `${driver}/${pool}/${device}`;
}

/** The driver and pool of a device: what claims of one node's devices change together. Names of devices have no slash, pools may. */
export function poolOf(key: string): string {
  return key.slice(0, key.lastIndexOf("/"));
}

/** Devices that nobody else gets while the claim is there. */
export function allocatedDevices(claim: ResourceClaim | undefined): readonly string[] {
  return (claim?.status?.allocation?.devices?.results ?? [])
    .filter(({ adminAccess, shareID }) => adminAccess !== true && shareID === undefined)
    .map(deviceKey);
}

type Holder = {
  readonly claim: string;
  /** `namespace/name`; empty: somebody else. */
  readonly model: string;
};

/** Device by device, who has it. */
export class AllocatedDevices {
  readonly #devices = new Map<string, Holder>();
  /** Devices of each Model. */
  readonly #models = new Map<string, Set<string>>();
  /** How often the holders of a pool's devices changed. Kept when nothing is held any more: a number must not come twice. */
  readonly #revisions = new Map<string, number>();
  readonly #modelOf: (claim: ResourceClaim) => string;

  constructor(modelOf: (claim: ResourceClaim) => string) {
    this.#modelOf = modelOf;
  }

  /** Counts the change of one claim; true when some device was given or given back. */
  change(before: ResourceClaim | undefined, after: ResourceClaim | undefined): boolean {
    const [had, has] = [allocatedDevices(before), allocatedDevices(after)];
    if (had.join() === has.join()) return false;
    const { namespace = "", name = "" } = (after ?? before)?.metadata ?? {};
    const claim = `${namespace}/${name}`;
    // After a list the next holder may be told before the former one is.
    for (const key of had) if (this.#devices.get(key)?.claim === claim) this.#hold(key, undefined);
    const model = after === undefined ? "" : this.#modelOf(after);
    for (const key of has) this.#hold(key, { claim, model });
    return true;
  }

  /** Whether somebody has the device, other than the Model `namespace/name`: what its own pods have is not in its way. */
  isTakenBut(exceptModel?: string): (key: string) => boolean {
    return (key) => {
      const holder = this.#devices.get(key);
      return holder !== undefined && (holder.model === "" || holder.model !== exceptModel);
    };
  }

  /** A number that is another one as soon as a device of one of the pools has another holder. */
  revisionOf(pools: readonly string[]): number {
    let sum = 0;
    for (const pool of pools) sum += this.#revisions.get(pool) ?? 0;
    return sum;
  }

  /** Pools of which the Model `namespace/name` has devices. */
  poolsOf(model: string | undefined): ReadonlySet<string> {
    return new Set([...(this.#models.get(model ?? "") ?? [])].map(poolOf));
  }

  #hold(key: string, holder: Holder | undefined): void {
    const before = this.#devices.get(key)?.model ?? "";
    const held = this.#models.get(before);
    held?.delete(key);
    if (held?.size === 0) this.#models.delete(before);
    if (holder === undefined) this.#devices.delete(key);
    else this.#devices.set(key, holder);
    const model = holder?.model ?? "";
    if (model !== "") this.#models.set(model, (this.#models.get(model) ?? new Set()).add(key));
    const pool = poolOf(key);
    this.#revisions.set(pool, (this.#revisions.get(pool) ?? 0) + 1);
  }
}
