// Devices that DRA drivers publish in ResourceSlices, for nodes whose devices no plugin offers. Pure.
// API: https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/resource-slice-v1/

import type { KubeObject } from "../kube/types.ts";
import { parseQuantity } from "../kube/quantity.ts";
import { deviceKey } from "./allocated-devices.ts";
import type { DeviceVendor, NodeAccelerators } from "./types.ts";

type Attribute = {
  readonly string?: string;
  readonly version?: string;
  readonly int?: number;
  readonly bool?: boolean;
};

type Device = {
  readonly name: string;
  readonly attributes?: Readonly<Record<string, Attribute>>;
  readonly capacity?: Readonly<Record<string, { readonly value: string }>>;
  readonly taints?: readonly { readonly key: string; readonly effect: string }[];
};

/** The parts of a resource.k8s.io/v1 ResourceSlice that are read. */
export type ResourceSlice = KubeObject & {
  readonly spec: {
    readonly driver: string;
    readonly nodeName?: string;
    readonly pool: {
      readonly name: string;
      readonly generation: number;
      readonly resourceSliceCount: number;
    };
    readonly devices?: readonly Device[];
  };
};

type Driver = {
  readonly vendor: DeviceVendor;
  /** The class for whole devices that the driver's own installation makes. */
  readonly deviceClassName: string;
  readonly productAttributes: readonly string[];
  /** `type` of devices in that class; undefined: all. */
  readonly types?: readonly string[];
};

const drivers: Readonly<Record<string, Driver>> = {
  "gpu.nvidia.com": {
    vendor: "nvidia",
    deviceClassName: "gpu.nvidia.com",
    productAttributes: ["productName"],
    types: ["gpu"],
  },
  "gpu.amd.com": {
    vendor: "amd",
    deviceClassName: "gpu.amd.com",
    productAttributes: ["productName", "deviceID"],
  },
  "gpu.intel.com": {
    vendor: "intel",
    deviceClassName: "gpu.intel.com",
    productAttributes: ["model", "family"],
  },
  "gaudi.intel.com": { vendor: "habana", deviceClassName: "gaudi.intel.com", productAttributes: ["model"] },
};

/** What a claim asks of each device beside its class. */
export type ClaimAsk = {
  /** 0: not compared. */
  readonly leastMemoryBytes: number;
  /** An expression of RE2 that the whole product name matches; undefined: any product. */
  readonly productPattern: string | undefined;
  readonly minComputeCapability: readonly [number, number] | undefined;
};

/**
 * CEL over `device` that holds for the devices that this file reads as good for the ask. What a device does not state is asked
 * for first, since an expression that fails keeps the scheduler from placing the pod at all.
 */
export function claimExpressions(
  driverName: string,
  { leastMemoryBytes, productPattern, minComputeCapability }: ClaimAsk,
): readonly string[] {
  const driver = Object.hasOwn(drivers, driverName) ? drivers[driverName] : undefined;
  const name = JSON.stringify(driverName);
  const attributes = `device.attributes[${name}]`;
  const expressions = [`device.driver == ${name}`];
  const { types, productAttributes = [] } = driver ?? {};
  if (types !== undefined) {
    expressions.push(`"type" in ${attributes} && ${attributes}.type in ${JSON.stringify(types)}`);
  }
  if (leastMemoryBytes > 0) {
    expressions.push(
      `"memory" in device.capacity[${name}] && device.capacity[${name}].memory.compareTo(quantity("${Math.ceil(leastMemoryBytes)}")) >= 0`,
    );
  }
  if (productPattern !== undefined) {
    const product = productAttributes.reduceRight(
      (rest, each) => `("${each}" in ${attributes} ? ${attributes}.${each} : ${rest})`,
      '""',
    );
    expressions.push(`${product}.matches(${JSON.stringify(productPattern)})`);
  }
  if (minComputeCapability !== undefined) {
    const [major, minor] = minComputeCapability;
    expressions.push(
      `"cudaComputeCapability" in ${attributes} && ${attributes}.cudaComputeCapability.compareTo(semver("${major}.${minor}.0")) >= 0`,
    );
  }
  return expressions;
}

