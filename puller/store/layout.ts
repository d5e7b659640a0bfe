// Where things are on a volume. Names are constants and validated hex only; nothing remote becomes a path here.

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
  /** What readers mount, one directory per model. */
  readonly models: string;
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
    models: join(root, "models"),
  };
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
