// Tries one candidate in one way (devices asked for in one way, or CPUs) with one context length on all nodes. Pure.

import type { JsonObject, SelectionSpec } from "../api/model.ts";
import { deviceWays } from "../hardware/device-way.ts";
import { claimExpressions } from "../hardware/dra.ts";
import type { DeviceWay, NodeHardware } from "../hardware/types.ts";
import { formatBytes, parseQuantity } from "../kube/quantity.ts";
import { engineMemory } from "./engine-memory.ts";
import { leastOfNominal, offersWay, parseCapability, type PodDemand } from "./fit.ts";
import { amountOf, freeAmountOf, wantedNow, type Wanted } from "./amounts.ts";
import { contextLengths, estimateFootprint } from "./footprint.ts";
import { nodeAffinityTerms } from "./node-affinity.ts";
import { productPattern } from "./glob.ts";
import { groupNodes } from "./node-groups.ts";
import type { ExcludedNodes } from "./node-selector.ts";
import { describeTaken, describeUnfit, isTooLarge, nearMisses, sift } from "./sift.ts";
import { deviceTolerations } from "./tolerations.ts";
import type { Candidate, DeviceClaim, Footprint, NearMiss, Placement, PodAmounts } from "./types.ts";

export type AttemptInput = {
  readonly nodes: readonly NodeHardware[];
  /** Nodes that are left out of `nodes`, since something beside the variants keeps pods off them; see `admittedNodes`. */
  readonly excluded?: readonly ExcludedNodes[];
  readonly selection: SelectionSpec;
  /** Tolerations of the pod template, by variant name. */
  readonly tolerations: (candidate: Candidate) => readonly JsonObject[];
  /** What all containers of its pod request when RAM of `memoryBytes` is estimated; absent: nothing but that and the devices. */
  readonly requested?: (
    candidate: Candidate,
    placement: Pick<Placement, "memoryBytes" | "deviceResource">,
  ) => PodAmounts;
};

export type Attempt = {
  readonly candidate: Candidate;
  readonly placement: Placement;
  readonly demand: PodDemand;
  readonly matching: readonly NodeHardware[];
  readonly message: string;
  /** Some node has all it asks for but memory, and perhaps enough devices. */
  readonly isTooLarge: boolean;
  /** Some node has devices that are asked for in this way, good for it or not. */
  readonly isOffered: boolean;
  /** With a shorter context than wanted, which nobody asked for. */
  readonly isShort: boolean;
  /** Memory that is left over on the roomiest matching node, bytes; 0 where nothing is compared. */
  readonly headroomBytes: () => number;
  readonly nearMisses: () => readonly NearMiss[];
};

/** What the user states of memory goes before the estimate. */
function memoryDemand(
  candidate: Candidate,
  footprint: Footprint,
  way: DeviceWay | undefined,
): { readonly deviceBytes: number; readonly hostBytes: number; readonly count: number } {
  const { accelerator, memory } = candidate.variant.requirements ?? {};
  const count = way === undefined ? 0 : (accelerator?.count ?? 1);
  const deviceBytes =
    way === undefined ? 0 : (parseQuantity(accelerator?.memoryPerDevice) ?? footprint.perDeviceBytes);
  const statedBytes = parseQuantity(memory);
  const isCpuFallback = way === undefined && accelerator !== undefined && accelerator.vendor !== "none";
  // RAM stated beside an accelerator is for the host only: on a fallback to CPUs the whole footprint comes on top.
  const hostBytes = isCpuFallback
    ? Math.max(statedBytes ?? 0, footprint.totalBytes)
    : (statedBytes ?? (way === undefined ? footprint.totalBytes : 0));
  return {
    deviceBytes,
    count,
    hostBytes: hostBytes + (way?.isUnifiedMemory === true ? deviceBytes * count : 0),
  };
}

/** What the user should know where memory that is stated replaces a larger estimate: a server may run out of it. */
function underestimate(
  candidate: Candidate,
  footprint: Footprint,
  way: DeviceWay | undefined,
  deviceBytes: number,
  hostBytes: number,
): string {
  const { accelerator, memory } = candidate.variant.requirements ?? {};
  const stated = way === undefined ? memory : accelerator?.memoryPerDevice;
  const [bytes, estimated] =
    way === undefined ? [hostBytes, footprint.totalBytes] : [deviceBytes, footprint.perDeviceBytes];
  // 0 is not a size: it asks for no comparison.
  if (stated === undefined || bytes === 0 || bytes >= estimated) return "";
  return ` as ${way === undefined ? "memory" : "memoryPerDevice"} states, less than the ${formatBytes(estimated)} that are estimated`;
}

