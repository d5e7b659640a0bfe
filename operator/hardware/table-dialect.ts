// A dialect whose one label names a product or an instance type that a table knows. Pure.

import {
  knownFacts,
  oneOf,
  satisfies,
  type DeviceAsk,
  type DeviceFacts,
  type Expressions,
  type Labels,
} from "./dialect.ts";
import type { KnownDevice } from "./known-devices.ts";
import type { DeviceVendor, FactSource } from "./types.ts";

export type TableDialect = {
  readonly key: string;
  readonly table: Readonly<Record<string, KnownDevice>>;
  readonly source: FactSource;
};

/** The vendor's device that the label names; undefined: no label, or a name that the table does not know. */
export function readTable(
  dialect: TableDialect,
  vendor: DeviceVendor,
  labels: Labels,
): DeviceFacts | undefined {
  const name = labels[dialect.key];
  const device = name === undefined || !Object.hasOwn(dialect.table, name) ? undefined : dialect.table[name];
  return device === undefined || device.vendor !== vendor ? undefined : knownFacts(device, dialect.source);
}

/** The label is one of the names whose device satisfies what is asked; no alternative when none does. */
export function tableTerms(
  dialect: TableDialect,
  vendor: DeviceVendor,
  ask: DeviceAsk,
): readonly Expressions[] {
  const names = Object.entries(dialect.table)
    .filter(
      ([, device]) =>
        device.vendor === vendor &&
        satisfies({ ...device, memoryBytes: device.memoryMebibytes * 2 ** 20 }, ask),
    )
    .map(([name]) => name);
  return names.length === 0 ? [] : [[oneOf(dialect.key, names)]];
}
