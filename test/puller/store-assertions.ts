// What must hold of a store after every run, good or bad: nothing visible that is not whole.

import { createHash } from "node:crypto";
import { lstatSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect } from "vitest";

/** All files below a directory, relative, sorted. */
export function filesBelow(directory: string): readonly string[] {
  let entries;
  try {
    entries = readdirSync(directory, { withFileTypes: true });
  } catch (error) {
    // A puller may be at work here: what it removed meanwhile holds no files.
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return [];
    throw error;
  }
  return entries
    .flatMap((entry) =>
      entry.isDirectory()
        ? filesBelow(join(directory, entry.name)).map((name) => join(entry.name, name))
        : [entry.name],
    )
    .sort();
}

export function sha256(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

/** Every blob hashes to its name; every file of every model is one of these blobs, unless `unpacked`. */
export function expectNoWrongByte(store: string, options: { readonly unpacked?: boolean } = {}): void {
  const blobs = join(store, ".ocimodel/blobs/sha256");
  const good = new Set<string>();
  for (const name of filesBelow(blobs)) {
    expect(sha256(readFileSync(join(blobs, name)))).toBe(name);
    good.add(name);
  }
  for (const name of filesBelow(join(store, "models"))) {
    const file = join(store, "models", name);
    expect(name).not.toMatch(/\.part$/);
    if (options.unpacked === true || lstatSync(file).isSymbolicLink()) continue;
    expect(good.has(sha256(readFileSync(file)))).toBe(true);
  }
}

/** Deterministic bytes: a failure is repeated by the same seed. */
export function noise(seed: string, length: number): Buffer {
  const blocks: Buffer[] = [];
  for (let index = 0; index * 32 < length; index += 1) {
    blocks.push(createHash("sha256").update(`${seed} ${index}`).digest());
  }
  return Buffer.concat(blocks).subarray(0, length);
}

/** Deterministic whole numbers below a bound. */
export function random(seed: string): (below: number) => number {
  let count = 0;
  return (below) => {
    const digest = createHash("sha256")
      .update(`${seed} ${(count += 1)}`)
      .digest();
    return digest.readUInt32BE(0) % below;
  };
}