/** Tries the candidate with devices asked for in one way, or on CPUs, although it may state an accelerator. */
export function attempt(
  input: AttemptInput,
  candidate: Candidate,
  way: DeviceWay | undefined,
  contextLength: number,
): Attempt {
  const { variant, artifact, runtime } = candidate;
  const requirements = variant.requirements ?? {};
  const { accelerator, ...withoutAccelerator } = requirements;
  const footprint = estimateFootprint({
    artifact,
    contextLength,
    parallel: input.selection.parallel ?? 1,
    devices: way === undefined ? 0 : (accelerator?.count ?? 1),
    engine: engineMemory(runtime?.definition, artifact.format),
    ...(variant.footprint === undefined ? {} : { stated: variant.footprint }),
  });
  const { deviceBytes, hostBytes, count } = memoryDemand(candidate, footprint, way);
  const ofTemplate = input.tolerations(candidate);
  const deviceResource =
    way?.access.kind === "resource" ? { deviceResource: { name: way.access.name, count } } : {};
  const requested = input.requested?.(candidate, { memoryBytes: hostBytes, ...deviceResource });
  // What is stated for the containers may be more than the estimate, and is what the scheduler goes by.
  const memoryBytes = Math.max(hostBytes, requested?.memoryBytes ?? 0);
  const { [deviceResource.deviceResource?.name ?? ""]: devices = count, ...others } = requested?.others ?? {};
  const demand: PodDemand = {
    requirements: way === undefined ? withoutAccelerator : requirements,
    tolerations: way === undefined ? ofTemplate : [...deviceTolerations(way.vendor), ...ofTemplate],
    device:
      way === undefined
        ? undefined
        : {
            way,
            // What the template adds for other containers comes on top.
            count: Math.max(count, devices),
            memoryBytes:
              accelerator?.memoryPerDevice === undefined ? deviceBytes : leastOfNominal(deviceBytes),
          },
    memoryBytes,
    ...((requested?.cpuMillis ?? 0) === 0 ? {} : { cpuMillis: requested?.cpuMillis ?? 0 }),
    others,
  };
  const grouped = groupNodes(input.nodes);
  const sifted = sift(grouped, demand);
  const { matching, matchingNames, freeNames } = sifted;
  const isShort = contextLength < (contextLengths(artifact.facts, input.selection.contextLength)[0] ?? 0);
  const needed =
    (way === undefined
      ? `needs ${formatBytes(memoryBytes)} of RAM`
      : `needs ${formatBytes(deviceBytes)} on ${count === 1 ? "one GPU" : `each of ${count} GPUs`}`) +
    (isShort ? ` with ${contextLength} tokens of context` : "") +
    underestimate(candidate, footprint, way, deviceBytes, memoryBytes);
  let headroomBytes: number | undefined;
  const { excluded = [] } = input;
  const nodes = excluded.reduce((sum, each) => sum + each.nodes.length, input.nodes.length);
  return {
    candidate,
    demand,
    matching,
    placement: {
      accelerator: way?.vendor ?? "none",
      ...deviceResource,
      memoryBytes: hostBytes,
      footprint,
      // Only of the attempt that is chosen: see withTerms.
      nodeSelectorTerms: [],
      matchingNodes: matchingNames,
      freeNodes: freeNames,
      isCpuFallback: way === undefined && accelerator !== undefined && accelerator.vendor !== "none",
    },
    isShort,
    isOffered: grouped.groups.some(({ sample }) =>
      sample.accelerators.some((each) => demand.device !== undefined && offersWay(each, demand.device)),
    ),
    isTooLarge: isTooLarge(sifted),
    nearMisses: () => nearMisses(sifted, excluded, demand),
    headroomBytes: () => {
      // Devices are those of the whole group; RAM each node has its own.
      const compared = way === undefined ? matching : sifted.samples;
      headroomBytes ??= compared.reduce((most, node) => Math.max(most, headroom(node, demand)), 0);
      return headroomBytes;
    },
    message:
      matching.length > 0
        ? [`${needed}; fits ${matching.length} of ${nodes} nodes`, ...describeTaken(sifted)].join("; ")
        : [needed, ...describeUnfit(sifted, excluded)].join("; "),
  };
}

/** The attempt's placement with its node affinity, which costs too much to be made for each attempt. */
export function withTerms(input: AttemptInput, { placement, demand }: Attempt): Placement {
  const deviceClaim = deviceClaimOf(demand);
  return {
    ...placement,
    ...(deviceClaim === undefined ? {} : { deviceClaim }),
    nodeSelectorTerms: nodeAffinityTerms(demand, input.nodes),
  };
}

/** What each pod claims of a DRA driver: there the claim says what else the affinity would. */
function deviceClaimOf({ device, requirements }: PodDemand): DeviceClaim | undefined {
  if (device?.way.access.kind !== "claim") return undefined;
  const { driver, deviceClassName } = device.way.access;
  const { products = [], minComputeCapability } = requirements.accelerator ?? {};
  return {
    deviceClassName,
    count: device.count,
    expressions: claimExpressions(driver, {
      leastMemoryBytes: device.memoryBytes,
      productPattern: productPattern(products),
      minComputeCapability:
        minComputeCapability === undefined ? undefined : parseCapability(minComputeCapability),
    }),
  };
}

/** What is left of the memory that counts (of the devices, else of the host), bytes. */
function headroom(node: NodeHardware, { device, memoryBytes }: PodDemand): number {
  if (device === undefined)
    return (node.free?.memoryBytes ?? node.allocatableMemoryBytes ?? memoryBytes) - memoryBytes;
  const found = node.accelerators.find((each) => offersWay(each, device));
  return ((found?.memoryBytes ?? device.memoryBytes) - device.memoryBytes) * device.count;
}