/** An attribute under its own name or that qualified by the driver's domain. */
function attribute(device: Device, driver: string, name: string): Attribute | undefined {
  return device.attributes?.[name] ?? device.attributes?.[`${driver}/${name}`];
}

function versionOf(text: string | undefined): readonly [number, number] | undefined {
  const match = /^(\d+)\.(\d+)/.exec(text ?? "");
  return match === null ? undefined : [Number(match[1]), Number(match[2])];
}

/** Slices of complete pools at their newest generation, as the scheduler takes them. */
function currentSlices(slices: readonly ResourceSlice[]): {
  readonly current: readonly ResourceSlice[];
  readonly notes: readonly string[];
} {
  const pools = new Map<string, ResourceSlice[]>();
  for (const slice of slices) {
    const key = `${slice.spec.driver} ${slice.spec.pool.name}`;
    const generation = pools.get(key)?.[0]?.spec.pool.generation ?? -1;
    if (slice.spec.pool.generation > generation) pools.set(key, [slice]);
    else if (slice.spec.pool.generation === generation) pools.get(key)?.push(slice);
  }
  const notes: string[] = [];
  const current: ResourceSlice[] = [];
  for (const [key, found] of pools) {
    const wanted = found[0]?.spec.pool.resourceSliceCount ?? 0;
    if (found.length < wanted)
      notes.push(`${key}: ${found.length} of ${wanted} ResourceSlices are published`);
    else current.push(...found);
  }
  return { current, notes };
}

/** The node's devices by driver, product and memory; devices that their driver tainted are left out, with a note. */
export function draAccelerators(slices: readonly ResourceSlice[]): {
  readonly accelerators: readonly NodeAccelerators[];
  readonly notes: readonly string[];
} {
  const { current, notes } = currentSlices(slices);
  const doubts = [...notes];
  const classes = new Map<string, NodeAccelerators>();
  for (const { spec } of current) {
    const driver = Object.hasOwn(drivers, spec.driver) ? drivers[spec.driver] : undefined;
    if (driver === undefined) continue;
    for (const device of spec.devices ?? []) {
      const type = attribute(device, spec.driver, "type")?.string;
      if (driver.types !== undefined && (type === undefined || !driver.types.includes(type))) continue;
      const taint = device.taints?.find(({ effect }) => effect === "NoSchedule" || effect === "NoExecute");
      if (taint !== undefined) {
        doubts.push(`${spec.driver}: device ${device.name} is tainted ${taint.key}`);
        continue;
      }
      const product = driver.productAttributes
        .map((name) => attribute(device, spec.driver, name)?.string)
        .find((each) => each !== undefined);
      const text = device.capacity?.["memory"]?.value ?? device.capacity?.[`${spec.driver}/memory`]?.value;
      const memoryBytes = parseQuantity(text);
      const capability = versionOf(attribute(device, spec.driver, "cudaComputeCapability")?.version);
      const key = JSON.stringify([spec.driver, product, memoryBytes, capability]);
      const known = classes.get(key);
      classes.set(key, {
        vendor: driver.vendor,
        access: { kind: "claim", deviceClassName: driver.deviceClassName, driver: spec.driver },
        isUnifiedMemory: false,
        count: (known?.count ?? 0) + 1,
        deviceKeys: [
          ...(known?.deviceKeys ?? []),
          deviceKey({ driver: spec.driver, pool: spec.pool.name, device: device.name }),
        ],
        ...(product === undefined ? {} : { product }),
        ...(memoryBytes === undefined || memoryBytes === 0
          ? { uncertainty: `the driver ${spec.driver} states no memory` }
          : { memoryBytes, memorySource: "dra" as const }),
        ...(capability === undefined ? {} : { computeCapability: capability }),
      });
    }
  }
  return {
    accelerators: [...classes].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, each]) => each),
    notes: doubts,
  };
}
