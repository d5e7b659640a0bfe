// Where things are on a volume. Names are constants and validated hex only; nothing remote becomes a path here.

import { constants } from "node:fs";
import { join } from "node:path";
import { digestAlgorithm, digestHex } from "../oci/digest.ts";
import type { Digest } from "../oci/types.ts";

/** Version of the layout; a store of another one is refused, never touched. */
export const storeVersion = 1;

export type StoreLayout = {
  readonly root: string;
  /** Everything of ours but the models. */
  readonly own: string;
  readonly versionFile: string;
  readonly blobs: string;
  readonly ingest: string;
  readonly staging: string;
  readonly seals: string;
  /** Tickets of pullers that wait for each other. */
  readonly turns: string;
  /** One file per model, written to at each use: its time is that of the last use. */
  readonly uses: string;
  /** What files looked like when their content was verified. */
  readonly stamps: string;
  /** What readers mount, one directory per model. */
  readonly models: string;
  /** The store is there and complete, or not, but nothing can be written. */
  readonly isReadOnly: boolean;
  /** Owner of the files that this process writes there: file servers map it. Undefined: not known. */
  readonly ownerId: bigint | undefined;
  /** Whether files can be made unwritable: some file servers give all files one mode. */
  readonly hasModes: boolean;
  /** Whether no call on it waits for another machine: one that hangs must not hold up the only thread that hears signals. */
  readonly isLocal: boolean;
  /** Whether it is in the memory of this machine, where no call waits for anything. */
  readonly isInMemory: boolean;
};

export function storeLayout(root: string): StoreLayout {
  const own = join(root, ".ocimodel");
  return {
    root,
    own,
    versionFile: join(own, "version"),
    blobs: join(own, "blobs"),
    ingest: join(own, "ingest"),
    staging: join(own, "staging"),
    seals: join(own, "seals"),
    turns: join(own, "turns"),
    uses: join(own, "uses"),
    stamps: join(own, "stamps"),
    models: join(root, "models"),
    isReadOnly: false,
    ownerId: undefined,
    hasModes: true,
    isLocal: false,
    isInMemory: false,
  };
}

/** How small files of the store are read: others may have put a link there, or a pipe, whose other end would be waited for. */
export const readFlags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
/** How a file that is there is written to, as `readFlags`. */
export const touchFlags = constants.O_WRONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;

/** Whether a name is one that an NFS client gives a file which was removed while somebody has it open; it goes when that one closes it. */
export function isHeldOpenName(name: string): boolean {
  return /^\.nfs[0-9a-f]{24}$/.test(name);
}

/** `.ocimodel/blobs/<algorithm>/<hex>` */
export function blobPath(layout: StoreLayout, digest: Digest): string {
  return join(layout.blobs, digestAlgorithm(digest), digestHex(digest));
}

/** `.ocimodel/ingest/<hex>`: partial files of one blob. */
export function ingestDirectory(layout: StoreLayout, digest: Digest): string {
  return join(layout.ingest, digestHex(digest));
}

export function modelDirectory(layout: StoreLayout, name: string): string {
  return join(layout.models, name);
}

export function sealFile(layout: StoreLayout, name: string): string {
  return join(layout.seals, `${name}.json`);
}
