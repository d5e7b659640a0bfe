// Finds the scenarios: every file in scenarios/ exports some.

import { readdirSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import type { Scenario } from "./scenario.ts";

const directory = join(import.meta.dirname, "scenarios");

/** All scenarios, T2 before T10. Fails when two have one id. */
export async function loadScenarios(): Promise<readonly Scenario[]> {
  const all: Scenario[] = [];
  for (const file of readdirSync(directory).filter((name) => name.endsWith(".ts"))) {
    const loaded = (await import(pathToFileURL(join(directory, file)).href)) as {
      readonly scenarios?: readonly Scenario[];
    };
    if (loaded.scenarios === undefined) throw new Error(`${file} exports no scenarios`);
    all.push(...loaded.scenarios);
  }
  const ids = all.map(({ id }) => id);
  const twice = ids.find((id, index) => ids.indexOf(id) !== index);
  if (twice !== undefined) throw new Error(`two scenarios are called ${twice}`);
  return all.sort((one, other) => compareIds(one.id, other.id));
}

/** By their letters, then by their numbers. */
export function compareIds(one: string, other: string): number {
  return one.localeCompare(other, "en", { numeric: true });
}

/** Those that a list such as "T2,T5" names; all for an empty list. Fails on an unknown name, and tells the known ones. */
export function chooseScenarios(all: readonly Scenario[], list: string): readonly Scenario[] {
  const names = list
    .split(",")
    .map((name) => name.trim())
    .filter((name) => name !== "");
  const unknown = names.find((name) => !all.some(({ id }) => id === name));
  if (unknown !== undefined) {
    throw new Error(
      `there is no scenario ${JSON.stringify(unknown)}; there are ${all.map(({ id }) => id).join(", ")}`,
    );
  }
  return names.length === 0 ? all : all.filter(({ id }) => names.includes(id));
}
