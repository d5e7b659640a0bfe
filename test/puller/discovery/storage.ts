// Writes tags and manifests straight into the storage of a test registry: what would take thousands of requests to push.

import { createHash } from "node:crypto";
import { mkdirSync, readdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";

function put(file: string, content: string | Uint8Array): void {
  mkdirSync(join(file, ".."), { recursive: true });
  writeFileSync(file, content);
}

/** The storage folder of the one registry that was started below `parent`. */
function storageBelow(parent: string): string {
  const [registry] = readdirSync(parent).filter((name) => name.startsWith("ocimodel-registry-"));
  if (registry === undefined) throw new Error(`there is no registry below ${parent}`);
  return join(parent, registry, "storage/docker/registry/v2");
}

/** Stores a manifest or index as it is, under a tag; gives its digest. */
export function storeManifest(parent: string, repository: string, tag: string, bytes: Uint8Array): string {
  const root = storageBelow(parent);
  const hex = createHash("sha256").update(bytes).digest("hex");
  put(join(root, "blobs/sha256", hex.slice(0, 2), hex, "data"), bytes);
  put(join(root, "repositories", repository, "_manifests/revisions/sha256", hex, "link"), `sha256:${hex}`);
  storeTags(parent, repository, [tag], `sha256:${hex}`);
  return `sha256:${hex}`;
}

/** Points tags at a digest. */
export function storeTags(parent: string, repository: string, tags: readonly string[], digest: string): void {
  const folder = join(storageBelow(parent), "repositories", repository, "_manifests/tags");
  const [first = "", ...others] = tags;
  put(join(folder, first, "current/link"), digest);
  for (const tag of others) symlinkSync(first, join(folder, tag));
}
