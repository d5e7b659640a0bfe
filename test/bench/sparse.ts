// Large files that take no space: zeros, after a first line that tells one from the other.

import { closeSync, ftruncateSync, openSync, writeSync } from "node:fs";
import type { Content, ContentStore } from "./content.ts";

/** A sparse file that differs from those of other names. Its digest is computed by reading it, once. */
export async function sparseFile(store: ContentStore, name: string, sizeBytes: number): Promise<Content> {
  return store.make(`sparse ${name} ${sizeBytes}`, name, (path) => {
    writeSparse(path, name, sizeBytes);
  });
}

/** Zeros alone, of a digest that is known. */
export async function zeros(
  store: ContentStore,
  name: string,
  known: { readonly digest: string; readonly sizeBytes: number },
): Promise<Content> {
  return store.make(
    `zeros ${known.sizeBytes}`,
    name,
    (path) => {
      writeSparse(path, "", known.sizeBytes);
    },
    known,
  );
}

function writeSparse(path: string, head: string, sizeBytes: number): void {
  const file = openSync(path, "w");
  writeSync(file, head);
  ftruncateSync(file, sizeBytes);
  closeSync(file);
}
