// What the cluster's nodes are and have left, kept up to date from watches. Joins their answers; decides nothing.

import { poolOf, type ResourceClaim } from "../hardware/allocated-devices.ts";
import { withSlices } from "../hardware/with-slices.ts";
import type { ResourceSlice } from "../hardware/dra.ts";
import { withFreeCapacity, type Taken } from "../hardware/free-capacity.ts";
import { nodeHardware, type Node } from "../hardware/node-hardware.ts";
import type { NodeHardware } from "../hardware/types.ts";
import type { CacheChange, ObjectCache } from "../kube/types.ts";
import { hardwareKeyOf } from "../selection/node-groups.ts";
import { hardwareFingerprint } from "./node-fingerprint.ts";
import { allocatedByModel, TakenCapacity, type ScheduledPod } from "./taken-capacity.ts";

/** Told of what decisions may depend on; heartbeats and pods that change no amount are not told. */
export type HardwareListener = {
  /** A node's hardware, labels or taints changed, or a node came or went. */
  readonly onHardware: () => void;
  /** Pods or their claims came or went, so that a node has more or less left. */
  readonly onCapacity: () => void;
};

/** A node with its slices, as long as neither changes. */
type Joined = {
  readonly slices: number;
  readonly hardware: NodeHardware;
  /** Of its DRA devices. */
  readonly pools: readonly string[];
  /** With what is left of it, as long as pods and claims take the same: most nodes are as they were at the last decision. */
  left?: { readonly taken: Taken; readonly claims: number; readonly node: NodeHardware };
};

export class ClusterHardware {
  readonly #listener: HardwareListener;
  readonly #taken = new TakenCapacity();
  readonly #allocated = allocatedByModel();
  readonly #slices = new Map<string, Map<string, ResourceSlice>>();
  readonly #joined = new WeakMap<Node, Joined>();
  readonly #revisions = new Map<string, number>();
  #nodes: ObjectCache<Node> | undefined;
  /** False where the operator may not see the pods of all namespaces: then nothing is said about what is free. */
  #countsPods = false;
  /** False where there are no claims, too. */
  #countsClaims = false;

  constructor(listener: HardwareListener) {
    this.#listener = listener;
  }

  /** Sets where nodes are read from, and whether all pods, and all claims of devices, are told. */
  attach(nodes: ObjectCache<Node>, countsPods: boolean, countsClaims = false): void {
    this.#nodes = nodes;
    this.#countsPods = countsPods;
    this.#countsClaims = countsPods && countsClaims;
  }

  changeNode({ before, after }: CacheChange<Node>): void {
    if (this.#fingerprint(before) !== this.#fingerprint(after)) this.#listener.onHardware();
  }

  changePod({ before, after }: CacheChange<ScheduledPod>): void {
    if (this.#taken.change(before, after)) this.#listener.onCapacity();
  }

  changeClaim({ before, after }: CacheChange<ResourceClaim>): void {
    if (this.#allocated.change(before, after)) this.#listener.onCapacity();
  }

  changeSlice({ before, after }: CacheChange<ResourceSlice>): void {
    for (const slice of [before, after]) {
      const node = slice?.spec.nodeName;
      if (slice === undefined || node === undefined) continue;
      const slices = this.#slices.get(node) ?? new Map<string, ResourceSlice>();
      if (slice === after) slices.set(slice.metadata.name, slice);
      else slices.delete(slice.metadata.name);
      this.#slices.set(node, slices);
      this.#revisions.set(node, (this.#revisions.get(node) ?? 0) + 1);
    }
    if (JSON.stringify(before?.spec) !== JSON.stringify(after?.spec)) this.#listener.onHardware();
  }

  /** All nodes; what pods of the Model `namespace/name` take counts as free for it. */
  list(exceptModel?: string): readonly NodeHardware[] {
    const nodes = (this.#nodes?.list() ?? []).map((node) => this.#join(node));
    if (!this.#countsPods) return nodes.map(({ hardware }) => hardware);
    const takenOf = this.#taken.takenBy(exceptModel);
    const isAllocated = this.#countsClaims ? this.#allocated.isTakenBut(exceptModel) : undefined;
    const ownPools = this.#allocated.poolsOf(exceptModel);
    return nodes.map((joined) => {
      const { hardware, pools, left } = joined;
      const taken = takenOf(hardware.name);
      // What a Model sees of a node where it has devices itself holds for no other one.
      if (ownPools.size > 0 && pools.some((pool) => ownPools.has(pool)))
        return withFreeCapacity(hardware, taken, isAllocated);
      const claims = this.#allocated.revisionOf(pools);
      if (left?.taken === taken && left.claims === claims) return left.node;
      const node = withFreeCapacity(hardware, taken, isAllocated);
      joined.left = { taken, claims, node };
      return node;
    });
  }

  #join(node: Node): Joined {
    const slices = this.#revisions.get(node.metadata.name) ?? 0;
    const known = this.#joined.get(node);
    if (known?.slices === slices) return known;
    const ofNode = [...(this.#slices.get(node.metadata.name)?.values() ?? [])];
    const hardware = withSlices(nodeHardware(node), ofNode);
    const joined: Joined = {
      slices,
      hardware: { ...hardware, hardwareKey: hardwareKeyOf(hardware) },
      pools: [
        ...new Set(
          hardware.accelerators.flatMap(({ deviceKeys = [] }) => deviceKeys.map((key) => poolOf(key))),
        ),
      ],
    };
    this.#joined.set(node, joined);
    return joined;
  }

  #fingerprint(node: Node | undefined): string {
    return node === undefined ? "" : hardwareFingerprint(this.#join(node).hardware);
  }
}