const samples = new WeakMap<readonly NodeHardware[], readonly NodeHardware[]>();

/** One node of each group: which ways there are does not depend on more. */
function samplesOf(nodes: readonly NodeHardware[]): readonly NodeHardware[] {
  const found = samples.get(nodes) ?? groupNodes(nodes).groups.map(({ sample }) => sample);
  samples.set(nodes, found);
  return found;
}

/** Tries one candidate as stated in each way that the cluster offers: the first with room, else the first that fits. */
function attemptStatedAt(input: AttemptInput, candidate: Candidate, contextLength: number): Attempt {
  const vendor = candidate.variant.requirements?.accelerator?.vendor ?? "none";
  if (vendor === "none") return attempt(input, candidate, undefined, contextLength);
  const attempts = deviceWays(vendor, samplesOf(input.nodes)).map((way) =>
    attempt(input, candidate, way, contextLength),
  );
  return clearest(attempts) ?? attempt(input, candidate, undefined, contextLength);
}

/** Of the ways of one candidate the one that says most: with room, else that fits, else only too large, else for devices that are there. */
export function clearest(attempts: readonly Attempt[]): Attempt | undefined {
  return (
    attempts.find(({ placement }) => placement.freeNodes.length > 0) ??
    attempts.find(({ placement }) => placement.matchingNodes.length > 0) ??
    attempts.find(({ isTooLarge }) => isTooLarge) ??
    attempts.find(({ isOffered }) => isOffered) ??
    attempts[0]
  );
}

/**
 * Tries the candidate with the wanted context length, then with shorter ones where the user states none: the first that fits,
 * else the wanted one. `keptLength`: of the running pods, tried first.
 */
function firstLength(
  candidate: Candidate,
  selection: SelectionSpec,
  keptLength: number | undefined,
  tryLength: (contextLength: number) => Attempt,
): Attempt {
  const lengths = contextLengths(candidate.artifact.facts, selection.contextLength);
  const ordered =
    keptLength !== undefined && lengths.includes(keptLength) ? [keptLength, ...lengths] : lengths;
  let wanted: Attempt | undefined;
  for (const length of ordered) {
    const tried = tryLength(length);
    if (tried.placement.matchingNodes.length > 0) return tried;
    if (length === lengths[0]) wanted ??= tried;
    // Where memory is not what is lacking, a shorter context changes nothing.
    if (!tried.isTooLarge && length !== keptLength) break;
  }
  return wanted ?? tryLength(lengths[0] ?? 1);
}

/** The candidate as its requirements state it. */
export function attemptStated(input: AttemptInput, candidate: Candidate, keptLength?: number): Attempt {
  return firstLength(candidate, input.selection, keptLength, (length) =>
    attemptStatedAt(input, candidate, length),
  );
}

/**
 * The candidate as stated, in each way that the cluster offers, the vendor's own resource first, whether a node fits or not.
 * `keptLength`: the context length of what runs in that way.
 */
export function attemptsStated(
  input: AttemptInput,
  candidate: Candidate,
  keptLength: (way: DeviceWay | undefined) => number | undefined,
): readonly Attempt[] {
  const vendor = candidate.variant.requirements?.accelerator?.vendor ?? "none";
  const ways = vendor === "none" ? [undefined] : deviceWays(vendor, samplesOf(input.nodes));
  return ways.map((way) =>
    firstLength(candidate, input.selection, keptLength(way), (length) =>
      attempt(input, candidate, way, length),
    ),
  );
}

/** Pods that a node can hold beside what other pods request, `own` of which are there already. */
export function capacityFor(demand: PodDemand): (node: NodeHardware, own: number) => number {
  const { device } = demand;
  // By the place of the devices in the node's list.
  const known = new Map<number, readonly Wanted[]>();
  const wantedAt = (place: number): readonly Wanted[] => {
    const found = known.get(place) ?? wantedNow(demand, [place]);
    known.set(place, found);
    return found;
  };
  return (node, own) => {
    const wanted = wantedAt(
      device === undefined ? -1 : node.accelerators.findIndex((each) => offersWay(each, device)),
    );
    let most = Number.POSITIVE_INFINITY;
    for (const each of wanted) {
      const free = freeAmountOf(node, each);
      const all = free ?? amountOf(node, each);
      // Where pods are not limited they are not counted.
      if (all === undefined && each.resource === "pods") continue;
      const room = Math.floor((all ?? 0) / each.amount) + (free === undefined ? 0 : own);
      if (room < most) most = room;
    }
    return Number.isFinite(most) ? most : 1;
  };
}

/** The candidate on CPUs, whatever accelerator it states. */
export function attemptOnCpus(input: AttemptInput, candidate: Candidate, keptLength?: number): Attempt {
  return firstLength(candidate, input.selection, keptLength, (length) =>
    attempt(input, candidate, undefined, length),
  );
}
