// The directories of a node's cache: one for each tenant, which nobody else can enter. Knows nothing of what is in them.

import { chmod, chown, lstat, mkdir } from "node:fs/promises";
import { join } from "node:path";
import { AppError } from "../oci/errors.ts";
import { onVolume } from "./storage-error.ts";

/** A tenant of a node's cache. */
export type Tenant = {
  /** Of the namespace; the directory is called the same. */
  readonly name: string;
  /** Its models may have this many bytes; undefined: as many as the disk takes. */
  readonly sizeLimitBytes: number | undefined;
};

/** User and group of every puller and every inference server. */
const podOwner = { uid: 65_532, gid: 65_532 };
/** Owner and group alone; files that are made in it get its group, so that the kubelet need not change them. */
const directoryMode = 0o2770;

/** Whether a tenant's name can be the name of a namespace, and so no path. */
export function isTenantName(name: string): boolean {
  return /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/.test(name);
}

/**
 * Makes what is missing of the tenants' directories and sets owner and mode where they differ. What is in them is not touched.
 * A link or file in such a place is refused with StorageFailed: it would lead out of the cache.
 * @returns names of those that were made or changed
 */
export async function prepareTenants(
  root: string,
  tenants: readonly Tenant[],
  owner: { readonly uid: number; readonly gid: number } = podOwner,
): Promise<readonly string[]> {
  return onVolume(`preparing the node cache ${root}`, async () => {
    const changed: string[] = [];
    for (const { name } of tenants) {
      const path = join(root, name);
      await mkdir(path, { mode: 0o700 }).catch((error: NodeJS.ErrnoException) => {
        if (error.code !== "EEXIST") throw error;
      });
      const before = await lstat(path);
      if (!before.isDirectory()) {
        throw new AppError(
          "StorageFailed",
          `${path} is no directory of its own but a link or a file; remove it, and a new one is made`,
        );
      }
      const isOwned = before.uid === owner.uid && before.gid === owner.gid;
      if (!isOwned) await chown(path, owner.uid, owner.gid);
      // After the owner, since changing that clears the bit for the group.
      const isOfMode = (before.mode & 0o7777) === directoryMode;
      if (!isOwned || !isOfMode) {
        await chmod(path, directoryMode);
        changed.push(name);
      }
    }
    return changed;
  });
}
