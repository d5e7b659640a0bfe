// Says that a model is in use; see uses.ts.

import { constants } from "node:fs";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { makeDirectories } from "./make-directories.ts";
import type { Digest } from "../oci/types.ts";
import type { StoreLayout } from "./layout.ts";

/** As `readFlags`. */
const { O_WRONLY, O_CREAT, O_TRUNC, O_NOFOLLOW, O_NONBLOCK } = constants;
const writeFlags = O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_NONBLOCK;

/** The record of a model. */
export function useFile(layout: StoreLayout, name: string): string {
  return join(layout.uses, name);
}

/** Says that the model of this name is used from now on. A volume that cannot be written to has no garbage collection either. */
export async function noteUse(layout: StoreLayout, name: string, blobs: readonly Digest[]): Promise<void> {
  try {
    await makeDirectories(layout.uses);
    await writeFile(useFile(layout, name), JSON.stringify({ v: 1, blobs }), { flag: writeFlags });
  } catch {
    // The pull itself tells what is wrong with the volume.
  }
}
