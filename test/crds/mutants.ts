// Models that are spoiled at random, the same for the same seed: fields dropped, renamed, altered, repeated.

import type { Fields } from "./model-table.ts";

/** Numbers from 0 to 1, the same for the same seed (mulberry32). */
function randoms(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}

type Container = Record<string | number, unknown>;

/** Every place of a value: the map or list that holds it, and its key there. */
function placesOf(value: unknown): readonly { readonly holder: Container; readonly key: string }[] {
  if (typeof value !== "object" || value === null) return [];
  return Object.entries(value).flatMap(([key, child]) => [
    { holder: value as Container, key },
    ...placesOf(child),
  ]);
}

const values: readonly unknown[] = [
  null,
  "",
  "x",
  "X y",
  "0",
  "-1Gi",
  "16Gi",
  "24GB",
  "1.5Gi",
  "auto",
  "10s",
  "9s",
  "1h30m",
  "none",
  "nvidia",
  "Ephemeral",
  "NodeCache",
  "Auto",
  "ImageVolume",
  "PersistentVolumeClaim",
  ":q4",
  "https://example.com/x",
  `registry.example.com/x@sha256:${"0".repeat(64)}`,
  "/tmp",
  "/data",
  "x".repeat(500),
  0,
  1,
  2,
  -1,
  1.5,
  65,
  100_000,
  true,
  false,
  [],
  {},
  ["ReadWriteMany"],
  ["ReadWriteOncePod"],
  ["a", "a"],
  [{ name: "a" }, { name: "a" }],
  [{}],
  { a: "b" },
  { name: "a" },
];

/** `count` mutants of Models, each changed in one to three places. */
export function mutantsOf(models: readonly Fields[], count: number, seed: number): readonly Fields[] {
  const random = randoms(seed);
  const pick = <T>(list: readonly T[]): T => list[Math.floor(random() * list.length)] as T;
  const mutate = (spec: unknown): void => {
    const { holder, key } = pick(placesOf({ spec }).slice(1));
    const kind = pick(["drop", "rename", "alter", "alter", "alter", "repeat", "text", "number"] as const);
    const value = holder[key];
    if (Array.isArray(holder) && (kind === "drop" || kind === "rename")) holder.splice(Number(key), 1);
    else if (kind === "drop") delete holder[key];
    else if (kind === "rename") {
      delete holder[key];
      holder[pick([`${key}s`, key.slice(1), key.toUpperCase(), "extra"])] = value;
    } else if (kind === "repeat" && Array.isArray(value)) value.push(...structuredClone(value));
    else if (kind === "text" && typeof value === "number") holder[key] = String(value);
    else if (kind === "number" && typeof value === "string") holder[key] = value.length;
    else holder[key] = pick(values);
  };
  return Array.from({ length: count }, () => {
    const spec = structuredClone(pick(models)) as Record<string, unknown>;
    for (let times = Math.ceil(random() * 3); times > 0; times -= 1)
      if (Object.keys(spec).length > 0) mutate(spec);
    return spec;
  });
}
