// What pullers say that they use: one record per model, written before anything of it is looked at, and again while a pull goes
// on. Garbage collection leaves alone what was used lately, and so never needs to know who runs where at this very moment.

import { randomBytes } from "node:crypto";
import { lstat, open, readFile, readdir, unlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import * as z from "zod";
import { isDigest } from "../oci/digest.ts";
import type { Digest } from "../oci/types.ts";
import { readFlags, touchFlags, type StoreLayout } from "./layout.ts";
import { useFile } from "./note-use.ts";

/** While a pull goes on its record is written this often, milliseconds. */
const heartbeatMs = 60_000;

const schema = z.strictObject({ v: z.literal(1), blobs: z.array(z.custom<Digest>(isDigest)) });

/** A use record as found: when it was written last by the volume's clock, and the blobs that it names. */
export type Use = {
  readonly name: string;
  readonly writtenMs: number;
  /** Undefined when it cannot be read: then it may name any. */
  readonly blobs: readonly Digest[] | undefined;
};

/** Makes the record young again without changing what it says; false when there is none. */
export async function touchUse(layout: StoreLayout, name: string): Promise<boolean> {
  try {
    const handle = await open(useFile(layout, name), touchFlags);
    try {
      await handle.write("{", 0);
      return true;
    } finally {
      await handle.close();
    }
  } catch {
    return false;
  }
}

/** Keeps a record young until the returned function is called. */
export function keepUse(layout: StoreLayout, name: string): () => void {
  const timer = setInterval(() => void touchUse(layout, name), heartbeatMs);
  timer.unref();
  return () => {
    clearInterval(timer);
  };
}

/** All records. */
export async function listUses(layout: StoreLayout): Promise<readonly Use[]> {
  const names = await readdir(layout.uses).catch(() => []);
  const uses = await Promise.all(
    names.map(async (name): Promise<Use | undefined> => {
      const status = await lstat(useFile(layout, name)).catch(() => undefined);
      if (status?.isFile() !== true) return undefined;
      let parsed: z.infer<typeof schema> | undefined;
      try {
        parsed = schema.safeParse(
          JSON.parse(await readFile(useFile(layout, name), { encoding: "utf8", flag: readFlags })),
        ).data;
      } catch {
        parsed = undefined;
      }
      return { name, writtenMs: status.mtimeMs, blobs: parsed?.blobs };
    }),
  );
  return uses.filter((use) => use !== undefined);
}

export async function removeUse(layout: StoreLayout, name: string): Promise<void> {
  await unlink(useFile(layout, name)).catch(() => undefined);
}

/** What time it is by the clock of the volume, milliseconds: that of a file written now. Other machines' clocks do not count. */
export async function volumeNowMs(layout: StoreLayout): Promise<number> {
  const probe = join(layout.staging, `.${randomBytes(8).toString("hex")}.clock`);
  await writeFile(probe, "-", { flag: "wx" });
  try {
    return (await lstat(probe)).mtimeMs;
  } finally {
    await unlink(probe).catch(() => undefined);
  }
}
